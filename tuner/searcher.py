"""The searcher: Optuna proposes, and is told the truth.

`OptunaSearcher` holds an in-memory Optuna study that is filled from events alone. Each proposal uses a new sampler
seeded by (search seed, trial number), so the searcher has no state but the log: a replayed study proposes what it
would have proposed.

What Optuna is told: a trial that ran to its end is COMPLETE with the objective; a stopped one is PRUNED with the
value of each rung it reached; a diverged one ranks below everything (FAIL, and its point again as PRUNED without any
value, which TPE sorts last); a trial that failed for another reason is FAIL and says nothing about its configuration.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from search_spaces import InputError, Space

optuna.logging.set_verbosity(optuna.logging.WARNING)

MAX_DRAWS = 200
"""How often a proposal that breaks a declared constraint is drawn again."""


def make_sampler(searcher: Mapping[str, Any], seed: int) -> optuna.samplers.BaseSampler:
    """A sampler of the kind that the space names."""
    if searcher["kind"] == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        # `group` has been marked experimental since 2020; conditional spaces need it.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            n_startup_trials=searcher["startup_trials"],
            multivariate=True,
            group=True,
            constant_liar=True,
            seed=seed,
        )


def distributions(space: Space, params: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    """The Optuna distribution of each sampled parameter in `params`."""
    found: dict[str, BaseDistribution] = {}
    for dimension in space.dimensions:
        if dimension.name not in params:
            continue
        if dimension.kind == "choice":
            found[dimension.name] = CategoricalDistribution(dimension.choices)
        elif dimension.kind in ("int", "log_int"):
            found[dimension.name] = IntDistribution(dimension.low, dimension.high, log=dimension.kind == "log_int")
        else:
            found[dimension.name] = FloatDistribution(
                dimension.low, dimension.high, log=dimension.kind == "log_uniform"
            )
    return found


class OptunaSearcher:
    """Proposes the parameters of a trial from the trials it has been told about."""

    def __init__(self, space: Space, searcher: Mapping[str, Any], seed: int) -> None:
        self._space = space
        self._searcher = searcher
        self._seed = seed
        self._study = optuna.create_study(direction="minimize")
        self._optuna_number: dict[int, int] = {}
        self._proposed: dict[int, int] = {}

    def propose(self, number: int) -> dict[str, Any]:
        """The sampled parameters of trial `number`. Raises InputError if no draw fits the space's constraints."""
        for draw in range(MAX_DRAWS):
            seed = int(np.random.SeedSequence([self._seed, number, draw]).generate_state(1)[0])
            self._study.sampler = make_sampler(self._searcher, seed)
            trial = self._study.ask()
            params = self._space.suggest(trial)
            broken = self._space.violations(params)
            if not broken:
                self._proposed[number] = trial.number
                return params
            self._study.tell(trial, state=TrialState.FAIL)
        raise InputError(
            f"{self._space.name}: none of {MAX_DRAWS} draws kept the constraint '{broken[0]}'; "
            "widen the ranges or loosen the constraint"
        )

    def withdraw(self, number: int) -> None:
        """The proposal for trial `number` is not taken up (a simulated search takes the nearest recorded run)."""
        self._study.tell(self._proposed.pop(number), state=TrialState.FAIL)

    def started(self, number: int, params: Mapping[str, Any]) -> None:
        """A trial runs with `params`; it counts as running until it ends."""
        if number in self._proposed:
            self._optuna_number[number] = self._proposed.pop(number)
            return
        self._study.add_trial(
            create_trial(
                state=TrialState.RUNNING, params=dict(params), distributions=distributions(self._space, params)
            )
        )
        self._optuna_number[number] = len(self._study.get_trials(deepcopy=False)) - 1

    def rung(self, number: int, epoch: int, per: float) -> None:
        """The PER that a trial had at a rung."""
        frozen = self._study.get_trials(deepcopy=False)[self._optuna_number[number]]
        if frozen.state == TrialState.RUNNING and epoch not in frozen.intermediate_values:
            optuna.trial.Trial(self._study, frozen._trial_id).report(per, epoch)

    def ended(self, number: int, status: str, objective: float | None) -> None:
        """A trial ended for good."""
        trial = self._optuna_number.pop(number)
        if status == "completed" and objective is not None:
            self._study.tell(trial, objective)
        elif status == "stopped":
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            frozen = self._study.get_trials(deepcopy=False)[trial]
            self._study.tell(trial, state=TrialState.FAIL)
            if status in ("diverged", "completed"):
                worst = create_trial(state=TrialState.PRUNED, params=frozen.params, distributions=frozen.distributions)
                self._study.add_trial(worst)

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """What Optuna knows, in its own order (rejected draws included as FAIL)."""
        return self._study.get_trials(deepcopy=True)
