"""The searcher `qmc`, whose points are also the first trials of `tpe`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from search_spaces import Dimension, Space
from search_spaces.searchers import QMCSearcher
from tuner.study.searchers.method import MAX_DRAWS, GivenSamples, Method, coded_at


class QMC(Method[QMCSearcher]):
    """Points of a scrambled Sobol sequence with a coordinate for every dimension, active or not."""

    def __init__(self, space: Space, settings: QMCSearcher, seed: int) -> None:
        from scipy.stats.qmc import Sobol

        super().__init__(space, settings, seed)
        self._dimensions = [dimension for dimension in space.dimensions if dimension.sampled]
        self._engine = Sobol(len(self._dimensions), scramble=True, seed=seed)
        self._block: list[Any] = []
        self._kept: list[dict[str, Any]] = []

    def sampler(self, study: optuna.Study, ended: Sequence[FrozenTrial], number: int, seed: int) -> BaseSampler:
        """The point of trial `number`."""
        tried = 0
        while len(self._kept) <= number and tried < MAX_DRAWS:
            point, tried = self._next(), tried + 1
            given, params = suggested(self.space, self._dimensions, point)
            if not self.space.violations(params):
                self._kept.append(given)
                tried = 0
        given = self._kept[number] if number < len(self._kept) else given
        return GivenSamples(given, optuna.samplers.RandomSampler(seed=seed))

    def _next(self) -> Any:
        if not self._block:
            self._block = list(self._engine.random(64))
        return self._block.pop(0)


def suggested(
    space: Space, dimensions: Sequence[Dimension], coordinates: Iterable[float]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(a sample of every dimension as Optuna has it, the parameters of the space) at coordinates from 0 to 1.

    The parameters are of the dimensions that are active there.
    """
    given = {d.name: coded_at(d, float(u)) for d, u in zip(dimensions, coordinates, strict=True)}
    return given, space.suggest(_Point(given))


class _Point:
    """Answers `Space.suggest` with the samples of a point."""

    def __init__(self, point: Mapping[str, Any]) -> None:
        self._point = point

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return float(self._point[name])

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self._point[name])

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._point[name]
