"""Which trials may stand in one ranking: those on the same data set."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from results.output import visible

Row = dict[str, Any]


def one_data_set(
    rows: Sequence[Row], about: Mapping[str, Row], named: Sequence[str] | None
) -> tuple[list[Row], list[str]]:
    """The trials of one data set, and a note on those left out.

    It is the data set of the first study that was named; without names, of the study begun last among those with a
    trial to rank. Studies whose data set was not recorded count as one of their own.
    """
    sets: dict[str, list[Row]] = {}
    for row in rows:
        sets.setdefault(_data(about, row["study"]), []).append(row)
    if len(sets) < 2:
        return list(rows), []
    present = {row["study"] for row in rows}
    if named:
        first = next(study for study in named if study in present)
    else:
        first = max(present, key=lambda study: (str(about[study]["created"] or ""), study))
    kept = sets.pop(_data(about, first))
    others = sorted({row["study"] for other in sets.values() for row in other})
    count = sum(map(len, sets.values()))
    names = ", ".join(map(visible, others[:3])) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    data = about[first].get("data_name")
    here = f"only trials on the data set {visible(data)} are ranked" if data else "one data set at a time is ranked"
    text = f"{here}; {count} on other data cannot be compared with them: {names} (tuner best {shlex.quote(others[0])})"
    return kept, [text]


def _data(about: Mapping[str, Row], study: str) -> str:
    return str(about.get(study, {}).get("data_fingerprint") or "")
