"""Every searcher keeps the contract, and one that breaks a clause is told which and how."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from pydantic import BaseModel

from search_spaces.parsing.given import parse_settings
from search_spaces.searchers import SEARCHERS, RandomSearcher, Searcher
from tuner.study.searchers.method import GivenSamples, Method
from tuner.study.searchers.samplers import METHODS, Random
from tuner.testing import searchers
from tuner.testing.contracts import ContractBroken

SETTINGS = {
    "tpe": "tpe startup_trials=4",
    "random": "random",
    "gp": "gp startup_trials=4",
    "cmaes": "cmaes startup_trials=4 population=4",
    "qmc": "qmc",
    "nsga2": "nsga2 population=4",
    "grid": "grid points=2",
}
SLOW = {"gp": {"trials": 6, "searches": 1}, "tpe": {"searches": 2}, "grid": {"searches": 4}}


def test_every_kind_is_here():
    """A new kind of searcher gets a line in SETTINGS, and with it the contract."""
    assert set(SETTINGS) == set(SEARCHERS) == set(METHODS)


@pytest.mark.parametrize("clause", searchers.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", SETTINGS)
def test_searchers_keep_the_contract(kind, clause):
    """Every registered kind, every clause."""
    settings = parse_settings(SETTINGS[kind], Searcher, "searcher")
    found = {each.name: each for each in searchers.contract(settings, **SLOW.get(kind, {}))}
    found[clause.__name__]()


class Mine(BaseModel):
    """Settings of a searcher that is not part of the program."""

    kind: str = "mine"


class Corners(Method[Mine]):
    """A third party's: random draws whose order is turned."""

    def sampler(self, study, ended, number, seed):
        return optuna.samplers.RandomSampler(seed=seed ^ 1)


@pytest.mark.parametrize("clause", searchers.contract(Mine(), Corners), ids=str)
def test_a_third_partys_searcher_runs_the_suite(clause):
    """A `Method` that is in no table of the program, with settings of its own."""
    clause()


class Remembers(Random):
    """Counts its own draws: a resumed search begins to count anew, and every search is the same."""

    drawn = 0

    def sampler(self, study, ended, number, seed):
        self.drawn += 1
        return optuna.samplers.RandomSampler(seed=self.drawn)


class Global(Random):
    """Draws from numpy's global generator."""

    def sampler(self, study, ended, number, seed):
        return optuna.samplers.RandomSampler(seed=np.random.randint(2**31))  # noqa: NPY002


class Outside(Random):
    """Gives a rate that the space does not have."""

    def sampler(self, study, ended, number, seed):
        return GivenSamples({"schedule.peak_lr": 5.0}, optuna.samplers.RandomSampler(seed=seed))


class Fragile(Random):
    """Cannot do without a value."""

    def sampler(self, study, ended, number, seed):
        assert all(trial.value is not None for trial in ended), "a trial without a value"
        return optuna.samplers.RandomSampler(seed=seed)


class Endless(Random):
    """Says that some are left, whatever was started."""

    def left(self, pending):
        return 3


@pytest.mark.parametrize(
    ("method", "clause", "words"),
    [
        (Remembers, "has_no_state_but_what_it_was_told", "live, "),
        (Global, "proposes_the_same_for_the_same_seed", "global random generator"),
        (Remembers, "other_seeds_give_other_proposals", "six seeds begin with the same proposal"),
        (Outside, "proposes_points_of_the_space", "schedule.peak_lr"),
        (Fragile, "takes_trials_that_it_did_not_propose", "a trial without a value"),
        (Endless, "says_how_many_are_left", "3 were left, then 3 after one trial"),
    ],
)
def test_a_broken_searcher_is_told_what_it_breaks(method, clause, words):
    """Each kind of mistake fails its clause, with the subject, what must hold and what happened in the message."""
    found = {each.name: each for each in searchers.contract(RandomSearcher(), method)}
    with pytest.raises(ContractBroken) as error:
        found[clause]()
    text = str(error.value)
    assert text.startswith(f"searcher random: {found[clause].says} Here")
    assert words in text
