"""Partial dependence: the best PERs of a study's trials by the value of one setting.

These are means over the trials as they were, other settings and all; a searcher tries good values together, so a bin's
mean says where the search found good configurations and not what the setting alone does (`tuner importance` weighs
that).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from results.output import format_value
from results.tables import load_tables
from search_spaces import InputError, Space
from tuner.trials import find_space

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
    values = [value for value, _ in known]
    if all(_is_number(value) for value in values) and len(set(values)) > bins:
        return _ranges(known, bins, _is_log(space, column, values))
    found: dict[Any, list[Row]] = {}
    for value, row in sorted(known, key=lambda pair: _order(pair[0])):
        found.setdefault(value, []).append(row)
    return [{"value": _text(value, column), "low": None, "high": None, **_sum(group)} for value, group in found.items()]


def _ranges(known: Sequence[tuple[Any, Row]], bins: int, log: bool) -> list[Row]:
    values = [float(value) for value, _ in known]
    low, high = min(values), max(values)

    def place(value: float) -> int:
        share = math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
        return min(bins - 1, int(share * bins))

    def edge(number: int) -> float:
        return low * (high / low) ** (number / bins) if log else low + (high - low) * number / bins

    groups: dict[int, list[Row]] = {}
    for value, row in known:
        groups.setdefault(place(value), []).append(row)
    return [
        {
            "value": f"{edge(number):.4g} to {edge(number + 1):.4g}",
            "low": edge(number),
            "high": edge(number + 1),
            **_sum(groups[number]),
        }
        for number in sorted(groups)
    ]


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
    from results.replay import schema

    settings = [column for column in columns if column not in schema("trials").names]
    column = name.replace(".", "_")
    if column in settings:
        return column
    ends = [other for other in settings if other.split("_", 1)[-1] == column]
    near = ends or difflib.get_close_matches(column, settings, n=1, cutoff=0.5)
    hint = f"did you mean {near[0].replace('_', '.', 1)}?" if near else "tuner importance lists what was searched"
    raise InputError(f"{study}: there is no setting {name!r}; {hint}")


def _order(value: Any) -> tuple[int, float, str]:
    """Numbers first, by size; then text; null last."""
    if _is_number(value):
        return 0, float(value), ""
    return (2, 0.0, "") if value is None else (1, 0.0, str(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_log(space: Space | None, column: str, values: Sequence[Any]) -> bool:
    if min(values) <= 0:
        return False
    kinds = [d.kind for d in space.dimensions if d.path.replace(".", "_") == column] if space is not None else []
    if kinds:
        return any(kind.startswith("log") for kind in kinds)
    return bool(max(values) >= 20 * min(values))


def _takes_null(space: Space | None, column: str) -> bool:
    """Whether null is a value that was searched (`training.clip`), and not the absence of the setting."""
    return space is not None and any(None in d.choices for d in space.dimensions if d.path.replace(".", "_") == column)


def _text(value: Any, column: str) -> str:
    return "null" if value is None else format_value(value, column)
