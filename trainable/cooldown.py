"""The cooldown probe: the PER that a run would have if its learning rate were decreased now.

While the rate is high, the PER does not show what the weights have learned (Hu et al. 2024, arXiv 2405.18392, use a
short decay from a constant rate). A probe copies the state, anneals the copy over a few batches and evaluates it; the
run itself is not changed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from search_spaces.config import LinearSchedule, RunConfig
from trainable.schedules import day_lr_at, lr_at

if TYPE_CHECKING:  # planning probes does not need torch
    from trainable.data.dataset import Dataset
    from trainable.loop import EpochReport

END_RATIO = 0.01
"""A probe ends at the schedule's own last rate, or at this share of its peak if that is lower."""


def probe_batches(batch: int, share: float) -> int:
    """Batches of a probe after `batch` batches: `share` of them, at least 1."""
    return max(1, math.ceil(share * batch))


def _line(start: float, last: float, peak: float, done: int, batches: int) -> tuple[float, float]:
    """Peak and end of the `linear` schedule that falls from `start` after `done` batches to its end `batches` later.

    It ends at `last`, or lower. `linear` starts at batch 0: its peak is the value of this straight line there.
    """
    end = min(last, END_RATIO * peak, start)
    return end + (start - end) * (done + batches) / batches, end


def cooldown(config: RunConfig, dataset: Dataset, state: Mapping[str, Any], batches: int) -> EpochReport:
    """The report of a copy of `state` (an `EpochReport.checkpoint()`) after `batches` more with a falling rate.

    The rate goes in a straight line from that of the next batch to the end rate; batches and augmentation are those
    the run itself would see. `state` is not changed, and `batches` is at most the batches it has done. A copy that
    diverges has `diverged` set and a PER of NaN.
    """
    from trainable.loop import train

    done = state["batch"]
    if not 1 <= batches <= done:
        raise ValueError(f"a probe after {done} batches can take 1 to {done} more, not {batches}")
    peak, end = _line(lr_at(config, done), lr_at(config, config.horizon), config.schedule.peak_lr, done, batches)
    day: dict[str, Any] = {}
    if config.days_apart:
        start, last = day_lr_at(config, done), day_lr_at(config, config.horizon)
        peak_of_days = config.schedule.day_peak_lr or config.schedule.peak_lr
        day = dict(zip(("day_peak_lr", "day_end_lr"), _line(start, last, peak_of_days, done, batches), strict=True))
    schedule = LinearSchedule.model_construct(kind="linear", peak_lr=peak, end_lr=end, horizon=done + batches, **day)
    # As one finished epoch and one to the end of the probe: only its end is evaluated.
    training = config.training.model_copy(update={"batches": done + batches, "batches_per_epoch": done})
    short = config.model_copy(update={"schedule": schedule, "training": training})
    (report,) = train(short, dataset, resume_from={**state, "epoch": 1})
    return report
