"""The contract of a hearer: whatever is called with every event of a search (`Study.observers`).

Loggers, notifications, copies and the progress display are hearers; so is what a program of yours adds.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.study.settings import StudySettings
from tuner.study.study import Study
from tuner.testing.contracts import Clause, clauses, hold
from tuner.testing.toy import decisions, drive, make_space, settings_for

Hearer = Callable[[dict[str, Any]], None]
TRIALS = 5
"""Trials of the suite's searches."""


@dataclass(frozen=True)
class HearerUnderTest:
    """`make(folder)` gives a new hearer of the study in `folder`: a function of an event. It may have `close()`."""

    make: Callable[[Path], Hearer]

    @contextlib.contextmanager
    def hearing(self, folder: Path) -> Iterator[Hearer]:
        """A hearer that is closed at the end. A warning of it counts: in a thread of its own it cannot raise."""
        with contextlib.redirect_stderr(io.StringIO()) as said:
            hearer = self.make(folder)
            try:
                yield hearer
            finally:
                _close(hearer)
        warnings = [line for line in said.getvalue().splitlines() if line.startswith("warning: ")]
        hold(not warnings, f"it warned: {' '.join(warnings)}")


def contract(name: str, make: Callable[[Path], Hearer]) -> list[Clause]:
    """The clauses for a hearer; `make(folder)` gives a new one for the study in `folder`, which may not exist yet.

    A hearer with a method `close` is closed at the end of a search.
    """
    return clauses(HearerUnderTest(make), f"hearer {name}", CHECKS)


def _close(hearer: Hearer) -> None:
    if close := getattr(hearer, "close", None):
        close()


def _settings() -> StudySettings:
    space = make_space()
    budget = {"trials": TRIALS, "hours": None}
    return StudySettings.read(settings_for(space, searcher={"kind": "random"}, budget=budget, retries=1))


def search(folder: Path, hear: Hearer) -> list[dict[str, Any]]:
    """A search with all that can happen in one, heard by `hear`; returns its events.

    Trials are completed, stopped, diverged and failed, one is tried again, one is stopped by hand, checkpoints are
    dropped, a trial gets a note, more trials run at once; the search is interrupted and resumed, and two trials run at
    a time.
    """
    heard: list[dict[str, Any]] = []

    def both(event: dict[str, Any]) -> None:
        heard.append(copy.deepcopy(event))
        hear(event)

    study = Study.create(folder, _settings(), [both])
    first, second = study.ask(), study.ask()
    assert first is not None and second is not None  # noqa: S101  of five trials
    study.fail(first.trial, first.attempt, "RuntimeError: once")
    drive(study, 2, events=4)
    study.drop_checkpoints([], 0, 10)
    study.mark(first.trial, "a note", ["tag"], [], by="somebody@here")
    study.run_at_once(3, 2, by="somebody@here")
    study.interrupt("interrupted")
    study.close()
    study = Study.resume(folder, {"retries": [1, 0]}, [both])
    job = study.ask()
    if job is not None:
        study.fail(job.trial, job.attempt, "ValueError: for good", final=True)
    job = study.ask()
    if job is not None:
        study.stop_by_hand(job.trial, "request", "somebody@here")
        study.let_go()
    drive(study, 2)
    study.interrupt("budget")
    study.close()
    return heard


def changes_nothing(subject: HearerUnderTest) -> None:
    """Hears a whole search, with everything that can happen in one, without an error, and changes neither the events
    nor what is decided.
    """
    with tempfile.TemporaryDirectory() as folder:
        search(Path(folder, "alone"), lambda event: None)
        study = Path(folder, "heard")
        given: list[tuple[dict[str, Any], dict[str, Any]]] = []
        with subject.hearing(study) as hearer:

            def hear(event: dict[str, Any]) -> None:
                before = copy.deepcopy(event)
                hearer(event)
                given.append((before, event))

            search(study, hear)
        for before, event in given:
            hold(repr(before) == repr(event), f"event {before['seq']} ({before['event']}) was changed to {event}")
        hold(_outcome(study) == _outcome(Path(folder, "alone")), "trials went otherwise than without it")


def _outcome(folder: Path) -> str:
    return repr(decisions(folder))


def joins_a_search_that_goes_on(subject: HearerUnderTest) -> None:
    """May be made for a study that has a history: the first event that it hears is not the log's first."""
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder, "toy")
        begun = Study.create(study, _settings(), [])
        drive(begun, 2, events=7)
        begun.close()
        with subject.hearing(study) as hearer:
            again = Study.resume(study, {}, [hearer])
            drive(again, 2)
            again.interrupt("budget")
            again.close()


def passes_over_what_it_does_not_know(subject: HearerUnderTest) -> None:
    """Passes over kinds of events and fields that a later version may write."""
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder, "toy")
        with subject.hearing(study) as hearer:
            seq = 0

            def hear(event: Mapping[str, Any]) -> None:
                nonlocal seq
                for more in ({**event, "later_field": {"a": [1, None]}}, {**_LATER, "time": event["time"]}):
                    seq += 1
                    hearer(json.loads(json.dumps({**more, "seq": seq})))

            search(study, hear)


_LATER = {"event": "of_a_later_version", "host": "h", "trial": None, "anything": [1, "x"]}


def can_be_closed_at_any_time(subject: HearerUnderTest) -> None:
    """Can be closed before it heard anything, in the middle of a trial, and twice; an event after that is no error."""
    with tempfile.TemporaryDirectory() as folder:
        events = search(Path(folder, "toy"), lambda event: None)
        for count in (0, 1, len(events) // 2):
            hearer = subject.make(Path(folder, "toy"))
            for event in copy.deepcopy(events[:count]):
                hearer(event)
            _close(hearer)
            _close(hearer)
            if hasattr(hearer, "close"):
                hearer(copy.deepcopy(events[count]))


def leaves_no_thread_behind(subject: HearerUnderTest) -> None:
    """A hearer that works in a thread of its own ends it when it is closed."""
    with tempfile.TemporaryDirectory() as folder:
        events = search(Path(folder, "toy"), lambda event: None)
        before = set(threading.enumerate())
        with subject.hearing(Path(folder, "toy")) as hearer:
            for event in copy.deepcopy(events):
                hearer(event)
            started = set(threading.enumerate()) - before
        left = [thread.name for thread in started if thread.is_alive()]
        hold(not left, f"threads go on: {left}")


CHECKS: tuple[Callable[[HearerUnderTest], None], ...] = (
    changes_nothing,
    joins_a_search_that_goes_on,
    passes_over_what_it_does_not_know,
    can_be_closed_at_any_time,
    leaves_no_thread_behind,
)
"""The clauses; the docstring of each says what must hold."""
