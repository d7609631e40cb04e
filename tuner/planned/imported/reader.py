"""The settings of a foreign trainer, by name, and which of them were read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from tuner.planned.imported.names import BASELINE_25, REFERENCE, SAYS_NOTHING, SIGNATURE


class ImpossibleSetting(ValueError):
    """A setting whose value cannot be what its name says; the text names both."""


class Settings:
    """A trainer's settings as name -> value: of nested ones the last name, the shallowest where it comes twice.

    `own` are the settings that are written as this program's columns, `section_key`.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = _flattened(values)
        self.used: set[str] = set()

    def has(self, *names: str) -> bool:
        """Whether one of these is there."""
        return any(self.values.get(name) is not None for name in names)

    def take(self, *names: str) -> Any:
        """The value of the first of these names that has one, else None; all of them count as read."""
        found = next((self.values[name] for name in names if self.values.get(name) is not None), None)
        self.used.update(names)
        return found

    def number(self, *names: str) -> float | None:
        """A finite number, else None. Raises ImpossibleSetting for anything else."""
        value = self.take(*names)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            named = next(name for name in names if self.values.get(name) is not None)
            raise ImpossibleSetting(f"{named} is {str(value)[:40]!r}, not a number")
        return float(value)

    def count(self, *names: str) -> int | None:
        """A whole number of 0 or more, else None. Raises ImpossibleSetting for anything else."""
        value = self.number(*names)
        if value is None:
            return None
        if value < 0 or value != int(value):
            named = next(name for name in names if self.values.get(name) is not None)
            raise ImpossibleSetting(f"{named} is {value:g}, not a count")
        return int(value)

    @property
    def family(self) -> str:
        """The kind of trainer: reference, fork, baseline25 or unknown (`names.FACTS`)."""
        names = {name for name, value in self.values.items() if value is not None}
        if len(names & SIGNATURE) >= 3:
            return "reference" if names <= REFERENCE else "fork"
        return "baseline25" if len(names & BASELINE_25) >= 3 else "unknown"

    @property
    def left(self) -> list[str]:
        """The settings that are on and were not read: those that do not exist here."""
        return sorted(
            name
            for name, value in self.values.items()
            if _is_on(value) and name not in self.used and name not in SAYS_NOTHING
        )


def _is_on(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() not in ("", "none", "null", "false")
    return bool(value) and value != float("inf")


def _flattened(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings by their last name; of a `model` with several networks only the one that `modelType` names."""
    found: dict[str, Any] = {}
    level: list[Mapping[str, Any]] = [values]
    kind = values.get("modelType")
    while level:
        deeper: list[Mapping[str, Any]] = []
        for each in level:
            for name, value in each.items():
                if isinstance(value, Mapping):
                    deeper.append(_one_network(value, kind) if name == "model" else value)
                elif found.get(str(name)) is None:
                    found[str(name)] = value
        level = deeper
    return found


def _one_network(model: Mapping[str, Any], kind: Any) -> Mapping[str, Any]:
    nested = {name for name, value in model.items() if isinstance(value, Mapping)}
    if kind in nested:
        return {name: value for name, value in model.items() if name == kind or name not in nested}
    return model


def whole(values: Iterable[Any]) -> list[float]:
    """The numbers of a list. Raises ImpossibleSetting if it holds something else."""
    found = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ImpossibleSetting(f"{str(value)[:40]!r} is not a number")
        found.append(float(value))
    return found
