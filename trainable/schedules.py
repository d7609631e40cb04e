"""Learning-rate schedules: the rate of a batch as a pure function of the configuration and the batch number.

The contract of a schedule, which the suite `tuner.testing.schedules` checks clause by clause: the rate depends on
nothing but the configuration and the batch, and with a horizon of its own not on the length of the run; it lies
between 0 and `peak_lr`, and reaches it where the horizon is long enough; from the horizon on it stays; the section
comes back from JSON with the same rates, and its keys become columns.

`i` is the batch (optimizer step), from 0 on; `H` the horizon. Warm-ups, periods and milestones are in batches too,
never in micro-batches. From batch `H` on the rate stays at its value at `H`, which no batch of a run with
`training.batches == H` gets to: its last batch is `H - 1`.

    constant       peak
    linear         end + (peak - end) * (H - i) / H
    warmup_cosine  i < W:  start + (peak - start) * w, with w = i / W for `warmup_shape` linear, (i + 1) / W for
                           linear_next, (1 - cos(pi * i / W)) / 2 for cosine
                   else    fall(peak, end, (i - W) / (H - W))
                   times drop_factor where i >= round(drop_at * H)
    warmup_linear  the same with end + (peak - end) * (H - i) / (H - W)
    one_cycle      U = round(peak_fraction * H), at least 1
                   i < U:  fall(start, peak, i / U)
                   else    fall(peak, end, (i - U) / (H - U))
    multistep      peak * gamma ** (number of milestones m with i >= round(m * H))
    sgdr           i < W:  peak * i / W
                   else    cycle c has round(period * multiplier ** c) batches, peak_c = max(end, peak * decay ** c);
                           at its batch t: fall(peak_c, end, t / length of the cycle)

with `fall(a, b, x) = b + (a - b) * (1 + cos(pi * x)) / 2`, half a cosine from a (x = 0) to b (x = 1). With SWA and a
rate of its own, that rate holds from `averaging.start_batch` on, beyond the horizon too.

The day layers' rates are those of the same schedule with `day_peak_lr` for its peak, `start_lr` in the same proportion
to it, and `day_end_lr` for its end.

A warm-up begins at its start rate, which is 0 unless `start_lr` says otherwise (sgdr: always 0): the first batch then
changes no weight. `one_cycle` is torch's OneCycleLR but for one batch: there the peak is at `peak_fraction * H - 1`
and the end rate at `H - 1`, here at `U` and `H`. The rates differ by at most 2.8 % of the peak at 200 batches and
0.06 % at 10,000 (peak at 15 %); `linear` and `warmup_cosine` are LinearLR and CosineAnnealingLR to rounding.

Sources: warm restarts, Loshchilov & Hutter 2017; one cycle, Smith & Topin 2019; SWA, Izmailov et al. 2018; rates of the
day layers, Card et al. 2024 (Neuroprosthetics-Lab/nejm-brain-to-text); `linear_next`, which counts from 1, and the drop
after a cosine (`cosine_stepdrop`), sergiolsantamaria2/brain2text. Programs that warm up by torch's LinearLR begin at
the peak times its `start_factor`: that is `start_lr` here.
"""

from __future__ import annotations

import math

import numpy as np

from search_spaces.config import (
    ConstantSchedule,
    LinearSchedule,
    MultistepSchedule,
    OneCycleSchedule,
    RunConfig,
    SGDRSchedule,
    SWAConfig,
    WarmupCosineSchedule,
    WarmupLinearSchedule,
)


def lr_at(config: RunConfig, batch: int) -> float:
    """The learning rate of batch `batch` (0, 1, ...)."""
    averaging = config.averaging
    if isinstance(averaging, SWAConfig) and averaging.lr is not None and batch >= averaging.start_batch:
        return averaging.lr
    schedule, horizon = config.schedule, config.horizon
    i = min(batch, horizon)
    match schedule:
        case ConstantSchedule():
            return schedule.peak_lr
        case LinearSchedule():
            return schedule.end_lr + (schedule.peak_lr - schedule.end_lr) * (horizon - i) / horizon
        case WarmupCosineSchedule():
            rate = _warmed_up(schedule, i, horizon)
            dropped = schedule.drop_at is not None and i >= round(schedule.drop_at * horizon)
            return rate * schedule.drop_factor if dropped else rate
        case OneCycleSchedule():
            up = max(1, round(schedule.peak_fraction * horizon))
            if i < up:
                return _fall(schedule.start_lr, schedule.peak_lr, i / up)
            return _fall(schedule.peak_lr, schedule.end_lr, (i - up) / (horizon - up) if horizon > up else 1.0)
        case MultistepSchedule():
            passed = sum(i >= round(milestone * horizon) for milestone in schedule.milestones)
            return schedule.peak_lr * schedule.gamma**passed
        case SGDRSchedule():
            return _sgdr(schedule, i, last=batch >= horizon)


def lr_curve(config: RunConfig) -> np.ndarray:
    """The rate of every batch of the run: float64 [training.batches]."""
    return np.array([lr_at(config, batch) for batch in range(config.training.batches)])


def day_lr_at(config: RunConfig, batch: int) -> float:
    """The learning rate of the day layers at batch `batch`."""
    schedule, averaging = config.schedule, config.averaging
    ratio = schedule.day_peak_lr / schedule.peak_lr if schedule.day_peak_lr else 1.0
    if isinstance(averaging, SWAConfig) and averaging.lr is not None and batch >= averaging.start_batch:
        return ratio * averaging.lr
    changed: dict[str, float] = {"peak_lr": schedule.day_peak_lr or schedule.peak_lr}
    for name, own in (("start_lr", None), ("end_lr", schedule.day_end_lr)):
        if hasattr(schedule, name):
            changed[name] = ratio * getattr(schedule, name) if own is None else own
    return lr_at(config.model_copy(update={"schedule": schedule.model_copy(update=changed)}), batch)


def _warmed_up(schedule: WarmupCosineSchedule, i: int, horizon: int) -> float:
    """The rate of `warmup_cosine` and `warmup_linear`, without a drop."""
    warmup, peak, end = schedule.warmup_batches, schedule.peak_lr, schedule.end_lr
    if i < warmup:
        if schedule.warmup_shape == "cosine":
            return _fall(schedule.start_lr, peak, i / warmup)
        step = i + 1 if schedule.warmup_shape == "linear_next" else i
        return schedule.start_lr + (peak - schedule.start_lr) * step / warmup
    if isinstance(schedule, WarmupLinearSchedule):
        return end + (peak - end) * (horizon - i) / (horizon - warmup)
    return _fall(peak, end, (i - warmup) / (horizon - warmup))


def _fall(start: float, end: float, x: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * x)) / 2


def _sgdr(schedule: SGDRSchedule, i: int, last: bool) -> float:
    """`last` says that i is the horizon: a cycle that ends there must not restart, the rate stays from then on."""
    warmup = schedule.warmup_batches
    if i < warmup:
        return schedule.peak_lr * i / warmup
    position, cycle, length = i - warmup, 0, schedule.period_batches
    while position > length or (position == length and not last):
        position -= length
        cycle += 1
        length = round(schedule.period_batches * schedule.period_multiplier**cycle)
    peak = max(schedule.end_lr, schedule.peak_lr * schedule.peak_decay**cycle)
    return _fall(peak, schedule.end_lr, position / length)
