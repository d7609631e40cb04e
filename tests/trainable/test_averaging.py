from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from search_spaces.config import EMAConfig, NoAveraging, SWAConfig
from trainable.averaging import (
    AveragingConfig,
    average_state,
    averaged_or_raw,
    kept_share,
    load_average,
    make_average,
    update_average,
)


class Scalar(nn.Module):
    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([value], dtype=torch.float64))


def averages(config: AveragingConfig, values: list[float]) -> list[float]:
    """The evaluated weight after each batch, when the raw weight takes these values."""
    model = Scalar(-7.0)
    average = make_average(model, config)
    seen = []
    for batch, value in enumerate(values):
        model.w.data.fill_(value)
        update_average(average, model, config, batch)
        seen.append(averaged_or_raw(average, model).w.item())
    return seen


VALUES = [1.0, 5.0, -2.0, 8.0, 3.0, 3.5, 0.0, 9.0]


def test_without_averaging_the_raw_weights_are_evaluated() -> None:
    """No average is made, and the model itself is what is evaluated."""
    model = Scalar()
    assert make_average(model, NoAveraging()) is None
    assert averaged_or_raw(None, model) is model
    assert averages(NoAveraging(), VALUES) == VALUES


def test_ema_is_its_recursion() -> None:
    """The first batch's weights are copied; then each update keeps `decay` of the average."""
    expected = [VALUES[0]]
    for value in VALUES[1:]:
        expected.append(0.9 * expected[-1] + 0.1 * value)
    assert averages(EMAConfig(decay=0.9, warmup=False), VALUES) == pytest.approx(expected, rel=1e-12)


def test_ema_warm_up_lets_early_weights_fade() -> None:
    """With warm-up the decay is min(decay, (1 + u) / (10 + u)) at update u, and reaches the full one later."""
    config = EMAConfig(decay=0.9, warmup=True)
    expected = [VALUES[0]]
    for update, value in enumerate(VALUES[1:], 1):
        decay = (1 + update) / (10 + update)
        expected.append(decay * expected[-1] + (1 - decay) * value)
    assert averages(config, VALUES) == pytest.approx(expected, rel=1e-12)
    assert kept_share(config, 79) < 0.9 and kept_share(config, 80) == 0.9


def test_swa_is_the_equal_weight_mean_from_its_start() -> None:
    """Before start_batch the raw weights are evaluated; from then on the mean of every `every_batches`-th batch."""
    seen = averages(SWAConfig(start_batch=3, every_batches=2), VALUES)
    assert seen[:3] == VALUES[:3]
    assert seen[3:] == pytest.approx(
        [VALUES[3], VALUES[3], np.mean([VALUES[3], VALUES[5]]), np.mean([VALUES[3], VALUES[5]]),
         np.mean([VALUES[3], VALUES[5], VALUES[7]])]
    )  # fmt: skip


@pytest.mark.parametrize("config", [EMAConfig(decay=0.9), SWAConfig(start_batch=1)])
def test_an_average_goes_on_from_its_state(config: AveragingConfig) -> None:
    """Saved and loaded in the middle, the average ends where it would have ended."""
    model = Scalar()
    whole, first = make_average(model, config), make_average(model, config)
    for batch, value in enumerate(VALUES):
        model.w.data.fill_(value)
        if batch == 4:
            second = make_average(model, config)
            load_average(second, average_state(first))
            first = second
        update_average(whole, model, config, batch)
        update_average(first, model, config, batch)
    assert torch.equal(whole.module.w, first.module.w)
    assert average_state(whole)["updates"] == average_state(first)["updates"]


def test_averaged_weights_take_no_part_in_training() -> None:
    """The average's parameters need no gradient, and changing the model does not change them."""
    model = Scalar(1.0)
    average = make_average(model, EMAConfig())
    update_average(average, model, EMAConfig(), 0)
    model.w.data.fill_(5.0)
    assert float(average.module.w) == 1.0
    assert not any(p.requires_grad for p in average.parameters())
