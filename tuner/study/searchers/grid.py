"""The grid searcher: every combination once, in an order shuffled by the seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from search_spaces import InputError, Space
from search_spaces.dimensions.grid import grid_points
from search_spaces.searchers import GridSearcher
from tuner.study.searchers.method import GivenSamples, Method, optuna_params


class GridSearch(Method[GridSearcher]):
    """The points of a grid that no trial of the study has had yet, start points included; then it has no more.

    A trial that failed has had its point. What is left is a function of the trials that were started.
    """

    def __init__(self, space: Space, settings: GridSearcher, seed: int) -> None:
        super().__init__(space, settings, seed)
        self._drawn: dict[int, str] = {}
        """Trial -> the key of the point that was proposed for it."""
        self._had: set[str] = set()
        """The keys of the points of the grid that trials have, or were proposed."""

    @cached_property
    def _order(self) -> dict[str, dict[str, Any]]:
        """Key -> the point as Optuna has it, in the order in which they are tried."""
        points = grid_points(self.space, self.settings.points)
        coded = [optuna_params(self.space, point)["params"] for point in points]
        rng = np.random.default_rng([self.seed, 2**31 + 3])
        places = rng.permutation(len(coded)) if self.settings.shuffle else range(len(coded))
        return {_key(coded[place]): coded[place] for place in places}

    def sampler(self, study: optuna.Study, ended: Sequence[FrozenTrial], number: int, seed: int) -> BaseSampler:
        """The next point. Raises InputError where none is left."""
        if number not in self._drawn:
            key = next((key for key in self._order if key not in self._had), None)
            if key is None:
                raise InputError(f"searcher grid: all {len(self._order)} points of {self.space.name} have been tried")
            self._drawn[number] = key
            self._had.add(key)
        return GivenSamples(self._order[self._drawn[number]], optuna.samplers.RandomSampler(seed=seed))

    def added(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """A trial that was replayed, or a start point, has its point."""
        if (key := _key(trial.params)) in self._order:
            self._had.add(key)

    def left(self, pending: Sequence[Mapping[str, Any]]) -> int | None:
        """Points that neither a trial nor one of the `pending` start points has."""
        coming = {_key(optuna_params(self.space, params)["params"]) for params in pending}
        return len(self._order) - len(self._had | (coming & self._order.keys()))


def _key(params: Mapping[str, Any]) -> str:
    return repr(sorted(params.items()))
