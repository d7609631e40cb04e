"""Compares what the text of a run says about its settings with the settings.

It finds numbers (`EMA=0.999`, `max_lr=0.004`, `clip 1.0`), terms (`OneCycle`, `bf16`, `SWA`) and comparisons with the
parent run (`lower peak`, `longer tail`). It is a list of patterns and does not understand language: what no pattern
matches is not checked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from results.changelog.run_history import RunHistory, dotted, shown

Row = dict[str, Any]

_N = r"\s*[=:(]?\s*(\d+(?:\.\d+)?(?:e-?\d+)?)(?![\d%])"
_NUMBERS = {
    "averaging_decay": rf"\bema(?:[ _-]?decay)?{_N}",
    "schedule_peak_lr": rf"(?<!end )(?<!start )(?<!min )\b(?:max_?lr|peak_?lr|learning rate|lr){_N}",
    "schedule_end_lr": rf"\b(?:end|min)[ _]?lr{_N}",
    "schedule_warmup_batches": rf"\bwarm-?up{_N}",
    "training_clip": rf"\bclip(?:ping)?{_N}",
    "training_accumulation": rf"\b(?:grad[_ ]?)?accum(?:ulation)?{_N}",
    "training_batch_size": rf"\bbatch[ _]size{_N}",
    "augmentation_white_noise": rf"\bnoise{_N}",
    "augmentation_constant_offset": rf"\boffset{_N}",
    "augmentation_input_dropout": rf"\binput[ _]dropout{_N}",
}
_PEAK_AT = r"\bpeak\s*(?:at\s*)?\(?\s*(\d+(?:\.\d+)?)\s*%"
_SCALED = ("averaging_decay", "schedule_warmup_batches")
"""Settings that depend on the length of a run: a shorter repeat has other values than its purpose says."""

_SCHEDULES = {
    r"\bone-?cycle": {"one_cycle"},
    r"\bwarm-?up\s*(?:→|->|and|\+|,|-)?\s*cosine": {"warmup_cosine"},
    r"\bcosine": {"warmup_cosine", "sgdr", "one_cycle"},
    r"\bsgdr": {"sgdr"},
    r"\bconstant (?:rate|lr)": {"constant"},
    r"\blinear": {"linear"},
    r"\bmulti-?step": {"multistep"},
}
_PRECISIONS = {r"\bfp32": {"fp32"}, r"\bbf16": {"bf16"}, r"\bfp16": {"fp16"}, r"\bamp\b": {"bf16", "fp16"}}
_AVERAGES = {r"\bema\b": {"ema"}, r"\bswa\b": {"swa"}}
_ON = {
    r"\blayer ?norm": ("model_layer_norm",),
    r"\bspecaugment": ("augmentation_time_masks", "augmentation_feature_masks"),
    r"\binput dropout": ("augmentation_input_dropout",),
}

_UP = ("higher", "larger", "bigger", "longer", "slower", "stronger", "looser", "increased", "later", "more", "greater")
_DOWN = ("lower", "smaller", "shorter", "faster", "weaker", "tighter", "reduced", "earlier", "less")
_NOUNS = {
    # in this order: the first that matches is used
    r"end[ _](?:lr|rate)": "schedule_end_lr",
    r"(?:peak|max|constant)[ _](?:lr|learning rate|rate)|learning rate|lr|rate": "schedule_peak_lr",
    r"peak": "schedule_peak_lr",
    r"ema": "averaging_decay",
    r"warm-?up": "schedule_warmup_batches",
    r"cosine tail|cosine|tail": "tail",
    r"training": "training_batches",
    r"clip(?:ping)?": "training_clip",
    r"input dropout": "augmentation_input_dropout",
    r"dropout": "model_dropout",
    r"noise": "augmentation_white_noise",
    r"batch size": "training_batch_size",
}
_RELATIVE = re.compile(rf"\b({'|'.join((*_UP, *_DOWN))})\s+(?:({'|'.join(_NOUNS)}))\b", re.IGNORECASE)
_THAN = re.compile(
    rf"(\d[\d.]*(?:e-?\d+)?)\)?,? (?:is )?({'|'.join((*_UP, *_DOWN))}) than (?:\S+'s )?(\d+(?:\.\d+)?(?:e-?\d+)?)"
)
_NOT = re.compile(r"\b(?:no|not|without|instead of|from)\s+$", re.IGNORECASE)


def contradictions(history: RunHistory, row: Row) -> list[str]:
    """Contradictions between the trial's purpose or note and its settings, or within the text; one line each."""
    purpose = row["purpose"] or ""
    found = [*_wrong_numbers(history, row, purpose), *_wrong_terms(row, purpose)]
    before = history.came_from(row) if row["parent"] else None
    if before is not None:
        found += _wrong_directions(history, before, row, purpose)
    return list(dict.fromkeys([*found, *_wrong_sums(f"{purpose} {row['note'] or ''}")]))


