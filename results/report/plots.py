"""The plots of a report, as plain Plotly data.

Colours are names such as `@3`, `@muted` or `@scale`, which the script of the page replaces for the light or the dark
theme. The numbered ones are the palette of Okabe and Ito, which colour-blind readers can distinguish, and nothing is
shown by colour alone. Text that comes from a study is escaped by `literal`, because Plotly reads some HTML in text.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

import numpy as np

from results.best import short_headers
from results.output import visible
from results.report.facts import STATUSES, Extras, Facts, ReportCurve, Row, thinned

_CURVES = 60  # other trials whose curves are drawn beside the leaders
_DOTS = 1000
_SYMBOLS = {"completed": "circle", "stopped": "circle-open", "diverged": "x", "failed": "x", "interrupted": "diamond"}
_BARS = {"completed": "@1", "stopped": "@2", "diverged": "@5", "failed": "@5", "running": "@3"}
_BARS |= {"interrupted": "@4", "paused": "@4"}
_DASHES = ("solid", "dash", "dot", "dashdot")


@dataclass
class Panel:
    """One plot with its text. `about` is shown below the title, `alt` is read by a screen reader instead.

    `log` adds a button that switches between a linear and a logarithmic vertical axis; below a width of `least` pixels
    the plot scrolls instead of shrinking.
    """

    title: str
    data: list[dict[str, Any]]
    layout: dict[str, Any] = field(default_factory=dict)
    about: str = ""
    alt: str = ""
    height: int = 340
    log: bool = False
    wide: bool = False
    least: int = 0


def literal(text: Any) -> str:
    """Text with HTML escaped, for Plotly."""
    return html.escape(visible(str(text)), quote=False)


def ended(row: Row) -> str:
    """How a trial ended, and after how many epochs where that is known."""
    return f"{row['status']}, {row['epochs']} epochs" if row["epochs"] else str(row["status"])


def numbers(values: Iterable[Any], digits: int = 6) -> list[float | None]:
    """Values for JSON, rounded to significant digits; NaN becomes null."""
    known = (None if v is None else float(v) for v in values)
    return [None if v is None or not math.isfinite(v) else float(f"{v:.{digits}g}") for v in known]


def best_over_trials(studies: Sequence[Facts]) -> Panel:
    """The lowest PER after each trial, in the order in which they were started."""
    data: list[dict[str, Any]] = []
    for index, facts in enumerate(studies):
        scored = [(row, score) for row in facts.trials if (score := facts.score(row)) is not None]
        if not scored:
            continue
        rows = [row for row, _ in scored]
        best = np.minimum.accumulate([score for _, score in scored])
        x = [row["trial"] + 1 for row in rows]
        if len(studies) == 1:
            data += _dots(facts, rows, best)
        data.append(
            {
                **_line(x, best, f"@{index % 7 + 1}", facts.study if len(studies) > 1 else "best so far"),
                "line": {"color": f"@{index % 7 + 1}", "shape": "hv", "width": 2.5, "dash": _dash(index)},
                "hovertemplate": "after %{x} trials: %{y:.4f}<extra></extra>",
            }
        )
    thin = sum(len(trace["x"]) for trace in data[:-1]) if len(studies) == 1 else 0
    total = len(studies[0].ranked)
    said = f" {thin} of {total} trials are drawn, every record among them." if 0 < thin < total else ""
    layout = {"xaxis": _x_axis("trials started"), "yaxis": _per_axis(_measure(studies))}
    about = "Filled: ran to the end; open: stopped early." + said if len(studies) == 1 else ""
    return Panel("Best so far, by trials", data, layout, about, log=True)


def _measure(studies: Sequence[Facts]) -> str:
    measures = {facts.measure for facts in studies}
    return measures.pop() if len(measures) == 1 else "best so far"


def best_over_hours(studies: Sequence[Facts]) -> Panel:
    """The lowest PER against the time that training took, summed over all trials."""
    data = []
    devices = {facts.device[0] for facts in studies if facts.curves}
    gpus = devices == {"GPU"}
    for index, facts in enumerate(studies):
        curves = list(facts.curves.values())
        if not curves:
            continue
        order = np.argsort(np.concatenate([c.reported for c in curves]), kind="stable")
        best = np.fmin.accumulate(np.concatenate([c.per for c in curves])[order])
        seconds = np.nan_to_num(np.concatenate([c.seconds for c in curves])[order])
        hours = np.cumsum(seconds) * (facts.device[1] if gpus else 1.0) / 3600
        if not np.isfinite(best[-1]) or hours[-1] <= 0:
            continue
        records = np.r_[True, ~(best[1:] >= best[:-1])] & np.isfinite(best)
        keep = np.unique(np.r_[np.flatnonzero(records), len(best) - 1])
        color = f"@{index % 7 + 1}"
        data.append(
            {
                **_line(hours[keep], best[keep], color, facts.study),
                "mode": "lines+markers" if len(keep) < 60 else "lines",
                "line": {"color": color, "shape": "hv", "width": 2.5, "dash": _dash(index)},
                "hovertemplate": "%{x:.4g} h: %{y:.4f}<extra></extra>",
                "showlegend": len(studies) > 1,
            }
        )
    unit = "GPU-hours of all trials" if gpus else "hours of training, all trials"
    layout = {"xaxis": _x_axis(unit), "yaxis": _per_axis("best PER")}
    return Panel("Best so far, by training time", data, layout, "Evaluation is part of an epoch's time.", log=True)


def learning_curves(facts: Facts, raw: bool) -> Panel:
    """PER over epochs: the leaders in colour, others in grey, rungs as dotted lines, early stops as crosses."""
    rows = [row for row in facts.ranked if row["trial"] in facts.curves]
    shown = thinned(rows, len(facts.leaders), _CURVES)
    data = _envelope(facts, raw) if len(shown) < len(rows) else []
    leaders = {row["trial"]: index for index, row in enumerate(facts.leaders)}
    others = [facts.curves[row["trial"]] for row in shown if row["trial"] not in leaders]
    if others:
        gaps = [part for c in others for part in (_per(c, raw), [np.nan])]
        epochs = [part for c in others for part in (c.epoch, [np.nan])]
        line = _line(np.concatenate(epochs), np.concatenate(gaps), "@faint", "others")
        data.append({**line, "line": {"color": "@faint", "width": 1}, "hoverinfo": "skip"})
    stops = [facts.curves[row["trial"]] for row in shown if row["status"] == "stopped"]
    if stops:
        ends = [c.epoch[-1] for c in stops], [_per(c, raw)[-1] for c in stops]
        cross = {"symbol": "x-thin", "size": 6, "line": {"width": 1.2, "color": "@muted"}}
        data.append(
            {**_line(*ends, "@muted", "stopped early"), "mode": "markers", "marker": cross, "hoverinfo": "skip"}
        )
    for row in facts.leaders:
        if row["trial"] in facts.curves:
            curve, index = facts.curves[row["trial"]], leaders[row["trial"]]
            line = _line(curve.epoch, _per(curve, raw), f"@{index + 1}", f"trial {row['trial']}")
            line["line"] = {"color": f"@{index + 1}", "width": 2, "dash": _dash(index)}
            line["mode"] = "lines+markers" if len(curve.epoch) < 3 else "lines"
            data.append({**line, "hovertemplate": f"trial {row['trial']}, epoch %{{x}}: %{{y:.4f}}<extra></extra>"})
    layout: dict[str, Any] = {"xaxis": _x_axis("epoch"), "yaxis": _per_axis("PER")}
    layout |= _rung_lines(facts.rungs)
    about = "Dotted: rungs, where trials are compared. Crosses: stopped early."
    if len(shown) < len(rows):
        about += f" {len(shown)} of {len(rows)} curves are drawn: the best {len(leaders)} and others evenly by rank;"
        about += " the band has all trials that reached an epoch."
    title = "Learning curves, raw weights" if raw else "Learning curves, evaluated (averaged) weights"
    return Panel(title, data, layout, about, height=420, log=True)


def importance(facts: Facts, extras: Extras) -> Panel | None:
    """The importance of each setting by two methods, with the importance that chance gives."""
    rows = [row for row in extras.importance if row["ped_anova"] is not None][:20][::-1]
    if not rows:
        return None
    short = short_headers([row["path"].replace(".", "_") for row in rows])
    labels = []
    for row in rows:
        name = literal(short[row["path"].replace(".", "_")])
        labels.append(f"{name}<br><i>if {literal(row['active'])}</i>" if row["active"] else name)
    place = np.arange(len(rows))
    data: list[dict[str, Any]] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": (place + offset).tolist(),
            "x": numbers((row[key] for row in rows), 4),
            "width": 0.34,
            "marker": {"color": color, "pattern": {"shape": pattern}},
            "hovertemplate": f"{name} %{{x:.3f}}<extra></extra>",
        }
        for name, key, offset, color, pattern in (
            ("PED-ANOVA", "ped_anova", 0.18, "@1", ""),
            ("fANOVA", "fanova", -0.18, "@2", "/"),
        )
    ]
    tick = {"symbol": "line-ns", "size": 13, "line": {"width": 2.5, "color": "@text"}}
    chance = _line(numbers((row["chance"] for row in rows), 4), place + 0.18, "@text", "chance (PED-ANOVA)")
    data.append({**chance, "mode": "markers", "marker": tick, "hovertemplate": "chance %{x:.3f}<extra></extra>"})
    layout = {
        "xaxis": {**_x_axis("share of what the settings explain"), "rangemode": "tozero"},
        "yaxis": {"tickvals": place.tolist(), "ticktext": labels, "showgrid": False, "zeroline": False},
        "barmode": "overlay",
    }
    told = sum(row["ped_anova"] > row["chance"] for row in rows)
    about = f"{told} of {len(rows)} settings are above chance (the maximum of 19 permutations). Stopped trials count: "
    about += "each pair of trials is compared at the last epoch both reached. A setting with a condition is judged "
    about += "among the trials that meet it."
    return Panel("Importance of settings", data, layout, about, height=120 + 38 * len(rows), wide=True)


def rates(facts: Facts, extras: Extras) -> Panel | None:
    """The learning rate over the batches of the leaders."""
    data = []
    for index, row in enumerate(facts.leaders):
        places = extras.rates.get(row["trial"])
        if not places:
            continue
        batches, values = zip(*places, strict=True)
        line = _line(batches, values, f"@{index + 1}", f"trial {row['trial']}")
        line["line"] = {"color": f"@{index + 1}", "width": 2, "dash": _dash(index)}
        data.append({**line, "hovertemplate": f"trial {row['trial']}, batch %{{x}}: %{{y:.3g}}<extra></extra>"})
    if not data:
        return None
    axis = {"title": {"text": "learning rate"}, "rangemode": "tozero", "exponentformat": "e"}
    layout = {"xaxis": _x_axis("batch"), "yaxis": axis}
    about = "As configured for the whole run, even if the trial was stopped early."
    return Panel(f"Learning rates of the best {len(data)}", data, layout, about, log=True, wide=True)


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
        for host, lane, begin, end, row in placed[status]:
            x += [round(begin * 1000), round(end * 1000), None]
            y += [first[host] + lane, first[host] + lane, None]
            words = f"trial {row['trial']}, {ended(row)}"
            text += [words, words, ""]
        width = max(2, min(14, 260 // total))
        data.append({"type": "scatter", "mode": "lines+markers", "name": status, "x": x, "y": y, "text": text})
        # A gap shows where a trial ends; with very many trials it would hide the short ones.
        gap = {"symbol": "line-ns", "size": width, "line": {"width": 2 if len(spans) < 200 else 0, "color": "@back"}}
        line = {"color": _BARS[status], "width": width}
        data[-1].update({"line": line, "hoverinfo": "text", "marker": gap})
    ticks = [first[host] + (len(busy) - 1) / 2 for host, busy in lanes.items()]
    axis = {"tickvals": ticks, "ticktext": [literal(host)[:40] for host in lanes], "showgrid": False, "zeroline": False}
    axis["range"] = [total - 1.2, -0.8]
    layout = {"xaxis": {**_x_axis("UTC"), "type": "date"}, "yaxis": axis}
    about = "A bar from the start to the end of each trial; further attempts are part of the same bar."
    return Panel("Workers", data, layout, about, height=min(700, 160 + 22 * total), wide=True)


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


def _dots(facts: Facts, rows: Sequence[Row], best: np.ndarray) -> list[dict[str, Any]]:
    """A dot for each trial, thinned: every record, and others evenly."""
    records = {i for i in range(len(rows)) if i == 0 or best[i] < best[i - 1]}
    if len(rows) > _DOTS:
        kept = records | set(np.linspace(0, len(rows) - 1, _DOTS).astype(int).tolist())
        rows = [rows[i] for i in sorted(kept)]
    data = []
    for status in STATUSES:
        mine = [row for row in rows if row["status"] == status]
        if mine:
            dots = _line([r["trial"] + 1 for r in mine], numbers(map(facts.score, mine)), "@muted", status)
            size = 6 if len(rows) < 200 else 4
            marker = {"symbol": _SYMBOLS.get(status, "diamond-open"), "size": size, "color": "@muted"}
            text = [f"trial {r['trial']}: {facts.score(r):.4f}, {ended(r)}" for r in mine]
            data.append({**dots, "mode": "markers", "marker": marker, "text": text, "hoverinfo": "text"})
    return data


def _envelope(facts: Facts, raw: bool) -> list[dict[str, Any]]:
    """The lowest and highest PER of all trials that reached each epoch."""
    epoch = np.concatenate([c.epoch for c in facts.curves.values()])
    per = np.concatenate([_per(c, raw) for c in facts.curves.values()])
    epoch, per = epoch[np.isfinite(per)], per[np.isfinite(per)]
    if not len(per):
        return []
    low, high = np.full(epoch.max() + 1, np.inf), np.full(epoch.max() + 1, -np.inf)
    np.minimum.at(low, epoch, per)
    np.maximum.at(high, epoch, per)
    at = np.flatnonzero(np.isfinite(low))
    edge = {"mode": "lines", "line": {"width": 0, "color": "@band"}, "hoverinfo": "skip"}
    return [
        {**_line(at, low[at], "@band", "lowest"), **edge, "showlegend": False},
        {**_line(at, high[at], "@band", "all trials"), **edge, "fill": "tonexty", "fillcolor": "@band"},
    ]


def _per(curve: ReportCurve, raw: bool) -> np.ndarray:
    return curve.raw if raw else curve.per


def _rung_lines(rungs: Sequence[int]) -> dict[str, Any]:
    dotted = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
    words = {"yref": "paper", "y": 1, "yanchor": "bottom", "showarrow": False, "font": {"size": 10}}
    return {
        "shapes": [{**dotted, "x0": r, "x1": r, "line": {"dash": "dot", "width": 1, "color": "@muted"}} for r in rungs],
        "annotations": [{**words, "x": r, "text": str(r)} for r in rungs],
    }


def _line(x: Any, y: Any, color: str, name: str) -> dict[str, Any]:
    ends = {"x": numbers(x, 9), "y": numbers(y)}
    return {"type": "scatter", "mode": "lines", "name": literal(name)[:60], **ends, "line": {"color": color}}


def _per_axis(title: str) -> dict[str, Any]:
    return {"title": {"text": title}, "hoverformat": ".4f"}


def _x_axis(title: str) -> dict[str, Any]:
    return {"title": {"text": title, "standoff": 8}}


def log_ticks(low: float, high: float) -> list[float]:
    """Ticks at 1, 2, 5 x 10^k on a logarithmic axis; only the powers where it spans many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1,) if last - first > 2 else (1, 2, 5)
    return [float(f"{step}e{power}") for power in range(first, last + 1) for step in steps]


def _dash(index: int) -> str:
    return _DASHES[index % len(_DASHES)]
