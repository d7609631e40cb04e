"""A dimension as a coordinate from 0 to 1, for searchers that work on points of a cube."""

from __future__ import annotations

import math
from typing import Any

from search_spaces.space import Dimension


def free_numbers(dimensions: tuple[Dimension, ...]) -> list[Dimension]:
    """The ranges that every trial has a value in: no conditions, more than one value."""
    return [d for d in dimensions if not d.when and d.kind not in ("choice", "value") and d.low != d.high]


def from_unit(dimension: Dimension, u: float) -> Any:
    """The sample at coordinate `u` in [0, 1]; equal lengths of the coordinate for choices and whole numbers."""
    if dimension.kind == "choice":
        return dimension.choices[min(int(u * len(dimension.choices)), len(dimension.choices) - 1)]
    low, high = _ends(dimension)
    value = math.exp(low + u * (high - low)) if dimension.kind.startswith("log") else low + u * (high - low)
    inside = min(max(value, float(dimension.low or 0)), float(dimension.high or 0))
    return round(inside) if dimension.kind in ("int", "log_int") else inside


def to_unit(dimension: Dimension, sample: Any) -> float:
    """The coordinate of a number; the inverse of `from_unit`."""
    low, high = _ends(dimension)
    value = math.log(sample) if dimension.kind.startswith("log") else float(sample)
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _ends(dimension: Dimension) -> tuple[float, float]:
    half = 0.5 if dimension.kind in ("int", "log_int") else 0.0
    low, high = float(dimension.low or 0) - half, float(dimension.high or 0) + half
    return (math.log(low), math.log(high)) if dimension.kind.startswith("log") else (low, high)
