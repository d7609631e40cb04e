"""The padded decoder, which a CUDA graph holds, is the packed one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from search_spaces.config import RunConfig
from trainable.layers.padded import padded_gru, turning
from trainable.model import Decoder, output_frames

Make = Callable[..., RunConfig]


def test_turning_is_within_each_utterance_and_its_own_inverse() -> None:
    """An utterance's frames are reversed, its padding stays; twice is nothing."""
    frames = torch.tensor([4, 2, 1])
    order = turning(frames, 4)
    rows = torch.arange(12).view(4, 3)
    turned = rows.flatten()[order].view(4, 3)
    assert turned[:, 0].tolist() == [9, 6, 3, 0]
    assert turned[:, 1].tolist() == [4, 1, 7, 10]
    assert turned[:, 2].tolist() == [2, 5, 8, 11]
    assert torch.equal(order[order], torch.arange(12))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("learned", [False, True])
def test_the_padded_gru_is_torchs_gru(bidirectional: bool, learned: bool) -> None:
    """Outputs at real frames and all gradients equal those of nn.GRU on packed sequences, to 1e-12 in double."""
    torch.manual_seed(0)
    layer = nn.GRU(5, 3, bidirectional=bidirectional).double()
    start = torch.randn(1, 1, 3, dtype=torch.float64, requires_grad=True) if learned else None
    x = torch.randn(7, 4, 5, dtype=torch.float64)
    frames = torch.tensor([7, 6, 4, 1])
    inside = (torch.arange(7)[:, None] < frames)[:, :, None]
    weight = torch.randn(7, 4, 3 * (1 + bidirectional), dtype=torch.float64)

    def packed(given: Tensor) -> Tensor:
        first = None if start is None else start.expand(1 + bidirectional, 4, 3).contiguous()
        return pad_packed_sequence(layer(pack_padded_sequence(given, frames), first)[0])[0]

    results = []
    for run in (packed, lambda given: padded_gru(layer, given, turning(frames, 7), start)):
        given = x.clone().requires_grad_()
        layer.zero_grad()
        if start is not None:
            start.grad = None
        output = run(given) * inside
        (output * weight).sum().backward()
        trained = [*layer.parameters(), *([] if start is None else [start])]
        results.append([output, given.grad * inside, *(tensor.grad.clone() for tensor in trained)])
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "one way": {"bidirectional": False},
    "layer norm": {"layer_norm": True},
    "no day layers": {"day_layers": False},
    "learned start": {"learned_start": True},
    "residual": {"residual": True},
}


@pytest.mark.parametrize("variant", list(VARIANTS))
@pytest.mark.parametrize("longer", [0, 5])
def test_the_padded_decoder_has_the_packed_ones_logits_and_gradients(config: Make, variant: str, longer: int) -> None:
    """Whatever the model and however much longer the padding is; utterances of one frame and of none among them."""
    torch.manual_seed(1)
    model = Decoder(config(model={"dropout": 0.0, **VARIANTS[variant]}), 6, 6, 2).double().train()
    bins = torch.tensor([57, 40, 23, 8, 3])
    x = torch.randn(5, 57, 6, dtype=torch.float64) * (torch.arange(57) < bins[:, None])[:, :, None]
    day = torch.tensor([0, 1, 0, 1, 0])
    frames = output_frames(bins, model.kernel, model.stride)
    assert frames.tolist() == [25, 17, 8, 1, 0]
    results = []
    for padded in (False, True):
        model.zero_grad()
        if padded:
            time = (25 + longer - 1) * model.stride + model.kernel
            wide = torch.nn.functional.pad(x, (0, 0, 0, max(0, time - 57)))[:, :time]
            logits = model.decode_padded(wide, frames.clamp(min=1), day).transpose(0, 1)[:, :25]
            assert model.decode_padded(wide, frames.clamp(min=1), day).shape == (25 + longer, 5, 6)
        else:
            logits, _ = model.decode(x, bins, day)
        inside = (torch.arange(25) < frames[:, None])[:, :, None]
        kept = torch.where(inside, logits, 0.0)
        kept.square().sum().backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        results.append([kept, *gradients])
    assert len(results[0]) == len(results[1]) == 1 + len(list(model.parameters()))
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


def test_dropout_and_speckle_act_on_padded_inputs_as_on_packed_ones(config: Make) -> None:
    """Shares of zeros are the rates: an input off in all frames of an utterance, a frame off in all inputs."""
    settings = config(
        model={"day_layers": False, "bidirectional": False},
        augmentation={"speckle_features": 0.3, "speckle_frames": 0.2, "input_dropout": 0.0},
    )
    model = Decoder(settings, 6, 6, 2).train()
    torch.manual_seed(0)
    data = model._speckled(torch.ones(40, 30, 50))
    frames_off = (data == 0).all(2)
    assert float(frames_off.float().mean()) == pytest.approx(0.2, abs=0.04)
    off = torch.where(frames_off[:, :, None], torch.nan, data)
    always_off = torch.nanmean(off, 0) == 0
    assert float(always_off.float().mean()) == pytest.approx(0.3, abs=0.05)
    assert bool(((torch.nanmean(off, 0) == 0) | (torch.nanmean(off, 0) == 1)).all())
