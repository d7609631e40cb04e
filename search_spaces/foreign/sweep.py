"""What is read of another program's search, before it becomes a space."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Entry = dict[str, Any]
"""The keys of a dimension, as in a space file: `{"log_uniform": [1e-4, 1e-2]}`."""


@dataclass
class Parameter:
    """One parameter: its name there, its distribution there in words, and here as an entry.

    `entry` is None where there is no counterpart; then `remarks` say why.
    """

    name: str
    there: str
    entry: Entry | None = None
    remarks: list[str] = field(default_factory=list)


@dataclass
class Sweep:
    """Another program's search: its parameters, and what it says of searcher, rule, budget and objective."""

    source: str
    parameters: list[Parameter] = field(default_factory=list)
    fixed: dict[str, Any] = field(default_factory=dict)
    """Name there -> the one value it has."""
    searcher: Mapping[str, Any] | None = None
    stopping: Mapping[str, Any] | None = None
    trials: int | None = None
    metric: str | None = None
    remarks: list[str] = field(default_factory=list)


def is_number(value: Any) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def range_entry(low: Any, high: Any, *, log: bool = False, step: Any = None, whole: bool = False) -> Entry:
    """A range from `low` to `high`, of whole numbers or not, with steps or not."""
    kind = ("log_" if log else "") + ("int" if whole else "uniform")
    entry: Entry = {kind: [low, high]}
    if step is not None and not (whole and step == 1):
        entry["q"] = step
    return entry


def ends_on_step(low: float, high: float, step: float) -> float:
    """The last value of `low`, `low + step`, ... that is not above `high`."""
    count = math.floor((high - low) / step + 1e-9)
    return float(f"{low + count * step:.12g}")


def tidy(value: float) -> float | int:
    """A whole number as such, else twelve digits."""
    number = float(f"{value:.12g}")
    return int(number) if number.is_integer() and abs(number) < 1e15 else number
