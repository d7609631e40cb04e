"""A surrogate of a bank: a learning curve for any point of its space, so that searchers can be judged without training.

Searches over a bank's own runs have nothing to choose from after a few dozen trials. The surrogate has a curve for
every point: a forest of extremely randomised trees (Eggensperger et al. 2015 take a forest too) predicts the logarithms
of PER and validation loss at equal shares of a run, and the residual of the nearest recorded run is added. So a
recorded point has its recorded curve, neighbours are alike, and what the forest cannot explain is still a landscape.
`noise` is the standard deviation of the logarithm of the PER between seeds; it is drawn once for a trial.

What it cannot show: points beyond the recorded ones, runs that diverge (a PER of 1 to the end), and anything finer than
so many runs tell. `score` says how well the forest ranks runs that it has not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from search_spaces import RunConfig, Space
from tuner.simulation.curves import Bank, RecordedRun
from tuner.simulation.points import TablePoints
from tuner.study.compact import KeptConfig
from tuner.study.rules.history import Curve
from tuner.study.rules.rungs import Grid
from tuner.study.sources import OwnTrials
from tuner.study.state import StudyState

SHARES = np.linspace(0, 1, 17)[1:]
"""Shares of a run's batches at which curves are predicted."""
TREES = 60
ABSENT = -0.5
"""The coordinate of a setting that a trial does not have."""
_LEAST, _MOST = 1e-3, 1e6


class Surrogate:
    """A bank's curves, continued to all points of its space. Raises InputError where params or space are missing."""

    def __init__(self, bank: Bank, noise: float = 0.0) -> None:
        from sklearn.ensemble import ExtraTreesRegressor

        self.bank, self.noise = bank, noise
        self._points = TablePoints(bank)
        self.space: Space = self._points.space
        self._features = np.array([self._row(params) for params in self._points.params])
        self._curves = np.array([_targets(run) for run in bank.runs])
        self._forest = ExtraTreesRegressor(
            TREES, min_samples_leaf=2, max_features=0.5, bootstrap=True, oob_score=True, random_state=0, n_jobs=1
        ).fit(self._features, self._curves)
        self._residuals = self._curves - self._predicted(self._features)

    @property
    def score(self) -> float:
        """Spearman's correlation of the recorded last PER with what the forest says without having seen the run."""
        from scipy.stats import spearmanr

        end = len(SHARES) - 1
        return float(spearmanr(self._forest.oob_prediction_[:, end], self._curves[:, end])[0])

    def run(self, label: str, params: Mapping[str, Any], config: RunConfig) -> RecordedRun:
        """The run at a point: its own grid of epochs, with PER, validation loss and one second a batch."""
        near = self._points.nearest(params, set())
        logs = self._predicted(self._row(params)[None])[0] + self._residuals[near]
        shift = self.noise * np.random.default_rng(config.training.seed).standard_normal()
        grid = Grid.of(config)
        batches = [grid.batch(epoch) for epoch in range(1, grid.epochs + 1)]
        shares = np.array(batches) / batches[-1]
        per = np.minimum(np.exp(_along(shares, logs[: len(SHARES)]) + shift), 1.0)
        loss = np.exp(_along(shares, logs[len(SHARES) :]) + shift)
        rows = [
            {"epoch": epoch, "batch": batch, "per": float(p), "per_raw": float(p), "val_loss": float(v), "lr": None}
            | {"seconds": float(batch - before), "diverged": False}
            for epoch, (batch, before, p, v) in enumerate(zip(batches, [0, *batches], per, loss, strict=False), 1)
        ]
        return RecordedRun(label, tuple(rows), config, config.horizon, dict(params))

    def _predicted(self, features: np.ndarray) -> np.ndarray:
        """The forest's mean, float64 [rows, 2 x shares]; its own `predict` takes ten times as long for a single row."""
        rows = features.astype(np.float32)
        return np.mean([tree.tree_.predict(rows)[..., 0] for tree in self._forest.estimators_], axis=0)

    def _row(self, params: Mapping[str, Any]) -> np.ndarray:
        found: list[float] = []
        for dimension, at in zip(self._points.dimensions, self._points.coordinates(params), strict=True):
            if dimension.kind == "choice":
                found += [float(at == (choice,)) for choice in dimension.choices]
            elif isinstance(at, tuple):
                found += [ABSENT]
            else:
                found += [ABSENT if at is None else at]
        return np.array(found)


def _along(shares: np.ndarray, logs: np.ndarray) -> np.ndarray:
    return np.interp(shares, SHARES, logs)


def _targets(run: RecordedRun) -> np.ndarray:
    """Logarithms of PER and of validation loss at `SHARES` of the run; where there is none, the worst so far."""
    shares = np.array([row["batch"] for row in run.rows]) / run.config.training.batches
    found = []
    for column, start in (("per", 1.0), ("val_loss", None)):
        worst, values = start, []
        for row in run.rows:
            value = row.get(column)
            worst = value if value is not None and (worst is None or value > worst) else worst
            values.append(worst if value is None else value)
        known = [1.0 if value is None else value for value in values]
        found.append(np.interp(SHARES, shares, np.log(np.clip(known, _LEAST, _MOST))))
    return np.concatenate(found)


class SurrogateTrials:
    """The trials that a study draws itself, with the surrogate's curves; the table of a simulated search."""

    def __init__(self, surrogate: Surrogate) -> None:
        self.surrogate, self._own = surrogate, OwnTrials()
        self._runs: dict[int, RecordedRun] = {}

    def trial(self, state: StudyState, number: int) -> dict[str, Any]:
        """What the study's own searcher proposes."""
        fields = self._own.trial(state, number)
        config = RunConfig.model_validate(fields["config"])
        self._runs[number] = self.surrogate.run(str(number), fields["params"], config)
        return fields

    def curve(self, number: int, config: RunConfig | KeptConfig) -> Curve:
        """By its configuration."""
        return Curve.of_run(number, config)

    def run(self, trial: int) -> RecordedRun:
        """The run that a trial is."""
        return self._runs[trial]
