"""The searcher `gp`: a Gaussian process of where trials end, by their settings and by what their rungs say.

With one objective the model is made here, since Optuna's knows only completed trials, and under a rule that pauses
there are hardly any. Each trial has a value (`ends_of`): its own where it has ended; else what the mean trial that
passed its last rung came to from there (Swersky et al. 2014, arXiv 1406.3896, model the curve instead). How much such
trials differ is the noise of that value, so a trial that was paused early says less than one that has ended.

The proposal is the point with the lowest predicted value, less `explore` standard deviations (Srinivas et al. 2010),
among points of the whole space and points near the best trials.

With several objectives it is Optuna's sampler, over copies of the completed trials.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from search_spaces import Dimension, Space
from search_spaces.searchers import GPSearcher, QMCSearcher
from search_spaces.space import LENGTH
from tuner.study.searchers.method import GivenSamples, Method, distribution, unit_of
from tuner.study.searchers.qmc import QMC, suggested
from tuner.study.searchers.tpe import ONE_BY_ONE, tpe_sampler

ANYWHERE, NEAR = 250, 350
"""Points that are looked at for a proposal: of the whole space, and near the best trials."""
CENTRES = 4
"""The best trials, near which points are looked at."""
STEP, CHANGE = 0.15, 0.15
"""Near a trial: the standard deviation of a coordinate, and the chance that a choice is drawn anew."""
LENGTHS, SCALES, NOISES = (0.25, 0.4, 0.6, 0.9, 1.4, 2.2), (0.5, 1.0, 2.0), (0.15, 0.3, 0.6)
"""Length scales, prior variances and noises (standard deviations) that are tried, for values of unit variance."""
APART = 0.85
"""Distance of two values of a choice, where a range is 1 long."""
DOUBLING = 0.3
"""Distance of two lengths of a run, one of which is twice the other."""
_RUNG_SPREAD, _RUNG_WEIGHT = 0.5, 3.0
"""Before any trial has ended: the standard deviation from a rung to the end, and for how many trials that counts."""


class GP(Method[GPSearcher]):
    """A Gaussian process; the first trials are points of a design."""

    draws = 5

    def __init__(self, space: Space, settings: GPSearcher, seed: int) -> None:
        super().__init__(space, settings, seed)
        self._design = QMC(space, QMCSearcher(), seed)
        self._dimensions = [dimension for dimension in space.dimensions if dimension.sampled]

    def sampler(self, study: optuna.Study, ended: Sequence[FrozenTrial], number: int, seed: int) -> BaseSampler:
        """The most promising point; a point of the design while too few trials have told something."""
        if len(study.directions) > 1:
            free = {d.name: distribution(d) for d in free_dimensions(self.space)}
            free = {name: kind for name, kind in free.items() if not kind.single()}
            return _ForSeveral(free, self.settings.startup_trials, seed)
        told, values, spreads, running = self._told(study)
        if len(told) < self.settings.startup_trials:
            return self._design.sampler(study, ended, number, seed)
        rng = np.random.default_rng(seed)
        rows = np.array([self._row(params) for params in told])
        best = [told[place] for place in np.argsort(values, kind="stable")[:CENTRES]]
        points = [*self._anywhere(rng), *self._near(best, rng)]
        model = Model.fitted(rows, values, spreads)
        if running:
            model = model.believing(np.array([self._row(params) for params in running]))
        mean, spread = model.predicted(np.array([self._row(params) for params in points]))
        score = mean - self.settings.explore * spread
        return GivenSamples(points[int(np.argmin(score))], _random(seed))

    def _told(self, study: optuna.Study) -> tuple[list[dict[str, Any]], np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """(parameters, values, spreads) of the trials that told something, and the parameters of those that did not."""
        trials = [t for t in study.get_trials(deepcopy=False) if t.state != TrialState.FAIL]
        told = [t for t in trials if t.state != TrialState.RUNNING or t.intermediate_values]
        values, spreads = ends_of(told)
        kept = _latest_and_best(values, self.settings.most)
        running = [t.params for t in trials if t.state == TrialState.RUNNING and not t.intermediate_values]
        return [told[place].params for place in kept], values[kept], spreads[kept], running

    def _row(self, params: Mapping[str, Any]) -> list[float]:
        """The coordinates of a point: ranges from 0 to 1, a coordinate for each choice, 0.5 where there is none."""
        found: list[float] = []
        for dimension in self._dimensions:
            value = params.get(dimension.name)
            if dimension.kind == "choice":
                found += [APART / math.sqrt(2) * (value == choice) for choice in dimension.choices]
            else:
                found.append(unit_of(dimension, value) if dimension.name in params else 0.5)
        if lengths := self.space.lengths:  # a new trial gets the shortest
            found.append(math.log2(params.get(LENGTH, min(lengths)) / max(lengths)) * DOUBLING)
        return found

    def _anywhere(self, rng: np.random.Generator) -> list[dict[str, Any]]:
        return self._points(rng.random((ANYWHERE, len(self._dimensions))))

    def _near(self, best: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> list[dict[str, Any]]:
        shape = (NEAR, len(self._dimensions))
        drawn, steps = rng.random(shape), STEP * rng.standard_normal(shape)
        anew = rng.random(shape) < CHANGE
        for place in range(NEAR):
            centre = best[place % len(best)]
            for column, dimension in enumerate(self._dimensions):
                if dimension.name not in centre:
                    continue
                if dimension.kind != "choice":
                    at = unit_of(dimension, centre[dimension.name]) + steps[place, column]
                    drawn[place, column] = min(max(at, 0.0), 1.0)
                elif not anew[place, column]:
                    drawn[place, column] = dimension.to_unit(centre[dimension.name])
        return self._points(drawn)

    def _points(self, coordinates: np.ndarray) -> list[dict[str, Any]]:
        """The points at these coordinates that keep the space's constraints, as Optuna has them."""
        found = []
        for row in coordinates:
            given, params = suggested(self.space, self._dimensions, row)
            if not self.space.violations(params):
                found.append({name: given[name] for name in params if name in given})
        return found

    def refused(self, study: optuna.Study, trial: optuna.trial.Trial) -> None:
        """A draw violated a constraint: with several objectives it is reported to the model as the worst value."""
        values = [each.values for each in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))]
        known = trial.params.keys() >= {d.name for d in free_dimensions(self.space)}
        if len(study.directions) > 1 and values and known:
            study.tell(trial, [max(column) for column in zip(*values, strict=True)])
        else:
            study.tell(trial, state=TrialState.FAIL)

    def view(self, study: optuna.Study) -> optuna.Study:
        """With several objectives, a copy of the trials that Optuna's model can have."""
        if len(study.directions) == 1:
            return study
        names = {dimension.name for dimension in free_dimensions(self.space)}
        trials = [trial for trial in study.get_trials(deepcopy=False) if names <= trial.params.keys()]
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        view = optuna.create_study(directions=study.directions)
        for place in _latest_and_best([trial.values[0] for trial in complete], self.settings.most):
            trial = complete[place]
            view.add_trial(create_trial(values=trial.values, params=trial.params, distributions=trial.distributions))
        for trial in trials:
            if trial.state == TrialState.RUNNING:
                state, params, kinds = trial.state, trial.params, trial.distributions
                view.add_trial(create_trial(state=state, params=params, distributions=kinds))
        return view


