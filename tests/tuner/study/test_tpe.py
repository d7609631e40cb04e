"""TPE is told what the rungs say of trials that have no end; older studies keep the searcher they had."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from search_spaces.parsing.given import parse_settings
from search_spaces.searchers import Searcher, TPESearcher, stored
from tuner.study.searchers.searcher import OptunaSearcher
from tuner.study.searchers.telling import make_searcher
from tuner.study.searchers.tpe import standings
from tuner.study.settings import StudySettings

OLD = {
    "startup": "random",
    "multivariate": True,
    "group": True,
    "constant_liar": True,
    "order": "ends",
    "ends": 0,
}


def trial(rungs, end=None):
    """A trial with these values at rungs 1, 2, ...; completed if it has an end."""
    values = dict(enumerate(rungs, 1))
    if end is None:
        return create_trial(state=TrialState.PRUNED, intermediate_values=values)
    return create_trial(value=end, intermediate_values=values)


def test_a_trial_without_an_end_is_placed_among_those_that_went_further():
    """A stopped trial comes before a completed one that was behind it at its rung, not after all of them."""
    trials = [trial([0.9, 0.8], 0.7), trial([0.5, 0.3], 0.2), trial([0.6]), trial([0.95]), trial([])]
    assert standings(trials) == [1, 2, 0, 3, 4]


def test_what_is_not_a_number_is_last_at_its_rung():
    """A trial whose value at its last rung is not a number comes after all that went further."""
    trials = [trial([math.nan]), trial([0.9], 0.8), trial([0.99])]
    assert standings(trials) == [1, 2, 0]


@given(st.lists(st.tuples(st.integers(10, 1000), st.integers(0, 4)), min_size=1, max_size=30))
def test_where_rungs_agree_the_order_is_that_of_the_values(drawn):
    """If every rung ranks the trials as their ends do, so do the standings, wherever each trial was stopped."""
    drawn = [(thousandths / 1000, reached) for thousandths, reached in drawn]  # sums keep their order
    trials = [trial([value + 0.5 - 0.1 * k for k in range(reached)], value if reached == 4 else None)
              for value, reached in drawn]  # fmt: skip
    order = standings(trials)
    assert sorted(order) == list(range(len(trials)))
    told = [drawn[i][0] for i in order if drawn[i][1]]
    assert told == sorted(told)
    assert all(drawn[i][1] == 0 for i in order[len(told) :])


def searched(space, settings, paused, trials=40):
    """The rates proposed where a rate near 0.01 is best; the trials are `paused` at a rung, or complete."""
    searcher, rates = OptunaSearcher(space, {"kind": "tpe", "startup_trials": 6, **settings}, 3), []
    for number in range(trials):
        params = searcher.propose(number)
        searcher.started(number, params)
        rates.append(params["schedule.peak_lr"])
        far = abs(math.log10(rates[-1] / 0.01))
        searcher.rung(number, 10, 0.5 + far)
        if not paused:
            searcher.ended(number, "completed", far)
    return rates


def test_paused_trials_teach_it_as_much_as_completed_ones(toy):
    """Where all trials are paused, the later proposals gather where the rungs are best; told of ends
    alone, they do not."""

    def distance(settings, paused):
        rates = searched(toy.space, settings, paused)[20:]
        return np.mean([abs(math.log10(rate / 0.01)) for rate in rates])

    assert distance({}, True) < 0.6 * distance({"order": "ends"}, True)
    assert searched(toy.space, {}, True) == searched(toy.space, {}, False)


def test_the_first_trials_are_spread(toy):
    """Of eight first trials each eighth of a range has one; independent draws leave some of them out."""

    def filled(startup):
        searcher = OptunaSearcher(toy.space, {"kind": "tpe", "startup_trials": 8, "startup": startup}, 0)
        rates = []
        for number in range(8):
            params = searcher.propose(number)
            searcher.started(number, params)
            rates.append(params["schedule.peak_lr"])
        return len({int(8 * (math.log10(rate) + 3) / 2) for rate in rates})

    assert filled("spread") == 8 > filled("random")


@pytest.mark.parametrize("kept", [{"kind": "tpe", "startup_trials": 4}, {"kind": "tpe"}])
def test_a_stored_study_keeps_the_searcher_it_had(toy, kept):
    """A log without the newer settings proposes as the version that wrote it: every flag on, random first trials."""
    settings = StudySettings.read({"space": toy.space.as_dict(), "searcher": kept, "seed": 2})
    replayed, _ = make_searcher(toy.space, settings, {})
    assert stored(kept) == {**OLD, **kept}
    before, now = (OptunaSearcher(toy.space, {**each, **kept}, 2) for each in (OLD, {}))
    assert replayed.propose(0) == before.propose(0) != now.propose(0)


def test_a_new_study_writes_every_setting():
    """What a new study stores names each setting, so that no later default changes it."""
    written = parse_settings("tpe group=true", Searcher, "searcher")
    assert written.keys() == TPESearcher.model_fields.keys()
    assert stored(written) == written
