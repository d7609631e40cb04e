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
from trainable.schedules import lr_at

if TYPE_CHECKING:  # planning probes does not need torch
    from trainable.data.dataset import Dataset
    from trainable.loop import EpochReport

END_RATIO = 0.01
"""A probe ends at the schedule's own last rate, or at this share of its peak if that is lower."""


def probe_batches(batch: int, share: float) -> int:
    """Batches of a probe after `batch` batches: `share` of them, at least 1."""
    return max(1, math.ceil(share * batch))


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
    start = lr_at(config, done)
    end = min(lr_at(config, config.horizon), END_RATIO * config.schedule.peak_lr, start)
    # `linear` starts at batch 0: its peak is the value of this straight line there.
    peak = end + (start - end) * (done + batches) / batches
    schedule = LinearSchedule.model_construct(kind="linear", peak_lr=peak, end_lr=end, horizon=done + batches)
    # As one finished epoch and one to the end of the probe: only its end is evaluated.
    training = config.training.model_copy(update={"batches": done + batches, "batches_per_epoch": done})
    short = config.model_copy(update={"schedule": schedule, "training": training})
    (report,) = train(short, dataset, resume_from={**state, "epoch": 1})
    return report
