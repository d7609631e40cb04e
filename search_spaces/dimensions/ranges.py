"""What a range, a distribution and their options may be: a line for each problem."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

from search_spaces.dimensions.dimension import NORMALS, NUMBERS, Dimension
from search_spaces.dimensions.findings import Findings
from search_spaces.wording import did_you_mean, show

MOST_CHOICES = 1000
LEAST_WITHIN = 0.01
"""`within` must hold this much of a normal distribution."""


def is_finite(value: Any) -> bool:
    """Whether it is a number, and neither infinite nor NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def bad_range(kind: str, content: Any) -> str | None:
    """What is wrong with `[low, high]`, or None."""
    if not isinstance(content, list) or len(content) != 2 or not all(map(is_finite, content)):
        return "give [low, high], two numbers"
    low, high = content
    if not low < high:
        return f"low {show(low)} is not less than high {show(high)}; give [low, high] with low < high"
    if kind.startswith("log") and low <= 0:
        zero = "; to have 0 too, add `or: 0`" if low == 0 else ""
        return f"a log range needs low above 0; give a low above 0 or use {kind.removeprefix('log_')}{zero}"
    if kind in ("int", "log_int") and not all(float(end).is_integer() for end in content):
        return "give two whole numbers"
    return None


def bad_normal(kind: str, content: Any) -> str | None:
    """What is wrong with `[mean, sd]`, or None."""
    of = "the natural logarithm" if kind == "log_normal" else "the values"
    if not isinstance(content, list) or len(content) != 2 or not all(map(is_finite, content)):
        return f"give [mean, standard deviation] of {of}, two numbers"
    if content[1] <= 0:
        return f"the standard deviation {show(content[1])} is not above 0; give [mean, standard deviation]"
    if kind == "log_normal" and abs(content[0]) + 10 * content[1] > 600:
        return f"these are the mean and the standard deviation of {of}; give smaller numbers"
    return None


def check_range_options(kind: str, entry: Mapping[str, Any], where: str, found: Findings) -> None:
    """`q`, `within`, `or` and `share` of an entry, as far as they can be checked without the range."""
    q = entry.get("q")
    if q is not None and kind not in NUMBERS:
        found.add(f"{where}.q", f"can only be used with {', '.join(NUMBERS)}; a choice lists its values")
    elif q is not None and not (is_finite(q) and q > 0):
        found.add(f"{where}.q", f"{show(q)} is not allowed; give the distance between two values, a number above 0")
    elif q is not None and kind in ("int", "log_int") and not float(q).is_integer():
        found.add(f"{where}.q", f"{show(q)} is not allowed with {kind}; give a whole number, or use uniform")
    if "within" in entry:
        within = entry["within"]
        if kind not in NORMALS:
            found.add(f"{where}.within", f"can only be used with {' and '.join(NORMALS)}; {kind} has its own ends")
        elif reason := bad_range("log" if kind == "log_normal" else "", within):
            found.add(f"{where}.within", f"{show(within)} is not allowed; {reason}")
    if "or" in entry and kind not in NUMBERS:
        found.add(f"{where}.or", f"can only be used with {', '.join(NUMBERS)}; a choice lists its values")
    elif isinstance(entry.get("or"), list | dict):
        found.add(f"{where}.or", f"{show(entry['or'])} is not allowed; give one value, such as 0 or null")
    if "share" in entry:
        share = entry["share"]
        if "or" not in entry:
            found.add(f"{where}.share", "is how often the value of `or` is drawn; add `or`, or remove it")
        elif not (is_finite(share) and 0 < share < 1):
            found.add(f"{where}.share", f"{show(share)} is not allowed; give a number above 0 and below 1")


