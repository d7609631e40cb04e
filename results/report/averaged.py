"""The section on averages of the weights: the PER by decay, each trial compared with itself."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

from results.output import format_value
from results.report.axes import numbers
from results.report.facts import Averaged, Facts
from results.report.plots import Panel

HEADERS = ("weights", "trials", "best in", "PER - that of the raw weights", "PER - that of the decay above")


def panel(facts: Facts) -> Panel | None:
    """Each trial's PER by decay, less that of its raw weights, and the mean over trials."""
    trials = facts.averaged
    if not trials:
        return None
    data: list[dict[str, Any]] = []
    gaps: list[float] = []
    windows: list[float] = []
    for trial in trials:
        for decay, per in sorted(trial.by_decay.items()):
            windows.append(1 / (1 - decay))
            gaps.append(per - trial.raw)
        windows.append(math.nan)
        gaps.append(math.nan)
    ends = {"x": numbers(windows), "y": numbers(gaps)}
    data.append(
        {"type": "scatter", "mode": "lines", "name": "a trial", **ends, "line": {"color": "@faint", "width": 1}}
        | {"hoverinfo": "skip"}
    )
    means = [(1 / (1 - decay), mean(_gaps(trials, decay, None))) for decay in decays(trials)]
    data.append(
        {"type": "scatter", "mode": "lines+markers", "name": "mean", "line": {"color": "@1", "width": 2.5}}
        | {"x": numbers(x for x, _ in means), "y": numbers(y for _, y in means)}
        | {"hovertemplate": "window %{x:.4g} batches: %{y:.4f}<extra></extra>"}
    )
    axis = {"title": {"text": "window of the average, 1 / (1 - decay), batches"}, "type": "log"}
    layout = {"xaxis": axis, "yaxis": {"title": {"text": "PER - PER of the raw weights"}, "hoverformat": ".4f"}}
    about = "Below 0 the average is better than the raw weights of the same trial at the same epoch."
    return Panel("PER by decay, within trials", data, layout, about, wide=True)


def table(facts: Facts) -> list[list[str]]:
    """A row for the raw weights and for each decay, under `HEADERS`; empty where no trial tracked averages."""
    trials = facts.averaged
    if not trials:
        return []
    best = Counter(min(("raw", trial.raw), *_named(trial), key=lambda each: each[1])[0] for trial in trials)
    rows = [["raw", str(len(trials)), str(best["raw"]), "", ""]]
    before = None
    for decay in decays(trials):
        ours = _gaps(trials, decay, None)
        above = "" if before is None else _difference(_gaps(trials, decay, before))
        rows.append([str(decay), str(len(ours)), str(best[str(decay)]), _difference(ours), above])
        before = decay
    return rows


def luck(facts: Facts) -> str:
    """How much lower `per` is for having been chosen among several weights; empty where nothing was chosen."""
    found = [trial.luck for trial in facts.averaged if trial.luck is not None]
    if not found:
        return ""
    return (
        "Each PER is the lowest of several on one validation split. Decoded by the weights that the other half of the "
        f"utterances chooses, it is higher by {mean(found):.4f} on average over {len(found)} trials: about so much of "
        "it is the luck of choosing. tuner confirm takes the chosen average as given, so it is free of it."
    )


def decays(trials: Sequence[Averaged]) -> list[float]:
    """All decays of these trials, rising."""
    return sorted({decay for trial in trials for decay in trial.by_decay})


def _named(trial: Averaged) -> list[tuple[str, float]]:
    return [(str(decay), per) for decay, per in sorted(trial.by_decay.items())]


def _gaps(trials: Sequence[Averaged], decay: float, other: float | None) -> list[float]:
    """PER of one decay less that of another, or of the raw weights, for the trials that have both."""
    found = [(t.by_decay.get(decay), t.raw if other is None else t.by_decay.get(other)) for t in trials]
    return [ours - theirs for ours, theirs in found if ours is not None and theirs is not None]


def _difference(gaps: Sequence[float]) -> str:
    """The mean, with its standard error where there are several."""
    if not gaps:
        return ""
    error = f" \u00b1 {stdev(gaps) / math.sqrt(len(gaps)):.4f}" if len(gaps) > 1 else ""
    return f"{format_value(mean(gaps), 'per')}{error}"
