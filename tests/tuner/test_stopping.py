"""Early stopping rules as pure functions."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.stopping import Rungs, decide, rung_epochs, value_of

ASHA = {"kind": "asha", "grace": 1, "reduction": 3, "max_rungs": None}


def test_rungs_are_powers_of_the_reduction_before_the_last_epoch():
    """A trial is compared at grace x reduction^k, never at its last epoch, where nothing is left to save."""
    assert rung_epochs(ASHA, 27) == [1, 3, 9]
    assert rung_epochs({**ASHA, "grace": 2}, 28) == [2, 6, 18]
    assert rung_epochs({**ASHA, "max_rungs": 2}, 27) == [1, 3]
    assert rung_epochs({"kind": "none"}, 27) == []


@pytest.mark.parametrize("epochs", [1])
def test_a_trial_of_one_epoch_has_no_rung(epochs):
    """There is nothing to stop in a trial that is over after its first epoch."""
    assert rung_epochs(ASHA, epochs) == []


def test_ties_in_per_are_broken_by_validation_loss():
    """While CTC emits only blanks every PER is 1.0; the rule still stops those whose loss is higher."""
    rungs = Rungs()
    for trial in range(9):
        rungs.record(1, trial, value_of(1.0, 3.0 + trial / 10))
    assert decide(ASHA, rungs, 9, 1, 27, value_of(1.0, 5.0)).stop
    assert not decide(ASHA, rungs, 9, 1, 27, value_of(1.0, 2.0)).stop


def test_not_a_number_is_the_worst_value():
    """None, NaN and infinity rank below every number."""
    assert value_of(None, 1.0) > value_of(5.0, 1.0)
    assert value_of(math.nan, 1.0) == value_of(math.inf, 1.0)
    rungs = Rungs()
    rungs.record(1, 0, value_of(0.9, 3.0))
    assert decide(ASHA, rungs, 1, 1, 27, value_of(math.nan, math.nan)).stop


def test_an_epoch_between_rungs_stops_nobody():
    """A trial is only compared at rungs, however bad it is."""
    rungs = Rungs()
    rungs.record(1, 0, value_of(0.1, 0.1))
    assert decide(ASHA, rungs, 1, 2, 27, value_of(1.0, 9.0)) == decide(ASHA, Rungs(), 1, 2, 27, value_of(0.0, 0.0))


def test_the_reason_says_what_was_compared():
    """A stopped trial's reason names its rank, the number compared and the rung."""
    rungs = Rungs()
    for trial in range(5):
        rungs.record(3, trial, value_of(0.1 * trial, 1.0))
    decision = decide(ASHA, rungs, 9, 3, 27, value_of(0.35, 1.0))
    assert decision.stop
    assert decision.rung == 3
    assert decision.reason == "rank 5 of 6 at epoch 3; 2 went on"


values = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 10)), min_size=1, max_size=60)


@given(values, st.integers(2, 5))
def test_the_best_so_far_always_goes_on(reported, reduction):
    """Whoever leads a rung when it reports is never stopped there."""
    rule = {**ASHA, "reduction": reduction}
    rungs = Rungs()
    for trial, value in enumerate(reported):
        decision = decide(rule, rungs, trial, 1, 27, value)
        if value <= min((v for v in rungs.values.get(1, {}).values()), default=value):
            assert not decision.stop
        rungs.record(1, trial, value)


@given(values, st.integers(2, 5))
def test_a_late_trial_goes_on_exactly_if_it_is_in_the_top_share(reported, reduction):
    """With n values recorded, the next one goes on if at most floor((n + 1) / reduction) - 1 are better."""
    rule = {**ASHA, "reduction": reduction}
    rungs = Rungs()
    for trial, value in enumerate(reported[:-1]):
        rungs.record(1, trial, value)
    value = reported[-1]
    better = sum(other < value for other in reported[:-1])
    expected_stop = better >= max(1, len(reported) // reduction)
    assert decide(rule, rungs, len(reported), 1, 27, value).stop == expected_stop


@given(values)
def test_a_repeated_epoch_does_not_change_a_rung(reported):
    """A resumed trial that reports a rung again is compared with the same values, its own old one included."""
    rungs = Rungs()
    for trial, value in enumerate(reported):
        rungs.record(1, trial, value)
    before = {rung: dict(held) for rung, held in rungs.values.items()}
    for trial in range(len(reported)):
        rungs.record(1, trial, (9.0, 9.0))
    assert rungs.values == before
