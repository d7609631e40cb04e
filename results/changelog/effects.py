"""The effect of each setting in a study whose trials differ in many settings at once, as in a search.

For a setting, trials with one value are paired with trials that have another value and are otherwise as similar as
possible; a trial is in one pair at most. Two trials are compared at the last epoch that both reached, by the best PER
until then, so that a trial that was stopped early still counts. The mean difference of the pairs has a confidence
interval (Student's t, Bonferroni) that is wide enough for all contrasts together: where nothing has an effect, 19
studies of 20 show none. The pairs are similar, not equal, and an equal epoch favours schedules that end early.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean, median, stdev
from typing import Any

from results.changelog.run_history import Row, RunHistory, dotted, shown
from results.statistics import setting_apart, student_t

LEAST_PAIRS = 6
_MOST_TRIALS = 200  # pairing is quadratic


@dataclass(frozen=True)
class Effect:
    """The mean over `pairs` of the difference in PER that `contrast` names; `half` is half its interval."""

    contrast: str
    difference: float
    half: float
    pairs: int

    @property
    def verdict(self) -> str:
        """`better`, `worse` or, where the interval holds 0, `tie`."""
        if abs(self.difference) <= self.half:
            return "tie"
        return "better" if self.difference < 0 else "worse"


def effects(history: RunHistory) -> list[Effect]:
    """The settings that vary, each with its effect; those with fewer than `LEAST_PAIRS` pairs are left out."""
    trials = [row for row in history.trials if row["best_per"] is not None]
    step = -(-len(trials) // _MOST_TRIALS) if trials else 1
    trials = trials[::step]
    best = {row["trial"]: _best_so_far(history, row) for row in trials}
    varying = [name for name in history.settings if len({row[name] for row in trials}) > 1]
    places = {name: _places(trials, name) for name in varying}
    found: dict[tuple[frozenset[int], frozenset[int]], tuple[str, list[float]]] = {}
    together = defaultdict(list)
    for name in varying:
        for value, instead, mine, others in _groups(trials, name):
            # Settings that always changed together (a batch size and its accumulation) are one contrast.
            split = (frozenset(row["trial"] for row in mine), frozenset(row["trial"] for row in others))
            if split in found or split[::-1] in found:
                together[split if split in found else split[::-1]].append(f"{dotted(name)} {value}")
                continue
            rest = [places[other] for other in varying if other != name]
            differences = _paired(mine, others, rest, best)
            if len(differences) >= LEAST_PAIRS:
                found[split] = (f"{dotted(name)} {value} instead of {instead}", differences)
    return [
        _effect(f"{contrast} (and with it {', '.join(also)})" if (also := together[split]) else contrast, d, len(found))
        for split, (contrast, d) in found.items()
    ]


def _effect(contrast: str, differences: Sequence[float], contrasts: int) -> Effect:
    n = len(differences)
    half = student_t(1 - 0.025 / contrasts, n - 1) * stdev(differences) / math.sqrt(n)
    return Effect(contrast, fmean(differences), half, n)


def _best_so_far(history: RunHistory, row: Row) -> list[float]:
    """The lowest PER up to each epoch; infinite before the first."""
    pers = [math.inf if epoch["per"] is None else epoch["per"] for epoch in history.curve(row)]
    return list(accumulate(pers, min)) or [row["best_per"]]


def _places(trials: Sequence[Row], name: str) -> dict[int, Any]:
    """Trial -> its value: a rank from 0 to 1 for numbers, the value itself for anything else."""
    values = [row[name] for row in trials]
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values if v is not None):
        order = sorted({v for v in values if v is not None})
        ranks = {v: index / max(1, len(order) - 1) for index, v in enumerate(order)}
        return {row["trial"]: None if row[name] is None else ranks[row[name]] for row in trials}
    return {row["trial"]: str(row[name]) for row in trials}


def _groups(trials: Sequence[Row], name: str) -> list[tuple[str, str, list[Row], list[Row]]]:
    """(value, other value, trials that have it, trials that have the other): the contrasts of a setting."""
    known = [row for row in trials if row[name] is not None]
    values = [row[name] for row in known]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if numbers and len(set(values)) > 4:
        middle = median(values)
        low, high = [r for r in known if r[name] <= middle], [r for r in known if r[name] > middle]
        text = shown(float(middle), name)
        return [(f"above {text}", f"{text} or less", high, low)]
    common = Counter(shown(row[name], name) for row in trials).most_common()
    if len(common) < 2:
        return []
    usual = [row for row in trials if shown(row[name], name) == common[0][0]]
    return [
        (value, common[0][0], [row for row in trials if shown(row[name], name) == value], usual)
        for value, _ in common[1:]
    ]


def _paired(
    mine: Sequence[Row], others: Sequence[Row], rest: Sequence[dict[int, Any]], best: dict[int, list[float]]
) -> list[float]:
    """The differences of the nearest pairs, each trial in one at most."""
    apart: Callable[[Row, Row], float] = lambda a, b: sum(  # noqa: E731
        setting_apart(place[a["trial"]], place[b["trial"]]) for place in rest
    )
    pairs = sorted((apart(a, b), a["trial"], b["trial"]) for a in mine for b in others)
    taken: set[int] = set()
    differences = []
    for _, a, b in pairs:
        if a not in taken and b not in taken:
            taken |= {a, b}
            epoch = min(len(best[a]), len(best[b])) - 1
            if math.isfinite(best[a][epoch]) and math.isfinite(best[b][epoch]):
                differences.append(best[a][epoch] - best[b][epoch])
    return differences
