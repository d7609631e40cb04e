"""How a run computes: all that the training loop does not need to know about precision and devices."""

from __future__ import annotations

import torch
from torch import Tensor

from search_spaces.config import RunConfig
from trainable.compute.precision import autocast_for, set_tf32, weights_dtype
from trainable.compute.shadow import Shadow
from trainable.model import Decoder


class Engine:
    """Runs `model` forwards and backwards in the precision of `config`, on the model's device.

    A step is `begin_step`, then `decode` and `backward` for each of its micro-batches; the gradients are then the
    model's `.grad`, fp32. `weights_for_evaluation` may come between two steps.
    """

    def __init__(self, config: RunConfig, model: Decoder, device: torch.device) -> None:
        self._config, self._model, self._device = config, model, device
        dtype = weights_dtype(config, device)
        self._shadow = None if dtype == torch.float32 else Shadow(model, dtype)
        self.autocast = autocast_for(config, device)
        """What an evaluation runs in."""

    def begin_epoch(self) -> None:
        """Set torch's switches and the mode of the model: other trials and evaluations come in between."""
        set_tf32(self._device, self._config.training.tf32)
        self._model.train()
        if self._shadow is not None:
            self._shadow.decoder.train()

    def begin_step(self) -> None:
        """Take the weights as the optimizer left them; no gradients yet."""
        if self._shadow is not None:
            self._shadow.begin_step()
            return
        for parameter in self._model.parameters():
            parameter.grad = None

    def decode(self, features: Tensor, bins: Tensor, day: Tensor) -> tuple[Tensor, Tensor]:
        """`Decoder.decode` of a training batch: fp32 logits [batch, frames, classes] and frame counts."""
        decoder = self._model if self._shadow is None else self._shadow.decoder
        with self.autocast:
            return decoder.decode(features, bins, day)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a micro-batch's part of the loss to the step's."""
        loss.backward()
        if self._shadow is not None:
            self._shadow.collect()

    def weights_for_evaluation(self, source: Decoder) -> Decoder:
        """A decoder with the weights of `source`, the model or its average, as the forward pass has them.

        It is valid until the next call and the next step.
        """
        if self._shadow is None:
            return source
        self._shadow.round(source)
        return self._shadow.decoder
