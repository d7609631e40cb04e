"""The kinds of searcher: each makes the next proposal from the trials that were reported to it.

Every proposal uses a new Optuna sampler, seeded by (search seed, trial number, draw). The state of a kind between
proposals is a function of the reported trials, in the order in which they ended, so a replayed study has the same
state:

- `tpe`, `random`: nothing; what `tpe` is told of stopped, paused and running trials is in `tpe.py`.
- `gp`: nothing; each proposal fits a model of where trials end (`gp.py`), to at most `most` trials: the cost grows with
  their cube.
- `cmaes`: its distribution. A generation is the next `population` results, in the order of their ends and whatever
  distribution they were drawn from: with early stopping the good trials of a generation are the last to end, and a
  generation that is closed before would learn only from the bad ones. Only ranks count: completed ones by value, then
  stopped ones by their last epoch, then diverged ones.
- `qmc`: nothing; trial n is the n-th point of the sequence that keeps the space's constraints.
- `grid`: nothing; the points that no trial has, in an order by the seed (`grid.py`).
- `nsga2`: the generation of each trial and the parents of each generation, as Optuna's attributes.

Dimensions with a condition cannot be in a model of all trials. `tpe` draws them one by one, or with `group` has a model
for each group of dimensions that occur together; `gp` has them in the middle of their range where they are not active;
`nsga2` takes their values from a parent that has them; `cmaes` draws them one by one by TPE, and the choices too.

Seconds of one core for a proposal in the shipped space of 25 dimensions, 100 / 1,000 trials reported: `random`, `qmc`
0.002 / 0.002, `nsga2` 0.002 / 0.003, `cmaes` 0.02 / 0.06 (the choices by TPE), `tpe` 0.02 / 0.10, `gp` 0.15 / 0.18.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from search_spaces import Dimension, Space
from search_spaces.searchers import CMAESSearcher, NSGA2Searcher, RandomSearcher
from tuner.study.searchers import optuna_private
from tuner.study.searchers.gp import GP, free_dimensions
from tuner.study.searchers.grid import GridSearch
from tuner.study.searchers.method import GivenSamples, Method, coded_at, distribution, unit_of
from tuner.study.searchers.qmc import QMC
from tuner.study.searchers.tpe import ONE_BY_ONE, TPE, tpe_sampler


def free_numbers(dimensions: Sequence[Dimension]) -> list[Dimension]:
    """The ranges that every trial has a value in: no conditions, more than one value."""
    return [d for d in dimensions if d.numeric and not d.when and d.low != d.high]


def apart(space: Space, kind: str) -> list[str]:
    """The paths that the model of a kind leaves out, so that each is sampled alone."""
    sampled = [dimension for dimension in space.dimensions if dimension.sampled]
    modelled = free_numbers(space.dimensions) if kind == "cmaes" else sampled
    inside = {dimension.name for dimension in modelled}
    return [dimension.name for dimension in sampled if dimension.name not in inside]


class Random(Method[RandomSearcher]):
    """Independent random draws."""

    def sampler(self, study: optuna.Study, ended: Sequence[FrozenTrial], number: int, seed: int) -> BaseSampler:
        """Optuna's own."""
        return optuna.samplers.RandomSampler(seed=seed)


