"""Partial dependence: the best PERs of a study's trials by the value of one setting.

These are means over the trials with all their other settings. A searcher tries good values together, so the mean of a
bin shows where the search found good configurations, not the effect of the setting alone (see `tuner importance`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from results.output import format_value
from results.store.replay import schema
from results.store.tables import load_tables
from results.trials import find_space
from search_spaces import Dimension, InputError, Space
from search_spaces.wording import nearest

Row = dict[str, Any]


def partial(results_dir: Path, study: str, name: str, bins: int = 6) -> list[Row]:
    """A row for each value or range of values of the setting `name` (`schedule.peak_lr`), in their order.

    Keys: `value` (text), `low`, `high` (None for values that are no numbers), `trials`, `stopped` (of these), `mean`
    best PER, `error` (standard error of the mean; None for a single trial), `lowest`. Ranges are equally wide, on a
    logarithmic axis where the space samples it so. Trials where the setting does not exist are left out. Raises
    `InputError` for an unknown setting (nearest named) and where no trial has a PER.
    """
    trials = load_tables(results_dir, [study], ("trials",))[0]["trials"]
    column = _column(name, trials.column_names, study)
    rows = trials.select(["status", "best_per", column]).to_pylist()
    space = find_space(results_dir, study)
    has = _takes_null(space, column)
    known = [(row[column], row) for row in rows if row["best_per"] is not None and (has or row[column] is not None)]
    if not known:
        raise InputError(f"{study}: no trial with {column} has a PER yet")
    apart = [value for d in _dimensions(space, column) for value in d.alternative]
    inside = [(value, row) for value, row in known if value not in apart]
    within = [value for value, _ in inside]
    if all(_is_number(value) for value in within) and len(set(within)) > bins:
        rest = [(value, row) for value, row in known if value in apart]
        ranges = _ranges(inside, _Bins(within, bins, *_axis(space, column, within)))
        return [*_each(rest, column), *ranges]
    return _each(known, column)


def _each(known: Sequence[tuple[Any, Row]], column: str) -> list[Row]:
    """A row for each value."""
    found: dict[Any, list[Row]] = {}
    for value, row in sorted(known, key=lambda pair: _order(pair[0])):
        found.setdefault(value, []).append(row)
    return [{"value": _text(value, column), "low": None, "high": None, **_sum(group)} for value, group in found.items()]


class _Bins:
    """Ranges of equal width from the lowest to the highest value, on an axis on which they are spread evenly."""

    def __init__(self, values: Sequence[float], count: int, log: bool, complement: bool) -> None:
        self.count, self._log, self._complement = count, log, complement
        self.whole = all(isinstance(value, int) for value in values)
        self._low, self._high = sorted((self._along(min(values)), self._along(max(values))))

    def place(self, value: float) -> int:
        """The number of the range that has the value."""
        share = (self._along(value) - self._low) / (self._high - self._low)
        return min(self.count - 1, int(share * self.count))

    def ends(self, number: int) -> tuple[float, float]:
        """The range, lowest value first; of whole numbers, those that it has."""
        step = (self._high - self._low) / self.count
        low, high = sorted(self._back(self._low + step * (number + more)) for more in (0, 1))
        if self.whole:
            last = number == self.count - 1
            return math.ceil(low - 1e-9), round(high) if last else math.ceil(high - 1e-9) - 1
        return low, high

    def _along(self, value: float) -> float:
        value = 1 - value if self._complement else value
        return math.log(value) if self._log else float(value)

    def _back(self, place: float) -> float:
        value = math.exp(place) if self._log else place
        return 1 - value if self._complement else value


def _ranges(known: Sequence[tuple[Any, Row]], bins: _Bins) -> list[Row]:
    groups: dict[int, list[Row]] = {}
    for value, row in known:
        groups.setdefault(bins.place(value), []).append(row)
    rows = []
    for number, group in groups.items():
        low, high = bins.ends(number)
        text = f"{low:.4g}" if bins.whole and low == high else f"{low:.4g} to {high:.4g}"
        rows.append({"value": text, "low": low, "high": high, **_sum(group)})
    return sorted(rows, key=lambda row: float(row["low"]))


def _sum(rows: Sequence[Row]) -> Row:
    pers = [row["best_per"] for row in rows]
    return {
        "trials": len(rows),
        "stopped": sum(row["status"] == "stopped" for row in rows),
        "mean": fmean(pers),
        "error": stdev(pers) / math.sqrt(len(pers)) if len(pers) > 1 else None,
        "lowest": min(pers),
    }


def _column(name: str, columns: Sequence[str], study: str) -> str:
    """The column of the trials table that `name`, a dotted path or a column, means."""
    settings = [column for column in columns if column not in schema("trials").names]
    column = name.replace(".", "_")
    if column in settings:
        return column
    ends = [other for other in settings if other.split("_", 1)[-1] == column]
    near = ends[0] if ends else nearest(column, settings, cutoff=0.5)
    hint = (
        f"did you mean {near.replace('_', '.', 1)}?"
        if near
        else "'tuner importance' lists the settings that were searched"
    )
    raise InputError(f"{study}: there is no setting {name!r}; {hint}")


def _order(value: Any) -> tuple[int, float, str]:
    """Numbers first, by size; then text; null last."""
    if _is_number(value):
        return 0, float(value), ""
    return (2, 0.0, "") if value is None else (1, 0.0, str(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _axis(space: Space | None, column: str, values: Sequence[Any]) -> tuple[bool, bool]:
    """Whether the setting is evenly spread on a logarithmic axis, and whether 1 - value is."""
    here = _dimensions(space, column)
    complement = any(d.complement for d in here) and max(values) < 1
    if min(values) <= 0 and not complement:
        return False, complement
    if here:
        return any(d.log for d in here), complement
    return bool(max(values) >= 20 * min(values)), complement


def _takes_null(space: Space | None, column: str) -> bool:
    """Whether null was a searched value (`training.clip`), and not the absence of the setting."""
    return any(d.takes(None) for d in _dimensions(space, column))


def _dimensions(space: Space | None, column: str) -> list[Dimension]:
    return [d for d in space.dimensions if d.path.replace(".", "_") == column] if space is not None else []


def _text(value: Any, column: str) -> str:
    return "null" if value is None else format_value(value, column)
