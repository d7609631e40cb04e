"""How far a PER depends on the seed, where that is from, and when a lead is more than luck."""

from __future__ import annotations

import math
import statistics
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[3]))  # benchmarks/ is beside the packages, not one of them

from benchmarks import seeds
from results.statistics import student_t
from results.verdicts.luck import Luck, Repeats, Spread, lead, model, restlessness, sampled

PERS = st.floats(0.02, 0.98)


def repeats(*pers: float, data: str = "d", phonemes: int = 3450) -> Repeats:
    return Repeats(data, phonemes, pers)


def test_the_published_spread_is_the_models() -> None:
    """0.0013 over the 10 seeds of the '24 GRU, at PER 0.2046 on 24,700 phonemes; more on fewer phonemes."""
    assert model(0.2046, 24_700) == pytest.approx(0.0013, abs=2e-5)
    assert sampled(0.2046, 2_470) == pytest.approx(sampled(0.2046, 24_700) * math.sqrt(10))


def test_repeats_of_like_per_on_the_same_data_measure_the_spread() -> None:
    """Three degrees of freedom near the PER replace the model; a lead of 0.0133 is then luck, as on AN4."""
    pairs = [repeats(0.21, 0.235), repeats(0.24, 0.252), repeats(0.28, 0.30)]
    found = Luck(pairs).spread(0.25, "d", 3450)
    pooled = math.sqrt(sum(statistics.variance(each.pers) for each in pairs) / 3)
    assert (found.sd, found.degrees) == (pytest.approx(pooled), 3)
    assert found.source == (
        "measured on this data: 3 configurations with several seeds at PER 0.22 to 0.29, 3 degrees of freedom"
    )
    assert lead([0.2400], [0.2533], [found]).tie


def test_repeats_of_other_data_or_of_another_per_do_not() -> None:
    """What other data and worse runs say only makes the model larger: PER 0.12 against 0.16 is not judged by 0.25."""
    far = [repeats(0.21, 0.235), repeats(0.24, 0.252), repeats(0.28, 0.30)]
    luck = Luck(far)
    assert luck.spread(0.12, "d", 3450).degrees is None
    assert luck.spread(0.25, "other", 3450).degrees is None
    assert luck.spread(0.12, "d", 3450).sd == pytest.approx(luck.too_small * model(0.12, 3450))
    assert luck.too_small > 1.5
    assert "because of the repeats that there are" in luck.spread(0.12, "d", 3450).source


def test_without_repeats_the_model_stands_and_says_so() -> None:
    """Nothing to check it against: its own s.d., and where it is from."""
    found = Luck().spread(0.2046, "d")
    assert (found.sd, found.degrees) == (model(0.2046, None), None)
    assert found.source == "from the model for 24,700 phonemes"
    assert Luck([repeats(0.2), repeats(0.3)]).too_small == 1.0  # one seed each is no repeat


def test_equal_pers_do_not_measure_a_spread_of_nothing() -> None:
    """Four seeds that all collapsed at 1.0: the s.d. is never 0."""
    assert Luck([repeats(0.9, 0.9, 0.9, 0.9)]).spread(0.9, "d", 3450).sd > 0


def test_the_margin() -> None:
    """Student's t of the degrees of freedom times the standard error of the difference of two means."""
    found = lead([0.20, 0.21, 0.22], [0.25], [Spread(0.01, 4, "measured"), Spread(0.02, None, "from the model")])
    assert found.difference == pytest.approx(0.04)
    assert found.margin == pytest.approx(student_t(0.975, 4) * math.sqrt(0.01**2 / 3 + 0.02**2))
    assert (
        found.source == "seed s.d. 0.0100, measured; of the other 0.0200, from the model; 'tuner confirm' measures it"
    )


def test_a_goal_has_no_luck_of_its_own() -> None:
    """Against a number that is known exactly only the seeds of the first count."""
    spread = Spread(0.01, None, "from the model")
    found = lead([0.12] * 4, 0.1609, [spread])
    assert (found.margin, found.beyond) == (pytest.approx(1.96 * 0.01 / 2), True)
    assert not lead([0.17] * 4, 0.1609, [spread]).beyond


@given(a=st.lists(PERS, min_size=1, max_size=5), b=st.lists(PERS, min_size=1, max_size=5), sd=st.floats(1e-4, 0.1))
def test_a_verdict_does_not_depend_on_the_side(a: list[float], b: list[float], sd: float) -> None:
    """Turned round, a tie is a tie, and what was better is worse; more seeds never make the margin larger."""
    spread = Spread(sd, None, "")
    one, other = lead(a, b, [spread]), lead(b, a, [spread])
    assert one.difference == pytest.approx(-other.difference)
    assert (one.tie, one.margin) == (other.tie, pytest.approx(other.margin))
    assert not (one.beyond and other.beyond)
    assert lead([*a, a[0]], b, [spread]).margin < one.margin


@given(st.lists(PERS, min_size=8, max_size=40), st.floats(-0.01, 0.01))
def test_a_straight_slope_is_not_restless(pers: list[float], slope: float) -> None:
    """A line added to a curve changes nothing; a line alone is at rest."""
    tilted = [per + slope * place for place, per in enumerate(pers)]
    assert restlessness(tilted) == pytest.approx(restlessness(pers), abs=1e-9)
    assert restlessness([slope * place for place in range(8)]) == pytest.approx(0, abs=1e-9)


def test_a_curve_too_short_to_be_restless_is_taken_to_be() -> None:
    """Three evaluations in its second half are too few: the model is then cautious, 5 % of the PER and more."""
    assert restlessness([0.5] * 8) == 0
    short = restlessness([0.9, 0.5, 0.4])
    assert model(0.4, 10**9, short) == pytest.approx(0.05 * 0.4, rel=1e-3)
    assert restlessness([None, 0.4, None]) == short
    assert restlessness([None, None]) is None


def test_the_model_is_cautious_over_the_repeats_that_were_made() -> None:
    """benchmarks/data/seeds.json: right on average or more than that, and by the curves, not by the PER alone."""
    rows = seeds.spreads()
    assert sum(row["seeds"] - 1 for row in rows) >= 8
    assert {row["data"] for row in rows} == {"an4", "small"}
    assert 0.3 < seeds.ratio(rows) <= 1
    assert seeds.ratio(rows, "without curves") > 2
