"""A dimension that is written as other programs write it: the same in the form of a space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_spaces.wording import show

_WANDB = {"distribution", "min", "max", "values", "mu", "sigma"}
_OPTUNA = {"type", "low", "high", "log", "choices", "step"}


def line_for(entry: Mapping[str, Any]) -> str | None:
    """A line on an entry in the form of W&B's sweeps or of Optuna, with the same in ours; None for another one."""
    keys = {str(key) for key in entry}
    if not keys or not (keys <= _WANDB or keys <= _OPTUNA):
        return None
    form = "a W&B sweep" if keys <= _WANDB else "Optuna"
    ours = _ours({str(key): value for key, value in entry.items()})
    advice = f"here it is {ours}" if ours else "'tuner spaces rules' and docs/spaces.md show the form here"
    return f"is written as in {form}; {advice}; 'tuner spaces import FILE' reads a whole sweep or study"


def _ours(entry: Mapping[str, Any]) -> str | None:
    values = entry.get("values", entry.get("choices"))
    if isinstance(values, list):
        return f"{{choice: {show(values)}}}"
    kind = str(entry.get("distribution") or entry.get("type") or "")
    ends = [entry.get(*names) for names in (("low", entry.get("min")), ("high", entry.get("max")))]
    if "normal" in kind or not all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends):
        return None
    whole = kind.startswith("int") or (not kind and all(isinstance(end, int) for end in ends))
    log = bool(entry.get("log")) or "log" in kind
    name = ("log_" if log else "") + ("int" if whole else "uniform")
    step = f", q: {show(entry['step'])}" if entry.get("step") else ""
    return f"{{{name}: {show(ends)}{step}}}"
