"""The plots of when and how trials ran: learning rates over batches, and workers over time."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import numpy as np

from results.report.axes import x_axis
from results.report.facts import STATUSES, Extras, Facts, Row
from results.report.plots import Panel, dash_of, ended, line_of, literal

_BARS = {"completed": "@1", "stopped": "@2", "diverged": "@5", "failed": "@5", "running": "@3"}
_BARS |= {"interrupted": "@4", "paused": "@4"}


def rates(facts: Facts, extras: Extras) -> Panel | None:
    """The learning rate over the batches of the leaders."""
    data = []
    for index, row in enumerate(facts.leaders):
        places = extras.rates.get(row["trial"])
        if not places:
            continue
        batches, values = zip(*places, strict=True)
        line = line_of(batches, values, f"@{index + 1}", f"trial {row['trial']}")
        line["line"] = {"color": f"@{index + 1}", "width": 2, "dash": dash_of(index)}
        line["meta"] = {"trial": row["trial"]}
        data.append({**line, "hovertemplate": f"trial {row['trial']}, batch %{{x}}: %{{y:.3g}}<extra></extra>"})
    if not data:
        return None
    axis = {"title": {"text": "learning rate"}, "rangemode": "tozero", "exponentformat": "e"}
    layout = {"xaxis": x_axis("batch"), "yaxis": axis}
    about = "As configured for the whole run, even if the trial was stopped early."
    title = f"Learning rates of the best {len(data)}"
    return Panel(title, data, layout, about, log=True, wide=True, study=facts.study)


def timeline(facts: Facts, now: float) -> Panel | None:
    """When each trial ran, on which machine; a line for each that ran at the same time."""
    spans = sorted((*_span(facts, row, now), row) for row in facts.trials if row["started"])
    if not spans:
        return None
    lanes: dict[str, list[float]] = {}
    placed: dict[str, list[tuple[str, int, float, float, Row]]] = {}
    for (begin, end), _, row in spans:
        host = str(row["host"] or "unknown")
        busy = lanes.setdefault(host, [])
        lane = next((i for i, until in enumerate(busy) if until <= begin), len(busy))
        busy[lane : lane + 1] = [end]
        placed.setdefault(str(row["status"]), []).append((host, lane, begin, end, row))
    first = dict(zip(lanes, np.cumsum([0, *(len(busy) + 1 for busy in lanes.values())]).tolist(), strict=False))
    total = sum(len(busy) + 1 for busy in lanes.values())
    data: list[dict[str, Any]] = []
    for status in (name for name in STATUSES if name in placed):
        x: list[int | None] = []
        y: list[int | None] = []
        text: list[str] = []
        trials: list[int] = []
        for host, lane, begin, end, row in placed[status]:
            x += [round(begin * 1000), round(end * 1000), None]
            y += [first[host] + lane, first[host] + lane, None]
            words = f"trial {row['trial']}, {ended(row)}"
            text += [words, words, ""]
            trials += [row["trial"]] * 3
        width = max(2, min(14, 260 // total))
        data.append({"type": "scatter", "mode": "lines+markers", "name": status, "x": x, "y": y, "text": text})
        # A gap shows where a trial ends; with very many trials it would hide the short ones.
        gap = {"symbol": "line-ns", "size": width, "line": {"width": 2 if len(spans) < 200 else 0, "color": "@back"}}
        line = {"color": _BARS[status], "width": width}
        data[-1].update({"line": line, "hoverinfo": "text", "marker": gap, "customdata": trials})
    ticks = [first[host] + (len(busy) - 1) / 2 for host, busy in lanes.items()]
    axis = {"tickvals": ticks, "ticktext": [literal(host)[:40] for host in lanes], "showgrid": False, "zeroline": False}
    axis["range"] = [total - 1.2, -0.8]
    layout = {"xaxis": {**x_axis("UTC"), "type": "date"}, "yaxis": axis}
    about = "A bar from the start to the end of each trial; further attempts are part of the same bar."
    height = min(700, 160 + 22 * total)
    return Panel("Workers", data, layout, about, height=height, wide=True, study=facts.study)


def _span(facts: Facts, row: Row, now: float) -> tuple[tuple[float, float], int]:
    """((begin, end) in Unix seconds, trial number); without an end, it is the last epoch, or now."""
    begin = row["started"].replace(tzinfo=UTC).timestamp()
    if row["ended"]:
        end = row["ended"].replace(tzinfo=UTC).timestamp()
    elif row["status"] == "running":
        end = now
    else:
        end = facts.curves[row["trial"]].reported[-1] if row["trial"] in facts.curves else begin
    return (begin, max(begin, float(end))), row["trial"]
