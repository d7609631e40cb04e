"""What the stopping rules are compared with: those of Optuna and Ray Tune, as they are, and oracles.

All of them decide in a simulated search of ours.

`optuna_rule` keeps a real Optuna study beside the search: each of our trials is asked for, reports its epochs, is
pruned or told. `ray_rule` calls a real Ray scheduler as Tune's controller does (`on_trial_add`, `on_trial_result`,
`on_trial_complete`), with a bare object for the trial; no Ray is started. Both see the PER of the averaged weights
after every epoch, in epochs, which is how their users give it. What they stop is stopped; nothing of theirs is copied.

Two things of the real Tune do not happen here. `MedianStoppingRule` never yields a trial's place to a waiting one
while it has too few samples (it goes on). Tune's synchronous HyperBand needs pauses and is not among these; its
asynchronous one is `ASHAScheduler` with brackets.

`oracles` know where every started trial ends, and say how much of a rule's cost is owed to the place of its first rung.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna

from tuner.simulation.curves import Bank
from tuner.simulation.simulate import Foreign, random_order

if TYPE_CHECKING:  # oracles and Optuna's rules do without Ray, which takes a second to import
    from ray.tune.schedulers import TrialScheduler

Maker = Callable[[int], Foreign]
"""A fresh rule for a repeat's seed."""


def optuna_rule(pruner: optuna.pruners.BasePruner, seed: int) -> Foreign:
    """A pruner over an Optuna study of its own; the study's name, which Hyperband draws brackets by, holds the seed."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed), pruner=pruner, study_name=f"search-{seed}")
    trials: dict[int, optuna.Trial] = {}
    best: dict[int, float] = {}

    def rule(number: int, row: Mapping[str, Any], last: bool) -> bool:
        trial = trials.get(number) or trials.setdefault(number, study.ask())
        value = _number(row["per"])
        trial.report(value, row["epoch"])
        best[number] = float(np.fmin(best.get(number, np.inf), value))
        if last:
            if np.isfinite(value):
                study.tell(trial, best[number])
            else:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            return False
        prune = trial.should_prune()
        if prune:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return prune

    return rule


@dataclass(eq=False)
class _Trial:
    """What the schedulers look at of a Tune trial."""

    trial_id: str
    stub: bool = False
    last_result: Mapping[str, Any] = field(default_factory=dict)


def ray_rule(scheduler: TrialScheduler, seed: int) -> Foreign:
    """A Ray Tune scheduler made with time_attr="epoch", metric="per", mode="min".

    Tune draws brackets from numpy's global generator; it is set from the seed for the draw and put back after it.
    """
    controller = SimpleNamespace(get_live_trials=list)
    trials: dict[int, _Trial] = {}

    def rule(number: int, row: Mapping[str, Any], last: bool) -> bool:
        if number not in trials:
            trials[number] = _Trial(str(number))
            before = np.random.get_state()  # noqa: NPY002  the global generator is what Tune uses
            np.random.seed((1_000_003 * seed + number) % 2**32)  # noqa: NPY002
            scheduler.on_trial_add(controller, trials[number])
            np.random.set_state(before)  # noqa: NPY002
        result = {"epoch": row["epoch"], "per": _number(row["per"])}
        if last:
            scheduler.on_trial_complete(controller, trials[number], result)
            return False
        return bool(scheduler.on_trial_result(controller, trials[number], result) == scheduler.STOP)

    return rule


def rivals(bank: Bank) -> dict[str, Maker]:
    """Name -> maker. A rule that takes the longest run is given the bank's longest, in epochs."""
    from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule

    longest = max(len(run.rows) for run in bank.runs)
    pruners = optuna.pruners
    ray: dict[str, Any] = {"time_attr": "epoch", "metric": "per", "mode": "min"}

    def by_optuna(make: Callable[[], optuna.pruners.BasePruner]) -> Maker:
        return lambda seed: optuna_rule(make(), seed)

    def by_ray(make: Callable[[], TrialScheduler]) -> Maker:
        return lambda seed: ray_rule(make(), seed)

    halving = pruners.SuccessiveHalvingPruner
    hyperband = pruners.HyperbandPruner
    return {
        "optuna MedianPruner": by_optuna(pruners.MedianPruner),
        "optuna PercentilePruner(25)": by_optuna(lambda: pruners.PercentilePruner(25.0)),
        "optuna SuccessiveHalving": by_optuna(lambda: halving(min_resource=1, reduction_factor=3)),
        "optuna SuccessiveHalving grace=4": by_optuna(lambda: halving(min_resource=4, reduction_factor=3)),
        "optuna Hyperband": by_optuna(lambda: hyperband(min_resource=1, max_resource=longest, reduction_factor=3)),
        "ray ASHA": by_ray(lambda: ASHAScheduler(max_t=longest, **ray)),
        "ray ASHA reduction=3": by_ray(lambda: ASHAScheduler(max_t=longest, reduction_factor=3, **ray)),
        "ray ASHA grace=4": by_ray(lambda: ASHAScheduler(max_t=longest, grace_period=4, reduction_factor=3, **ray)),
        "ray AsyncHyperBand": by_ray(lambda: ASHAScheduler(max_t=longest, brackets=3, reduction_factor=3, **ray)),
        "ray MedianStoppingRule": by_ray(lambda: MedianStoppingRule(grace_period=1, min_samples_required=5, **ray)),
    }


ORACLES = {"oracle from 1/4": 1 / 4, "oracle from 1/8": 1 / 8, "oracle from the first evaluation": 0.0}
"""Name -> the share of its batches before which an oracle stops no trial."""


def oracles(bank: Bank) -> dict[str, Maker]:
    """Name -> maker."""
    return {name: lambda seed, share=share: _oracle(bank, share, seed) for name, share in ORACLES.items()}  # type: ignore[misc]


def _oracle(bank: Bank, share: float, seed: int) -> Foreign:
    """Stops a trial at its first evaluation after this share of its batches, unless it ends as the best so far.

    It knows the ends of the trials that have come there, and not those to come.
    """
    order = random_order(bank, seed)
    seen: dict[int, float] = {}

    def rule(number: int, row: Mapping[str, Any], last: bool) -> bool:
        run = bank.runs[order[number]]
        if number in seen or row["batch"] < share * run.batches:
            return False
        best = min(seen.values(), default=np.inf)
        seen[number] = run.best_per
        return not last and run.best_per >= best

    return rule


def _number(per: float | None) -> float:
    return float("nan") if per is None else per
