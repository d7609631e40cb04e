"""TPE, told what the rungs say of trials that have no end.

Optuna's TPE divides the trials into the best ones and the others. It ranks every completed trial before every stopped
one, and a running or paused trial counts for nothing, or as a bad one. Under a rule that pauses, nearly all trials are
such: it is then random search to the last trial. So the order is made here (`standings`): a trial without an end is
compared with the others at the last rung that it reached, where all that went further have a value too.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from search_spaces import Space
from search_spaces.searchers import QMCSearcher, TPESearcher
from tuner.study.searchers import optuna_private
from tuner.study.searchers.method import Method
from tuner.study.searchers.qmc import QMC

MOST_GOOD = 25
"""Most trials that Optuna takes as the best ones."""
COMPARED = 200
"""A trial without an end finds its place among so many of the best of those that went further."""
_FIRST = -1e12
"""Values below every objective."""
ONE_BY_ONE = TPESearcher(startup="random", multivariate=False, order="ends")
"""For the dimensions that the model of another kind leaves out."""


def tpe_sampler(settings: TPESearcher, startup: int, seed: int) -> BaseSampler:
    """Optuna's sampler with these settings."""
    with warnings.catch_warnings():
        # `group` has been marked experimental since 2020; conditional spaces need it.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            n_startup_trials=startup,
            multivariate=settings.multivariate,
            group=settings.group and settings.multivariate,
            constant_liar=settings.constant_liar,
            seed=seed,
        )


class TPE(Method[TPESearcher]):
    """Parzen estimators; the first trials are points of a design."""

    def __init__(self, space: Space, settings: TPESearcher, seed: int) -> None:
        super().__init__(space, settings, seed)
        self._design = QMC(space, QMCSearcher(), seed) if settings.startup == "spread" else None

    def sampler(self, study: optuna.Study, ended: Sequence[FrozenTrial], number: int, seed: int) -> BaseSampler:
        """A point of the design while too few trials have told something, else Optuna's own over their order."""
        single = len(study.directions) == 1
        seen = _seen(study, by_rungs=self.settings.order == "rungs" and single)
        known = sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in seen)
        if self._design is not None and known < self.settings.startup_trials:
            return self._design.sampler(study, ended, number, seed)
        sampler = tpe_sampler(self.settings, self.settings.startup_trials, seed)
        return _Ordered(sampler, seen) if self.settings.order == "rungs" and single else sampler


def _seen(study: optuna.Study, *, by_rungs: bool) -> list[FrozenTrial]:
    """The trials as TPE is to see them: the best by `standings` as completed ones in that order."""
    trials = study.get_trials(deepcopy=False)
    if not by_rungs:
        return list(trials)
    seen = [_told(trial) for trial in trials]
    for place, index in enumerate(standings(seen)[:MOST_GOOD]):
        first = copy.copy(seen[index])
        first.state, first.value = TrialState.COMPLETE, _FIRST + place
        seen[index] = first
    return seen


def _told(trial: FrozenTrial) -> FrozenTrial:
    """A running or paused trial that reached a rung, as a stopped one; any other as it is."""
    if trial.state != TrialState.RUNNING or not trial.intermediate_values:
        return trial
    told = copy.copy(trial)
    told.state = TrialState.PRUNED
    return told


def standings(trials: Sequence[FrozenTrial]) -> list[int]:
    """The indices of the trials that told something, best first.

    Completed trials are in the order of their values. Then from the last rung to the first those whose last rung it is
    find their places, each where the fewest of the trials that went further are on the wrong side by the value at that
    rung; of equal places the later one. Trials without any value come last.
    """
    complete = [i for i, trial in enumerate(trials) if trial.state == TrialState.COMPLETE]
    order = sorted(complete, key=lambda i: (trials[i].value or 0.0, i))
    stuck: dict[int, list[int]] = {}
    for i, trial in enumerate(trials):
        if trial.state == TrialState.PRUNED:
            stuck.setdefault(max(trial.intermediate_values, default=-1), []).append(i)
    for rung in sorted(stuck, reverse=True):
        order = _inserted(trials, order, rung, stuck[rung])
    return order


def _inserted(trials: Sequence[FrozenTrial], order: list[int], rung: int, new: list[int]) -> list[int]:
    """`order` with the trials whose last rung this is."""
    values = [trials[i].intermediate_values.get(rung, math.nan) for i in order[:COMPARED]]
    against = np.array(values, dtype=np.float64)
    places = []
    for i in new:
        value = _worst_if_nan(trials[i].intermediate_values.get(rung))
        sides = np.where(np.isnan(against), 0, np.where(against <= value, -1, 1))
        wrong = np.concatenate([[0], np.cumsum(sides)])
        last = int(len(wrong) - 1 - np.argmin(wrong[::-1]))
        places.append((last if last < COMPARED else len(order), value, i))
    merged: list[int] = []
    waiting = sorted(places, reverse=True)
    for place in range(len(order) + 1):
        while waiting and waiting[-1][0] == place:
            merged.append(waiting.pop()[2])
        merged += order[place : place + 1]
    return merged


def _worst_if_nan(value: float | None) -> float:
    return math.inf if value is None or math.isnan(value) else value


class _Ordered(BaseSampler):
    """Optuna's TPE over trials as they are to be seen, instead of those of the study."""

    def __init__(self, sampler: BaseSampler, seen: Sequence[FrozenTrial]) -> None:
        self._sampler, self._trials = sampler, seen

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The sampler's own."""
        return self._sampler.infer_relative_search_space(self._view(study), trial)

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: Any) -> dict[str, Any]:
        """The sampler's own."""
        return self._sampler.sample_relative(self._view(study), trial, search_space)

    def sample_independent(self, study: optuna.Study, trial: FrozenTrial, name: str, kind: BaseDistribution) -> Any:
        """The sampler's own."""
        return self._sampler.sample_independent(self._view(study), trial, name, kind)

    def _view(self, study: optuna.Study) -> Any:
        return optuna_private.SeenStudy(study, self._trials)
