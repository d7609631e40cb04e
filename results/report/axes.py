"""Axes of the report's plots: their titles, their ticks and how time is written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

UNITS = (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))
_STEPS = (1, 2, 5)
_FINE = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
LOG_FROM = 3.0
"""PERs that differ by more than this factor are drawn on a logarithmic axis at first: most trials end far from the
best, and the leaders would lie on each other."""


def numbers(values: Iterable[Any], digits: int = 6) -> list[float | None]:
    """Values for JSON, rounded to significant digits; NaN becomes null."""
    known = (None if v is None else float(v) for v in values)
    return [None if v is None or not math.isfinite(v) else float(f"{v:.{digits}g}") for v in known]


def duration(seconds: float) -> str:
    """Seconds as a person says them, in the two largest units: `1 min 16 s`, `3 h 20 min`, `2 d 4 h`."""
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    units = (("d", whole // 86400), ("h", whole // 3600 % 24), ("min", whole // 60 % 60), ("s", whole % 60))
    first = next(place for place, (_, count) in enumerate(units) if count)
    return " ".join(f"{count} {unit}" for unit, count in units[first : first + 2] if count)


def unit_of(seconds: float) -> tuple[str, float]:
    """The unit in which an axis up to `seconds` reads best, and its length in seconds."""
    return next((unit for unit in UNITS if seconds >= 2 * unit[1]), UNITS[-1])


def x_axis(title: str) -> dict[str, Any]:
    """A horizontal axis."""
    return {"title": {"text": title, "standoff": 8}}


def whole_axis(title: str, most: float) -> dict[str, Any]:
    """A horizontal axis of whole numbers, trials or epochs, from 0 or 1 to `most`: no tick between two of them."""
    step = max(1, math.ceil(most / 8))
    power = 10 ** math.floor(math.log10(step))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= step)
    return {**x_axis(title), "tick0": 0, "dtick": step, "tickformat": ",d"}


def per_axis(title: str) -> dict[str, Any]:
    """A vertical axis of PERs."""
    return {"title": {"text": title}, "hoverformat": ".4f"}


def span(values: Iterable[float], most: float = math.inf) -> list[float] | None:
    """The part of a vertical axis that holds `values` up to `most`, with a margin; None without any."""
    known = [v for v in values if math.isfinite(v)]
    if not known:
        return None
    low, high = min(known), min(max(known), most)
    gap = 0.06 * (high - low) or 0.1 * abs(high) or 0.1
    return [float(f"{(low - gap if low - gap > 0 else 0.94 * low):.5g}"), float(f"{high + gap:.5g}")]


def is_wide(values: Iterable[float]) -> bool:
    """Whether values are drawn on a logarithmic axis at first."""
    known = [v for v in values if math.isfinite(v)]
    return bool(known) and min(known) > 0 and max(known) > LOG_FROM * min(known)


def log_ticks(low: float, high: float) -> list[float]:
    """Ticks at 1, 2, 5 x 10^k on a logarithmic axis; more where it is short, only the powers where it spans many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps: Sequence[float] = (1,) if last - first > 2 else _FINE if high < 5 * low else _STEPS
    return [float(f"{step * 10.0**power:.3g}") for power in range(first, last + 1) for step in steps]


def plain_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` ticks at round numbers within a linear axis."""
    if high <= low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw)
    ticks = np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step
    return [float(f"{tick:.6g}") for tick in ticks]
