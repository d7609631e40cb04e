"""The surrogate of a bank has the recorded curves at the recorded points, and a curve everywhere else."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from search_spaces import InputError, load_space
from search_spaces.parsing.given import parse_settings
from search_spaces.searchers import Searcher
from tuner.simulation.curves import Bank, read_curves
from tuner.simulation.simulate import repeats
from tuner.simulation.surrogate import Surrogate
from tuner.simulation.virtual import draws

BANK = Path(__file__).parents[3] / "benchmarks" / "data" / "synthetic.parquet"
SPACE = "mixed_horizons"


@pytest.fixture(scope="module")
def known() -> Any:
    """The synthetic bank, its first forty runs, and their surrogate."""
    whole = read_curves(BANK, Path(), space=load_space(SPACE)).whole()
    bank = Bank(whole.name, whole.runs[:40], space=whole.space)
    return SimpleNamespace(bank=bank, surrogate=Surrogate(bank))


def test_a_recorded_point_has_its_recorded_curve(known: Any) -> None:
    """At the point of a recorded run the PERs are those that were recorded, as far as sixteen shares tell them."""
    for run in known.bank.runs[:10]:
        made = known.surrogate.run("x", run.params, run.config)
        assert [row["batch"] for row in made.rows] == [row["batch"] for row in run.rows]
        if run.config.epochs <= 16 and not run.diverged:
            pers = [row["per"] for row in run.rows]
            assert [row["per"] for row in made.rows] == pytest.approx(pers, rel=1e-6)


def test_every_point_of_the_space_has_a_curve(known: Any) -> None:
    """A point that was not recorded has a finite curve on the grid of its own configuration."""
    space = load_space(SPACE)
    for config in draws(space, 5, seed=3):
        run = known.surrogate.run("new", space.params_of(config)[0], config)
        assert (len(run.rows), run.batches) == (config.epochs, config.training.batches)
        assert np.isfinite([[row["per"], row["val_loss"]] for row in run.rows]).all()
        assert all(0 < row["per"] <= 1 for row in run.rows)


def test_it_ranks_runs_that_it_has_not_seen(known: Any) -> None:
    """The forest's correlation with the ends of runs that it was not fitted to is clearly above none."""
    assert 0.2 < known.surrogate.score <= 1


def test_a_searcher_over_it_is_a_function_of_the_seed(known: Any) -> None:
    """More trials than were recorded can be drawn; the same seed gives the same search, another one another."""
    searcher = parse_settings("tpe startup_trials=3", Searcher, "searcher")
    rule = {"kind": "asha", "at": "area", "grace": 0.1, "reduction": 3, "promote": True, "drain": True}

    def run() -> list[float]:
        found = repeats(known.bank, rule, 2, searcher=searcher, workers=2, trials=8, surrogate=known.surrogate)
        return [search.spent for search in found] + [search.best_per for search in found]

    first = run()
    assert first == run() and len(set(first)) > 1


def test_without_params_it_is_refused(banks: Any, tmp_path: Path) -> None:
    """Curves alone say nothing about other points."""
    with pytest.raises(InputError, match="needs the params of each run"):
        Surrogate(read_curves(banks.write(tmp_path / "c.csv", banks.rows()), tmp_path))


def test_the_command_has_it(cli: Any, tmp_path: Path) -> None:
    """`tuner simulate --surrogate` says how good the model is and gives a row for each plan."""
    given = ("--space", SPACE, "--searcher", "random", "--surrogate", "--trials", 6, "--repeats", 2)
    done = cli("simulate", BANK, *given, "--stopping", "asha at=horizon", "--format", "json")
    assert done.status == 0, done.err
    assert "ranks runs that it has not seen" in done.err
    assert [row["rule"] for row in json.loads(done.out)] == ["none", "asha at=horizon"]
