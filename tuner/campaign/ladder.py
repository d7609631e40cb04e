"""How long the runs of a campaign are, where its budget holds few whole ones: a ladder of three lengths.

What a run ends with depends on its length more than on most settings, and a short run with a short schedule costs
little to throw away. So where the searches could pay fewer than `ENOUGH` whole runs, the search tries many
configurations in runs of a sixteenth of the length, each with its whole schedule; the best `LONGER` go on to a fifth;
and the best of these is confirmed at full length. Where a fifth of the length was no better than a sixteenth, longer
runs promise nothing, and the fifth is confirmed, with the seeds that this leaves.

Runs that are so short are compared by the validation loss, where all have the same kind of loss: most PERs are near 1
there, and the loss tells who will be ahead (docs/campaign.md has the figures).

The full length is the space's own. A budget that is too small for that is refused, or with consent the full length is
what `CONFIRM` of the budget holds of two runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from search_spaces import Space
from search_spaces.lengths.scaled_space import scaled_space
from search_spaces.measures import is_per
from search_spaces.stopping import NoStopping

BY_LOSS = "best_val_loss"
SHORT, LONG = 1 / 16, 1 / 5
"""The two lower lengths, as shares of the full one."""
ENOUGH = 12
"""Whole runs of the searches from which whole runs are searched."""
LONGER = 4
"""Number of configurations that go on to the second length: only there does it show what a schedule and the
regularisation are worth (docs/campaign.md)."""
LEAST_DRAWN = 8
"""Short runs that the search must be able to pay to their end."""
CONFIRM = 0.55
"""Share of the confirmation where the full length is chosen by the budget."""
LEAST_BATCHES = 8
"""Batches below which a short run says nothing."""
SEEDS = 2
LOSSES = ("training.ctc_reduction", "model.kernel", "model.stride")
"""Settings that change what a validation loss is a mean of, or over how many outputs."""


@dataclass(frozen=True)
class Ladder:
    """The lengths of a campaign, as factors of those of its space."""

    whole: float = 1.0

    @property
    def short(self) -> float:
        """Of the search."""
        return self.whole * SHORT

    @property
    def long(self) -> float:
        """Of the best of the search."""
        return self.whole * LONG


def short_space(space: Space, ladder: Ladder) -> Space:
    """The space of the short runs, all of them whole; by the validation loss where it means the same in all."""
    short = replace(scaled_space(space, ladder.short), stopping=NoStopping())
    alike = not any(dimension.path in LOSSES for dimension in space.dimensions)
    return replace(short, objective=BY_LOSS) if is_per(space.objective) and alike else short


def needed(longest: float) -> float:
    """The least budget for a ladder up to whole runs, of which the longest costs so much."""
    return longest * (SEEDS + LONGER * LONG + LEAST_DRAWN * SHORT)


def ladder_of(
    amount: float, runs: Sequence[float], shares: Mapping[str, float], batches: int
) -> tuple[Ladder | None, float | None]:
    """The ladder (None where whole runs are searched), and the least budget where this one must shorten whole runs.

    `runs` are the costs of whole runs of the space, `batches` is the length of its shortest. A ladder whose short runs
    are too short is None too, with the least budget that needs none: nothing can be done with that little.
    """
    middle, longest = sorted(runs)[len(runs) // 2], max(runs)
    if (shares["search"] + shares["narrow"]) * amount >= ENOUGH * middle:
        return None, None
    least = needed(longest)
    if amount >= least * (1 - 1e-9):
        return Ladder(), None
    found = Ladder(min(1.0, CONFIRM * amount / (SEEDS * longest)))
    return (found if math.floor(found.short * batches) >= LEAST_BATCHES else None), least


def laddered(amount: float, longest: float, shares: Mapping[str, float], ladder: Ladder) -> dict[str, float]:
    """The amount of each step; `longest` is the cost of a run at the space's own length."""
    whole = ladder.whole * longest
    confirm = SEEDS * whole if ladder.whole < 1 else max(SEEDS * whole, shares["confirm"] * amount)
    rest = amount - confirm
    return {"search": rest - LONGER * LONG * whole, "longer": LONGER * LONG * whole, "narrow": 0.0, "confirm": confirm}
