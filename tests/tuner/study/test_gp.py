"""The Gaussian process: where it says that trials end, that its model is one, and that it learns from paused trials."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from search_spaces import load_space
from search_spaces.parsing.given import parse_settings
from search_spaces.searchers import Searcher
from tuner.study.searchers.gp import Model, ends_of
from tuner.study.searchers.searcher import OptunaSearcher


def trial(rungs, end=None, state=TrialState.PRUNED):
    """A trial with these values at rungs 10, 40, ...; completed if it has an end."""
    values = dict(zip((10, 40), rungs, strict=False))
    if end is None:
        return create_trial(state=state, intermediate_values=values)
    return create_trial(value=end, intermediate_values=values)


def test_a_paused_trial_is_expected_where_the_others_went_from_its_rung():
    """All ended at a third of what they had at the last rung of the paused one: it lies where it would end so."""
    trials = [
        trial([0.9, 0.6], 0.3),
        trial([0.8, 0.3], 0.15),
        trial([0.7, 0.45]),
        trial([0.9], state=TrialState.RUNNING),
    ]
    values, spreads = ends_of(trials)
    third = values[1] + (values[0] - values[1]) * math.log(0.225 / 0.15) / math.log(2)
    assert values[2] == pytest.approx(third)
    assert list(spreads[:2]) == [0, 0] and 0 < spreads[2] < spreads[3]
    assert values.mean() == pytest.approx(0) and values.std() == pytest.approx(1)


def test_the_nearer_to_the_end_the_surer():
    """Where trials differ in what they gain after the first rung and not after the second, the second says more."""
    ended = [trial([0.5, 0.4], 0.2), trial([0.9, 0.4], 0.2), trial([0.5, 0.6], 0.3), trial([0.9, 0.6], 0.3)]
    _, spreads = ends_of([*ended, trial([0.7]), trial([0.7, 0.5])])
    assert spreads[4] > 1.5 * spreads[5] > 0


def test_before_any_end_the_rungs_alone_order_the_trials():
    """Nobody has ended: the trials lie in the order of their values at the rung."""
    values, spreads = ends_of([trial([0.9]), trial([0.5]), trial([0.7])])
    assert list(np.argsort(values)) == [1, 2, 0]
    assert all(spreads > 0)


def test_a_trial_without_a_value_is_as_bad_as_any():
    """A diverged trial, and one that had no number at its rung, are no better than the worst."""
    values, _ = ends_of([trial([0.9], 0.5), trial([0.9], 0.2), trial([]), trial([math.inf]), trial([0.9], 0.3)])
    assert values[2] == values[3] == max(values)
    assert list(ends_of([trial([]), trial([])])[0]) == [0, 0]


def test_one_very_bad_trial_does_not_hide_how_the_others_differ():
    """A trial far above the middle counts as far above it as the best is below."""
    near, far = (ends_of([trial([], end) for end in (0.20, 0.22, 0.25, worst)])[0] for worst in (0.28, 1.0))
    assert near[1] - near[0] == pytest.approx(far[1] - far[0], rel=0.1)


@given(st.lists(st.floats(0.05, 1), min_size=2, max_size=12), st.floats(0.1, 10))
def test_the_unit_of_the_objective_does_not_matter(ends, factor):
    """Values that are multiplied by a number lie where they lay."""
    before, after = (ends_of([trial([3 * end * k, 2 * end * k], end * k) for end in ends])[0] for k in (1, factor))
    assert after == pytest.approx(before, abs=1e-6)


@pytest.mark.parametrize("ends", [[-3.0, -1.0, 2.0], [0.0, 1.0, 2.0]])
def test_an_objective_need_not_be_positive(ends):
    """Without logarithms the values lie in their order."""
    values, _ = ends_of([trial([], end) for end in ends])
    assert list(np.argsort(values)) == [0, 1, 2] and np.isfinite(values).all()


def test_the_model_is_a_gaussian_process():
    """Mean and standard deviation are those of another library for the same kernel and noise."""
    from sklearn.gaussian_process import GaussianProcessRegressor  # a second of every process that collects the tests
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    rng = np.random.default_rng(0)
    rows, at = rng.random((12, 3)), rng.random((5, 3))
    values, spreads = np.sin(3 * rows[:, 0]) + rows[:, 1], np.where(np.arange(12) % 3, 0.0, 0.4)
    model = Model.fitted(rows, values, spreads)
    kernel = ConstantKernel(model.scale) * Matern(model.length, nu=2.5)
    other = GaussianProcessRegressor(kernel, alpha=model.noise**2 + spreads**2, optimizer=None).fit(rows, values)
    mean, spread = other.predict(at, return_std=True)
    assert model.predicted(at)[0] == pytest.approx(mean, abs=1e-9)
    assert model.predicted(at)[1] == pytest.approx(spread, abs=1e-9)


def test_a_running_trial_makes_its_neighbourhood_known():
    """Believed to come to what is predicted, it changes no mean, and the model is surer near it."""
    rows = np.array([[0.1], [0.2], [0.3]])
    model = Model.fitted(rows, np.array([1.0, 0.0, -1.0]), np.zeros(3))
    at = np.array([[0.9]])
    before, after = model.predicted(at), model.believing(at).predicted(at)
    assert after[0] == pytest.approx(before[0])
    assert after[1][0] < 0.9 * before[1][0]


def settings(text):
    return parse_settings(text, Searcher, "searcher")


def proposed(space, given, trials=30):
    """log10 of the rates of a search in which every trial is paused at its first rung, and a rate near 0.01 is best."""
    searcher, rates = OptunaSearcher(space, settings(given), 3), []
    for number in range(trials):
        params = searcher.propose(number)
        searcher.started(number, params)
        rates.append(math.log10(params["schedule.peak_lr"]))
        searcher.rung(number, 10, 0.5 + 0.2 * abs(rates[-1] + 2))
    return np.array(rates)


def test_it_learns_from_trials_that_have_not_ended(space_file):
    """Under a rule that pauses nobody has ended when proposals are made: still they come near the best rate."""
    space = load_space(space_file)
    rates = proposed(space, "gp startup_trials=6 explore=0")
    assert abs(rates[20:] + 2).mean() < 0.5 * abs(rates[:6] + 2).mean()
    assert abs(rates[20:] + 2).mean() < 0.5 * abs(proposed(space, "random")[20:] + 2).mean()


def test_exploring_spreads_the_proposals(space_file):
    """With `explore`, points of which the model is unsure are proposed too."""
    space = load_space(space_file)
    greedy, exploring = (proposed(space, f"gp startup_trials=6 explore={explore}") for explore in (0, 3))
    assert exploring[6:].std() > 1.5 * greedy[6:].std()


def test_the_first_trials_are_points_of_a_design(space_file):
    """They are those of `qmc`, whatever was told, until as many as `startup_trials` have told something."""
    space = load_space(space_file)
    design = OptunaSearcher(space, {"kind": "qmc"}, 3)
    assert np.allclose(proposed(space, "gp startup_trials=5", 5), [
        math.log10(design.propose(number)["schedule.peak_lr"]) for number in range(5)
    ])  # fmt: skip