def free_dimensions(space: Space) -> list[Dimension]:
    """The dimensions that every trial has: sampled and without a condition."""
    return [dimension for dimension in space.dimensions if dimension.sampled and not dimension.when]


def ends_of(trials: Sequence[FrozenTrial]) -> tuple[np.ndarray, np.ndarray]:
    """Where each trial ends or would, and the standard deviation of that, float64 [trials] each.

    Logarithms where all values are positive, then moved and scaled to a mean of 0 and a variance of 1. A trial with
    rungs and no end has the value at its last rung and the mean change from there of the trials that ended. A trial
    without any value (it diverged) has the worst. Values that are further above the middle than the best is below it
    say only that they are bad, and count as that far.
    """
    ends = np.array([t.value if t.state == TrialState.COMPLETE and t.value is not None else math.nan for t in trials])
    steps = sorted({step for trial in trials for step in trial.intermediate_values})
    at = np.array([[trial.intermediate_values.get(step, math.nan) for step in steps] for trial in trials])
    at = at.reshape(len(trials), len(steps))
    at[~np.isfinite(at)] = math.nan
    if np.all(ends[np.isfinite(ends)] > 0) and np.all(at[np.isfinite(at)] > 0):
        ends, at = np.log(ends), np.log(at)
    values, spreads = ends.copy(), np.zeros(len(trials))
    scale = _scale(np.concatenate([ends, at.ravel()]) if not np.isfinite(ends).any() else ends)
    for column in range(len(steps)):  # from the first rung to the last: the last one that a trial reached remains
        change = (ends - at[:, column])[np.isfinite(ends - at[:, column])]
        moved = change.mean() if len(change) else 0.0
        squares = _RUNG_WEIGHT * (_RUNG_SPREAD * scale) ** 2 + ((change - moved) ** 2).sum()
        here = np.isnan(ends) & np.isfinite(at[:, column])
        values[here] = at[here, column] + moved
        spreads[here] = math.sqrt(squares / (_RUNG_WEIGHT + max(0, len(change) - 1)))
    known = values[np.isfinite(values)]
    if not len(known):
        return np.zeros(len(trials)), np.ones(len(trials))
    middle = float(np.median(known))
    values = np.fmin(np.where(np.isfinite(values), values, math.inf), 2 * middle - known.min())
    scale = _scale(values)
    return (values - values.mean()) / scale, spreads / scale


