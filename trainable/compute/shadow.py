"""A second set of a decoder's weights, rounded or laid out as the card wants them; what is trained stays fp32.

Mixed precision with master weights (Micikevicius et al. 2018): before each step the fp32 weights are rounded into the
shadow's, once and all together; the forward pass and its gradients are the shadow's; the gradients are added up in
fp32, and the optimizer changes the fp32 weights, which averages and checkpoints hold too. An update that is too small
for bf16's eight bits is so not lost.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from trainable.compute import torch_private
from trainable.compute.precision import flatten, in_one_block
from trainable.layers.padded import directions
from trainable.model import Decoder


class Shadow:
    """The shadow of `model` in `dtype`, on its device.

    Day layers stay fp32: the gradients of all utterances of a day are added up where their weights are looked up. Each
    GRU's weights lie in one block of memory as cuDNN takes them, with `by_direction` in one for each direction.
    The blocks never move: what was captured in a CUDA graph stays valid.
    """

    def __init__(self, model: Decoder, dtype: torch.dtype, *, by_direction: bool = False) -> None:
        self.model = model
        self.decoder = copy.deepcopy(model).to(dtype)
        for parameter in (self.decoder.day_weight, self.decoder.day_bias):
            if parameter is not None:
                parameter.data = parameter.data.to(torch.float32)
        if by_direction:
            for layer in self.decoder.layers:
                for direction in directions(cast(nn.GRU, layer)):
                    in_one_block(direction, cast(nn.GRU, layer))
        else:
            flatten(self.decoder)
        pairs = zip(model.parameters(), self.decoder.parameters(), strict=True)
        self._trained = [(own, lowered) for own, lowered in pairs if own.requires_grad]
        self.parameters = [lowered for _, lowered in self._trained]
        self.sums = [torch.zeros_like(own) for own, _ in self._trained]
        """The fp32 gradients of the step, summed over its micro-batches: the model's `.grad`."""

    @torch.no_grad()
    def begin_step(self) -> None:
        """Round the model's weights as they are now, and set its gradients to 0."""
        self.round(self.model)
        torch_private.zero_all(self.sums)
        for (own, _), total in zip(self._trained, self.sums, strict=True):
            own.grad = total

    @torch.no_grad()
    def round(self, source: nn.Module) -> None:
        """Take the weights of `source`, the model or an average of it."""
        torch_private.copy_all(list(self.decoder.parameters()), list(source.parameters()))

    @torch.no_grad()
    def add(self, gradients: Iterable[Tensor | None]) -> None:
        """Add gradients, in the order of `parameters`, to the sums; None where a weight had no part in the loss."""
        found = [(total, part) for total, part in zip(self.sums, gradients, strict=True) if part is not None]
        if found:
            torch_private.add_all([total for total, _ in found], [part for _, part in found])

    def collect(self) -> None:
        """Add the gradients of the shadow's own weights to the sums, and forget them."""
        self.add(parameter.grad for parameter in self.parameters)
        for parameter in self.parameters:
            parameter.grad = None
