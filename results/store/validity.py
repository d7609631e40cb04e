"""What an event of the log can hold: the fields of each kind, their types and ranges.

A value that no driver writes (a negative PER, a trial of number -1) says that the line is damaged. What an event lacks
is unknown, and no damage: versions differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

from search_spaces.measures import objective_of
from search_spaces.wording import nearest

Test = Callable[[Any], bool]
_MOST = 1e15


def _number(value: Any) -> bool:
    return type(value) in (int, float) and -_MOST < value < _MOST


def _amount(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and 0 <= value < _MOST)


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _count_or_none(value: Any) -> bool:
    return value is None or _count(value)


def _text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _flag(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _mapping_or_none(value: Any) -> bool:
    return value is None or isinstance(value, dict)


def _kinded(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("kind"), str)


def _rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def _plan(value: Any) -> bool:
    return value is None or _rows(value)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _changes(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(pair, list) and len(pair) == 2 for pair in value.values())


def _one_of(*allowed: Any) -> Test:
    return lambda value: isinstance(value, str | None) and value in allowed


_plain_counts = itemgetter("trial", "attempt", "epoch")
_plain_words = itemgetter("decision", "status", "rung", "passed", "reason")
_NOTHING = ("continue", None, None, None, None)
_WHOLE = {int}
STATUSES = ("completed", "stopped", "diverged", "failed", "interrupted", "paused")
_AMOUNTS = (
    "per", "per_raw", "per_halves", "per_utterance_mean", "probe_per", "val_loss", "train_loss", "probe_val_loss", "lr",
    "schedule_fraction", "grad_norm", "blank_share", "seconds", "samples_per_second", "peak_memory_mb",
    "checkpoint_seconds", "cpu_seconds", "gpu_seconds",
)  # fmt: skip
EPOCH_AMOUNTS = ("batch", "probe_batches", "infeasible", *_AMOUNTS)
"""The measurements of an epoch: none of them is negative."""
_plain_amounts = itemgetter(
    "time", "elapsed", "batch", "per", "per_raw", "per_utterance_mean", "val_loss", "train_loss", "lr", "grad_norm",
    "seconds",
)  # fmt: skip


def _by_decay(value: Any) -> bool:
    """[{"decay": from 0 to 1, "per": an amount}, ...], or null."""
    return value is None or (
        isinstance(value, list)
        and all(isinstance(each, dict) and _amount(each.get("decay")) and _amount(each.get("per")) for each in value)
    )


def _objective(value: Any) -> bool:
    return isinstance(value, str) and objective_of(value) == value


_SETTINGS: dict[str, Test] = {
    "space": _mapping_or_none,
    "data": _mapping,
    "searcher": _kinded,
    "stopping": _kinded,
    "budget": _mapping,
    "resources": _mapping_or_none,
    "start_points": _rows,
    "plan": _plan,
    "starts_from": _count,
    "costs": _texts,
    "objective": _objective,
}
FIELDS: dict[str, dict[str, Test]] = {
    "study_started": _SETTINGS,
    "study_resumed": {"changed": _changes},
    "study_changed": {"changed": _changes},
    "study_ended": {"reason": _text},
    "stop_requested": {"trial": _count_or_none},
    "marked": {"of": _count_or_none, "note": _text, "add": _texts, "remove": _texts},
    "checkpoints_dropped": {"files": _texts, "bytes": _amount, "budget": _amount},
    "study_repaired": {},
    "trial_started": {
        "trial": _count,
        "attempt": _count,
        "from_epoch": _count_or_none,
        "config": _mapping,
        "unknown": _texts,
        "params": _mapping,
        "origin": _text,
        "from_trial": _count_or_none,
        "from_trial_epoch": _count_or_none,
        "replaces": _count_or_none,
        "length": _amount,
        "shorter": _count_or_none,
        "parameters": _count_or_none,
    },
    "epoch": {
        "trial": _count,
        "attempt": _count_or_none,
        "epoch": _count,
        "decision": _one_of("continue", "stop", "pause", None),
        "status": _one_of(*STATUSES, None),
        "rung": _count_or_none,
        "passed": _flag,
        "reason": _text,
        "note": _text,
        "average": _text,
        "per_by_decay": _by_decay,
        **dict.fromkeys(EPOCH_AMOUNTS, _amount),
    },
    "trial_ended": {
        "trial": _count,
        "attempt": _count_or_none,
        "status": _one_of(*STATUSES),
        "error": _text,
        "checkpoint": _text,
        "retry": _flag,
        "alone": _flag,
        "fault": _text,
        "exploits": _mapping_or_none,
        **dict.fromkeys(("best_per", "last_per", "batches", "cpu_seconds", "gpu_seconds"), _amount),
    },
}


def damage(event: Mapping[str, Any], *, proven: bool) -> str | None:
    """What is impossible in an event, in a few words; None if nothing is. `proven`: its checksum is right."""
    kind = event["event"]
    if kind == "epoch" and _is_plain_epoch(event):
        return None
    fields = FIELDS.get(kind)
    if fields is None:
        near = None if proven else nearest(kind, FIELDS, cutoff=0.8)
        return f"there is no event of the kind {kind!r}" if near else None  # others are of another version
    if not proven and "time" not in event:
        return "it has no time"
    if "time" in event and not _number(event["time"]):
        return "its time is no number"
    if not _amount(event.get("elapsed")):
        return "its elapsed is no number from 0 on"
    for name, test in fields.items():
        if name in event and not test(event[name]):
            return f"its {name} cannot be {_short(event[name])}"
    return None


def _is_plain_epoch(event: Mapping[str, Any]) -> bool:
    """Whether nothing is wrong with an epoch, for nearly all of them and much faster."""
    try:
        values, counts = _plain_amounts(event), _plain_counts(event)
        sound = min(values) >= 0 and max(values) < _MOST and min(counts) >= 0 and max(counts) < 2**31
        plain = set(map(type, counts)) == _WHOLE and _plain_words(event) == _NOTHING
        return sound and plain and _by_decay(event.get("per_by_decay"))
    except (KeyError, TypeError):  # one is not there, or is no number
        return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 40 else f"{text[:36]} ..."
