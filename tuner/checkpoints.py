"""The driver's side of checkpoints: from where a trial goes on, what is cleaned up, and how much room all of it takes.

The worker's side, which writes them, is `trainable.keeping`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search_spaces import RunConfig
from search_spaces.checkpoints import Checkpoints
from search_spaces.stopping import HyperbandStopping, OneEpochStopping, Rule
from tuner.rungs import Grid, bracket_of, places

FOLDER = "checkpoints"
"""Inside a study's folder; each trial has a folder of its number in it."""
LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"
"""The names of `trainable.keeping`, which imports torch."""


def trial_folder(study: Path, trial: int) -> Path:
    """Where the checkpoints of a trial are."""
    return study / FOLDER / str(trial)


def chosen(default: Mapping[str, Any] | Checkpoints, request: Any) -> dict[str, Any]:
    """The settings of a study: those of the space or as before, less what `request` (a `launch.Request`) asks for."""
    base = default.model_dump(mode="json") if isinstance(default, Checkpoints) else dict(default)
    asked = {
        "every": request.checkpoint_every,
        "best_weights": request.best_weights,
        "budget": request.checkpoint_budget,
    }
    return Checkpoints.model_validate(base | {k: v for k, v in asked.items() if v is not None}).model_dump(mode="json")


def rungs_of(rule: Rule, config: RunConfig, trial: int) -> tuple[tuple[int, ...], bool]:
    """For a `study.Job`: the epochs at which the rule may end a trial, and whether it may pause it there."""
    training = config.training
    grid = Grid(training.batches, training.batches_per_epoch, config.horizon)
    bracket = bracket_of(rule, trial) if isinstance(rule, HyperbandStopping) else 0
    pauses = isinstance(rule, OneEpochStopping) or bool(getattr(rule, "promote", False))
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