def check_steps(dimension: Dimension, where: str, found: Findings) -> None:
    """Both ends of a range must lie on its steps; a normal distribution must have a step inside."""
    q, (low, high) = dimension.q or 1.0, dimension.ends
    place = f"{where}.q"
    if dimension.kind in NORMALS:
        if math.floor(high / q + 1e-9) < math.ceil(low / q - 1e-9):
            found.add(place, f"{show(q)} is not allowed; no multiple of it lies between {show(low)} and {show(high)}")
        elif dimension.whole and not float(q).is_integer():
            found.add(place, f"{show(q)} is not allowed; {dimension.path} takes whole numbers, give one")
        return
    count = (high - low) / q
    if dimension.log and low <= q / 2:
        found.add(place, f"{show(q)} is not allowed; the low end {show(low)} must be above half of it")
    elif abs(count - round(count)) > 1e-6 or round(count) < 1:
        near = max(1, math.floor(count + 1e-9))
        last, after = (float(f"{low + k * q:.12g}") for k in (near, near + 1))
        found.add(
            place, f"{show(q)} does not lead from {show(low)} to {show(high)}; end at {show(last)} or {show(after)}"
        )


def check_distribution(dimension: Dimension, where: str, found: Findings) -> None:
    """The range must hold enough of a normal distribution; the value of `or` must not be in the range."""
    low, high = dimension.ends
    if dimension.kind in NORMALS:
        normal = NormalDist(dimension.mean or 0.0, dimension.sd or 1.0)
        ends = (math.log(low), math.log(high)) if dimension.log else (low, high)
        held = normal.cdf(ends[1]) - normal.cdf(ends[0])
        if held < LEAST_WITHIN:
            text = f"[{show(low)}, {show(high)}]"
            found.add(f"{where}.within", f"{text} holds {held:.2g} of the distribution; give at least {LEAST_WITHIN}")
    for value in dimension.alternative:
        if is_finite(value) and low <= value <= high:
            found.add(f"{where}.or", f"{show(value)} is in the range already; give a value outside it, or remove it")


_STEPPED = ("from", "to", "step", "factor")


def stepped(entry: Mapping[str, Any], where: str, found: Findings) -> list[Any] | None:
    """The values of `{from: 0.1, to: 0.5, step: 0.1}` or `{from: 64, to: 512, factor: 2}`, both ends included."""
    before = len(found.lines)
    for key in entry:
        if key not in _STEPPED:
            hint = did_you_mean(str(key), _STEPPED)
            found.add(f"{where}.{key}", f"unknown key; {hint}the keys are: {', '.join(_STEPPED)}")
    how = [key for key in ("step", "factor") if key in entry]
    if len(found.lines) > before:
        return None
    if not {"from", "to"} <= entry.keys() or len(how) != 1:
        found.add(where, f"{_flow(entry)} is not allowed; give {{from: a, to: b, step: s}}, or a factor for the step")
        return None
    if not all(is_finite(entry[key]) for key in ("from", "to", how[0])):
        found.add(where, f"{_flow(entry)} is not allowed; give numbers")
    elif not entry["from"] < entry["to"]:
        found.add(where, f"{_flow(entry)} is not allowed; from must be less than to")
    elif how == ["step"] and entry["step"] <= 0:
        found.add(f"{where}.step", f"{show(entry['step'])} is not allowed; give a number above 0")
    elif how == ["factor"] and (entry["factor"] <= 1 or entry["from"] <= 0):
        found.add(f"{where}.factor", "needs a from above 0 and a factor above 1")
    if len(found.lines) > before:
        return None
    first, last, by = entry["from"], entry["to"], entry[how[0]]
    count = math.log(last / first) / math.log(by) if how == ["factor"] else (last - first) / by
    if count > MOST_CHOICES:
        found.add(where, f"{_flow(entry)} has {count:.0f} values; at most {MOST_CHOICES} are allowed, or use a range")
        return None
    if abs(count - round(count)) > 1e-6:
        found.add(f"{where}.{how[0]}", f"{show(by)} does not lead from {show(first)} to {show(last)} exactly")
        return None
    whole = all(isinstance(each, int) for each in (first, last, by))
    values = [first * by**k if how == ["factor"] else first + k * by for k in range(round(count) + 1)]
    return [value if whole else float(f"{value:.12g}") for value in values]


def _flow(entry: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {show(value)}" for key, value in entry.items()) + "}"
