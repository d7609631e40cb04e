"""Keeps the checkpoints of a study within their budget and removes old ones, while it runs and afterwards (`clean`)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from results.store.events import EventLog, read_events
from results.store.lock import StudyLock
from results.store.made import refuse_short
from results.store.paths import StudyPaths, refuse_links_out
from results.store.tables import compact
from tuner.study.checkpoints import files_of, remove, remove_states
from tuner.study.state import StudyState
from tuner.study.study import Study

KEPT_LEADERS = 5
"""The best weights of this many trials are never removed to save space."""
LOOK_SHARE = 0.05
"""Fraction of the time that reading the files' sizes may take."""


def sweep(study: Path, state: StudyState) -> None:
    """Remove what is no longer needed: states and temporary files of ended trials, files recorded as removed."""
    for number, paths in StudyPaths(study).trials.items():
        trial = state.trials.get(number)
        if trial is None or not trial.final:
            continue
        remove_states(study, number)
        if str(paths.best.relative_to(study)) in state.dropped:
            paths.best.unlink(missing_ok=True)


def to_drop(files: Mapping[str, int], state: StudyState, budget: int) -> list[str]:
    """The files to remove so that the rest fits into `budget` bytes, as far as that is possible.

    In this order: states before the last one; best weights of trials that have ended, the worst trial's first. Never
    the last state of a trial that may go on, and never the best weights of the study's best `KEPT_LEADERS` trials.
    """
    over = sum(files.values()) - budget
    if over <= 0:
        return []
    worst_first = sorted(
        state.trials.values(), key=lambda trial: (trial.best or (float("inf"), 0), trial.number), reverse=True
    )
    ended = [trial for trial in worst_first[: max(0, len(worst_first) - KEPT_LEADERS)] if trial.final]
    inside = StudyPaths(Path())
    order = [inside.trial(trial.number).previous for trial in worst_first]
    order += [inside.trial(trial.number).best for trial in ended]
    dropped = []
    for path in map(str, order):
        if over > 0 and path in files:
            dropped.append(path)
            over -= files[path]
    return dropped


class Upkeep:
    """Keeps the checkpoints of a running study within its budget. `event` is an observer of the study.

    A removal is in the log before the file is removed, so the tables never name a file that does not exist.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._next_look = 0.0
        self._warned = False
        sweep(study.folder, study.state)
        self._look()

    def event(self, event: Mapping[str, Any]) -> None:
        """Check the sizes from time to time, when checkpoints may have been written."""
        if event["event"] in ("epoch", "trial_ended") and time.monotonic() >= self._next_look:
            self._look()

    def close(self) -> None:
        """Remove the last files that workers wrote for trials that have ended."""
        sweep(self._study.folder, self._study.state)

    def _look(self) -> None:
        budget = self._study.settings.checkpoints.budget
        if not budget:
            return
        began = time.monotonic()
        files = files_of(self._study.folder)
        dropped, size = to_drop(files, self._study.state, budget), sum(files.values())
        left = size - sum(files[path] for path in dropped)
        if dropped or (left > budget and not self._warned):
            self._study.drop_checkpoints(dropped, left, budget)
        self._warned = left > budget
        now = time.monotonic()
        self._next_look = now + (now - began) / LOOK_SHARE


def clean(study: Path, budget: int | None) -> tuple[int, int]:
    """Clean the checkpoints of a study that is not running; returns bytes (freed, left).

    With `budget` bytes, or else the study's own budget, what does not fit is removed as in a search. Raises
    InputError if a search runs the study, or it lies behind a link out of the results folder.
    """
    refuse_links_out(study)
    with StudyLock(study):
        refuse_short(study)
        state = StudyState(searching=False)
        path = StudyPaths(study).log
        state.replay(read_events(path)[0], str(path))
        before = sum(files_of(study).values())
        for paths in StudyPaths(study).trials.values():
            for leftover in paths.leftovers():
                leftover.unlink(missing_ok=True)
        sweep(study, state)
        files = files_of(study)
        limit = budget or state.settings.checkpoints.budget
        dropped = to_drop(files, state, limit) if limit else []
        left = sum(files.values()) - sum(files[path] for path in dropped)
        if dropped:
            with EventLog(StudyPaths(study).log) as log:
                log.append("checkpoints_dropped", files=dropped, bytes=left, budget=limit)
            remove(study, dropped)
            compact(study)
        return before - left, left
