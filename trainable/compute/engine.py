"""How a run computes: all that the training loop does not need to know about precision, devices and CUDA graphs."""

from __future__ import annotations

import torch
from torch import Tensor

from search_spaces.config import RunConfig
from trainable.compute.graphs import Graphs, GraphsRefused, padded_lengths
from trainable.compute.measures import no_graphs
from trainable.compute.precision import autocast_for, set_tf32, weights_dtype
from trainable.compute.shadow import Shadow
from trainable.data.batches import Sampler, card_share
from trainable.model import Decoder, output_frames


class Engine:
    """Runs `model` forwards and backwards in the precision of `config`, on `device`, where it is.

    `begin_epoch`, then for each step `begin_step`, and `decode` and `backward` for each of its micro-batches; the
    gradients are then the model's `.grad`, fp32. `weights_for_evaluation` may come between two steps. `sampler` draws
    the batches: CUDA graphs are made for their lengths.

    `notes` are lines for the log on what was chosen on a card, and why; who logs them clears the list.
    """

    def __init__(self, config: RunConfig, model: Decoder, device: torch.device, sampler: Sampler) -> None:
        self._config, self._model, self._device, self._sampler = config, model, device, sampler
        self._dtype = weights_dtype(config, device)
        self._shadow: Shadow | None = None
        self._graphs: Graphs | None = None
        self._chosen = self._relaid = self._told = False
        self.autocast = autocast_for(config, device)
        """What an evaluation runs in."""
        self.notes: list[str] = []

    def begin_epoch(self, steps: int) -> None:
        """Set torch's switches and the model's mode: other trials and evaluations come in between.

        `steps` are left in the run. The first call chooses how to compute.
        """
        set_tf32(self._device, self._config.training.tf32)
        if not self._chosen:
            self._choose(steps)
        self._model.train()
        if self._shadow is not None:
            self._shadow.decoder.train()

    def begin_step(self) -> None:
        """Take the weights as the optimizer left them; no gradients yet."""
        if self._relaid:  # graphs were given up: plain kernels want their weights otherwise
            self._relaid, self._shadow = False, self._plain_shadow()
        if self._shadow is not None:
            self._shadow.begin_step()
            return
        for parameter in self._model.parameters():
            parameter.grad = None

    def decode(self, features: Tensor, bins: Tensor, day: Tensor) -> tuple[Tensor, Tensor]:
        """`Decoder.decode` of a training batch: fp32 logits [batch, frames, classes] and frame counts.

        There may be more frames than the longest utterance has; they count for nobody.
        """
        if self._graphs is not None:
            try:
                decoded = self._graphs.decode(features, bins, day)
            except GraphsRefused as error:
                self._graphs, self._relaid = None, True
                self._say(f"plain kernels, no CUDA graphs: {error}")
            else:
                self._say_once_graphed()
                if decoded is not None:
                    return decoded
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
        if self._shadow is None or self._dtype == torch.float32:
            return source
        self._shadow.round(source)
        return self._shadow.decoder

    def _choose(self, steps: int) -> None:
        """Plain kernels or CUDA graphs, and with them where the weights of the forward pass are."""
        self._chosen = True
        share = card_share()
        refused = no_graphs(self._config, share, steps) if self._device.type == "cuda" else "not on a card"
        if refused is None:
            model = self._model
            self._shadow = Shadow(model, self._dtype, by_direction=True)
            bins, batch = self._sampler.shapes()
            longest = output_frames(torch.from_numpy(bins), model.kernel, model.stride).clamp(min=1)
            lengths = padded_lengths(longest.numpy())
            self._graphs = Graphs(self._shadow, lengths, batch)
            return
        self._shadow = self._plain_shadow()
        if self._device.type == "cuda":
            self._say(f"plain kernels, no CUDA graphs: {refused}")

    def _plain_shadow(self) -> Shadow | None:
        return None if self._dtype == torch.float32 else Shadow(self._model, self._dtype)

    def _say_once_graphed(self) -> None:
        graphs = self._graphs
        if graphs is None or not graphs.captured or self._told:
            return
        why = "the card is this trial's alone" if card_share() >= 1 else "a GRU as narrow as this pays on a shared card"
        if self._config.training.graphs == "on":
            why = "training.graphs is on"
        memory = f"{graphs.needed / 2**30:.1f} of the {graphs.room / 2**30:.1f} GB left for it are enough"
        self._told = True
        self._say(f"CUDA graphs for {len(graphs.lengths)} padded lengths: {why}, and {memory}")

    def _say(self, choice: str) -> None:
        self.notes.append(f"computes in {self._config.training.precision} with {choice}")
