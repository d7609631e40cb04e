"""A GRU layer over padded sequences: as much work for any lengths, so that a CUDA graph can hold it.

Forwards, padding comes after an utterance and disturbs nothing. Backwards it would come first: so each utterance is
turned around within its own length, read forwards, and turned around again, as in `trainable.decoder_file`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from trainable.compute.torch_private import run_gru


def turning(frames: Tensor, longest: int) -> Tensor:
    """int64 [longest * batch]: for each frame of each utterance the row of [longest, batch] that takes its place.

    `frames` int64 [batch], on the device. Padding stays where it is, so turning around twice changes nothing.
    """
    frame = torch.arange(longest, device=frames.device)[:, None]
    turned = torch.where(frame < frames, frames - 1 - frame, frame)
    return (turned * len(frames) + torch.arange(len(frames), device=frames.device)).flatten()


def padded_gru(layer: nn.GRU, x: Tensor, order: Tensor, start: Tensor | None = None) -> Tensor:
    """One-layer `layer` over x [frames, batch, inputs]: [frames, batch, hidden * directions].

    `order` is `turning` of the utterances' frames; `start` [1, 1, hidden] is the state before the first frame, None 0.
    What comes out beyond an utterance's end means nothing.
    """
    if start is None:
        first = x.new_zeros(1, x.shape[1], layer.hidden_size)
    else:
        first = start.to(x.dtype).expand(1, x.shape[1], -1).contiguous()
    outputs = []
    for number, weights in enumerate(directions(layer)):
        given = _Turned.apply(x, order) if number else x
        output = run_gru(given, first, weights, layer.training)
        outputs.append(_Turned.apply(output, order) if number else output)
    return torch.cat(outputs, dim=2) if len(outputs) > 1 else outputs[0]


def directions(layer: nn.GRU) -> list[list[nn.Parameter]]:
    """The weights of a layer by direction: w_ih, w_hh, b_ih, b_hh forwards, then, if there is one, backwards."""
    weights = list(layer.parameters())
    return [weights[first : first + 4] for first in range(0, len(weights), 4)]


class _Turned(torch.autograd.Function):
    """Rows of x [frames, batch, ...] in another order, which is its own inverse: so is the gradient's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return _rows(x, order)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (order,) = ctx.saved_tensors
        return _rows(grad, order), None


def _rows(x: Tensor, order: Tensor) -> Tensor:
    return x.flatten(0, 1).index_select(0, order).view(x.shape)
