"""Requests to a running search, from any machine that can write to the study's folder: stop it or one of its trials,
put a note or a tag on one, run more or fewer trials at once.

A request is a small file in `<study>/requests`. The driver, which alone writes to the log, checks this folder about
once a second, writes an event (which is the answer, and is replayed), and removes the file. So no port and no signal to
another machine is needed, and a request is carried out exactly once, even after a crash.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from results.store.events import EventLog
from results.store.lock import StudyLock, is_held
from results.store.made import refuse_short
from results.store.paths import StudyPaths, refuse_links_out
from results.store.tables import compact
from results.store.validity import damage
from search_spaces import InputError
from search_spaces.common import atomic
from tuner.callbacks.watch import Watched
from tuner.study.study import Study
from tuner.study.trial_state import FINAL

LOOK_SECONDS = 1.0
"""Seconds between two checks by the driver; on a network file system a request may arrive some seconds later."""


@dataclass(frozen=True)
class StopRequest:
    """A request to stop the whole search, or trial `trial`."""

    id: str
    trial: int | None
    by: str
    """user@host."""
    seq: int
    """The last event at the time of the request: it is for the search that was running then, not for a later one."""


@dataclass(frozen=True)
class MarkRequest:
    """A request to put a note and tags on a trial, or on the study (`of` None), and to take tags off."""

    id: str
    of: int | None
    note: str | None
    add: list[str]
    remove: list[str]
    by: str


@dataclass(frozen=True)
class SetRequest:
    """A request to the search that runs (as for `StopRequest`): so many trials at once."""

    id: str
    concurrent: int
    by: str
    seq: int


KINDS: dict[str, type[StopRequest | MarkRequest | SetRequest]] = {
    "stop": StopRequest,
    "mark": MarkRequest,
    "set": SetRequest,
}


class Inbox:
    """The driver's side: `look` answers the requests since the last call.

    `concurrent` trials run at once until a request changes it, and never more than `room()`.
    """

    def __init__(
        self,
        study: Study,
        clock: Callable[[], float] = time.monotonic,
        concurrent: int = 1,
        room: Callable[[], int] = lambda: 1,
    ) -> None:
        self._study = study
        self._room = room
        self.concurrent = concurrent
        """How many trials may run at once now."""
        self._folder = StudyPaths(study.folder).requests
        self._clock = clock
        self._next = 0.0
        self.leave = False
        """Whether there was a request to stop the whole search."""

    def look(self) -> bool:
        """Carry out the requests; returns `leave`. Does nothing between two checks that are due."""
        if self._clock() >= self._next:
            self._next = self._clock() + LOOK_SECONDS
            with contextlib.suppress(OSError):  # no folder, or one that is unavailable for a moment
                for path in sorted(self._folder.glob("*.json")):
                    self._answer(path)
        return self.leave

    def _answer(self, path: Path) -> None:
        try:
            given = json.loads(path.read_bytes())
            request = KINDS[given.pop("kind", "stop")](**given)
        except (ValueError, TypeError, LookupError, AttributeError):
            path.unlink(missing_ok=True)
            return
        if isinstance(request, MarkRequest):
            if not damage({"event": "marked", **asdict(request)}, proven=True):
                marks = (request.of, request.note, request.add, request.remove)
                self._study.mark(*marks, request=request.id, by=request.by)
        elif isinstance(request, SetRequest):
            if request.seq >= self._study.state.session_seq and request.concurrent > 0:
                self.concurrent = min(request.concurrent, self._room())
                self._study.run_at_once(request.concurrent, self.concurrent, request=request.id, by=request.by)
        else:
            self._stop(request)
        path.unlink(missing_ok=True)

    def _stop(self, request: StopRequest) -> None:
        state = self._study.state
        if request.trial is not None:
            trial = state.trials.get(request.trial)
            if trial is not None and trial.status not in FINAL and request.trial not in state.stop_asked:
                self._study.stop_by_hand(request.trial, request.id, request.by)
        elif request.seq >= state.session_seq and not self.leave:
            self._study.stop_by_hand(None, request.id, request.by)
            self.leave = True


def somebody() -> str:
    """user@host: who asks."""
    return f"{getpass.getuser()}@{os.uname().nodename}"


def ask(folder: Path, trial: int | None, seq: int) -> Path:
    """Leave a request to stop in a study's folder; returns its file. Raises InputError if it cannot be written."""
    return leave(folder, {"trial": trial, "seq": seq})


