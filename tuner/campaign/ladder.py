"""How long the runs of a campaign are, where its budget holds few whole ones: a ladder of three lengths.

What a run ends with depends on its length more than on most settings, and a short run with a short schedule costs
little to throw away. So where the searches could pay fewer than `ENOUGH` whole runs, the search tries many
configurations in runs of an eighth of the length, each with its whole schedule; the best `LONGER` go on to a third; and
the best of these is confirmed at full length. Where a third of the length was no better than an eighth, longer runs
promise nothing, and the third is confirmed, with the seeds that this leaves.

The full length is the space's own. A budget that is too small for that is refused, or with consent the full length is
what `CONFIRM` of the budget holds of two runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SHORT, LONG = 1 / 8, 1 / 3
"""The two lower lengths, as shares of the full one."""
ENOUGH = 12
"""Whole runs of the searches from which whole runs are searched."""
LONGER = 2
"""Least number of configurations that go on to the second length."""
LEAST_DRAWN = 8
"""Short runs that the search must be able to pay to their end."""
CONFIRM = 0.55
"""Share of the confirmation where the full length is chosen by the budget."""
LEAST_BATCHES = 8
"""Batches below which a short run says nothing."""
SEEDS = 2


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
    longer = max(LONGER * LONG * whole, min(0.3 * rest, 4 * LONG * whole))
    return {"search": rest - longer, "longer": longer, "narrow": 0.0, "confirm": confirm}
