"""Columns of the trials table for people: which settings vary, which were asked for, short headers, remarks."""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from results.store.replay import schema
from search_spaces.errors import InputError
from search_spaces.measures import objective_of
from search_spaces.wording import nearest_or

FIXED = frozenset(schema("trials").names)
"""The columns that are no settings."""

Row = Mapping[str, Any]


def varying(trials: pa.Table) -> list[str]:
    """The configuration columns in which these trials differ.

    A null that only means that the chosen kind has no such key (`optimizer_momentum` of Adam) does not count.
    """
    found = []
    for name in trials.column_names:
        if name not in FIXED and objective_of(name) is None:
            values = len(trials[name].unique()) - (trials[name].null_count > 0)
            if values > 1 or (values == 1 and trials[name].null_count and not _implied(trials, name)):
                found.append(name)
    return found


def _implied(trials: pa.Table, name: str) -> bool:
    """Whether the column is null because of the kind of its section, where there are several kinds."""
    kind = f"{name.split('_')[0]}_kind"
    if kind not in trials.column_names or kind == name:
        return False
    states = set(zip(trials[kind].to_pylist(), trials[name].is_null().to_pylist(), strict=True))
    kinds = {kind for kind, _ in states}
    return len(states) == len(kinds) > 1


def short_headers(names: Sequence[str]) -> dict[str, str]:
    """Column -> header: `schedule_kind` -> `schedule`, `schedule_peak_lr` -> `peak_lr` where that is unambiguous."""
    short = {n: n.removesuffix("_kind") if n.endswith("_kind") else n.split("_", 1)[-1] for n in names}
    counts: dict[str, int] = defaultdict(int)
    for header in short.values():
        counts[header] += 1
    return {name: header if counts[header] == 1 and header not in FIXED else name for name, header in short.items()}


def known_column(name: str, names: Sequence[str], what: str) -> str:
    """`name`, if it is one of `names`; InputError with the nearest one otherwise. `what` is the option that had it."""
    if name in names:
        return name
    hint = nearest_or(name, names, "tuner query --schema lists them", cutoff=0.5)
    raise InputError(f"{what}: there is no column {name!r}; {hint}")


def choose_columns(patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    """The columns that patterns such as `schedule_*` match, in their order; InputError for one that matches none."""
    chosen: list[str] = []
    for pattern in patterns:
        matched = fnmatch.filter(names, pattern) or [known_column(pattern, names, "columns")]
        chosen += [name for name in matched if name not in chosen]
    return chosen


def remark(row: Row) -> str:
    """The note on a trial: what is unusual about it."""
    marks = []
    if row["origin"] == "recorded":
        marks.append("recorded, not trained here")
    elif row["origin"] in ("replicate", "start_point"):
        marks.append(row["origin"].replace("_", " "))
    inherited = row.get("from_trial_epoch") or 0
    if inherited:
        marks.append(f"from trial {row['from_trial']}, epoch {inherited}")
    if row["status"] == "stopped":
        marks.append(f"stopped at epoch {inherited + (row['epochs'] or 0)}")
    elif row["status"] != "completed":
        marks.append(str(row["status"]))
    return ", ".join(marks)


def row_name(row: Row) -> str:
    """A trial as `STUDY/TRIAL`."""
    return f"{row['study']}/{row['trial']}"
