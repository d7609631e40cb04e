"""The plots that answer: which settings mattered, what new seeds say of the leaders, which errors the best makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from results.best import Best
from results.columns import short_headers
from results.report.axes import numbers, x_axis
from results.report.facts import Extras, Facts, Row
from results.report.plots import Panel, line_of, literal

_MOST_SEEDS = 15
_MOST_PHONEMES = 45
_MOST_DAYS = 60


def importance(facts: Facts, extras: Extras) -> Panel | None:
    """The importance of each setting by two methods, with the importance that chance gives."""
    rows = [row for row in extras.importance if row["ped_anova"] is not None][:20][::-1]
    if not rows:
        return None
    short = short_headers([row["path"].replace(".", "_") for row in rows])
    labels = []
    for row in rows:
        name = literal(short[row["path"].replace(".", "_")])
        labels.append(f"<b>{name}</b> <i>if {literal(row['active'])}</i>" if row["active"] else f"<b>{name}</b>")
    place = np.arange(len(rows))
    data: list[dict[str, Any]] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": (place + offset).tolist(),
            "x": numbers((row[key] for row in rows), 4),
            "width": 0.26,
            "marker": {"color": color, "pattern": {"shape": pattern}},
            "hovertemplate": f"{name} %{{x:.3f}}<extra></extra>",
        }
        for name, key, offset, color, pattern in (
            ("PED-ANOVA", "ped_anova", 0.06, "@1", ""),
            ("fANOVA", "fanova", -0.2, "@2", "/"),
        )
    ]
    tick = {"symbol": "line-ns", "size": 11, "line": {"width": 2.5, "color": "@text"}}
    chance = line_of(numbers((row["chance"] for row in rows), 4), place + 0.06, "@text", "chance (PED-ANOVA)")
    data.append({**chance, "mode": "markers", "marker": tick, "hovertemplate": "chance %{x:.3f}<extra></extra>"})
    layout = {
        "xaxis": {**x_axis("share of what the settings explain"), "rangemode": "tozero"},
        "yaxis": _above(len(rows)),
        "annotations": _labels(labels, 0.2),
        "barmode": "overlay",
    }
    told = sum(row["ped_anova"] > row["chance"] for row in rows)
    about = f"{told} of {len(rows)} settings are above chance (the maximum of 19 permutations). Stopped trials count: "
    about += "each pair of trials is compared at the last epoch both reached. A setting with a condition is judged "
    about += "among the trials that meet it."
    return Panel("Importance of settings", data, layout, about, height=120 + 46 * len(rows), wide=True)


def _above(count: int) -> dict[str, Any]:
    """A vertical axis of bars whose names stand above them, so that the bars have the whole width, on a phone too."""
    return {"showticklabels": False, "showgrid": False, "zeroline": False, "range": [-0.6, count - 0.3]}


def _labels(names: Sequence[str], above: float) -> list[dict[str, Any]]:
    """A name above the bar of each row, beginning at the axis."""
    common = {"xref": "paper", "x": 0, "xanchor": "left", "yanchor": "bottom", "showarrow": False, "align": "left"}
    return [{**common, "y": row + above, "text": name, "font": {"size": 12}} for row, name in enumerate(names)]


def seeds(table: Best) -> Panel | None:
    """The mean over new seeds of each confirmed configuration with its 95 % interval, and the PER of the search."""
    rows = [row for row in table.sheet.dicts() if row.get("seeds") and row.get("mean") is not None][:_MOST_SEEDS][::-1]
    if not rows:
        return None
    place = list(range(len(rows)))
    reach = [(row["low"], row["high"]) if row["low"] is not None else (row["mean"], row["mean"]) for row in rows]
    mean: dict[str, Any] = {
        **line_of([row["mean"] for row in rows], place, "@1", "mean over new seeds, 95 % interval"),
        "mode": "markers",
        "marker": {"size": 9, "color": "@1"},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": numbers(high - row["mean"] for row, (_, high) in zip(rows, reach, strict=True)),
            "arrayminus": numbers(row["mean"] - low for row, (low, _) in zip(rows, reach, strict=True)),
            "color": "@1",
        },
        "text": [f"mean {row['mean']:.4f} over {row['seeds']} seeds" for row in rows],
        "hoverinfo": "text",
    }
    data = [mean]
    searched = [(row["best_per"], at) for row, at in zip(rows, place, strict=True) if row.get("best_per") is not None]
    if searched:
        pers, places = zip(*searched, strict=True)
        dots = line_of(pers, places, "@2", "in the search (one seed, chosen as the lowest)")
        data.append({**dots, "mode": "markers", "marker": {"symbol": "x", "size": 8, "color": "@2"}})
    names = [literal(f"{row['study']}/{row['trial']}, {row['seeds']} seed{'s' * (row['seeds'] != 1)}") for row in rows]
    layout = {"xaxis": x_axis("PER"), "yaxis": _above(len(rows)), "annotations": _labels(names, 0.12)}
    about = "A configuration is ranked by the mean over new seeds. The PER of the search is partly luck."
    return Panel("The leaders with new seeds", data, layout, about, height=130 + 40 * len(rows), wide=True)


def phonemes(errors: Mapping[str, Any]) -> Panel | None:
    """For each phoneme, how often it was read as another or left out, of the times it was said."""
    rows = sorted(errors.get("phonemes", ()), key=lambda row: -row["wrong"] - row["inserted"])[:_MOST_PHONEMES]
    if not rows:
        return None
    names = [literal(row["phoneme"]) for row in rows]
    data: list[dict[str, Any]] = [
        {
            "type": "bar",
            "name": name,
            "x": names,
            "y": [row[key] for row in rows],
            "marker": {"color": color, "pattern": {"shape": pattern}},
            "text": [_phoneme(row) for row in rows],
            "textposition": "none",
            "hoverinfo": "text",
        }
        for name, key, color, pattern in (
            ("read as another", "substituted", "@1", ""),
            ("left out", "deleted", "@2", "/"),
            ("put in", "inserted", "@3", "."),
        )
    ]
    axis = {"title": {"text": "errors"}, "tickformat": ",d"}
    layout = {"barmode": "stack", "xaxis": {"type": "category", "tickangle": -60}, "yaxis": axis}
    about = f"{errors['about']} Most errors first; the mouse shows the share of each phoneme that went wrong."
    return Panel("Errors by phoneme", data, layout, about, wide=True, least=13 * len(rows))


def _phoneme(row: Row) -> str:
    share = f", {row['wrong'] / row['said']:.1%} of {row['said']} said" if row["said"] else ""
    parts = ", ".join(f"{row[key]} {key}" for key in ("substituted", "deleted", "inserted") if row[key])
    heard = f"<br>most often read as {literal(row['heard'])}" if row["heard"] else ""
    return f"{literal(row['phoneme'])}: {parts}{share}{heard}"


def days(errors: Mapping[str, Any]) -> Panel | None:
    """The PER of each recording day, in their order."""
    rows = list(errors.get("days", ()))[:_MOST_DAYS]
    if len(rows) < 2:
        return None
    names = [literal(row["day"]) for row in rows]
    text = [f"{literal(r['day'])}: {r['per']:.4f}, {r['utterances']} utterances" for r in rows]
    bars: dict[str, Any] = {"type": "bar", "x": names, "y": numbers(r["per"] for r in rows), "showlegend": False}
    bars |= {"marker": {"color": "@1"}, "text": text, "textposition": "none", "hoverinfo": "text"}
    data = [bars]
    mean = line_of([0, 1], [errors["per"], errors["per"]], "@text", f"all days: {errors['per']:.4f}")
    mean |= {"x": [names[0], names[-1]], "line": {"color": "@text", "width": 1.5, "dash": "dash"}, "hoverinfo": "skip"}
    layout = {
        "xaxis": {"type": "category", "tickangle": -60},
        "yaxis": {"title": {"text": "PER"}, "rangemode": "tozero"},
    }
    return Panel("Errors by day", [*data, mean], layout, errors["about"], wide=True, least=13 * len(rows))
