"""Evaluations of a foreign run as the epochs of trials.

An evaluation is a dict with `per` (a fraction; NaN where the run's was), its place (`step` or `epoch`), and columns of
the epochs table. Rows without a PER are no evaluations and are left out before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tuner.planned.imported.settings import Understood
from tuner.planned.past import PastTrial

PERCENT = 3.0
"""A curve whose middle PER is above this is in percent: no decoder makes three times as many errors as phonemes."""
COLUMNS = ("val_loss", "train_loss", "lr", "grad_norm", "per_raw")


@dataclass
class PastLog:
    """The evaluations of one folder or file, in order.

    `first` is the number that its first place has where places are counted from 0 (`step` of the batch just done, or
    epochs from 0), and 0 where they say how much was done.
    """

    name: str
    rows: list[dict[str, Any]]
    offset: int = 0
    """Added to a place: 1 where it is the index of the batch or epoch that was just done."""
    decoder: str | None = None
    split: str | None = None
    notes: list[str] = field(default_factory=list)


def trials_of(log: PastLog, settings: Understood, about: dict[str, Any], notes: Sequence[str] = ()) -> list[PastTrial]:
    """The trials in a log: one for each time the run was started from the beginning.

    `about` and `notes` are further columns and notes of the last: of the weights that lie in the folder.
    """
    rows, shared = _fractions(log.rows)
    runs = _runs(rows) or [[]]
    shared = [*log.notes, *shared, *settings.notes]
    if settings.unmatched:
        shared.append(f"settings that do not exist here: {', '.join(settings.unmatched)}")
    trials = []
    for part, run in enumerate(runs, start=1):
        own = [f"part {part} of {len(runs)}: the run was started again in this folder"] if len(runs) > 1 else []
        epochs = _epochs(run, log, settings)
        status, more = _status(epochs, settings)
        split = next((row["eval_split"] for row in run if isinstance(row.get("eval_split"), str)), log.split)
        columns = (*settings.assumed, *settings.unknown)
        facts = {
            "run": log.name if part == 1 else f"{log.name}_restart{part - 1}",
            "purpose": settings.purpose,
            "decoder": log.decoder,
            "split": split,
            "assumed": ", ".join(path.replace(".", "_") for path in columns) or None,
            "note": "; ".join([*own, *(notes if part == len(runs) else ()), *shared, *more]) or None,
            **(about if part == len(runs) else {}),
        }
        trials.append(PastTrial(settings.config, status, facts, epochs, unknown=settings.unknown))
    return trials


def _fractions(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows with PERs as fractions, and a note if they were in percent."""
    pers = [row["per"] for row in rows if math.isfinite(row["per"])]
    if not pers or median(pers) <= PERCENT:
        return rows, []
    scaled = [
        {**row, **{key: row[key] / 100 for key in ("per", "per_raw") if isinstance(row.get(key), float)}}
        for row in rows
    ]
    return scaled, [f"its PER was in percent (up to {max(pers):g}); divided by 100"]


def _place(row: dict[str, Any]) -> int:
    place: int = row["step"] if row.get("step") is not None else row["epoch"]
    return place


def _runs(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """A list for each time the run was started from the beginning; going on from a later place is no new start."""
    runs: list[list[dict[str, Any]]] = []
    for row in rows:
        if not runs or _place(row) <= _place(runs[-1][0]):
            runs.append([])
        runs[-1].append(row)
    return runs


def _epochs(run: list[dict[str, Any]], log: PastLog, settings: Understood) -> list[dict[str, Any]]:
    """Epoch rows: the n-th evaluation is epoch n; a place that comes again belongs to a further attempt."""
    rows: list[dict[str, Any]] = []
    numbers: dict[int, int] = {}
    attempt, last = 1, None
    for evaluation in run:
        place = _place(evaluation)
        attempt += last is not None and place <= last
        last = place
        row: dict[str, Any] = {"attempt": attempt, "epoch": numbers.setdefault(place, len(numbers) + 1)}
        row["batch"] = _batch(evaluation, log.offset, settings)
        row["per"] = number(evaluation["per"])
        row |= {name: number(evaluation[name]) for name in COLUMNS if name in evaluation}
        if "val_loss" in evaluation and row["val_loss"] is None:
            row["lost"] = True
        if row["batch"] is not None and not {"schedule.kind", "training.batches"} & set(settings.unknown):
            row["schedule_fraction"] = min(1.0, row["batch"] / settings.config.horizon)
        rows.append(row)
    return rows


def _batch(evaluation: dict[str, Any], offset: int, settings: Understood) -> int | None:
    if evaluation.get("batch") is not None:
        return int(evaluation["batch"])
    if evaluation.get("step") is not None:
        return int((evaluation["step"] + offset) // (settings.known("training.accumulation") or 1))
    each, epochs = settings.known("training.batches_per_epoch"), settings.known("training.batches")
    if each is None or epochs is None:
        return None
    return int((evaluation["epoch"] + offset) * each)


def number(value: Any) -> float | None:
    """A finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _status(rows: list[dict[str, Any]], settings: Understood) -> tuple[str, list[str]]:
    """How a run ended, and a note where its length was not as set. A loss that was never logged says nothing."""
    lost = [row.pop("lost", False) for row in rows]
    if not rows:
        return "interrupted", ["no evaluation was found"]
    last = rows[-1]
    if last["per"] is None or lost[-1]:
        return "diverged", []
    batches, each = settings.known("training.batches"), settings.known("training.batches_per_epoch")
    if batches is None or last["batch"] is None:
        return "completed", ["how long it was meant to run is not known"]
    if last["batch"] > batches + 1:
        return "completed", [f"it went on beyond its settings: {last['batch']:,} batches of {batches:,}"]
    return ("completed" if batches - last["batch"] <= (each or 0) else "interrupted"), []
