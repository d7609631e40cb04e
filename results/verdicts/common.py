"""Where trials can be compared: at their ends, at a common epoch of equal schedules, or at a common share of them.

A trial that was stopped, or still runs, has had less training than one that ended, and one with a short schedule has
cooled down at an epoch at which a long one has not. So trials that did not all run to their ends are compared by their
lowest PER until the last place that all of them reached: an epoch where their schedules have one length, else a share
of the schedule. Where there is no such place they cannot be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from results.verdicts.luck import Lead, Luck, lead, restlessness
from results.verdicts.seeds import ended

Row = dict[str, Any]

_NEAR = 0.67
"""A trial counts at a share of its schedule where its last evaluation until there is at this part of it or later."""


@dataclass(frozen=True)
class CommonPlace:
    """Where trials are compared: `text` names it; `pers` has the curve of each until there."""

    text: str
    pers: list[list[float]]

    @property
    def best(self) -> list[float]:
        """The lowest PER of each trial until there."""
        return [min(curve) for curve in self.pers]


def common_place(rows: Sequence[Row], curves: Sequence[Sequence[Row]]) -> CommonPlace | str:
    """The last place that all trials reached, or why there is none.

    `rows` are of the trials table, `curves` the rows of the epochs table of each trial, in order.
    """
    kept = [[row for row in curve if row["per"] is not None and row["batch"]] for curve in curves]
    names = [f"{row['study']}/{row['trial']}" for row in rows]
    bare = [name for name, curve in zip(names, kept, strict=True) if not curve]
    if bare:
        return f"{', '.join(bare)}: no evaluation with a PER"
    if len({_plan(row) for row in rows}) == 1:
        last = min(curve[-1]["epoch"] for curve in kept)
        until = [[row["per"] for row in curve if row["epoch"] <= last] for curve in kept]
        text = f"epoch {last}"
    else:
        share = min(_share(curve[-1]) for curve in kept)
        before = [[row for row in curve if _share(row) <= share + 1e-9] for curve in kept]
        far = [n for n, curve in zip(names, before, strict=True) if not curve or _share(curve[-1]) < _NEAR * share]
        if far:
            return f"{', '.join(far)}: no evaluation near {share:.0%} of the schedule, the last place that all reached"
        until = [[row["per"] for row in curve] for curve in before]
        text = f"{share:.0%} of the schedule"
    if not all(until):
        return "they have no epoch in common"
    return CommonPlace(text, until)


def compare_at(place: CommonPlace, first: int, second: int, luck: Luck, phonemes: int | None) -> Lead:
    """By how much the trial at position `first` is lower there than the one at `second`, and what chance explains.

    The seed s.d. is the model's: repeats measure the ends of runs.
    """
    best = place.best
    spreads = [luck.modelled(best[i], phonemes, restlessness(place.pers[i])) for i in (first, second)]
    return lead([best[first]], [best[second]], spreads)


def all_ended(rows: Sequence[Row]) -> bool:
    """Whether all trials ran to their ends, where they can be compared whatever their lengths."""
    return all(ended(row) and row["best_per"] is not None for row in rows)


def _plan(row: Row) -> tuple[Any, ...]:
    horizon = row.get("schedule_horizon") or row.get("training_batches")
    return horizon, row.get("training_batches_per_epoch")


def _share(row: Row) -> float:
    """The share of its schedule that is done at a row of the epochs table."""
    fraction = row["schedule_fraction"]
    return 1.0 if fraction is None else min(1.0, float(fraction))
