"""A foreign trainer's learning-rate schedule as one of this program's.

Lengths there are micro-batches, and with epochs as the unit, epochs. With accumulation a fork's schedule moved once per
optimizer step while its lengths were written in micro-batches; here lengths are batches (optimizer steps), so a run
that ended before its schedule did has a `schedule.horizon` beyond its `training.batches`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tuner.planned.imported.names import DAY_LENGTHS, END, PEAK, SCHEDULE, SCHEDULES, WARMUP, WHOLE
from tuner.planned.imported.reader import Settings, whole


@dataclass(frozen=True)
class Length:
    """How long a run was meant to be.

    `batches` and `per_epoch` are optimizer steps, `epochs` passes over the data where the trainer counts in them, and
    `steps` micro-batches where it counts in those; None where not known. `assumed` says that the size of the data is.
    """

    batches: int | None = None
    per_epoch: int | None = None
    epochs: int | None = None
    steps: int | None = None
    assumed: bool = False


def schedule_of(args: Settings, length: Length) -> dict[str, Any]:
    """The fields of `schedule` that are known, without the section's name; without `kind` where that is not."""
    peak, end = _rates(args)
    known: dict[str, Any] = {} if peak is None or peak <= 0 else {"peak_lr": peak, **_day_rates(args)}
    if args.take("use_plateau_scheduler") or args.take("adaptive_lr"):
        args.used -= {"use_plateau_scheduler", "adaptive_lr"}  # they do not exist here, and are named as that
        return known
    if peak is None or peak <= 0:
        args.take(*SCHEDULE)
        return known
    if args.take("use_onecycle"):
        return _one_cycle(args, peak)
    if args.take("sgdr_T0"):
        period, warmup = args.count("sgdr_T0"), args.count(*WARMUP) or 0
        return _restarts(args, peak, end, period, args.number("sgdr_Tmult") or 1.0, warmup)
    named = args.take(*SCHEDULE)
    how = "line" if named is None else SCHEDULES.get(re.sub(r"[^a-z0-9]", "", str(named).lower()))
    if how is None:
        args.used -= set(SCHEDULE)
        return known
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        "line": lambda: _line(args, peak, end, length),
        "constant": lambda: {"kind": "constant", **known},
        "cosine": lambda: _cosine(args, peak, end or 0.0, length),
        "restarts": lambda: _epoch_restarts(args, peak, end, length),
        "multistep": lambda: _multistep(args, peak, length),
        "one_cycle": lambda: known if not args.has("pct_start") else _one_cycle(args, peak),
    }
    if named is None and args.family == "unknown":
        return known
    return {**known, **makers[how]()}


def _rates(args: Settings) -> tuple[float | None, float | None]:
    """The highest rate and the one at the end; None where not given."""
    peak, start = args.number("peak_lr", "lr_max"), args.number("lrStart")
    peak = peak if peak is not None else start if start is not None else args.number(*PEAK)
    scale = args.number("lr_scaling_factor")
    end = args.number(*END)
    return peak, peak * scale if end is None and scale is not None and peak is not None else end


def _day_rates(args: Settings) -> dict[str, Any]:
    """The day layers' own rates, where they have some; lengths of their own count as read if they are the network's."""
    for own, names in DAY_LENGTHS.items():
        if args.has(own) and args.values[own] == next((args.values[name] for name in names if args.has(name)), None):
            args.take(own)
    rates = {"day_peak_lr": args.number("lr_max_day"), "day_end_lr": args.number("lr_min_day")}
    return {key: rate for key, rate in rates.items() if rate is not None}


def _one_cycle(args: Settings, peak: float) -> dict[str, Any]:
    peak = args.number("onecycle_max_lr") or peak
    first = peak / (args.number("onecycle_div_factor", "div_factor") or 25.0)
    return {
        "kind": "one_cycle",
        "horizon": None,
        "peak_lr": peak,
        "start_lr": first,
        "end_lr": first / (args.number("onecycle_final_div_factor", "final_div_factor") or 1e4),
        "peak_fraction": args.number("onecycle_pct_start", "pct_start") or 0.3,
    }


def _restarts(
    args: Settings, peak: float, end: float | None, period: int | None, factor: float, warmup: int
) -> dict[str, Any]:
    return {
        "kind": "sgdr",
        "horizon": None,
        "peak_lr": peak,
        "end_lr": end or 0.0,
        "period_batches": period,
        "period_multiplier": factor,
        "peak_decay": 1.0,
        "warmup_batches": warmup,
    }


def _epoch_restarts(args: Settings, peak: float, end: float | None, length: Length) -> dict[str, Any]:
    """CosineAnnealingWarmRestarts, moved once per epoch."""
    period, factor = args.count("T_0"), args.number("T_mult") or 1.0
    if period is None or length.per_epoch is None or length.epochs is None:
        return {"peak_lr": peak}
    return _restarts(args, peak, end, period * length.per_epoch, factor, 0)


def _line(args: Settings, peak: float, end: float | None, length: Length) -> dict[str, Any]:
    """What trainers do whose schedule has no name: constant, a line, or a cosine where a warm-up or its length is."""
    warmup, cosine = args.count(*WARMUP) or 0, args.count("cosine_T_max") or 0
    if end is None or peak == end:
        return {"kind": "constant", "horizon": None, "peak_lr": peak}
    if end > peak:
        return {"peak_lr": peak}  # a rate that rises to its end does not exist here
    if (warmup and not args.has(*SCHEDULE)) or cosine:
        return _cosine(args, peak, end, length)
    if warmup:
        return {**_cosine(args, peak, end, length), "kind": "warmup_linear"}
    return {"kind": "linear", "horizon": _horizon(args.count(*WHOLE), length), "peak_lr": peak, "end_lr": end}


def _cosine(args: Settings, peak: float, end: float, length: Length) -> dict[str, Any]:
    warmup, cosine, total = args.count(*WARMUP) or 0, args.count("cosine_T_max"), args.count(*WHOLE)
    if total is None and length.epochs is None:
        total = warmup + (cosine or max(1, (length.steps or 0) - warmup)) if (cosine or length.steps) else None
    return {
        "kind": "warmup_cosine",
        "horizon": _horizon(total, length),
        "peak_lr": peak,
        "start_lr": 0.0,
        "end_lr": end,
        "warmup_batches": warmup,
    }


def _horizon(total: int | None, length: Length) -> int | None:
    """A length of the schedule that is not the run's."""
    return None if not total or total == length.batches else total


def _multistep(args: Settings, peak: float, length: Length) -> dict[str, Any]:
    total, given = length.epochs or length.steps, args.take("milestones")
    gamma = args.number("gamma")
    if not total or gamma is None or not isinstance(given, list | tuple):
        return {"peak_lr": peak}
    shares = sorted({milestone / total for milestone in whole(given) if 0 < milestone < total})
    if not shares:
        return {"kind": "constant", "horizon": None, "peak_lr": peak}
    return {"kind": "multistep", "horizon": None, "peak_lr": peak, "milestones": shares, "gamma": gamma}
