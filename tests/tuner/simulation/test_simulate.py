"""Whole searches in virtual time: the same loop as a real search, over recorded curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search_spaces import InputError
from search_spaces.parsing.given import parse_settings
from search_spaces.searchers import Searcher
from tuner.simulation.curves import Bank, read_curves
from tuner.simulation.points import TablePoints
from tuner.simulation.simulate import repeats, simulate

NONE = {"kind": "none"}
ASHA = {"kind": "asha", "grace": 1, "reduction": 2, "max_rungs": None}


@pytest.fixture
def bank(banks: Any, tmp_path: Path) -> Bank:
    """Eight runs of 40 or 80 batches; the best is a long one that falls late."""
    return read_curves(banks.write(tmp_path / "curves.csv", banks.rows()), tmp_path)


def test_full_runs_spend_every_batch_and_find_the_best(bank: Bank) -> None:
    """Without stopping each epoch is run once, whatever the order and the number of workers."""
    for workers in (1, 3, 20):
        search = simulate(bank, NONE, workers=workers, seed=workers)
        assert search.spent == bank.batches == 4 * 40 + 4 * 80
        assert search.best_per == bank.best_per == 0.20
        assert (search.started, search.stopped, search.winner, search.winner_stopped) == (8, {}, "3", False)


def test_workers_share_virtual_time_but_not_batches(bank: Bank) -> None:
    """Eight workers need the time of the longest run; one needs the sum. What is spent is the same."""
    assert simulate(bank, NONE, workers=1).trace.time[-1] == bank.batches
    assert simulate(bank, NONE, workers=8).trace.time[-1] == 80


def test_recorded_seconds_are_the_virtual_time(banks: Any, tmp_path: Path) -> None:
    """Where every epoch has its seconds, they decide who reports first."""
    table = [row | {"seconds": 0.5} for row in banks.rows()]
    bank = read_curves(banks.write(tmp_path / "curves.csv", table), tmp_path)
    assert simulate(bank, NONE, workers=8).trace.time[-1] == 4.0


def test_a_trace_only_rises_in_cost_and_only_falls_in_per(bank: Bank) -> None:
    """Batches, time, trials started and stopped never fall; the best PER so far never rises."""
    trace = simulate(bank, ASHA, workers=3, seed=4).trace
    change = {name: np.diff(column) for name, column in trace._asdict().items()}
    assert all((column >= 0).all() for name, column in change.items() if name != "best")
    assert (change["best"] <= 0).all()
    assert (change["batches"] > 0).all()
    assert trace.started[-1] == 8


def test_the_same_seed_gives_the_same_search_and_every_rule_the_same_order(bank: Bank) -> None:
    """A repeat is a function of its seed; rules are compared on the same draws."""
    first, again = (simulate(bank, ASHA, workers=2, seed=7) for _ in range(2))
    assert np.array_equal(first.trace, again.trace)
    assert first.stopped == again.stopped
    few = [simulate(bank, rule, workers=2, seed=7, trials=3) for rule in (NONE, ASHA)]
    assert few[0].winner == few[1].winner
    assert few[0].started == few[1].started == 3


def test_asha_at_epochs_stops_the_slow_winner(bank: Bank) -> None:
    """At an equal epoch long runs look worse, so the rule costs the best run; the search says so, and by how much."""
    found = list(repeats(bank, ASHA, 20, workers=4))
    lost = [search for search in found if search.winner_stopped]
    assert lost
    for search in lost:
        assert search.best_per > bank.best_per
        assert search.batches_to(bank.best_per) == float("inf")
        assert search.stopped["3"] in (1, 2, 4)
    assert all(search.spent < bank.batches for search in found)


def test_the_loop_is_the_study_s_own(bank: Bank) -> None:
    """One worker after another, every decision is what ASHA's definition gives on the same order."""
    search = simulate(bank, ASHA, workers=1, seed=1)
    order = np.random.default_rng(1).permutation(8).tolist()
    at: dict[int, list[float]] = {}
    expected = {}
    for index in order:
        rows = bank.runs[index].rows
        for row in rows[:-1]:
            if row["epoch"] in (1, 2, 4):
                seen = at.setdefault(row["epoch"], [])
                seen.append(row["per"])
                if sorted(seen).index(row["per"]) >= max(1, len(seen) // 2):
                    expected[bank.runs[index].label] = row["epoch"]
                    break
    assert search.stopped == expected


def test_a_paused_trial_goes_on_where_it_was(bank: Bank) -> None:
    """Promotion costs new batches only: each epoch of a run is paid once, and a run that was paused gets further."""
    kept: list[int] = []
    for seed in range(5):
        stop, promote = (
            simulate(bank, {**ASHA, "promote": promote}, workers=2, seed=seed) for promote in (False, True)
        )
        reached = {run.label: promote.stopped.get(run.label, len(run.rows)) for run in bank.runs}
        assert promote.spent == sum(run.rows[reached[run.label] - 1]["batch"] for run in bank.runs)
        kept.append(len(stop.stopped) - len(promote.stopped))
        assert promote.best_per <= stop.best_per
    assert sum(kept) > 0


def test_a_rule_from_elsewhere_decides_in_place_of_the_study_s(bank: Bank) -> None:
    """`foreign` sees every epoch once, its last marked, and what it stops stays stopped."""
    seen: list[tuple[int, int, bool]] = []

    def rule(trial: int, row: dict[str, Any], last: bool) -> bool:
        seen.append((trial, row["epoch"], last))
        return row["epoch"] == 2

    search = simulate(bank, NONE, workers=2, foreign=rule)
    assert set(search.stopped.values()) == {2}
    assert search.spent == 8 * 20
    assert sorted(seen) == [(trial, epoch, False) for trial in range(8) for epoch in (1, 2)]


def test_a_diverged_run_ends_where_it_ended(banks: Any, tmp_path: Path) -> None:
    """A PER that is not a number ends the trial; it counts as diverged, not as stopped."""
    table = banks.rows()
    table[1]["per"] = "nan"
    bank = read_curves(banks.write(tmp_path / "curves.csv", table), tmp_path)
    search = simulate(bank, NONE)
    assert search.stopped == {}
    assert search.spent == bank.batches == 3 * 40 + 4 * 80 + 20


def test_a_searcher_draws_each_run_of_the_table_once(toy: Any, tmp_path: Path) -> None:
    """A proposal becomes the nearest run that is not used; at the end the whole table was run."""
    study = toy.create("s", stopping=NONE, searcher={"kind": "random"})
    toy.drive(study)
    study.close()
    bank = read_curves("s", tmp_path).whole()
    tpe = {"kind": "tpe", "startup_trials": 4}
    first, again = (simulate(bank, NONE, searcher=tpe, workers=2, seed=3) for _ in range(2))
    assert first.started == len(bank.runs)
    assert first.spent == bank.batches
    assert np.array_equal(first.trace, again.trace)
    for kind in ("gp", "cmaes", "qmc", "nsga2"):
        settings = parse_settings(f"{kind} startup_trials=3" if kind in ("gp", "cmaes") else kind, Searcher, "searcher")
        assert simulate(bank, NONE, searcher=settings, workers=2, trials=4).started == 4
    points = TablePoints(bank)
    assert [points.nearest(run.params or {}, set()) for run in bank.runs] == list(range(len(bank.runs)))


def test_a_searcher_without_parameters_is_refused(bank: Bank) -> None:
    """A plain file without params cannot say what a searcher would have chosen."""
    with pytest.raises(InputError, match="a searcher needs the params of each run and the space"):
        simulate(bank, NONE, searcher={"kind": "tpe", "startup_trials": 4})