def _wrong_numbers(history: RunHistory, row: Row, purpose: str) -> Iterator[str]:
    for column, claimed, text in _numbers(purpose):
        value = row.get(column)
        expected, scaled = claimed, ""
        if row["origin"] == "replicate" and column in _SCALED:
            first = next(other for other in history.trials if (column, claimed) in _claims(other))
            if first is row or first.get(column) is None:
                continue
            expected = first[column]
            scaled = f" ({shown(expected, column)} at this length, as in {history.name(first)})"
        if isinstance(value, int | float) and not math.isclose(value, expected, rel_tol=1e-6):
            yield f"the purpose says '{text}'{scaled}, {dotted(column)} is {_exact(value)}"
        elif value is None and column == "training_clip":
            yield f"the purpose says '{text}', but nothing is clipped"


def _claims(row: Row) -> set[tuple[str, float]]:
    return {(column, claimed) for column, claimed, _ in _numbers(row["purpose"] or "")}


def _numbers(purpose: str) -> Iterator[tuple[str, float, str]]:
    for column, pattern in _NUMBERS.items():
        for match in re.finditer(pattern, purpose, re.IGNORECASE):
            yield column, float(match[1]), _short(match[0])
    for match in re.finditer(_PEAK_AT, purpose, re.IGNORECASE):
        yield "schedule_peak_fraction", float(match[1]) / 100, _short(match[0])


def _wrong_terms(row: Row, purpose: str) -> Iterator[str]:
    for column, terms in (
        ("schedule_kind", _SCHEDULES),
        ("training_precision", _PRECISIONS),
        ("averaging_kind", _AVERAGES),
    ):
        named = [(match[0], kinds) for pattern, kinds in terms.items() if (match := _said(pattern, purpose))]
        value = row.get(column)
        if row["origin"] == "replicate" and column == "training_precision":
            continue  # this depends on the machine: a repeat may need another value
        if named and value is not None and not any(value in kinds for _, kinds in named):
            yield f"the purpose says '{_short(named[0][0])}', {dotted(column)} is {value}"
    for pattern, columns in _ON.items():
        match = _said(pattern, purpose)
        unknown = any(name in (row["assumed"] or "") or name not in row for name in columns)
        if match and not unknown and not any(row[name] for name in columns):
            yield f"the purpose says '{_short(match[0])}', which is off"


def _said(pattern: str, purpose: str) -> re.Match[str] | None:
    """The first mention that is not negated: `no OneCycle` does not count."""
    matches = re.finditer(pattern, purpose, re.IGNORECASE)
    return next((match for match in matches if not _NOT.search(purpose[: match.start()])), None)


def _wrong_directions(history: RunHistory, before: Row, row: Row, purpose: str) -> Iterator[str]:
    for match in _RELATIVE.finditer(purpose):
        word, noun = match[1].lower(), match[2].lower()
        column = next(name for pattern, name in _NOUNS.items() if re.fullmatch(pattern, noun))
        if noun == "peak" and word in ("earlier", "later"):
            column = "schedule_peak_fraction"
        old, new = _quantity(history, before, column), _quantity(history, row, column)
        if old is None or new is None or (new - old) * (1 if word in _UP else -1) > 0:
            continue
        what = "the cosine's length" if column == "tail" else dotted(column)
        parent = history.name(before)
        if old == new:
            yield f"the purpose says '{match[0]}', {what} is {_exact(new)} as in {parent}"
        else:
            yield f"the purpose says '{match[0]}', {what} went from {_exact(old)} ({parent}) to {_exact(new)}"


def _quantity(history: RunHistory, row: Row, column: str) -> float | None:
    if column == "tail":
        horizon, warmup = history.horizon(row), row.get("schedule_warmup_batches")
        return None if horizon is None or warmup is None else horizon - warmup
    value = row.get(column)
    return value if isinstance(value, int | float) else None


def _wrong_sums(text: str) -> Iterator[str]:
    """Find statements such as `0.01 lower than 0.004`, which are wrong with any settings."""
    for match in _THAN.finditer(text):
        first, second = float(match[1].rstrip(".")), float(match[3])
        if (first - second) * (1 if match[2] in _UP else -1) <= 0:
            yield f"the text says that {match[1]} is {match[2]} than {match[3]}, which is wrong"


def _exact(value: float) -> str:
    return f"{value:.10g}"


def _short(text: str) -> str:
    return " ".join(text.split())[:40].rstrip(" (")
