"""What each technique brought, from run to run, and what to try next.

A technique is a group of settings. A run that changed some of them is compared with the run it came from; where it
changed nothing else, the difference is the technique's, otherwise it is that of everything that changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from results.changelog.run_history import Comparison, Row, RunHistory, dotted, shown

TECHNIQUES = {
    "learning rate": ("schedule_peak_lr", "schedule_start_lr", "schedule_end_lr"),
    "warm-up": ("schedule_warmup_batches", "schedule_warmup_shape", "schedule_peak_fraction"),
    "length": ("training_batches", "schedule_horizon"),
    "schedule": ("schedule_",),
    "weight averaging": ("averaging_",),
    "batch size": ("training_batch_size", "training_accumulation"),
    "precision": ("training_precision", "training_tf32"),
    "clipping": ("training_clip",),
    "augmentation": ("augmentation_",),
    "network": ("model_",),
    "optimizer": ("optimizer_",),
}
"""Technique -> its columns, or how they begin; the first that fits counts."""


@dataclass
class Technique:
    """The comparisons in which a technique changed, alone or with others, and the runs by its value."""

    name: str
    alone: list[Comparison] = field(default_factory=list)
    mixed: list[Comparison] = field(default_factory=list)
    best: dict[str, Row] = field(default_factory=dict)


def techniques(history: RunHistory, comparisons: list[Comparison]) -> list[Technique]:
    """The techniques that changed in these comparisons, in the order of TECHNIQUES."""
    found: dict[str, Technique] = {}
    for comparison in comparisons:
        changed = history.changes(comparison.before, comparison.after)
        kinds = {name for name, _, _ in changed if name.endswith("_kind")}
        mine = set()
        for column, old, _ in changed:
            kind = f"{column.split('_')[0]}_kind"
            # What only the new kind has comes with it.
            mine.add(_technique(kind if old is None and kind in kinds else column))
        for name in mine:
            technique = found.setdefault(name, Technique(name))
            (technique.alone if len(mine) == 1 else technique.mixed).append(comparison)
    for name, technique in found.items():
        technique.best = _best_by_value(history, name)
    order = ["schedule", *TECHNIQUES, "other"]
    return sorted(found.values(), key=lambda technique: order.index(technique.name))


def brought(history: RunHistory, technique: Technique) -> str:
    """What it brought: the verdicts alone, else those together with other changes."""
    if technique.alone:
        return "alone: " + "; ".join(_short(history, comparison) for comparison in technique.alone)
    counts = [f"{n} {word}" for word in ("better", "worse", "tie") if (n := _count(technique.mixed, word))]
    return f"never alone; with other changes {', '.join(counts)}"


def next_step(history: RunHistory, technique: Technique, best: Row) -> str:
    """What to try next with it, starting from the run with the lowest mean."""
    verdicts = {comparison.verdict for comparison in technique.alone}
    name = history.name(best)
    if not technique.alone:
        value, other = _value(history, best, technique.name), None
        for text in technique.best:
            other = text if text != value and other is None else other
        return f"{name} with {other} and nothing else changed" if other else f"{name} with only this changed"
    if verdicts == {"tie"}:
        return "more seeds of both sides, or leave it"
    if verdicts == {"better"}:
        return "keep it; go further in this direction"
    return "leave it" if verdicts == {"worse"} else "it depends on the rest: repeat it from " + name


def _technique(column: str) -> str:
    for name, parts in TECHNIQUES.items():
        if any(column == part or (part.endswith("_") and column.startswith(part)) for part in parts):
            return name
    return "other"


def _columns(history: RunHistory, name: str) -> list[str]:
    return [column for column in history.settings if _technique(column) == name]


def _value(history: RunHistory, row: Row, name: str) -> str:
    """The run's value of the technique's first column that varies."""
    usable = [other for other in history.trials if not history.unusable(other)]
    for column in _columns(history, name):
        if len({repr(other[column]) for other in usable}) > 1:
            return f"{dotted(column)} {shown(row[column], column)}"
    return ""


def _best_by_value(history: RunHistory, name: str) -> dict[str, Row]:
    """Value -> the run with the lowest mean that has it, the lowest first."""
    best: dict[str, Any] = {}
    for row in sorted((row for row in history.trials if not history.unusable(row)), key=history.value):
        best.setdefault(_value(history, row, name), row)
    return best


def _short(history: RunHistory, comparison: Comparison) -> str:
    return f"{history.name(comparison.after)} {comparison.verdict} ({comparison.difference:+.4f})"


def _count(comparisons: list[Comparison], verdict: str) -> int:
    return sum(comparison.verdict == verdict for comparison in comparisons)
