"""Statistics in plain Python: to import scipy takes longer than `tuner best` takes to answer."""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist
from typing import Any


@cache
def student_t(share: float, degrees: int) -> float:
    """The point below which Student's t with `degrees` (1 or more) lies with probability `share` (0.5 to 1)."""
    if degrees > 200:  # Abramowitz & Stegun 26.7.5; the relative error is below 1e-5 here
        z = NormalDist().inv_cdf(share)
        return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        angle = (low + high) / 2
        low, high = (angle, high) if _within(angle, degrees) < 2 * share - 1 else (low, angle)
    return math.sqrt(degrees) * math.tan((low + high) / 2)


def _within(angle: float, degrees: int) -> float:
    """P(|t| < sqrt(degrees) tan(angle)), by Abramowitz & Stegun 26.7.3 and 26.7.4."""
    odd = degrees % 2
    term, total = (math.cos(angle), 0.0) if odd else (1.0, 0.0)
    for k in range(2 + odd, degrees + 1, 2):
        total += term
        term *= math.cos(angle) ** 2 * (k - 1) / k
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def setting_apart(a: Any, b: Any) -> float:
    """How far two values of a setting are apart, 0 to 1: places on its axis by their difference, else same or not."""
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b)
    return 0.0 if a == b else 1.0
