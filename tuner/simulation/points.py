"""The parameters of a bank's runs as points between which a distance is known."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from results.statistics import setting_apart
from search_spaces import InputError, Space
from tuner.simulation.curves import Bank
from tuner.study.state import StudyState


class TablePoints:
    """The bank's parameters as points between which a distance is known.

    A dimension counts 1 where only one of two has it or where categories differ, else the difference as a share of
    its range (of the logarithm's where it is searched on a log scale).
    """

    def __init__(self, bank: Bank) -> None:
        if bank.space is None or any(run.params is None for run in bank.runs):
            raise InputError(
                f"{bank.name}: a searcher needs the params of each run and the space they belong to; give a study that "
                "was searched, or --space with a params column, or leave --searcher out"
            )
        self.space = Space.from_dict(bank.space)
        self.params = [dict(run.params or {}) for run in bank.runs]
        self.dimensions = [dimension for dimension in self.space.dimensions if dimension.sampled]
        names = {dimension.name for dimension in self.dimensions}
        for run in bank.runs:
            unknown = sorted(set(run.params or {}) - names)
            if unknown:
                raise InputError(
                    f"{bank.name}: trial {run.label}: params: {unknown[0]} is no dimension of {self.space.name}; "
                    "give the space that these runs were drawn from"
                )
        self.numbers = [self.coordinates(params) for params in self.params]

    def draw(self, state: StudyState, used: Collection[int], number: int) -> int:
        """The run that a study's proposal for trial `number` becomes: the nearest that it has not had."""
        searcher = state.searcher
        assert searcher is not None  # noqa: S101  a study with a space has one
        wanted = searcher.propose(number)
        searcher.withdraw(number)
        return self.nearest(wanted, set(used))

    def nearest(self, params: Mapping[str, Any], used: set[int]) -> int:
        """The index of the nearest run that is not used; the first of equally near ones."""
        point = self.coordinates(params)
        left = [index for index in range(len(self.numbers)) if index not in used]
        return min(left, key=lambda index: sum(map(setting_apart, point, self.numbers[index])))

    def coordinates(self, params: Mapping[str, Any]) -> list[Any]:
        """Each dimension's value: a share of its range, a category in a tuple, None where it is not active."""
        found: list[Any] = []
        for dimension in self.dimensions:
            value: Any = params.get(dimension.name)
            if dimension.name not in params:
                found.append(None)
            elif dimension.kind == "choice" or dimension.is_alternative(value):
                found.append((value,))
            elif not dimension.native:
                found.append(dimension.to_unit(value))
            else:
                ends = (dimension.low or 0.0, dimension.high or 0.0, float(value))
                low, high, at = map(math.log, ends) if dimension.kind.startswith("log_") else ends
                found.append((at - low) / (high - low) if high > low else 0.0)
        return found
