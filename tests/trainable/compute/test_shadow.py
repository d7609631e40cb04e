"""Rounded weights beside fp32 ones. On a CPU the whole training can be had with them, so most is tested there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from search_spaces.config import RunConfig
from trainable import loop, train
from trainable.compute import engine
from trainable.compute.shadow import Shadow
from trainable.data.dataset import Dataset
from trainable.layers.padded import directions
from trainable.model import Decoder

Make = Callable[..., RunConfig]
LOWERED = [torch.bfloat16, torch.float16]


@pytest.fixture(params=LOWERED, ids=["bf16", "fp16"])
def rounded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
    """Runs on this CPU compute as runs on a card do: with rounded weights, without autocast."""
    monkeypatch.setattr(engine, "weights_dtype", lambda config, device: request.param)
    dtype: torch.dtype = request.param
    return dtype


def model_of(config: RunConfig) -> Decoder:
    torch.manual_seed(3)
    return Decoder(config, 6, 6, 2)


def batch() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(4)
    x = torch.randn(3, 40, 6)
    x[1, 30:], x[2, 20:] = 0, 0
    return x, torch.tensor([40, 30, 20]), torch.tensor([0, 1, 0])


@pytest.mark.parametrize("dtype", LOWERED)
@pytest.mark.parametrize("by_direction", [False, True])
def test_the_shadow_has_the_weights_rounded_to_nearest(config: Make, dtype: torch.dtype, by_direction: bool) -> None:
    """After `begin_step` each weight is the fp32 one rounded, after changes too; those of day layers are the same."""
    model = model_of(config(model={"layer_norm": True}))
    shadow = Shadow(model, dtype, by_direction=by_direction)
    for _ in range(2):
        shadow.begin_step()
        for (name, own), lowered in zip(model.named_parameters(), shadow.decoder.parameters(), strict=True):
            assert lowered.dtype == (torch.float32 if name.startswith("day_") else dtype)
            assert own.dtype == torch.float32 and torch.equal(lowered, own.to(lowered.dtype))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.37 * torch.randn_like(parameter))


def test_the_blocks_of_the_shadow_never_move(config: Make) -> None:
    """Steps and evaluations write into the same memory: a captured graph reads the newest weights."""
    model = model_of(config())
    shadow = Shadow(model, torch.bfloat16)
    places = [parameter.data_ptr() for parameter in shadow.decoder.parameters()]
    shadow.begin_step()
    shadow.round(model_of(config()))
    shadow.begin_step()
    assert [parameter.data_ptr() for parameter in shadow.decoder.parameters()] == places


def test_the_weights_of_a_layer_are_split_by_direction(config: Make) -> None:
    """w_ih, w_hh, b_ih, b_hh forwards and then backwards, by their names."""
    names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    for bidirectional in (True, False):
        layer = model_of(config(model={"bidirectional": bidirectional})).layers[0]
        suffixes = ["", "_reverse"][: 1 + bidirectional]
        expected = [[getattr(layer, name + suffix) for name in names] for suffix in suffixes]
        found = directions(layer)
        assert len(found) == 1 + bidirectional
        for one, other in zip(found, expected, strict=True):
            assert all(a is b for a, b in zip(one, other, strict=True))


def test_gradients_of_micro_batches_add_up_in_fp32(config: Make) -> None:
    """Parts that bf16 would swallow are kept: 1 and 256 times 1/256 make 2, where bf16 stays at 1."""
    model = model_of(config())
    shadow = Shadow(model, torch.bfloat16)
    shadow.begin_step()
    for part in [1.0, *[1 / 256] * 256]:
        for parameter in shadow.parameters:  # day layers are fp32 anyway
            parameter.grad = torch.full_like(parameter, part)
        shadow.collect()
    for parameter in model.parameters():
        assert parameter.grad is not None and parameter.grad.dtype == torch.float32
        assert bool((parameter.grad == 2.0).all())
    shadow.begin_step()
    assert all(bool((parameter.grad == 0).all()) for parameter in model.parameters() if parameter.grad is not None)


def test_frozen_weights_are_rounded_and_get_no_gradient(config: Make) -> None:
    """A weight that is not trained keeps `.grad` None, so that no weight decay touches it."""
    model = model_of(config())
    assert model.day_weight is not None
    model.day_weight.requires_grad_(False)
    shadow = Shadow(model, torch.bfloat16)
    shadow.begin_step()
    shadow.decoder.decode(*batch())[0].square().sum().backward()
    shadow.collect()
    assert model.day_weight.grad is None
    assert model.output.weight.grad is not None and bool(model.output.weight.grad.any())


def gradients(decoder: Decoder, model: Decoder, finish: Callable[[], None]) -> list[Tensor]:
    logits, frames = decoder.eval().decode(*batch())
    assert logits.dtype == torch.float32
    sum(logits[row, : int(count)].square().sum() for row, count in enumerate(frames)).backward()  # type: ignore[union-attr]
    finish()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize(("dtype", "near"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_its_gradients_are_those_of_fp32_within_the_precision(config: Make, dtype: torch.dtype, near: float) -> None:
    """Relative distance of each weight's gradient from the fp32 one's; with fp32 as its type they are the same."""
    model = model_of(config(model={"layer_norm": True}))
    exact = gradients(model, model, lambda: None)
    for kind, tolerance in ((torch.float32, 1e-6), (dtype, near)):
        shadow = Shadow(model, kind)
        shadow.begin_step()
        for found, wanted in zip(gradients(shadow.decoder, model, shadow.collect), exact, strict=True):
            assert found.dtype == torch.float32
            assert float((found - wanted).norm()) <= tolerance * float(wanted.norm()) + 1e-7


def test_updates_too_small_for_bf16_are_not_lost(tiny: Dataset, config: Make, rounded: torch.dtype) -> None:
    """With a rate so low that no rounded weight changes in a step, the fp32 weights still move."""
    settings = config(schedule={"kind": "constant", "peak_lr": 1e-7}, training={"clip": None})
    run = loop._start(settings, tiny, torch.device("cpu"))
    run.engine.begin_epoch(10)
    before = run.model.output.weight.detach().clone()
    loop._step(run, 0)
    assert bool((run.model.output.weight != before).all())
    assert float((run.model.output.weight.to(rounded) == before.to(rounded)).float().mean()) > 0.9


def test_training_with_rounded_weights_learns_as_fp32_does(tiny: Dataset, config: Make, rounded: torch.dtype) -> None:
    """Losses near those of fp32 but not equal to them; the averaged weights are evaluated rounded too."""
    settings = config(averaging={"kind": "ema", "decay": 0.5, "warmup": False})
    lowered = list(train(settings, tiny))
    exact = reports_in_fp32(settings, tiny)
    for one, other in zip(lowered, exact, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=0.05)
        assert one.val_loss == pytest.approx(other.val_loss, rel=0.05) and one.val_loss != other.val_loss
        assert one.per_raw == pytest.approx(other.per_raw, abs=0.15)


def reports_in_fp32(settings: RunConfig, data: Dataset) -> list[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "weights_dtype", lambda config, device: torch.float32)
        return list(train(settings, data))


def floats(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        if state.is_floating_point():
            yield state
    elif isinstance(state, dict | list):
        for item in state.values() if isinstance(state, dict) else state:
            yield from floats(item)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_checkpoints_hold_fp32_and_a_resumed_run_is_the_same(
    tiny: Dataset, config: Make, rounded: torch.dtype, accumulation: int
) -> None:
    """Nothing of the shadow is in a checkpoint; going on from it gives the same weights to the last bit."""
    settings = config(averaging={"kind": "ema", "decay": 0.9}, training={"accumulation": accumulation})
    whole = [report.checkpoint()["model"]["output.weight"].clone() for report in train(settings, tiny)]
    state = next(train(settings, tiny)).checkpoint()
    assert {tensor.dtype for tensor in floats(state)} == {torch.float32}
    assert set(state["model"]) == set(model_of(settings).state_dict())
    resumed = [report.checkpoint()["model"]["output.weight"].clone() for report in train(settings, tiny, state)]
    assert all(map(torch.equal, resumed, whole[1:]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
@pytest.mark.parametrize("graphs", ["off", "on"])
def test_a_card_in_bf16_has_no_half_kernels_and_keeps_small_gradients(tiny: Dataset, config: Make, graphs: str) -> None:
    """Under bf16 the profile of a step names no `__half` kernel; a loss scaled by 2^-22 has gradients that fp16, whose
    smallest number is 2^-24, would lose, and one scaled by 2^20 overflows nothing.
    """
    settings = config(training={"device": "cuda", "precision": "bf16", "graphs": graphs})
    run = loop._start(settings, tiny, torch.device("cuda"))
    run.engine.begin_epoch(10)
    loop._step(run, 0)
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        loop._step(run, 1)
        torch.cuda.synchronize()
    names = [event.key for event in profile.key_averages() if event.self_device_time_total > 0]
    assert any("bfloat16" in name.lower() for name in names)
    assert not [name for name in names if "__half" in name or "c10::Half" in name]
    features, bins, day = (tensor.cuda() if tensor.is_floating_point() else tensor for tensor in batch())
    norms = []
    for factor in (1.0, 2.0**-22, 2.0**20):
        run.engine.begin_step()
        logits, _ = run.engine.decode(features, bins, day.cuda())
        run.engine.backward(logits.square().mean() * factor)
        gradient = run.model.layers[0].weight_hh_l0.grad
        assert bool(gradient.isfinite().all())
        norms.append(float(gradient.norm()) / factor)
    assert norms == pytest.approx([norms[0]] * 3, rel=0.2)