class CMAES(Method[CMAESSearcher]):
    """CMA-ES over the unconditional ranges, from the best of the first results; the rest by TPE, one by one."""

    def __init__(self, space: Space, settings: CMAESSearcher, seed: int) -> None:
        super().__init__(space, settings, seed)
        self._dimensions = free_numbers(space.dimensions)
        self._optimizer: Any = None
        self._used = 0

    def sampler(self, study: optuna.Study, ended: Sequence[FrozenTrial], number: int, seed: int) -> BaseSampler:
        """A draw from the distribution that the results so far give."""
        other = tpe_sampler(ONE_BY_ONE, self.settings.startup_trials, seed)
        self._advance(ended)
        if self._optimizer is None:
            return other if not self._dimensions else GivenSamples({}, other)
        self._optimizer.reseed_rng(seed)
        point = self._optimizer.ask()
        given = {d.name: coded_at(d, float(u)) for d, u in zip(self._dimensions, point, strict=True)}
        return GivenSamples(given, other)

    def _advance(self, ended: Sequence[FrozenTrial]) -> None:
        """Update with the results since the last call, a whole generation at a time."""
        names = {dimension.name for dimension in self._dimensions}
        results = [trial for trial in ended if names <= trial.params.keys()]
        if self._optimizer is None:
            startup = self.settings.startup_trials
            if len(self._dimensions) < 2 or len(results) < startup:
                return
            # Exactly this number, even if there are more by now: a replay calls this later than the live search did.
            self._optimizer, self._used = self._begin(min(results[:startup], key=standing)), startup
        size = self._optimizer.population_size
        while len(results) - self._used >= size:
            generation = results[self._used : self._used + size]
            order = sorted(standing(trial) for trial in generation)
            told = [(self._point(trial), float(order.index(standing(trial)))) for trial in generation]
            self._optimizer.tell(told)
            self._used += size

    def _begin(self, best: FrozenTrial) -> Any:
        from cmaes import CMA

        bounds = np.tile([0.0, 1.0], (len(self._dimensions), 1))
        return CMA(
            mean=self._point(best),
            sigma=self.settings.sigma,
            bounds=bounds,
            n_max_resampling=10 * len(self._dimensions),
            seed=0,
            population_size=self.settings.population,
        )

    def _point(self, trial: FrozenTrial) -> Any:
        return np.array([unit_of(dimension, trial.params[dimension.name]) for dimension in self._dimensions])


def standing(trial: FrozenTrial) -> tuple[float, float, float]:
    """Sort ended trials as TPE does: completed by value, stopped by last epoch and value, diverged last."""
    if trial.state == TrialState.COMPLETE and trial.value is not None:
        return 0.0, trial.value, 0.0
    if trial.intermediate_values:
        step = max(trial.intermediate_values)
        value = trial.intermediate_values[step]
        return 1.0, -step, math.inf if math.isnan(value) else value
    return 2.0, 0.0, 0.0


class NSGA2(Method[NSGA2Searcher]):
    """NSGA-II; trials that it did not propose (start points) belong to the generation in which they began."""

    def sampler(self, study: optuna.Study, ended: Sequence[FrozenTrial], number: int, seed: int) -> BaseSampler:
        """A child of two parents, or a random point in the first generation."""
        return self._sampler(seed)

    def _sampler(self, seed: int) -> _NSGA2:
        free = {d.name: distribution(d) for d in free_dimensions(self.space)}
        return _NSGA2({name: kind for name, kind in free.items() if not kind.single()}, self.settings, seed)

    def born(self) -> dict[str, Any]:
        """They are of the first generation."""
        return optuna_private.first_generation(self._sampler(0))

    def added(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Set the generation, and with its first trial also its parents, when a trial begins."""
        sampler = self._sampler(0)
        sampler.get_parent_population(study, sampler.get_trial_generation(study, trial))


class _NSGA2(optuna.samplers.NSGAIISampler):
    """Optuna's NSGA-II over given dimensions; conditional ones come from a parent that has them, or are drawn."""

    def __init__(self, free: dict[str, BaseDistribution], settings: NSGA2Searcher, seed: int) -> None:
        super().__init__(
            population_size=settings.population,
            crossover_prob=settings.crossover,
            mutation_prob=settings.mutation,
            seed=seed,
        )
        self._free, self._seed_rng = free, np.random.default_rng(seed)
        self._mutation = settings.mutation if settings.mutation is not None else 1 / max(1, len(free))

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._free

    def sample_independent(self, study: optuna.Study, trial: FrozenTrial, name: str, kind: BaseDistribution) -> Any:
        if name not in self._free and self._seed_rng.random() >= self._mutation:
            parents = self.get_parent_population(study, self.get_trial_generation(study, trial))
            having = [parent.params[name] for parent in parents if name in parent.params]
            if having:
                return having[int(self._seed_rng.integers(len(having)))]
        return super().sample_independent(study, trial, name, kind)


METHODS: dict[str, type[Method[Any]]] = {
    "tpe": TPE,
    "random": Random,
    "gp": GP,
    "cmaes": CMAES,
    "qmc": QMC,
    "nsga2": NSGA2,
    "grid": GridSearch,
}
