"""Every combination of a space's values: what the grid searcher tries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from search_spaces.dimensions.dimension import Dimension
from search_spaces.errors import InputError
from search_spaces.space import Space

MOST_POINTS = 10_000
"""A larger grid is refused: nobody trains so many, and a random search of the same size finds better."""


def grid_points(space: Space, points: int | None) -> list[dict[str, Any]]:
    """The samples of every combination that is a valid run, in the order of the file, the last dimension fastest.

    A choice has its values, a range with steps all its steps, a whole-number range all its numbers or `points` of them.
    Any other range has `points` values, evenly spread on its own axis with both ends (a normal distribution: with
    equal probability between them). Raises InputError for a range without `points`, an empty grid, and more than
    `MOST_POINTS` points.
    """
    values = {d.name: _values(d, points, space.name) for d in space.dimensions if d.sampled}
    coded = {d.name: [_coded(d, sample) for sample in values[d.name]] for d in space.dimensions if d.sampled}
    odometer, turns = _Odometer(coded), 0
    found: list[dict[str, Any]] = []
    while True:
        params = space.suggest(odometer)
        found += [] if space.violations(params) else [params]
        turns += 1
        if turns > MOST_POINTS:
            raise InputError(
                f"searcher grid: {space.name} has more than {MOST_POINTS} combinations; search fewer dimensions, give "
                "wider steps or fewer points, or use random"
            )
        if not odometer.turn():
            break
    if not found:
        raise InputError(f"searcher grid: no combination of {space.name} is a valid run; give more points")
    return found


def _values(dimension: Dimension, points: int | None, space: str) -> Sequence[Any]:
    if dimension.kind == "choice":
        return dimension.choices
    count = dimension.step_count
    if count is not None and (dimension.q is not None or points is None or count <= points):
        if count > MOST_POINTS:
            raise InputError(
                f"searcher grid: {dimension.path} of {space} has {count} values; give steps by `q:`, or points: 'grid "
                "points=4'"
            )
        samples = dimension.steps()
    elif points is None:
        raise InputError(
            f"searcher grid: {dimension.path} of {space} is a range without steps ({dimension.words()}); give points, "
            "such as 'grid points=4', steps by `q:` in the space, or a choice"
        )
    else:
        samples = [dimension.in_range((k + 0.5) / points if dimension.mean is not None else k / (points - 1))
                   for k in range(points)]  # fmt: skip
        samples = [sample if dimension.whole else float(f"{sample:.12g}") for sample in samples]
        samples = [dimension.nearest(sample) for sample in samples]
    return list(dict.fromkeys([*dimension.alternative, *samples]))


def _coded(dimension: Dimension, sample: Any) -> Any:
    return sample if dimension.kind == "choice" or dimension.native else dimension.to_unit(sample)


class _Odometer:
    """Answers `Space.suggest` with one combination after another; only active dimensions are asked for."""

    def __init__(self, values: dict[str, list[Any]]) -> None:
        self._values = values
        self._wheels: list[list[int]] = []
        """[position, count] of each dimension that was asked for, in order."""
        self._asked = 0

    def turn(self) -> bool:
        """Go to the next combination; returns False after the last."""
        del self._wheels[self._asked :]
        while self._wheels and self._wheels[-1][0] + 1 >= self._wheels[-1][1]:
            self._wheels.pop()
        self._asked = 0
        if not self._wheels:
            return False
        self._wheels[-1][0] += 1
        return True

    def _next(self, name: str) -> Any:
        values = self._values[name]
        if self._asked == len(self._wheels):
            self._wheels.append([0, len(values)])
        self._asked += 1
        return values[self._wheels[self._asked - 1][0]]

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return float(self._next(name))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self._next(name))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._next(name)
