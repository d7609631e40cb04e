"""Each way of computing gives the same numbers; the table says which one a device has."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from search_spaces.config import RunConfig
from trainable import model, train
from trainable.compute import measures
from trainable.compute.measures import MEASURES, Measures
from trainable.data.dataset import Dataset
from trainable.model import Decoder

Make = Callable[..., RunConfig]


def results(config: RunConfig) -> list[torch.Tensor]:
    """Logits and gradients of one batch in double precision."""
    torch.manual_seed(0)
    decoder = Decoder(config, 6, 6, 2).double().train()
    x = torch.randn(3, 40, 6, dtype=torch.float64, requires_grad=True)
    logits, _ = decoder(x, torch.tensor([40, 30, 21]), torch.tensor([0, 1, 0]))
    logits.square().sum().backward()
    return [logits, x.grad, *(parameter.grad for parameter in decoder.parameters())]


@pytest.mark.parametrize("kernel", [6, 7])
@pytest.mark.parametrize("device", list(MEASURES))
def test_the_ways_of_every_device_give_the_same_numbers(
    config: Make, monkeypatch: pytest.MonkeyPatch, device: str, kernel: int
) -> None:
    """What a card does, done on this CPU, has the same logits and gradients to 1e-10."""
    settings = config(
        model={"dropout": 0.0}, augmentation={"smoothing_sd": 2.0, "smoothing_kernel": kernel, "input_dropout": 0.0}
    )
    expected = results(settings)
    monkeypatch.setitem(MEASURES, "cpu", MEASURES[device])
    for one, other in zip(results(settings), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("conv1d", "name"), [(True, "_conv1d"), (False, "_convolve")])
def test_the_table_decides(config: Make, monkeypatch: pytest.MonkeyPatch, conv1d: bool, name: str) -> None:
    """An entry that says conv1d smooths by conv1d, and one that does not adds up shifted copies."""
    called: list[Any] = []
    monkeypatch.setitem(MEASURES, "cpu", dataclasses.replace(MEASURES["cpu"], conv1d=conv1d))
    monkeypatch.setattr(model, name, lambda x, taps: called.append(taps) or x)
    decoder = Decoder(config(augmentation={"smoothing_sd": 1.0}), 6, 6, 2)
    decoder.smooth(torch.zeros(1, 30, 6))
    assert len(called) == 1


def test_a_run_looks_at_its_losses_as_often_as_its_device_says(
    tiny: Dataset, config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss that is not finite ends a run at the next look: after one batch on a CPU, after the interval elsewhere."""
    from trainable import loop

    exact = loop.ctc_losses
    monkeypatch.setattr(loop, "ctc_losses", lambda *arguments: exact(*arguments) * float("nan"))
    for every, batches in ((1, 1), (3, 3)):
        monkeypatch.setitem(MEASURES, "cpu", Measures(conv1d=False, copied_windows=False, check_every=every))
        (report,) = train(config(), tiny)
        assert report.diverged and report.batch == batches


def test_both_devices_have_an_entry() -> None:
    """A CPU looks at every loss, which costs nothing there; a card seldom, because a look waits for it."""
    assert set(MEASURES) == {"cpu", "cuda"}
    assert measures.measures_on(torch.device("cpu")).check_every == 1
    assert measures.measures_on(torch.device("cuda", 0)).check_every == 20
