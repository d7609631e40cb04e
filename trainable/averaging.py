"""Averages of the weights over training: exponential (EMA) and equal-weight (SWA).

The average is a second model, so it can be evaluated without copying weights. Only weights need averaging: the decoder
has layer norm, whose statistics are not stored, and no batch norm.

Sources: EMA as in Polyak & Juditsky 1992 and its decay's warm-up as in TensorFlow's ExponentialMovingAverage; SWA,
Izmailov et al. 2018.
"""

from __future__ import annotations

from typing import Any, cast

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from search_spaces.config import EMAConfig, NoAveraging, SWAConfig
from trainable.compute.precision import flatten
from trainable.model import Decoder

AveragingConfig = NoAveraging | EMAConfig | SWAConfig


def make_average(model: nn.Module, config: AveragingConfig) -> AveragedModel | None:
    """An average without updates yet, on the device of `model`; None where the configuration has no averaging."""
    if isinstance(config, NoAveraging):
        return None
    average = AveragedModel(model)
    average.requires_grad_(False)
    flatten(average)
    return average


def kept_share(config: EMAConfig | SWAConfig, updates: int) -> float:
    """Fraction of the average that an update keeps, after `updates` others; the rest is the current weights.

    EMA: `decay`, or min(decay, (1 + updates) / (10 + updates)) with warm-up. SWA: updates / (updates + 1), which makes
    an equal-weight mean. The first update keeps nothing in either case.
    """
    if updates == 0:
        return 0.0
    if isinstance(config, SWAConfig):
        return updates / (updates + 1)
    return min(config.decay, (1 + updates) / (10 + updates)) if config.warmup else config.decay


def update_average(average: AveragedModel | None, model: nn.Module, config: AveragingConfig, batch: int) -> None:
    """After the optimizer step of `batch`: include the model's weights in the average, if an update is due."""
    if average is None or isinstance(config, NoAveraging):
        return
    if isinstance(config, SWAConfig):
        since = batch - config.start_batch
        if since < 0 or since % config.every_batches != 0:
            return
    # The fraction as a plain number: torch's own functions would read the count back from the GPU at every update.
    average.multi_avg_fn = get_ema_multi_avg_fn(kept_share(config, updates_made(average)))
    average.update_parameters(model)


def averaged_or_raw(average: AveragedModel | None, model: Decoder) -> Decoder:
    """The model whose weights are evaluated: the average once it has one, the raw model before."""
    return model if average is None or updates_made(average) == 0 else cast(Decoder, average.module)


def updates_made(average: AveragedModel) -> int:
    """Number of updates of the average. It is on the CPU, so that reading it does not wait for the GPU."""
    return int(average.n_averaged)


def average_state(average: AveragedModel | None) -> dict[str, Any] | None:
    """The average as plain tensors and numbers."""
    if average is None:
        return None
    return {"updates": updates_made(average), "model": average.module.state_dict()}


def load_average(average: AveragedModel | None, state: dict[str, Any] | None) -> None:
    """Restore what `average_state` returned."""
    if average is not None and state is not None:
        average.module.load_state_dict(state["model"])
        average.n_averaged.fill_(state["updates"])
