"""The stopping rules of Optuna and Ray decide in simulated searches as they do at home."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import optuna
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is beside the packages, not one of them

from benchmarks.rivals import ORACLES, optuna_rule, oracles, ray_rule, rivals
from tuner.simulation.curves import Bank, read_curves
from tuner.simulation.simulate import random_order, repeats, simulate

NONE = {"kind": "none"}
PERS = ((0.9, 0.5, 0.3, 0.2), (0.8, 0.7, 0.6, 0.5), (0.7, 0.6, 0.3, 0.1), (0.85, 0.4, 0.2, 0.15), (0.6, 0.5, 0.4, 0.3))


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    """Five runs of four epochs."""
    lines = [f"{trial},{10 * k},{per}" for trial, pers in enumerate(PERS) for k, per in enumerate(pers, 1)]
    (tmp_path / "curves.csv").write_text("\n".join(["trial,batch,per", *lines]))
    return read_curves(tmp_path / "curves.csv", tmp_path)


def test_optuna_s_pruner_stops_what_it_stops_in_an_optuna_study(bank: Bank) -> None:
    """The same runs in the same order through `Study.optimize` are pruned after the same epochs."""
    pruner = optuna.pruners.MedianPruner(n_startup_trials=1)
    order = np.random.default_rng(3).permutation(5).tolist()
    study = optuna.create_study(pruner=pruner)

    def objective(trial: optuna.Trial) -> float:
        pers = PERS[order[trial.number]]
        for epoch, per in enumerate(pers, 1):
            trial.report(per, epoch)
            if epoch < 4 and trial.should_prune():
                raise optuna.TrialPruned
        return min(pers)

    study.optimize(objective, n_trials=5)
    pruned = {str(order[t.number]): t.last_step for t in study.trials if t.state == optuna.trial.TrialState.PRUNED}
    assert pruned
    assert simulate(bank, NONE, workers=1, seed=3, foreign=optuna_rule(pruner, 3)).stopped == pruned


def test_ray_s_asha_keeps_what_its_cutoff_lets_pass(bank: Bank) -> None:
    """At a milestone a trial stays if it is no worse than the best half's percentile of those that came before."""
    from ray.tune.schedulers import ASHAScheduler

    scheduler = ASHAScheduler("epoch", "per", "min", max_t=4, reduction_factor=2)
    search = simulate(bank, NONE, workers=1, seed=1, foreign=ray_rule(scheduler, 1))
    seen: dict[int, list[float]] = {1: [], 2: []}
    expected = {}
    for index in np.random.default_rng(1).permutation(5).tolist():
        for milestone in (1, 2):
            per = PERS[index][milestone - 1]
            cut = np.percentile(seen[milestone], 50) if seen[milestone] else np.inf
            seen[milestone].append(per)
            if per > cut:
                expected[str(index)] = milestone
                break
    assert expected
    assert search.stopped == expected


def test_every_rival_runs_and_repeats_itself(bank: Bank) -> None:
    """Each rule gives the same search for the same seed, whatever ran before, and leaves numpy's generator alone."""
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    for name, maker in rivals(bank).items():
        first, again = (list(repeats(bank, NONE, 3, workers=2, foreign=maker)) for _ in range(2))
        assert [search.stopped for search in first] == [search.stopped for search in again], name
        assert all(search.started == 5 for search in first), name
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_an_oracle_lets_on_only_who_ends_as_the_best_so_far(bank: Bank) -> None:
    """With one trial at a time the ends of the completed runs fall, the winner is among them, and nobody is stopped
    before the share of its batches; the earlier an oracle may stop, the less it spends.
    """
    spent = []
    for name, share in sorted(ORACLES.items(), key=lambda item: -item[1]):
        for search in repeats(bank, NONE, 4, workers=1, foreign=oracles(bank)[name]):
            order = [bank.runs[index] for index in random_order(bank, search.seed)]
            ends = [run.best_per for run in order if run.label not in search.stopped]
            assert ends == sorted(ends, reverse=True) and ends[-1] == 0.1 and not search.winner_stopped
            assert all(epoch >= 4 * share for epoch in search.stopped.values())
            spent.append((share, search.spent))
    by_share = [sum(cost for at, cost in spent if at == share) for share in sorted(ORACLES.values())]
    assert by_share == sorted(by_share)
