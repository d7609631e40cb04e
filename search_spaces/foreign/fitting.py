"""Makes another program's parameters fit the settings they stand for: whole numbers, limits, kinds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from search_spaces.dimensions.dimension import WITHIN
from search_spaces.foreign.names import values_at
from search_spaces.foreign.sweep import Entry, tidy
from search_spaces.loader import load_run
from search_spaces.parsing.fields import is_integer, is_number, kinds, kinds_with, refusal
from search_spaces.parsing.sections import same
from search_spaces.wording import show


class Fittable(Protocol):
    """A parameter with its path here."""

    path: str | None
    entry: Entry | None
    remarks: list[str]


def fitted(lines: Sequence[Fittable], base: str, fixed: Mapping[str, Any]) -> None:
    """Change the entries so that they fit their paths; each change is a remark. What cannot be fitted loses its
    entry."""
    for line in lines:
        if line.entry is None or line.path is None:
            continue
        if "choice" in line.entry:
            _choice(line, line.path)
        elif not is_number(line.path):
            line.remarks.append(f"{line.path} takes no numbers")
            line.entry = None
        elif is_integer(line.path):
            _whole(line, line.path)
        if line.entry is not None and ("normal" in line.entry or "log_normal" in line.entry):
            _cut_off(line, line.path)
    _possible_kinds(lines, base)
    _conditions(lines, base, fixed)


def rates_beside(lines: Sequence[Fittable], base: str, fixed: Mapping[str, Any]) -> dict[str, Entry]:
    """The other rates of the base's schedule, as shares of its peak, where the peak is searched and they are not.

    Left as they are, they would lie above a low peak.
    """
    searched = {line.path for line in lines if line.entry is not None}
    schedule = load_run(base).config.schedule
    rates = {f"schedule.{key}": getattr(schedule, key, None) for key in ("start_lr", "end_lr")}
    if "schedule.peak_lr" not in searched:
        return {}
    return {
        path: {"value": tidy(rate / schedule.peak_lr), "of": "schedule.peak_lr"}
        for path, rate in rates.items()
        if rate and path not in searched and path not in fixed
    }


def _possible_kinds(lines: Sequence[Fittable], base: str) -> None:
    """Of the kinds that are searched, those whose keys are given: by the base run, by the dimensions, by default."""
    config = load_run(base).config
    for line in lines:
        if line.entry is None or line.path is None or not line.path.endswith(".kind") or "choice" not in line.entry:
            continue
        section = line.path.partition(".")[0]
        here = [other.path.split(".") for other in lines if other.entry and other.path]
        known = {*type(getattr(config, section)).model_fields, *(key for at, key in here if at == section)}
        kept = []
        for kind in line.entry["choice"]:
            needs = [key for key, about in kinds(section)[kind].model_fields.items() if about.is_required()]
            lacking = [key for key in needs if key not in known]
            if lacking:
                line.remarks.append(f"{kind} is left out: it needs {', '.join(lacking)}, which the base run has not")
            else:
                kept.append(kind)
        line.entry = {"choice": kept} if len(kept) > 1 else {"value": kept[0]} if kept else None


def _choice(line: Fittable, path: str) -> None:
    """The values that the setting takes, each once."""
    assert line.entry is not None  # noqa: S101  whoever asks has seen to it
    kept: list[Any] = []
    left: list[str] = []
    for value in values_at(path, line.entry["choice"]):
        if isinstance(value, list | dict) or refusal(path, value) is not None:
            left.append(show(value))
        elif not any(same(value, other) for other in kept):
            kept.append(value)
    if left:
        line.remarks.append(f"{path} does not take {', '.join(left)}")
    line.entry = {"choice": kept} if len(kept) > 1 else {"value": kept[0]} if kept else None


def _whole(line: Fittable, path: str) -> None:
    """Ranges of numbers where only whole ones are allowed."""
    assert line.entry is not None  # noqa: S101
    for kind in ("uniform", "log_uniform"):
        if kind in line.entry and not _whole_steps(line.entry, kind):
            low, high = line.entry[kind]
            first, last = math.ceil(low), math.floor(high)
            if first >= last:
                line.remarks.append(
                    f"{path} takes whole numbers, and there are not two between {show(low)} and {show(high)}"
                )
                line.entry = None
                return
            line.entry = {kind.replace("uniform", "int"): [first, last]}
            line.remarks.append("only whole numbers")


def _whole_steps(entry: Entry, kind: str) -> bool:
    return "q" in entry and all(float(each).is_integer() for each in (*entry[kind], entry["q"]))


def _cut_off(line: Fittable, path: str) -> None:
    """A normal distribution within the limits of the setting."""
    assert line.entry is not None  # noqa: S101
    log = "log_normal" in line.entry
    mean, sd = line.entry["log_normal" if log else "normal"]
    ends = [mean - WITHIN * sd, mean + WITHIN * sd]
    try:
        ends, middle = ([math.exp(end) for end in ends], math.exp(mean)) if log else (ends, mean)
    except OverflowError:
        line.entry = None
        line.remarks.append("its values are too large")
        return
    whole = is_integer(path)
    if refusal(path, round(middle) if whole else middle) is not None:
        line.entry = None
        line.remarks.append(f"{path} does not take its mean {show(middle)}")
        return
    cut = [_allowed(path, middle, end, whole) for end in ends]
    if cut != ends:
        line.entry["within"] = [tidy(end) for end in cut]
        line.remarks[:] = [remark for remark in line.remarks if not remark.startswith("is cut off at 4")]
        line.remarks.append(f"is cut off at what {path} takes")


def _allowed(path: str, inside: float, end: float, whole: bool) -> float:
    """The place between `inside` and `end` that is nearest to `end` and allowed."""

    def good(value: float) -> bool:
        return refusal(path, round(value) if whole else value) is None

    if good(end):
        return end
    if end < 0 <= inside and good(0.0):
        return 0.0
    low, high = inside, end
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if good(middle) else (low, middle)
    step = 10.0 ** (math.floor(math.log10(abs(low))) - 2) if low else 1.0
    short = float(f"{(math.floor if end > inside else math.ceil)(low / step) * step:.12g}")
    return short if good(short) else low


def _conditions(lines: Sequence[Fittable], base: str, fixed: Mapping[str, Any]) -> None:
    """`when` for a setting that not all kinds have, where the kind is searched; else it must be the base's."""
    settings = load_run(base).config
    searched = {line.path: line.entry for line in lines if line.entry is not None}
    for line in lines:
        if line.entry is None or line.path is None or line.path.endswith(".kind"):
            continue
        section, key = line.path.split(".")
        having = [kind for kind in kinds_with(section, key) if kind]
        if not having or len(having) == len(kinds(section)):
            continue
        kind_path = f"{section}.kind"
        entry = searched.get(kind_path)
        possible = (entry.get("choice") or [entry.get("value")]) if entry else [
            fixed.get(kind_path, getattr(getattr(settings, section), "kind", None))
        ]  # fmt: skip
        fits = [kind for kind in possible if kind in having]
        if not fits:
            line.remarks.append(f"{kind_path} is {' or '.join(map(str, possible))} here, which does not have {key}")
            line.entry = None
        elif len(fits) < len(possible):
            line.entry = {**line.entry, "when": {kind_path: fits if len(fits) > 1 else fits[0]}}
