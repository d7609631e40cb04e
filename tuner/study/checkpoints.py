"""The driver's side of checkpoints: the epoch from which a trial continues, and the space that they use.

The workers write them in `trainable.keeping`; `upkeep.py` keeps them within a budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from results.store.paths import StudyPaths
from search_spaces import RunConfig
from search_spaces.checkpoints import Checkpoints, size_text
from search_spaces.stopping import PBTStopping, Rule
from tuner.study.request import Request
from tuner.study.rules.rungs import grid_under, places


def asked(request: Request) -> dict[str, Any]:
    """The fields of `search_spaces.checkpoints.Checkpoints` that have a command-line option."""
    given = {
        "every": request.checkpoint_every,
        "best_weights": request.best_weights,
        "budget": request.checkpoint_budget,
    }
    return {key: value for key, value in given.items() if value is not None}


def chosen(default: Mapping[str, Any] | Checkpoints, request: Request) -> dict[str, Any]:
    """The settings of a study: those of the space, or of the study before it was resumed, changed by the options."""
    base = default.model_dump(mode="json") if isinstance(default, Checkpoints) else dict(default)
    return Checkpoints.model_validate(base | asked(request)).model_dump(mode="json")


def rungs_of(rule: Rule, config: RunConfig, trial: int) -> tuple[tuple[int, ...], bool]:
    """For a `study.Job`: the epochs at which the rule may end a trial, and whether it may pause it there."""
    pauses = isinstance(rule, PBTStopping) or bool(getattr(rule, "promote", False))
    return tuple(sorted(places(rule, grid_under(rule, config)))), pauses


def saved_epoch(study: Path | None, trial: int, logged: int) -> int:
    """The one of its `logged` epochs after which a trial continues: that of its newest checkpoint.

    Only the directory of the file is read; the worker checks whether the file is complete. A simulated study has no
    folder and loses nothing.
    """
    if study is None or not study.is_dir():
        return logged
    for path in StudyPaths(study).trial(trial).states:
        if path.exists():
            from trainable.checkpoint import epoch_of

            epoch = epoch_of(path)
            if epoch is not None and epoch > logged + 1:
                continue  # the log was cut short, and the worker does not use it
            return logged if epoch is None else min(epoch, logged)
    return 0


def remove_states(study: Path, trial: int) -> None:
    """Remove everything except the best weights; only an attempt that may continue needs the rest."""
    paths = StudyPaths(study).trial(trial)
    for path in (*paths.states, *paths.leftovers()):
        path.unlink(missing_ok=True)


def files_of(study: Path) -> dict[str, int]:
    """Every file under the study's checkpoints, by its path in the study's folder, with its size in bytes.

    A trial's folder that is a symbolic link is not followed.
    """
    found = {}
    for path in StudyPaths(study).checkpoints.glob("*/*"):
        if path.parent.is_symlink():
            continue
        try:
            found[str(path.relative_to(study))] = path.lstat().st_size
        except FileNotFoundError:  # a worker has just renamed it
            continue
    return found


def describe(event: Mapping[str, Any]) -> str:
    """One line on a `checkpoints_dropped` event."""
    budget = size_text(event["budget"])
    text = f"checkpoints: {size_text(event['bytes'])} of {budget}"
    if event["files"]:
        text = f"checkpoints: {len(event['files'])} files removed to stay within {budget}; {text.split(': ')[1]} used"
    if event["bytes"] > event["budget"]:
        text += (
            "; the rest is needed: states of trials that may continue and weights of the best trials; give a larger "
            "--checkpoint-budget, or run fewer trials at once"
        )
    return text


def remove(study: Path, files: list[str]) -> None:
    """Remove the files that the log records as removed."""
    for path in files:
        (study / path).unlink(missing_ok=True)