def leave(folder: Path, wanted: Mapping[str, Any]) -> Path:
    """Leave a request of any kind in a study's folder; returns its file. Raises InputError if it cannot be written."""
    request_id = f"{time.time_ns()}-{secrets.token_hex(4)}"
    request = {"id": request_id, "by": somebody(), **wanted}
    path = StudyPaths(folder).requests / f"{request_id}.json"
    try:
        path.parent.mkdir(exist_ok=True)
        atomic.write(path, json.dumps(request))  # so that the driver never reads a partial request
    except OSError as error:
        raise InputError(
            f"{path.parent}: cannot write there ({error.strerror}); run this where the folder can be written"
        ) from error
    return path


def stop(folder: Path, trial: int | None, seconds: float, sleep: Callable[[float], None] = time.sleep) -> str:
    """Ask the driver of the study in `folder` to stop it, or one trial, and wait for that; returns what happened.

    The outcome is "ended" (the search has ended, or the trial), "asked" (not within `seconds`) or "waits" (no driver
    runs; the next one will end the trial). Raises InputError where there is nothing to stop.
    """
    watched = Watched(folder)
    events: list[dict[str, Any]] = []
    watched.look(events.append)
    _check(watched, trial)
    path = ask(folder, trial, watched.seq)
    if trial is not None and not watched.held:
        return "waits"
    end = time.monotonic() + seconds
    while True:
        gone = not path.exists()  # before the look: what answered it is then in the log
        watched.look(events.append)
        if trial is None and not watched.held:
            path.unlink(missing_ok=True)  # nobody is left to answer
            return "ended"
        if trial is not None and watched.state.trials[trial].status in FINAL:
            return "ended"
        if time.monotonic() >= end:
            return "asked"
        if gone and not any(event.get("request") == path.stem for event in events):
            path = ask(folder, trial, watched.seq)  # the driver was only starting; this is the search it meant
        sleep(0.2)


def mark(
    folder: Path,
    of: int | None,
    note: str | None = None,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
    *,
    seconds: float = 30.0,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Put a note and tags on a trial, or on the study (`of` None): by its driver where one runs, else in its log.

    Returns "marked", or "asked" where a driver runs and has not written it within `seconds`; it, or the next one, will.
    """
    wanted = {"of": of, "note": note, "add": list(add), "remove": list(remove)}
    if is_held(folder):
        path = leave(folder, {"kind": "mark", **wanted})
        if _answered(path, folder, seconds, sleep):
            return "marked"
        if is_held(folder):
            return "asked"
        try:
            path.unlink()  # whoever held it has gone, and did not answer
        except FileNotFoundError:
            return "marked"
    refuse_links_out(folder)
    with StudyLock(folder):
        refuse_short(folder)
        with EventLog(StudyPaths(folder).log) as log:
            log.append("marked", **wanted, by=somebody())
        compact(folder)
    return "marked"


def run_at_once(
    folder: Path, concurrent: int, seconds: float = 30.0, sleep: Callable[[float], None] = time.sleep
) -> int | None:
    """Ask the driver of a study to run so many trials at once; returns how many it will run, of those that fit.

    None where it has not answered within `seconds`. Raises InputError where no search runs the study, or it has ended
    meanwhile.
    """
    watched = Watched(folder)
    watched.look()
    name = folder.name
    if not watched.held:
        raise InputError(
            f"{name}: no search is running this study, so there is nothing to change; "
            f"give it when it goes on: 'tuner resume {name} --concurrent {concurrent}'"
        )
    path = leave(folder, {"kind": "set", "concurrent": concurrent, "seq": watched.seq})
    if not _answered(path, folder, seconds, sleep):
        if not is_held(folder):
            path.unlink(missing_ok=True)
            raise InputError(f"{name}: the search has ended before it could be changed")
        return None
    events: list[dict[str, Any]] = []
    watched.look(events.append)
    found = [event["at_once"] for event in events if event.get("request") == path.stem]
    if not found:
        raise InputError(f"{name}: the search that was asked has ended, and another one has begun; ask again")
    return int(found[0])


def _answered(path: Path, folder: Path, seconds: float, sleep: Callable[[float], None]) -> bool:
    """Whether a driver takes a request within `seconds`, and while it runs."""
    end = time.monotonic() + seconds
    while path.exists():
        if time.monotonic() >= end or not is_held(folder):
            return not path.exists()
        sleep(0.1)
    return True


def _check(watched: Watched, trial: int | None) -> None:
    name, state = watched.folder.name, watched.state
    if trial is None and not watched.held:
        raise InputError(f"{name}: no search is running this study; 'tuner status {name}' shows its state")
    if trial is not None and trial not in state.trials:
        raise InputError(f"--trial {trial}: {name} has no such trial; it has started {len(state.trials)} so far")
    if trial is not None and state.trials[trial].status in FINAL:
        raise InputError(f"--trial {trial}: has ended already ({state.trials[trial].status}); there is nothing to stop")
