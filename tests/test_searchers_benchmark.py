"""The comparison of searchers: a smooth model of recorded runs, searches over it, and the table."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is beside the packages, not one of them

from benchmarks import searchers
from search_spaces import load_space
from tuner.commands.options import parse_rule
from tuner.simulation.curves import read_curves

BANK = searchers.ROOT / "benchmarks/data/searchers/quickstart-small.parquet"


@pytest.fixture(scope="module")
def space():
    return load_space("quickstart")


@pytest.fixture(scope="module")
def model(space):
    """Of 54 of the 160 runs."""
    bank = read_curves(BANK, searchers.ROOT, space=space).whole()
    return searchers.Smooth(replace(bank, runs=bank.runs[::3]))


@pytest.fixture
def given():
    rule = parse_rule("asha at=area metric=either reduction=4 promote=true drain=0.65", "--stopping")
    return argparse.Namespace(rule=rule, trials=6, workers=2)


def test_the_model_ranks_runs_that_it_has_not_seen(model):
    """Each run's end as the others predict it is near what it was; what is left is a noise of a few percent."""
    assert model.score > 0.7
    assert 0.005 < model.noise < 0.3


def test_a_point_of_the_bank_has_no_luck_of_its_own(model, space):
    """The curve at a recorded point is the model's, drawn anew for each seed, and not the recorded one again."""
    recorded = model.bank.runs[0]
    ends = [model.run("0", recorded.params, space.config(recorded.params, seed)).rows[-1]["per"] for seed in range(5)]
    assert len({round(end, 6) for end in ends}) == 5
    assert np.log(np.mean(ends)) == pytest.approx(np.log(recorded.rows[-1]["per"]), abs=0.5)


def test_both_kinds_of_search_train_what_their_rules_let_them(model, space, given):
    """Every trial begins, nobody trains more than whole runs, and the best PER never rises."""
    settings = {"kind": "gp", "startup_trials": 3}
    for batches, best in (
        searchers.ours(model, space, settings, given, 0),
        searchers.ray_tune(model, space, given, 0),
    ):
        assert 6 * 20 <= batches[-1] <= 6 * 200
        assert list(best) == sorted(best, reverse=True)
        assert 0 < best[-1] < 1
    again = [searchers.ray_tune(model, space, given, seed)[1] for seed in (0, 0, 1)]
    assert list(again[0]) == list(again[1]) != list(again[2])


def test_the_table_compares_at_equal_batches_in_pairs():
    """The second searcher is .1 lower at half of the batches with each seed, and .2 higher at the end."""
    one = (np.array([50, 100]), np.array([0.5, 0.2]))
    other = (np.array([50, 100]), np.array([0.4, 0.4]))
    first, second = searchers.table({"a": [one, one], "b": [other, other]}, 100)
    assert (first["at 0.25"], first["at 0.5"], first["end"]) == (1.0, 0.5, 0.2)
    assert (second["at 0.5"], second["end"], second["less"]) == (0.4, 0.4, "+0.1000 (0.0000)")
