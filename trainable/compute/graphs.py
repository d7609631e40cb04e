"""The decoder's forward and backward passes as CUDA graphs, one for each padded length.

A step of a GRU is thousands of small kernels, and a card waits for their launches rather than for arithmetic; a graph
is launched at once. It has fixed shapes and places: batches are copied into them, with empty utterances and frames up
to the next of a few lengths. All graphs share one pool of memory, because only one is ever between its forward and its
backward pass. Augmentation, the CTC loss and the optimizer are outside.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from search_spaces.wording import reason_of
from trainable.compute.measures import no_memory
from trainable.compute.shadow import Shadow
from trainable.data.batches import room_on_card
from trainable.model import output_frames

MOST_LENGTHS = 16
"""Graphs of one run.

On lengths like the recordings' (100 to 900 bins around 316, batches by length) they add 4 % to the frames of batches
that are padded to their longest; 12 would add 6 %, 24 would add 2 %.
"""
WARM_UPS = 3
"""Plain passes before a capture, in which cuDNN and cuBLAS choose and allocate; torch's own capture makes as many."""
BESIDE = 2
"""Times the memory of the longest batch: the pool, and beside it plain passes, to warm up and for evaluation."""

Record = Callable[[Callable[[], None]], Callable[[], None]]
"""Does some work, and returns what does it again with what then is in the same places."""


class GraphsRefused(Exception):
    """Graphs cannot be made here; the message is why."""


def padded_lengths(longest: np.ndarray, most: int = MOST_LENGTHS) -> list[int]:
    """At most `most` lengths, rising, that batches of these longest lengths are padded to, with little padding.

    Starting from all that occur, the length whose batches lose least by going to the next one is left out.
    """
    lengths, counts = np.unique(longest, return_counts=True)
    while len(lengths) > most:
        least = int(np.argmin(counts[:-1] * np.diff(lengths)))
        counts[least + 1] += counts[least]
        lengths, counts = np.delete(lengths, least), np.delete(counts, least)
    return [int(length) for length in lengths]


class Graphs:
    """`Decoder.decode` of a shadow for training batches of up to `batch` utterances and these padded lengths, frames.

    A graph is captured when its length first comes. The first time that one is needed, the longest is captured, which
    decides over memory. `record` is the card's way of capturing; a test has another.
    """

    def __init__(self, shadow: Shadow, lengths: list[int], batch: int, record: Record | None = None) -> None:
        self._shadow, self.lengths, self._batch = shadow, lengths, batch
        self._record = record or capturing()
        self._cores: dict[int, _Core] = {}
        self._inputs: _Inputs | None = None
        self.needed = self.room = 0.0
        """Bytes that they take and that were left for this trial, from the first capture on."""
        # Evaluation reads both directions in one call, from weights that lie apart: cuDNN copies them for it.
        warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk")

    @property
    def captured(self) -> bool:
        """Whether any is there."""
        return bool(self._cores)

    def decode(self, features: Tensor, bins: Tensor, day: Tensor) -> tuple[Tensor, Tensor] | None:
        """Logits and frame counts of a batch, or None for one that is longer or larger than any was said to be.

        Raises `GraphsRefused` if memory does not allow it or a capture fails. The logits are valid until the next call.
        """
        decoder = self._shadow.decoder
        frames = output_frames(bins, decoder.kernel, decoder.stride)
        length = next((length for length in self.lengths if length >= int(frames.max())), None)
        if length is None or len(features) > self._batch:
            return None
        if self._inputs is None:
            self._inputs = _Inputs(self._shadow, self.lengths[-1], self._batch, features)
        given = features, frames.clamp(min=1), day
        for wanted in (self.lengths[-1], length):
            if wanted not in self._cores:
                self._capture(_Core(self._shadow, self._inputs, wanted), given)
        core = self._cores[length]
        core.load(*given)
        logits = _Replay.apply(self._inputs.anchor, core)
        return logits.transpose(0, 1)[: len(features)], frames

    def _capture(self, core: _Core, given: tuple[Tensor, Tensor, Tensor]) -> None:
        core.load(*given)  # the passes are run on it: what is in place may be of a longer batch
        device = given[0].device
        refused = None
        # What is drawn here must not be missing in the step: its random numbers go on as if this had not been.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            try:
                taken = _warm_up(core, device)
                if not self._cores:
                    self.needed, self.room = BESIDE * taken, self._room(device)
                    refused = no_memory(self.needed, self.room)
                if refused is None:
                    core.record(self._record)
            except RuntimeError as error:  # out of memory, or something that cannot be captured
                refused = f"capturing {core.length} frames failed: {reason_of(error)}"
        if refused is not None:
            raise GraphsRefused(refused)  # outside of the except block, whose error holds on to memory
        self._cores[core.length] = core

    def _room(self, device: torch.device) -> float:
        """Bytes that are left for this trial beside what it is sure to need."""
        if device.type == "cpu":
            return 0.0
        gc.collect()
        torch.cuda.empty_cache()
        # The optimizer's state comes with the first step: two numbers for each weight.
        later = 2 * sum(total.numel() * total.element_size() for total in self._shadow.sums)
        return room_on_card(device) - later


