"""Results of simulated searches: batches to a good PER, regret, and how often the best run was stopped, with intervals.

Every number is over repeats, and every interval is the 95 % percentile bootstrap of its mean over them (Wilson's for
the share of winners lost). Rules are compared on the same repeats (the same orders of trials), so a ratio of two
rules is drawn in pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainable.bootstrap import band, interval, resamples
from tuner.simulation.curves import Bank
from tuner.simulation.simulate import Search

WITHIN = (0.02, 0.05)
"""How close to the bank's best PER counts as reached, as a fraction of it."""


def bootstrap(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of the mean over repeats; deterministic."""
    sample = np.asarray(values, dtype=np.float64)
    return interval(sample[resamples(len(sample))].mean(axis=1))


def bootstrap_ratio(values: Sequence[float] | np.ndarray, base: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of mean(values) / mean(base), the repeats drawn in pairs; deterministic."""
    over, under = np.asarray(values, dtype=np.float64), np.asarray(base, dtype=np.float64)
    picks = resamples(len(over))
    return interval(over[picks].mean(axis=1) / under[picks].mean(axis=1))


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of `count` repeats; unlike a bootstrap, it is not [0, 0] for 0 of 50."""
    z = 1.959963984540054
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))


def batches_to(bank: Bank, searches: Sequence[Search], base: Sequence[Search], within: float) -> np.ndarray:
    """float64 [repeats]: batches until a PER within a share of the bank's best was seen.

    A search that never saw one counts with what its full runs (`base`) cost in all: at that price it is found.
    """
    target = bank.best_per * (1 + within)
    found = np.array([search.batches_to(target) for search in searches])
    return np.where(np.isfinite(found), found, [search.spent for search in base])


def summary(name: str, bank: Bank, searches: Sequence[Search], base: Sequence[Search]) -> dict[str, Any]:
    """One row about a rule, against the full runs of random search on the same repeats (`base`).

    `to_2`, `to_5`: mean batches to within 2 % and 5 % of the bank's best PER (see `batches_to`), `share_2` the same as
    a share of all batches of the full runs, `ratio_2` relative to what full runs need for it, `reached_2` the share of
    repeats that got there; `regret` the final PER less the bank's best; `winner_stopped` the share of repeats in which
    the best of the started trials was stopped; `spent` the share of the batches of full runs. `_low` and `_high` are
    the ends of the interval.
    """
    full = np.array([search.spent for search in base], dtype=np.float64)
    row: dict[str, Any] = {"rule": name, "repeats": len(searches)}
    for within in WITHIN:
        key = f"{100 * within:g}"
        needed, needed_base = (batches_to(bank, each, base, within) for each in (searches, base))
        row[f"to_{key}"] = float(needed.mean())
        row |= _mean(f"share_{key}", needed / full)
        row[f"ratio_{key}"] = float(needed.mean() / needed_base.mean())
        row[f"ratio_{key}_low"], row[f"ratio_{key}_high"] = bootstrap_ratio(needed, needed_base)
        row[f"reached_{key}"] = float(np.mean([s.best_per <= bank.best_per * (1 + within) for s in searches]))
    row |= _mean("regret", np.array([search.best_per - bank.best_per for search in searches]))
    row["winner_stopped"] = float(np.mean([search.winner_stopped for search in searches]))
    row["winner_stopped_low"], row["winner_stopped_high"] = wilson(row["winner_stopped"], len(searches))
    row |= _mean("spent", np.array([search.spent for search in searches]) / full)
    return row


def regret_curve(bank: Bank, searches: Sequence[Search], base: Sequence[Search], points: int = 101) -> np.ndarray:
    """float64 [points, 4]: share of the full runs' batches, mean regret then, and its interval's ends.

    Regret is the best PER seen so far less the bank's best; before the first epoch it is that of the first epoch, and
    after a search's end that of its end.
    """
    shares = np.linspace(0, 1, points)
    curves = np.empty((len(searches), points))
    for index, (search, whole) in enumerate(zip(searches, base, strict=True)):
        at = np.searchsorted(search.trace.batches, shares * whole.spent, side="right") - 1
        curves[index] = search.trace.best[np.maximum(at, 0)] - bank.best_per
    low, high = band(curves[resamples(len(searches))].mean(axis=1))
    return np.column_stack([shares, curves.mean(axis=0), low, high])


def _mean(name: str, values: np.ndarray) -> dict[str, float]:
    low, high = bootstrap(values)
    return {name: float(values.mean()), f"{name}_low": low, f"{name}_high": high}
