from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from search_spaces.config import EMAConfig, NoAveraging, SWAConfig
from trainable.averaging import (
    MEMORY,
    MOST_SKIPPED,
    SPARSE,
    AveragingConfig,
    average_state,
    batches_between,
    kept_share,
    load_averages,
    make_averages,
    same_weights,
    settle,
    update_averages,
    within,
)


class Scalar(nn.Module):
    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([value], dtype=torch.float64))


def averages(config: AveragingConfig, values: list[float]) -> list[float]:
    """The evaluated weight after each batch, when the raw weight takes these values."""
    model = Scalar(-7.0)
    made = make_averages(model, config)
    seen = []
    for batch, value in enumerate(values):
        model.w.data.fill_(value)
        update_averages(made, model, batch)
        seen.append((made[0].model if made and made[0].updates else model).w.item())
    return seen


VALUES = [1.0, 5.0, -2.0, 8.0, 3.0, 3.5, 0.0, 9.0]


def test_without_averaging_the_raw_weights_are_evaluated() -> None:
    """No average is made, and the model itself is what is evaluated."""
    model = Scalar()
    assert make_averages(model, NoAveraging()) == [] and average_state([]) is None
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
    whole, first = make_averages(model, config), make_averages(model, config)
    for batch, value in enumerate(VALUES):
        model.w.data.fill_(value)
        if batch == 4:
            second = make_averages(model, config)
            load_averages(second, average_state(first))
            first = second
        update_averages(whole, model, batch)
        update_averages(first, model, batch)
    assert torch.equal(whole[0].model.w, first[0].model.w)
    assert average_state(whole)["updates"] == average_state(first)["updates"]


def test_averaged_weights_take_no_part_in_training() -> None:
    """The average's parameters need no gradient, and changing the model does not change them."""
    model = Scalar(1.0)
    (average,) = made = make_averages(model, EMAConfig())
    update_averages(made, model, 0)
    model.w.data.fill_(5.0)
    assert float(average.model.w) == 1.0
    assert not any(p.requires_grad for p in average.model.parameters())


def wandering(batches: int) -> list[float]:
    """Weights that move as a trained model's do: a drift and noise."""
    steps = np.random.default_rng(3).normal(size=batches)
    return (np.sqrt(np.arange(batches)) + 0.1 * np.cumsum(steps)).tolist()


@pytest.mark.parametrize("warmup", [True, False])
def test_averages_side_by_side_are_those_of_runs_with_one(warmup: bool) -> None:
    """Each is what it would be alone: exactly where no batch is skipped, else within a tenth of its lag."""
    config, values = EMAConfig(decays=(0.5, 0.9, 0.99, 0.999), warmup=warmup), wandering(2000)
    model = Scalar()
    made = make_averages(model, config)
    for batch, value in enumerate(values):
        model.w.data.fill_(value)
        update_averages(made, model, batch)
    settle(made, model)
    for average in made:
        alone = averages(EMAConfig(decay=average.decay, warmup=warmup), values)[-1]
        found, lag = average.model.w.item(), abs(values[-1] - alone)
        assert found == alone if average.decay == 0.5 else abs(found - alone) <= 0.1 * lag
    assert [average.name for average in made] == ["0.5", "0.9", "0.99", "0.999"]


def test_a_long_window_is_not_updated_at_every_batch() -> None:
    """Early, while the decay warms up, at every batch; later at every 32nd for 0.999, and at every 64th beyond."""
    model = Scalar()
    (average,) = made = make_averages(model, EMAConfig(decays=(0.999,), warmup=True))
    updated = []
    for batch in range(20_000):
        model.w.data.fill_(float(batch + 1))
        before = average.model.w.item()
        update_averages(made, model, batch)
        updated += [batch + 1] if average.model.w.item() != before else []
    assert updated[:50] == list(range(1, 51))
    assert set(np.diff(updated[-100:])) == {32}
    assert batches_between(0.9999) == batches_between(0.99999) == MOST_SKIPPED


@given(st.floats(0, 1, exclude_max=True))
def test_the_time_between_two_updates_is_short_beside_the_window(kept: float) -> None:
    """It is a power of two, at most a twentieth of the window of 1 / (1 - kept) batches or one batch."""
    batches = batches_between(kept)
    assert batches & (batches - 1) == 0 and 1 <= batches <= MOST_SKIPPED
    assert batches == 1 or batches * (1 - kept) <= SPARSE


def test_averages_in_their_warm_up_have_the_same_weights() -> None:
    """Those whose decay has not been reached are one average, and are told apart from then on."""
    model = Scalar()
    made = make_averages(model, EMAConfig(decays=(0.5, 0.9, 0.99)))
    groups = {}
    for batch, value in enumerate(wandering(200)):
        model.w.data.fill_(value)
        update_averages(made, model, batch)
        groups[batch] = list(same_weights(made).values())
        for names in groups[batch]:
            assert len({average.model.w.item() for average in made if average.name in names}) == 1
    assert groups[0] == [["0.5", "0.9", "0.99"]]
    assert groups[7] == groups[0] and groups[8] == groups[50]  # (1 + 8) / (10 + 8) is 0.5
    assert groups[50] == [["0.5"], ["0.9", "0.99"]]
    assert groups[199] == [["0.5"], ["0.9"], ["0.99"]]
    cold = make_averages(model, EMAConfig(decays=(0.5, 0.9), warmup=False))
    for batch in range(2):
        update_averages(cold, model, batch)
    assert list(same_weights(cold)) == ["0.5", "0.9"]


def test_no_average_has_weights_before_its_first_update() -> None:
    """SWA that has not begun is in no group."""
    assert same_weights(make_averages(Scalar(), SWAConfig(start_batch=3))) == {}


@given(count=st.integers(1, 8), each=st.floats(1, 1e9), room=st.floats(0, 1e11))
def test_averages_that_do_not_fit_are_turned_down(count: int, each: float, room: float) -> None:
    """Together they take at most a tenth of the room, no one less than that is left out, and their order stays."""
    names = [str(number) for number in range(count)]
    kept = within(names, each, room)
    assert kept == sorted(set(kept), key=int) and set(kept) <= set(names)
    assert len(kept) * each <= MEMORY * room or not kept
    assert len(kept) == count or (len(kept) + 1) * each > MEMORY * room


def test_some_of_the_averages_cover_the_decays() -> None:
    """Where two of five fit they are spread over them; one is the middle one."""
    names = ["1", "2", "3", "4", "5"]
    assert within(names, 1.0, 2.5 / MEMORY) == ["2", "4"]
    assert within(names, 1.0, 1.0 / MEMORY) == ["3"]
    assert within(names, 1.0, 5.0 / MEMORY) == names and within(names, 1.0, 0.5 / MEMORY) == []