class _Inputs:
    """Where the graphs read their batch from; they share these places. Empty utterances have one frame of zeros."""

    def __init__(self, shadow: Shadow, longest: int, batch: int, like: Tensor) -> None:
        decoder = shadow.decoder
        self.width, self.batch = like.shape[2], batch
        bins = (longest - 1) * decoder.stride + decoder.kernel
        self.features = like.new_zeros(batch * bins * self.width)
        self.frames = torch.ones(batch, dtype=torch.int64, device=like.device)
        self.day = torch.zeros(batch, dtype=torch.int64, device=like.device)
        self.anchor = torch.zeros((), device=like.device, requires_grad=True)
        """What makes autograd call the backward graph; it gets no gradient."""


class _Core:
    """Both passes of one padded length."""

    def __init__(self, shadow: Shadow, inputs: _Inputs, length: int) -> None:
        self._shadow, self._inputs, self.length = shadow, inputs, length
        bins = (length - 1) * shadow.decoder.stride + shadow.decoder.kernel
        size = inputs.batch * bins * inputs.width
        self._features = inputs.features[:size].view(inputs.batch, bins, inputs.width)
        classes = shadow.decoder.output.out_features
        self.grad = torch.zeros(length, inputs.batch, classes, device=inputs.day.device)
        self.logits = self.grad
        self.forward: Callable[[], None]
        self.backward: Callable[[], None]

    def load(self, features: Tensor, frames: Tensor, day: Tensor) -> None:
        """Put a batch into place: features [n, time, features], frames int64 [n] on the CPU, day [n]."""
        count, bins = len(features), min(features.shape[1], self._features.shape[1])
        self._features[:count, :bins].copy_(features[:, :bins])
        self._features[:count, bins:].zero_()
        self._features[count:].zero_()
        inputs = self._inputs
        counts = torch.ones(inputs.batch, dtype=torch.int64)
        counts[:count] = frames
        inputs.frames.copy_(counts.pin_memory() if inputs.frames.is_cuda else counts, non_blocking=True)
        inputs.day[:count].copy_(day)
        inputs.day[count:].zero_()

    def record(self, record: Record) -> None:
        """Capture both passes."""
        self.forward = record(self._forward)
        self.backward = record(self._backward)
        self.logits = self.logits.detach()  # what the backward pass needed is free for other graphs

    def _forward(self) -> None:
        self.logits = self._shadow.decoder.decode_padded(self._features, self._inputs.frames, self._inputs.day)

    def _backward(self) -> None:
        self._shadow.add(torch.autograd.grad(self.logits, self._shadow.parameters, self.grad, allow_unused=True))


class _Replay(torch.autograd.Function):
    """The passes of a core in autograd's graph; the gradients of the weights are added up by the backward pass."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, core: _Core) -> Tensor:
        ctx.core = core
        core.forward()
        return core.logits.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None]:
        ctx.core.grad.copy_(grad)
        ctx.core.backward()
        return None, None


def capturing() -> Record:
    """Captures work on the card as CUDA graphs that share one pool of memory."""
    pool = torch.cuda.graph_pool_handle()

    def record(work: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        gc.collect()  # nothing of the card may be freed while it captures
        stream = torch.cuda.current_stream()
        try:
            # Other threads read ahead and write checkpoints: only what this one does must be capturable.
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                work()
        except RuntimeError:
            torch.cuda.set_stream(stream)  # a capture that fails leaves its own stream behind
            raise
        return graph.replay

    return record


def _warm_up(core: _Core, device: torch.device) -> float:
    """Run the passes of a core plainly, and return the most memory that they took, in bytes; on a CPU 0 and nothing."""
    if device.type == "cpu":
        return 0.0
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    stream = torch.cuda.Stream(device)
    try:
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                core._forward()
                core._backward()
    finally:
        torch.cuda.synchronize(device)
    return float(torch.cuda.max_memory_allocated(device) - before)