def _scale(values: np.ndarray) -> float:
    """The standard deviation of those that are numbers; 1 where they do not differ."""
    known = values[np.isfinite(values)]
    return float(known.std()) if len(known) > 1 and known.std() > 1e-9 else 1.0


def _latest_and_best(values: Sequence[float] | np.ndarray, most: int) -> list[int]:
    """The places of at most `most` values, in their order: the lowest half, and the latest of the others."""
    if len(values) <= most:
        return list(range(len(values)))
    best = set(np.argsort(np.asarray(values), kind="stable")[: most // 2].tolist())
    latest = [place for place in reversed(range(len(values))) if place not in best][: most - len(best)]
    return sorted(best | set(latest))


class Model(NamedTuple):
    """A Gaussian process with a Matern kernel of order 5/2 (Rasmussen and Williams 2006, equations 2.25 and 4.17)."""

    rows: np.ndarray
    """Coordinates, float64 [trials, coordinates]."""
    values: np.ndarray
    """float64 [trials]."""
    noises: np.ndarray
    """Standard deviation of each value, float64 [trials]."""
    length: float
    scale: float
    noise: float

    @classmethod
    def fitted(cls, rows: np.ndarray, values: np.ndarray, spreads: np.ndarray) -> Model:
        """The likeliest of the models on a grid, under wide priors; `spreads` come on top of its noise."""
        distances = _distances(rows, rows)
        found: list[tuple[float, Model]] = []
        for length in LENGTHS:
            kernel = _matern(distances / length)
            for scale in SCALES:
                for noise in NOISES:
                    noises = np.sqrt(noise**2 + spreads**2)
                    factor = np.linalg.cholesky(scale * kernel + np.diag(noises**2))
                    solved = np.linalg.solve(factor, values)
                    prior = (math.log(length / 0.6) / 0.6) ** 2 + (math.log(scale) / 0.7) ** 2
                    likely = -(solved @ solved + prior) / 2 - np.log(np.diag(factor)).sum()
                    found.append((float(likely), cls(rows, values, noises, length, scale, noise)))
        return max(found, key=lambda pair: pair[0])[1]

    def believing(self, rows: np.ndarray) -> Model:
        """The model as if trials that run had come to what it predicts, so that workers keep apart."""
        mean, _ = self.predicted(rows)
        noises = np.full(len(rows), self.noise)
        return self._replace(
            rows=np.concatenate([self.rows, rows]),
            values=np.concatenate([self.values, mean]),
            noises=np.concatenate([self.noises, noises]),
        )

    def predicted(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(mean, standard deviation without noise) at these coordinates, float64 [rows] each."""
        kernel = self.scale * _matern(_distances(self.rows, self.rows) / self.length)
        factor = np.linalg.cholesky(kernel + np.diag(self.noises**2))
        across = np.linalg.solve(factor, self.scale * _matern(_distances(self.rows, rows) / self.length))
        mean = across.T @ np.linalg.solve(factor, self.values)
        return mean, np.sqrt(np.maximum(self.scale - (across**2).sum(axis=0), 1e-12))


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
    return np.sqrt(np.maximum(squares, 0.0))


def _matern(distance: np.ndarray) -> np.ndarray:
    scaled = math.sqrt(5) * distance
    found: np.ndarray = (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
    return found


def _random(seed: int) -> BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


class _ForSeveral(optuna.samplers.GPSampler):
    """Optuna's GP over given dimensions; its default are those that all trials so far have in common."""

    def __init__(self, free: dict[str, BaseDistribution], startup: int, seed: int) -> None:
        other = tpe_sampler(ONE_BY_ONE, startup, seed)
        super().__init__(
            seed=seed, independent_sampler=other, n_startup_trials=startup, warn_independent_sampling=False
        )
        self._free = free

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._free
