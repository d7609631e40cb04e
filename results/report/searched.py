"""The plots of the searched settings: each setting against the PER, and parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from results.columns import short_headers
from results.output import format_value
from results.report.axes import is_wide, log_ticks, numbers, plain_ticks, span
from results.report.facts import Facts, Row, planned_epochs, thinned
from results.report.plots import Panel, ended, literal
from results.store.columns import COLUMNS

_FIXED = frozenset(column.name for column in COLUMNS["trials"])
_MOST = 24  # settings shown; more cannot be read
_INACTIVE = "not set"
_LONGEST = 32  # letters of a value beside an axis


@dataclass(frozen=True)
class Setting:
    """A configuration column that varies; `log` says that its values spread over orders of magnitude."""

    column: str
    header: str
    log: bool
    numeric: bool
    apart: float | None = None
    """A number beside a logarithmic range that has no place on its axis: the 0 of "0 or a range"."""


def settings(facts: Facts) -> list[Setting]:
    """The settings that the space samples, in its order; without a space, every configuration column that varies.

    One that has the same value wherever it is set says nothing, and is left out.
    """
    ranges: dict[str, str] = {}
    others: dict[str, list[Any]] = {}
    for dimension in facts.space.get("dimensions", []):
        if isinstance(dimension, dict) and "path" in dimension and dimension.get("kind") != "value":
            kind = "complement" if dimension.get("complement") else str(dimension.get("kind"))
            column = str(dimension["path"]).replace(".", "_")
            ranges.setdefault(column, kind)
            others.setdefault(column, []).extend(dimension.get("alternative") or ())
    rows = facts.ranked
    known = rows[0].keys() if rows else ()
    found: list[Setting] = []
    columns = [name for name in ranges or known if name in known and name not in _FIXED]
    varied = [n for n in columns if len({repr(row[n]) for row in rows if row[n] is not None}) > 1][:_MOST]
    headers = short_headers(varied)
    for name in varied:
        values = [row[name] for row in rows if row[name] is not None]
        numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        apart = next((v for v in others.get(name, ()) if v == 0 and v in values and min(values) == 0), None)
        positive = numeric and any(v != apart for v in values) and min(v for v in values if v != apart) > 0
        spread = positive and (ranges[name].startswith("log") if ranges else max(values) > 20 * min(values))
        chosen = ranges.get(name) == "choice" or len(set(values)) <= 2
        log = bool(spread and not chosen)
        found.append(Setting(name, headers[name], log, numeric and not chosen, apart if log else None))
    return found


def slices(facts: Facts) -> list[Panel]:
    """Best PER against each setting, all with one vertical axis; a line at the best.

    Colour is the fraction of the planned epochs that were trained. Trials without the setting have a lane of their own.
    """
    rows = thinned(facts.ranked, 200, 400)
    if len(rows) < 2:
        return []
    trained = numbers((_trained(row) for row in rows), 3)
    pers = [facts.score(row) or 0.0 for row in rows]
    axis = _common_axis(pers)
    panels = []
    for setting in settings(facts):
        x, across = _axis(setting, [row[setting.column] for row in rows])
        dots = _dots(facts, setting, rows, x, pers, trained)
        known = [value for value in x if value is not None]
        ends = across.get("range") or [min(known), max(known)]
        if across.get("type") == "log" and "range" in across:
            ends = [10**end for end in ends]
        best = {"type": "scatter", "mode": "lines", "x": ends, "y": [min(pers)] * 2, "showlegend": False}
        best |= {"line": {"color": "@muted", "width": 1, "dash": "dot"}, "hoverinfo": "skip"}
        layout = {"xaxis": across, "yaxis": axis, "margin": {"t": 8, "r": 10, "b": 30, "l": 40}}
        panels.append(Panel(setting.header, [best, dots], layout, height=220, study=facts.study))
    return panels


def _common_axis(pers: Sequence[float]) -> dict[str, Any]:
    """The vertical axis that all small panels have."""
    low, high = span(pers) or [0.0, 1.0]
    if not is_wide(pers):
        return {"range": [low, high]}
    places = log_ticks(min(pers), max(pers))
    ends = [math.log10(low), math.log10(high)]
    return {"type": "log", "range": ends, "tickvals": places, "ticktext": [f"{place:g}" for place in places]}


def _dots(
    facts: Facts,
    setting: Setting,
    rows: Sequence[Row],
    x: Sequence[float | None],
    pers: Sequence[float],
    trained: Sequence[float | None],
) -> dict[str, Any]:
    """A dot for each trial."""
    open_ones = [row["status"] == "stopped" for row in rows]
    marker: dict[str, Any] = {
        "size": 7 if len(rows) < 100 else 5,
        "color": list(trained),
        "colorscale": "@scale",
        "cmin": 0,
        "cmax": 1,
        "symbol": ["circle-open" if is_open else "circle" for is_open in open_ones],
        "line": {"width": [1.5 if is_open else 0 for is_open in open_ones]},
    }
    dots: dict[str, Any] = {"type": "scatter", "mode": "markers", "x": list(x), "y": numbers(pers), "marker": marker}
    text = [_point(row, setting, per) for row, per in zip(rows, pers, strict=True)]
    customdata = [row["trial"] for row in rows]
    return dots | {"text": text, "hoverinfo": "text", "showlegend": False, "customdata": customdata}


def parallel(facts: Facts) -> Panel | None:
    """Every trial as a line through its settings to its PER."""
    ranked = facts.ranked
    rows = thinned(ranked, 200, 200)
    chosen = settings(facts)
    if len(rows) < 3 or not chosen:
        return None
    pers = [facts.score(row) or 0.0 for row in rows]
    dimensions = [_dimension(setting, [row[setting.column] for row in rows]) for setting in chosen]
    low, high = min(pers), max(pers)
    log = low > 0 and high > 4 * low
    heights = [math.log10(per) for per in pers] if log else pers
    ends = [math.log10(low), math.log10(high)] if log else [low, high]
    places = np.linspace(ends[0], ends[1], 6)
    words = [f"{10**place if log else place:.3f}" for place in places]
    last = {"label": facts.measure, "values": numbers(heights), "tickvals": numbers(places), "ticktext": words}
    # Plotly draws the greatest colour last, so the best trials are on top.
    line = {"color": numbers(-h for h in heights), "colorscale": "@best", "cmin": -ends[1], "cmax": -ends[0]}
    data: dict[str, Any] = {"type": "parcoords", "dimensions": [*dimensions, last], "line": line, "labelangle": -25}
    data |= {"labelfont": {"size": 11, "color": "@text"}, "tickfont": {"size": 10, "color": "@text"}}
    about = "Drag along an axis to keep only the lines that pass there; strong colours are low PERs."
    if len(rows) < len(ranked):
        about += f" {len(rows)} of {len(ranked)} trials are drawn: the best 200 and others evenly by rank."
    # Plotly writes an axis' values to its left and lets them be cut at the edge.
    widths = [7 * max(len(word) for word in dimension["ticktext"]) for dimension in dimensions]
    layout = {"margin": {"t": 100, "b": 25, "l": 15 + widths[0], "r": 70}}
    least = 85 + widths[0] + max(74, 20 + max(widths)) * len(dimensions)
    title, study = "All settings side by side", facts.study
    data |= {"meta": {"trials": [row["trial"] for row in rows]}}
    return Panel(title, [data], layout, about, height=430, wide=True, least=least, study=study)


def _trained(row: Row) -> float:
    """The fraction of its epochs that a trial has; one that was not trained here counts as fully trained."""
    planned = planned_epochs(row)
    return min(1.0, row["epochs"] / planned) if planned and row["epochs"] else 1.0


def _point(row: Row, setting: Setting, score: float) -> str:
    value = format_value(row[setting.column], setting.column) or _INACTIVE
    return f"trial {row['trial']}: {score:.4f}<br>{literal(setting.header)} {literal(value)}<br>{ended(row)}"


def _axis(setting: Setting, values: Sequence[Any]) -> tuple[list[float | None], dict[str, Any]]:
    """Positions on the horizontal axis, and the axis.

    Each choice gets a column, in which trials are side by side. A number that is not set, or has no place on a
    logarithmic axis, gets a lane to the left of all others.
    """
    if not setting.numeric:
        return _columns(_names(values))
    scaled = [math.log10(v) if setting.log and v and v > 0 else v for v in values]
    known = [s for s, v in zip(scaled, values, strict=True) if v is not None and v != setting.apart]
    low, high = min(known), max(known)
    gap = 0.14 * ((high - low) or abs(high) or 1.0)
    if setting.log:
        places = log_ticks(10**low, 10**high)
        ticks = [(math.log10(p), format_value(p, "lr")) for p in places if low - 1e-9 <= math.log10(p) <= high + 1e-9]
    else:
        ticks = [(p, f"{p:g}") for p in plain_ticks(low, high)]
    lanes: dict[Any, float] = {}
    for special in dict.fromkeys((setting.apart, None)):
        if special in values:
            lanes[special] = low - gap * (1 + len(lanes))
            ticks.insert(0, (lanes[special], _INACTIVE if special is None else format_value(special)))
    x = [lanes.get(v, s) for s, v in zip(scaled, values, strict=True)]
    left = min([low, *lanes.values()])
    axis: dict[str, Any] = {
        "type": "log" if setting.log else "linear",
        "range": numbers([left - gap / 2, high + gap / 2]),
        "tickvals": numbers(10**place if setting.log else place for place, _ in ticks),
        "ticktext": [word for _, word in ticks],
        "tickangle": 0,
    }
    return numbers(10**place if setting.log else place for place in x), axis


def _columns(names: Sequence[str]) -> tuple[list[float | None], dict[str, Any]]:
    """A column for each name, "not set" first."""
    order = {name: index for index, name in enumerate(sorted(set(names), key=lambda name: (name != _INACTIVE, name)))}
    jitter = np.linspace(-0.25, 0.25, 13)
    x = [float(order[name] + jitter[(index * 5) % 13]) for index, name in enumerate(names)]
    ticks = {"tickvals": list(order.values()), "ticktext": [_broken(name) for name in order]}
    return numbers(x, 4), {
        **ticks,
        "tickangle": 0,
        "tickfont": {"size": 12 if len(order) < 4 else 9},
        "range": [-0.6, len(order) - 0.4],
        "showgrid": False,
    }


def _dimension(setting: Setting, values: Sequence[Any]) -> dict[str, Any]:
    """One axis of the parallel coordinates; the line of a trial without the setting passes below the others."""
    label = literal(setting.header)
    if not setting.numeric:
        names = _names(values)
        order = {name: index for index, name in enumerate(sorted(set(names)))}
        ticks = {
            "tickvals": list(order.values()),
            "ticktext": [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}\u2026" for name in order],
        }
        return {"label": label, "values": [order[name] for name in names], **ticks}
    beside = [v is not None and v == setting.apart for v in values]
    scaled = [
        None if v is None or aside else math.log10(v) if setting.log else float(v)
        for v, aside in zip(values, beside, strict=True)
    ]
    known = [v for v in scaled if v is not None]
    low, high = min(known), max(known)
    places = np.linspace(low, high, 5).tolist()
    words = [format_value(float(f"{10**p if setting.log else p:.3g}"), setting.column) for p in places]
    gap = 0.15 * ((high - low) or 1.0)
    if any(beside):
        low -= gap
        scaled = [low if aside else v for v, aside in zip(scaled, beside, strict=True)]
        places, words = [low, *places], [format_value(setting.apart), *words]
    if None in scaled:
        low -= gap
        scaled = [low if v is None else v for v in scaled]
        places, words = [low, *places], [_INACTIVE, *words]
    return {"label": label, "values": numbers(scaled), "tickvals": numbers(places), "ticktext": words}


def _broken(name: str) -> str:
    """A long name on two lines."""
    head, sign, tail = name[:24].partition("_")
    return f"{literal(head)}{sign}<br>{literal(tail)}" if len(name) > 9 and tail else literal(name[:24])


def _names(values: Sequence[Any]) -> list[str]:
    return [_INACTIVE if value is None else format_value(value) or "empty" for value in values]
