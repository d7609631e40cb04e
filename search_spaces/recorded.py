"""The 23 recorded runs in the order in which they were made, and how such a run is scaled down.

`shrink` makes the run shorter (`search_spaces.lengths.scale`), so that warm-up, peak, restarts and averaging windows
stay at the same fraction of it, and narrower:

    units per layer (to a multiple of 16, at least 32)    x sqrt(scale)
    layers (at least 2, where there were 2)    x scale ** (1/4)
    batch size    halved until a pass over the training data has `BATCHES_PER_PASS` batches, at least 8 utterances
"""

from __future__ import annotations

import math
from typing import Any

from search_spaces.config import RunConfig, to_dict
from search_spaces.lengths.scale import check_scale, scaled_run

LINEAGE = (
    "speechBaseline4",
    *(f"gru_ctc_reg{number}" for number in range(1, 8)),
    "run8_recovery",
    "run10_recovery",
    "run11_plateau_break",
    "run12_baseline_hybrid",
    "run13_onecycle_safe",
    "run14_onecycle_tuned",
    "run15_warmup_cosine_safe",
    "run16_greedy_ema_warmcos",
    "run16_2",
    "run16_3",
    "run16_4",
    "run16_5",
    "run16_sub20",
    "run17_greedy_ema_fastcos",
    "run18_long_sgdr_swa",
)
"""The names of the recorded runs, oldest first."""

BATCHES_PER_PASS = 50
"""Least number of batches in a pass over the training data; the reference had 137."""

LEAST_BATCH = 8
LEAST_HIDDEN = 32


def shrink(config: RunConfig, scale: float, train_utterances: int | None = None) -> RunConfig:
    """`config` scaled down by `scale`, above 0 and at most 1; at 1 only the batch size can change.

    `train_utterances` is the size of the training split; without it the batch size stays. Raises InputError for a
    scale out of range.
    """
    check_scale(scale, 1)
    sections = to_dict(scaled_run(config, scale))
    model, training = sections["model"], sections["training"]
    if scale < 1:
        model["hidden"] = _narrower(model["hidden"], scale)
        model["layers"] = max(min(model["layers"], 2), round(model["layers"] * scale**0.25))
    if train_utterances is not None:
        training["batch_size"] = _smaller_batch(training, train_utterances)
        if sections["data"]["days_per_batch"] is not None:
            sections["data"]["days_per_batch"] = min(sections["data"]["days_per_batch"], training["batch_size"])
    return RunConfig.model_validate(sections)


def _narrower(hidden: int, scale: float) -> int:
    return min(hidden, max(LEAST_HIDDEN, 16 * round(hidden * math.sqrt(scale) / 16)))


def _smaller_batch(training: dict[str, Any], utterances: int) -> int:
    size, accumulation = int(training["batch_size"]), int(training["accumulation"])
    while size % 2 == 0 and size * accumulation > LEAST_BATCH and utterances < BATCHES_PER_PASS * size * accumulation:
        size //= 2
    return size
