"""Finds what kind of past runs a path holds, and reads them: `tuner results import`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from search_spaces import InputError
from tuner.planned.imported import baseline25, folders, logs, tensorboard
from tuner.planned.imported.settings import Understood
from tuner.planned.past import PastTrial

_Read = Callable[[list[str]], tuple[list[PastTrial], Understood]]
_MOST_DEEP = 6
KINDS = (
    f"result folders ({', '.join(folders.FILES)}), folders of the '25 baseline ({baseline25.LOG}), logs "
    f"({', '.join(logs.ENDINGS)}), TensorBoard files"
)


@dataclass
class Found:
    """The result of reading: the trials; each setting that does not exist here, and each column that is empty, with its
    runs; a line for each thing that was left out.
    """

    trials: list[PastTrial] = field(default_factory=list)
    unmatched: dict[str, list[str]] = field(default_factory=dict)
    unknown: dict[str, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_results(
    path: Path, *, columns: str | None = None, settings: str | None = None, utterances: int | None = None
) -> Found:
    """Read a past run, or a folder of them, at any depth; of several, one that cannot be read is left out with a line.

    `columns` names the columns of a log (`step=iter,per=val_cer`), `settings` the run or file with the settings of logs
    that have none beside them, `utterances` the size of the training data of runs counted in epochs. Raises
    `InputError` if nothing can be read. No code in the files is executed.
    """
    mapped = parse_options(columns, utterances)
    if not path.exists():
        raise InputError(f"{path}: is not a folder or a file; give a result folder, a log, or a folder of them")
    options = {"columns": mapped, "given": settings, "utterances": utterances}
    runs = _runs(path, options)
    if not runs:
        own = next(path.rglob("*.wandb"), None)
        hint = " (W&B's own .wandb files are not read: export the run's history)" if own else ""
        raise InputError(f"{path}: has no result folders and no logs: {KINDS}; give one, or a folder of them{hint}")
    found = Found()
    for name, read in runs:
        try:
            trials, understood = read(found.problems)
        except InputError as error:
            found.problems += error.problems
            continue
        found.trials += trials
        for setting in understood.unmatched:
            found.unmatched.setdefault(setting, []).append(name)
        for each in understood.unknown:
            found.unknown.setdefault(each.replace(".", "_"), []).append(name)
    if not found.trials:
        raise InputError(found.problems)
    return found


def parse_options(columns: str | None, utterances: int | None) -> dict[str, str]:
    """The columns of `--map`. Raises `InputError` for options that cannot be."""
    if utterances is not None and utterances < 1:
        raise InputError(f"--utterances {utterances}: is not allowed; give the number of training utterances")
    return logs.parse_map(columns)


def _runs(path: Path, options: dict[str, Any], deep: int = 0) -> list[tuple[str, _Read]]:
    """(name, how it is read) of each run at a path."""
    if path.is_file():
        if path.suffix not in logs.ENDINGS:
            raise InputError(f"{path}: is not a log that is known; its name must end in {', '.join(logs.ENDINGS)}")
        return [(path.name, lambda problems: logs.read(path, problems, **options))]
    size = options["utterances"]
    if baseline25.holds(path):
        return [(path.name, lambda problems: baseline25.read(path, problems, size))]
    if folders.holds(path):
        return [(path.name, lambda problems: folders.read(path, problems, size))]
    if tensorboard.holds(path):
        return [(path.name, lambda problems: tensorboard.read(path, problems, **options))]
    found: list[tuple[str, _Read]] = [(log.name, partial(_read_log, log, options)) for log in logs.logs_in(path)]
    if deep < _MOST_DEEP:
        for each in sorted(path.iterdir()):
            if each.is_dir() and not each.is_symlink() and not each.name.startswith("."):
                found += _runs(each, options, deep + 1)
    return found


def _read_log(path: Path, options: dict[str, Any], problems: list[str]) -> tuple[list[PastTrial], Understood]:
    return logs.read(path, problems, in_folder=True, **options)
