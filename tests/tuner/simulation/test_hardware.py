"""The hours of a search on a card, from what was measured there."""

from __future__ import annotations

from search_spaces import load_run
from tuner.simulation.hardware import MEASURED, hours


def test_the_hours_of_a_full_size_search_follow_from_the_measured_rates() -> None:
    """100,000 batches: alone at 23.5 a second, and four at once at 58.4; each line names card and date."""
    alone, shared = hours(load_run("speechBaseline4").config, (100_000, 100_000))
    assert "about 1.2 hours" in alone and "about 0.5 hours" in shared and "MPS" in shared
    assert all(f"{MEASURED[0].card}" in line and MEASURED[0].date in line for line in (alone, shared))


def test_a_range_of_batches_is_a_range_of_hours() -> None:
    """As wide as the plan's."""
    assert "about 1.2 to 2.4 hours" in hours(load_run("speechBaseline4").config, (100_000, 200_000))[0]


def test_a_model_of_another_size_has_no_hours() -> None:
    """Nothing is made up from another size."""
    assert hours(load_run("small").config, (1000, 1000)) == []
