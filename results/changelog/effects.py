"""The effect of each setting in a study whose trials differ in many settings at once, as in a search.

For a setting, trials with one value are paired with trials that have another value and are otherwise alike: the other
settings differ by less than `ALIKE` of their range on average. A trial is in one pair at most. Two trials are compared
by the lowest PER until the last place that both reached, an epoch or, where their schedules differ in length, a share
of them (`results.verdicts.common`), so that a trial that was stopped early still counts and a short schedule has no
advantage. A trial that diverged has no PER that is its settings' effect, and is left out. The mean difference of the
pairs has a confidence interval (Student's t, Bonferroni) that is wide enough for all contrasts together: where nothing
has an effect, 19 studies of 20 show none.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Any

from results.changelog.run_history import Row, RunHistory, dotted, shown
from results.statistics import setting_apart, student_t
from results.verdicts.common import CommonPlace, common_place

LEAST_PAIRS = 6
ALIKE = 0.2
"""Two trials are alike where their other settings are this share of their range apart on average, or less."""
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


def effects(history: RunHistory) -> tuple[list[Effect], list[str]]:
    """The settings that vary, each with its effect; and the names of those with fewer than `LEAST_PAIRS` pairs."""
    trials = [row for row in history.trials if row["best_per"] is not None and row["status"] != "diverged"]
    step = -(-len(trials) // _MOST_TRIALS) if trials else 1
    trials = trials[::step]
    varying = [name for name in history.settings if len({row[name] for row in trials}) > 1]
    places = {name: _places(trials, name) for name in varying}
    found: dict[tuple[frozenset[int], frozenset[int]], tuple[str, list[float]]] = {}
    together = defaultdict(list)
    unlike: list[str] = []
    for name in varying:
        for value, instead, mine, others in _groups(trials, name):
            # Settings that always changed together (a batch size and its accumulation) are one contrast.
            split = (frozenset(row["trial"] for row in mine), frozenset(row["trial"] for row in others))
            if split in found or split[::-1] in found:
                together[split if split in found else split[::-1]].append(f"{dotted(name)} {value}")
                continue
            rest = [places[other] for other in varying if other != name and not _comes_with(other, mine, others)]
            differences = _paired(history, mine, others, rest)
            if len(differences) >= LEAST_PAIRS:
                found[split] = (f"{dotted(name)} {value} instead of {instead}", differences)
            else:
                unlike.append(dotted(name))
    told = [
        _effect(f"{contrast} (and with it {', '.join(also)})" if (also := together[split]) else contrast, d, len(found))
        for split, (contrast, d) in found.items()
    ]
    return told, list(dict.fromkeys(unlike))


def _comes_with(name: str, mine: Sequence[Row], others: Sequence[Row]) -> bool:
    """Whether a setting has one value in each of two groups, so that it is part of their contrast."""
    return all(len({shown(row[name], name) for row in group}) == 1 for group in (mine, others))


def _effect(contrast: str, differences: Sequence[float], contrasts: int) -> Effect:
    n = len(differences)
    half = student_t(1 - 0.025 / contrasts, n - 1) * stdev(differences) / math.sqrt(n)
    return Effect(contrast, fmean(differences), half, n)


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
    history: RunHistory, mine: Sequence[Row], others: Sequence[Row], rest: Sequence[dict[int, Any]]
) -> list[float]:
    """The differences of the nearest pairs that are alike, each trial in one at most."""
    pairs = sorted((_apart(a, b, rest), a["trial"], b["trial"]) for a in mine for b in others)
    rows = {row["trial"]: row for row in (*mine, *others)}
    taken: set[int] = set()
    differences = []
    for distance, a, b in pairs:
        if distance <= ALIKE and a not in taken and b not in taken:
            found = _difference(history, rows[a], rows[b])
            if found is not None:
                taken |= {a, b}
                differences.append(found)
    return differences


def _apart(a: Row, b: Row, rest: Sequence[dict[int, Any]]) -> float:
    """How far the other settings are apart on average; one that only one of them has comes with its kind."""
    both = [(place[a["trial"]], place[b["trial"]]) for place in rest]
    known = [setting_apart(x, y) for x, y in both if x is not None and y is not None]
    return sum(known) / max(1, len(known))


def _difference(history: RunHistory, a: Row, b: Row) -> float | None:
    """The PER of `a` less that of `b` where both were; None where they cannot be compared."""
    curves = [history.curve(a), history.curve(b)]
    if not all(curves):
        return float(a["best_per"] - b["best_per"])
    place = common_place([a, b], curves)
    return place.best[0] - place.best[1] if isinstance(place, CommonPlace) else None
