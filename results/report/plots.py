"""The plots of a report, as plain Plotly data.

Colours are names such as `@3`, `@muted` or `@scale`, which the script of the page replaces for the light or the dark
theme. The numbered ones are the palette of Okabe and Ito, which colour-blind readers can distinguish, and nothing is
shown by colour alone. Text that comes from a study is escaped by `literal`, because Plotly reads some HTML in text.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from results.output import visible
from results.report.axes import is_wide, numbers, per_axis, span, unit_of, whole_axis, x_axis
from results.report.facts import STATUSES, Facts, ReportCurve, Row, thinned

_CURVES = 60  # other trials whose curves are drawn beside the leaders
_DOTS = 1000
_SYMBOLS = {"completed": "circle", "stopped": "circle-open", "diverged": "x", "failed": "x", "interrupted": "diamond"}
_DASHES = ("solid", "dash", "dot", "dashdot")


@dataclass
class Panel:
    """One plot with its text. `about` is shown below the title, `alt` is read by a screen reader instead.

    `log` adds a button that switches between a linear and a logarithmic vertical axis, which is logarithmic at first
    where `logged`; `view` is the part of it that is shown at first. Below a width of `least` pixels the plot scrolls
    instead of shrinking. `study` is the study whose trials the numbers in `customdata` and `meta.trial` are: a click on
    one of them shows it in all plots.
    """

    title: str
    data: list[dict[str, Any]]
    layout: dict[str, Any] = field(default_factory=dict)
    about: str = ""
    alt: str = ""
    height: int = 340
    log: bool = False
    logged: bool = False
    view: list[float] | None = None
    wide: bool = False
    least: int = 0
    study: str = ""


def literal(text: Any) -> str:
    """Text with HTML escaped, for Plotly."""
    return html.escape(visible(str(text)), quote=False)


def ended(row: Row) -> str:
    """How a trial ended, and after how many epochs where that is known."""
    return f"{row['status']}, {row['epochs']} epochs" if row["epochs"] else str(row["status"])


def best_over_trials(studies: Sequence[Facts]) -> Panel:
    """The lowest PER after each trial, in the order in which they were started; of one study, its start point's too.

    A study that minimises another measure shows that, unless it is beside one that does not.
    """
    data: list[dict[str, Any]] = []
    seen: list[float] = []
    mixed = len({facts.measure for facts in studies}) > 1
    for index, facts in enumerate(studies):
        scores = [row["best_per"] if mixed else facts.score(row) for row in facts.trials]
        scored = [(row, score) for row, score in zip(facts.trials, scores, strict=True) if score is not None]
        if not scored:
            continue
        rows = [row for row, _ in scored]
        seen += [score for _, score in scored]
        best = np.minimum.accumulate([score for _, score in scored])
        x = [row["trial"] + 1 for row in rows]
        if len(studies) == 1:
            data += _dots(facts, rows, best) + _baseline(facts, x)
        data.append(
            {
                **line_of(x, best, f"@{index % 7 + 1}", facts.study if len(studies) > 1 else "best so far"),
                "line": {"color": f"@{index % 7 + 1}", "shape": "hv", "width": 2.5, "dash": dash_of(index)},
                "hovertemplate": "after %{x} trials: %{y:.4f}<extra></extra>",
            }
        )
    thin = sum(len(trace["x"]) for trace in data if trace["mode"] == "markers")
    total = len(studies[0].ranked)
    said = f" {thin} of {total} trials are drawn, every record among them." if 0 < thin < total else ""
    most = max((x for trace in data for x in trace["x"]), default=1)
    layout = {
        "xaxis": whole_axis("trials started", most),
        "yaxis": per_axis("best PER" if mixed else studies[0].measure),
    }
    about = "Filled: ran to the end; open: stopped early." + said if len(studies) == 1 else ""
    study = studies[0].study if len(studies) == 1 else ""
    return Panel("Best so far, by trials", data, layout, about, log=True, logged=is_wide(seen), study=study)


def _baseline(facts: Facts, x: Sequence[int]) -> list[dict[str, Any]]:
    """The PER of the first start point, which the search set out to beat, as a line."""
    start = next((row for row in facts.trials if row["origin"] == "start_point"), None)
    score = None if start is None else facts.score(start)
    if start is None or score is None or len(x) < 2:
        return []
    line = line_of([min(x), max(x)], [score, score], "@muted", f"start point: {score:.4f}")
    line["line"] = {"color": "@muted", "width": 1.5, "dash": "dash"}
    return [{**line, "hoverinfo": "skip"}]


def best_over_hours(studies: Sequence[Facts]) -> Panel:
    """The lowest PER against the time that training took, summed over all trials."""
    found: list[tuple[int, np.ndarray, np.ndarray]] = []
    gpus = {facts.device[0] for facts in studies if facts.curves} == {"GPU"}
    for index, facts in enumerate(studies):
        curves = list(facts.curves.values())
        if not curves:
            continue
        order = np.argsort(np.concatenate([c.reported for c in curves]), kind="stable")
        best = np.fmin.accumulate(np.concatenate([c.per for c in curves])[order])
        took = np.nan_to_num(np.concatenate([c.seconds for c in curves])[order])
        seconds = np.cumsum(took) * (facts.device[1] if gpus else 1.0)
        if not np.isfinite(best[-1]) or seconds[-1] <= 0:
            continue
        records = np.r_[True, ~(best[1:] >= best[:-1])] & np.isfinite(best)
        keep = np.unique(np.r_[np.flatnonzero(records), len(best) - 1])
        found.append((index, seconds[keep], best[keep]))
    name, length = unit_of(max((float(seconds[-1]) for _, seconds, _ in found), default=0.0))
    data = [
        {
            **line_of(seconds / length, best, f"@{index % 7 + 1}", studies[index].study),
            "mode": "lines+markers" if len(best) < 60 else "lines",
            "line": {"color": f"@{index % 7 + 1}", "shape": "hv", "width": 2.5, "dash": dash_of(index)},
            "hovertemplate": f"%{{x:.4g}} {name}: %{{y:.4f}}<extra></extra>",
            "showlegend": len(studies) > 1,
        }
        for index, seconds, best in found
    ]
    unit = f"GPU-{name} of all trials" if gpus else f"{name} of training (wall time), all trials"
    layout = {"xaxis": x_axis(unit), "yaxis": per_axis("best PER")}
    wide = is_wide(value for _, _, best in found for value in best.tolist())
    about = "Evaluation is part of an epoch's time."
    return Panel("Best so far, by training time", data, layout, about, log=True, logged=wide)


def averaged(facts: Facts) -> bool:
    """Whether the evaluated weights of any trial are others than its raw ones."""
    return any(not np.array_equal(c.per, c.raw, equal_nan=True) for c in facts.curves.values())


def learning_curves(facts: Facts, raw: bool) -> Panel:
    """PER over epochs: the leaders in colour, others in grey, rungs as dotted lines, early stops as crosses."""
    rows = [row for row in facts.ranked if row["trial"] in facts.curves]
    shown = thinned(rows, len(facts.leaders), _CURVES)
    data = _envelope(facts, raw) if len(shown) < len(rows) else []
    leaders = {row["trial"]: index for index, row in enumerate(facts.leaders)}
    data += _others(facts, [row for row in shown if row["trial"] not in leaders], raw)
    data += _stops(facts, [row for row in shown if row["status"] == "stopped"], raw)
    seen: list[float] = []
    for row in facts.leaders:
        if row["trial"] in facts.curves:
            curve, index = facts.curves[row["trial"]], leaders[row["trial"]]
            line = line_of(curve.epoch, _per(curve, raw), f"@{index + 1}", f"trial {row['trial']}")
            line["line"] = {"color": f"@{index + 1}", "width": 2, "dash": dash_of(index)}
            line["mode"] = "lines+markers" if len(curve.epoch) < 3 else "lines"
            line["meta"] = {"trial": row["trial"]}
            data.append({**line, "hovertemplate": f"trial {row['trial']}, epoch %{{x}}: %{{y:.4f}}<extra></extra>"})
            seen += _per(curve, raw).tolist()
    most = max((int(curve.epoch[-1]) for curve in facts.curves.values()), default=1)
    layout: dict[str, Any] = {"xaxis": whole_axis("epoch", most), "yaxis": per_axis("PER")}
    layout |= _rung_lines(facts.rungs)
    about = "Dotted: rungs, where trials are compared. Crosses: stopped early. The axis holds the leaders; drag or"
    about += " double-click for the rest."
    if len(shown) < len(rows):
        about += f" {len(shown)} of {len(rows)} curves are drawn: the best {len(leaders)} and others evenly by rank;"
        about += " the band has all trials that reached an epoch."
    title = "Learning curves, raw weights" if raw else "Learning curves"
    if not raw and averaged(facts):
        title += ", evaluated (averaged) weights"
    look = {"log": True, "logged": is_wide(seen), "view": span(seen, 1.0), "study": facts.study}
    return Panel(title, data, layout, about, height=420, **look)  # type: ignore[arg-type]


def _others(facts: Facts, rows: Sequence[Row], raw: bool) -> list[dict[str, Any]]:
    """The curves of all but the leaders, as one trace with gaps."""
    if not rows:
        return []
    x: list[Any] = []
    y: list[Any] = []
    trials: list[int] = []
    for row in rows:
        curve = facts.curves[row["trial"]]
        x += [curve.epoch, [np.nan]]
        y += [_per(curve, raw), [np.nan]]
        trials += [row["trial"]] * (len(curve.epoch) + 1)
    line = line_of(np.concatenate(x), np.concatenate(y), "@faint", "others")
    return [{**line, "line": {"color": "@faint", "width": 1}, "hoverinfo": "none", "customdata": trials}]


def _stops(facts: Facts, rows: Sequence[Row], raw: bool) -> list[dict[str, Any]]:
    """A cross where each of the stopped trials ended."""
    if not rows:
        return []
    curves = [facts.curves[row["trial"]] for row in rows]
    line = line_of([c.epoch[-1] for c in curves], [_per(c, raw)[-1] for c in curves], "@muted", "stopped early")
    cross = {"symbol": "x-thin", "size": 6, "line": {"width": 1.2, "color": "@muted"}}
    trials = [row["trial"] for row in rows]
    return [{**line, "mode": "markers", "marker": cross, "hoverinfo": "none", "customdata": trials}]


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
            dots = line_of([r["trial"] + 1 for r in mine], numbers(map(facts.score, mine)), "@muted", status)
            dots["customdata"] = [r["trial"] for r in mine]
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
        {**line_of(at, low[at], "@band", "lowest"), **edge, "showlegend": False},
        {**line_of(at, high[at], "@band", "all trials"), **edge, "fill": "tonexty", "fillcolor": "@band"},
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


def line_of(x: Any, y: Any, color: str, name: str) -> dict[str, Any]:
    """A trace of one line; not-a-number leaves a gap."""
    ends = {"x": numbers(x, 9), "y": numbers(y)}
    return {"type": "scatter", "mode": "lines", "name": literal(name)[:60], **ends, "line": {"color": color}}


def dash_of(index: int) -> str:
    """The dashes of the line at a place, beside its colour."""
    return _DASHES[index % len(_DASHES)]
