"""The driver's side of checkpoints: from where a trial goes on, what is cleaned up, and how much room all of it takes.

The worker's side, which writes them, is `trainable.keeping`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.store.events import LOG_NAME, EventLog, read_events
from results.store.lock import StudyLock
from search_spaces import RunConfig
from search_spaces.checkpoints import Checkpoints, size_text
from search_spaces.stopping import HyperbandStopping, OneEpochStopping, PBTStopping, Rule
from tuner.study.rules.rungs import Grid, bracket_of, places

if TYPE_CHECKING:
    from tuner.launch.search import Request
    from tuner.study.state import StudyState
    from tuner.study.study import Study

FOLDER = "checkpoints"
"""Inside a study's folder; each trial has a folder of its number in it."""
LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"
"""The names of `trainable.keeping`, which imports torch."""
KEPT_LEADERS = 5
"""The best weights of so many trials are never dropped for want of room."""
LOOK_SHARE = 0.05
"""Share of the time that looking at the files' sizes may take."""


def trial_folder(study: Path, trial: int) -> Path:
    """Where the checkpoints of a trial are."""
    return study / FOLDER / str(trial)


def asked(request: Request) -> dict[str, Any]:
    """What of `search_spaces.checkpoints.Checkpoints` the command line gives."""
    given = {
        "every": request.checkpoint_every,
        "best_weights": request.best_weights,
        "budget": request.checkpoint_budget,
    }
    return {key: value for key, value in given.items() if value is not None}


def chosen(default: Mapping[str, Any] | Checkpoints, request: Request) -> dict[str, Any]:
    """The settings of a study: those of the space or as before, and over them what was asked for."""
    base = default.model_dump(mode="json") if isinstance(default, Checkpoints) else dict(default)
    return Checkpoints.model_validate(base | asked(request)).model_dump(mode="json")


def rungs_of(rule: Rule, config: RunConfig, trial: int) -> tuple[tuple[int, ...], bool]:
    """For a `study.Job`: the epochs at which the rule may end a trial, and whether it may pause it there."""
    training = config.training
    grid = Grid(training.batches, training.batches_per_epoch, config.horizon)
    bracket = bracket_of(rule, trial) if isinstance(rule, HyperbandStopping) else 0
    pauses = isinstance(rule, OneEpochStopping | PBTStopping) or bool(getattr(rule, "promote", False))
    return tuple(sorted(places(rule, grid, bracket))), pauses


def saved_epoch(study: Path | None, trial: int, logged: int) -> int:
    """After which of its `logged` epochs a trial goes on: that of its newest checkpoint, as far as its name goes.

    Only the file's directory is read; the worker finds out whether the file is whole, and says so if it is not.
    """
    if study is None:
        return logged
    for name in (LAST, PREVIOUS):
        path = trial_folder(study, trial) / name
        if path.exists():
            from trainable.checkpoint import epoch_of

            epoch = epoch_of(path)
            return logged if epoch is None else min(epoch, logged)
    return 0


def remove_states(study: Path, trial: int) -> None:
    """Remove what only an attempt that may go on needs: all but the best weights."""
    folder = trial_folder(study, trial)
    for path in (folder / LAST, folder / PREVIOUS, *folder.glob(".*.pt.*")):
        path.unlink(missing_ok=True)


def files_of(study: Path) -> dict[str, int]:
    """Every file under the study's checkpoints, by its path in the study's folder, with its size in bytes."""
    found = {}
    for path in (study / FOLDER).glob("*/*"):
        try:
            found[str(path.relative_to(study))] = path.stat().st_size
        except FileNotFoundError:  # a worker has just renamed it
            continue
    return found


def sweep(study: Path, state: StudyState) -> None:
    """Remove what nobody needs any more: states and leftovers of trials that have ended, files that were dropped."""
    for folder in (study / FOLDER).glob("*"):
        trial = state.trials.get(int(folder.name)) if folder.name.isdigit() else None
        if trial is None or not trial.final:
            continue
        remove_states(study, trial.number)
        if f"{FOLDER}/{trial.number}/{BEST}" in state.dropped:
            (folder / BEST).unlink(missing_ok=True)


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
    order = [f"{FOLDER}/{trial.number}/{PREVIOUS}" for trial in worst_first]
    order += [f"{FOLDER}/{trial.number}/{BEST}" for trial in ended]
    dropped = []
    for path in order:
        if over > 0 and path in files:
            dropped.append(path)
            over -= files[path]
    return dropped


def describe(event: Mapping[str, Any]) -> str:
    """One line on a `checkpoints_dropped` event."""
    budget = size_text(event["budget"])
    text = f"checkpoints: {size_text(event['bytes'])} of {budget}"
    if event["files"]:
        text = f"checkpoints: {len(event['files'])} files dropped to stay within {budget}; {text.split(': ')[1]} used"
    if event["bytes"] > event["budget"]:
        text += (
            "; the rest is the states of trials that may go on and the best weights of the leaders: give more by "
            "--checkpoint-budget, or run fewer trials at once"
        )
    return text


class Upkeep:
    """Keeps the checkpoints of a running study within its budget and tidy. `event` is an observer of the study.

    What is dropped is in the log before it is removed, so the tables never name a file that has gone.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._next_look = 0.0
        self._warned = False
        sweep(study.folder, study.state)
        self._look()

    def event(self, event: Mapping[str, Any]) -> None:
        """Look at the sizes now and then, when checkpoints may have been written."""
        if event["event"] in ("epoch", "trial_ended") and time.monotonic() >= self._next_look:
            self._look()

    def close(self) -> None:
        """Remove what workers wrote last for trials that have ended."""
        sweep(self._study.folder, self._study.state)

    def _look(self) -> None:
        budget = (self._study.settings.get("checkpoints") or {}).get("budget")
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
    """Tidy the checkpoints of a study that no search runs; returns bytes (freed, left).

    With `budget` bytes, and else with the study's own, what does not fit is dropped as a search would. Raises
    InputError if a search runs the study.
    """
    from results.store.tables import compact
    from tuner.study.state import StudyState

    with StudyLock(study):
        state = StudyState(searching=False)
        for event in read_events(study / LOG_NAME)[0]:
            state.apply(event)
        before = sum(files_of(study).values())
        for folder in (study / FOLDER).glob("*"):
            for leftover in folder.glob(".*.pt.*"):
                leftover.unlink(missing_ok=True)
        sweep(study, state)
        files = files_of(study)
        limit = budget or (state.settings.get("checkpoints") or {}).get("budget")
        dropped = to_drop(files, state, limit) if limit else []
        left = sum(files.values()) - sum(files[path] for path in dropped)
        if dropped:
            with EventLog(study / LOG_NAME) as log:
                log.append("checkpoints_dropped", files=dropped, bytes=left, budget=limit)
            remove(study, dropped)
            compact(study)
        return before - left, left


def remove(study: Path, files: list[str]) -> None:
    """Remove files that the log says are dropped."""
    for path in files:
        (study / path).unlink(missing_ok=True)
