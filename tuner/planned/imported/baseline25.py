"""The output folder of the '25 baseline (Neuroprosthetics-Lab/nejm-brain-to-text): `training_log` and args.yaml.

The log is text; a line of it has the batch, counted from 0, the PER over all phonemes of the validation split, and the
loss. The settings lie beside the log or in the folder of its checkpoints.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from search_spaces import InputError
from tuner.planned.imported.curves import PastLog, trials_of
from tuner.planned.imported.files import read_settings, read_text
from tuner.planned.imported.settings import Understood, understand
from tuner.planned.past import PastTrial

LOG = "training_log"
_EVALUATION = re.compile(r"Val batch (\d{1,9}): .*?PER \(avg\): ([0-9.]+|nan)(?: .*?Loss \(avg\): ([0-9.]+|nan|inf))?")


def holds(folder: Path) -> bool:
    """Whether a folder is of this kind."""
    return (folder / LOG).is_file()


def read(folder: Path, problems: list[str], utterances: int | None) -> tuple[list[PastTrial], Understood]:
    """The trials of such a folder. Raises `InputError` for one without settings or without an evaluation."""
    found = [folder / place / "args.yaml" for place in ("checkpoint", ".")] + sorted(folder.glob("*/args.yaml"))
    path = next((path for path in found if path.is_file()), None)
    if path is None:
        raise InputError(
            f"{folder}: has no args.yaml, neither in the folder nor in checkpoint/; without settings a run cannot be "
            "compared, so it is left out"
        )
    settings = understand(read_settings(path), path, utterances)
    rows = [_row(*match.groups()) for match in _EVALUATION.finditer(read_text(folder / LOG))]
    if not rows:
        raise InputError(f"{folder / LOG}: has no line with 'Val batch N: PER (avg): ...'; is it from this trainer?")
    return trials_of(PastLog(folder.name, rows, offset=1, decoder="greedy"), settings, {}), settings


def _row(batch: str, per: str, loss: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {"step": int(batch), "per": float(per)}
    return row if loss is None else {**row, "val_loss": float(loss)}
