"""What simulated searches say of a rule, in numbers that can be worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuner.simulation.curves import Bank, read_curves
from tuner.simulation.regret import batches_to, bootstrap, bootstrap_ratio, regret_curve, summary, wilson
from tuner.simulation.simulate import Search, Trace


@pytest.fixture
def bank(banks: Any, tmp_path: Path) -> Bank:
    """Eight runs; the best PER is 0.20."""
    return read_curves(banks.write(tmp_path / "curves.csv", banks.rows()), tmp_path)


def search(*points: tuple[float, float], stopped: bool = False) -> Search:
    """A search with these (batches spent, best PER so far)."""
    trace = Trace(*np.array([(batches, batches, per, 1, 0) for batches, per in points], dtype=np.float64).T)
    return Search(0, trace, int(trace.batches[-1]), "3", stopped, {}, 8)


def test_batches_to_a_good_per_are_those_of_the_first_time_it_was_seen(bank: Bank) -> None:
    """0.204 is within 2 % of 0.20 and 0.21 within 5 %; a search that never got there costs all of its full runs."""
    base = [search((100, 0.3), (400, 0.2))] * 2
    found = [search((50, 0.3), (100, 0.21), (150, 0.204)), search((50, 0.3), (120, 0.25))]
    assert batches_to(bank, found, base, 0.02).tolist() == [150, 400]
    assert batches_to(bank, found, base, 0.05).tolist() == [100, 400]


def test_a_summary_compares_with_the_full_runs_of_the_same_repeats(bank: Bank) -> None:
    """Means, shares and ratios; the full runs themselves have ratio 1 and no regret."""
    base = [search((100, 0.3), (400, 0.2)), search((200, 0.2), (400, 0.2))]
    rule = [search((50, 0.3), (100, 0.2)), search((40, 0.2), (60, 0.2), stopped=True)]
    none, row = summary("none", bank, base, base), summary("rule", bank, rule, base)
    assert (none["to_2"], none["share_2"], none["ratio_2"], none["regret"], none["spent"]) == (300, 0.75, 1, 0, 1)
    assert (row["to_2"], row["share_2"]) == (70, 0.175)
    assert row["ratio_2"] == pytest.approx(70 / 300)
    assert row["ratio_2_low"] <= 70 / 300 <= row["ratio_2_high"]
    assert (row["reached_2"], row["winner_stopped"], row["spent"]) == (1.0, 0.5, 0.2)


def test_regret_falls_along_the_batches_spent(bank: Bank) -> None:
    """Share spent, mean, interval: a search that has ended keeps what it had."""
    base = [search((100, 0.3), (400, 0.2))]
    curve = regret_curve(bank, [search((40, 0.4), (80, 0.25))], base, points=5)
    assert curve[:, 0].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve[:, 1] == pytest.approx([0.2, 0.05, 0.05, 0.05, 0.05])
    assert np.array_equal(curve[:, 1], curve[:, 2])


def test_the_interval_is_that_of_the_mean() -> None:
    """It holds the mean, shrinks with more repeats, and is a point where nothing varies; a ratio is drawn in pairs."""
    values = np.random.default_rng(1).normal(10, size=400)
    low, high = bootstrap(values)
    assert low < values.mean() < high
    few = bootstrap(values[:20])
    assert few[1] - few[0] > high - low
    assert bootstrap([2.0, 2.0]) == (2.0, 2.0)
    assert bootstrap_ratio(values / 4, values) == pytest.approx((0.25, 0.25))


def test_nothing_lost_in_fifty_searches_is_not_nothing_ever_lost() -> None:
    """Wilson's interval of 0 of 50 reaches 7 %, and it is symmetric."""
    assert wilson(0, 50) == pytest.approx((0, 0.0713), abs=1e-4)
    assert wilson(1, 50) == pytest.approx((1 - 0.0713, 1), abs=1e-4)
