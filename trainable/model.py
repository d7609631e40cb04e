"""The GRU-CTC phoneme decoder.

    features [batch, time, features]
      -> Gaussian smoothing over time
      -> affine layer of the recording day (identity at the start) -> softsign -> dropout of the day layer's output
      -> windows of `kernel` bins every `stride` bins -> input dropout, speckle
      -> GRU layers, uni- or bidirectional, with optional layer norm, residual connections and dropout between them
      -> feed-forward layers (`trainable.layers.head`)
      -> logits [batch, frames, classes], class 0 the CTC blank

after Willett et al. 2023 (the reference, `speechBaseline4` of cffan/neural_seq_decoder). Differences: the smoothing
kernel is symmetric (the reference's even kernel shifts by half a bin, as this one does with `smoothing_even`), and the
last frame is kept: frames = (bins - kernel) // stride + 1.

What is off by default has these sources: dropout of the day layer's output and a learned first state, Card et al. 2024
(Neuroprosthetics-Lab/nejm-brain-to-text); speckle of whole inputs and whole frames, sergiolsantamaria2/brain2text,
after coordinated dropout (Keshtkaran & Pandarinath 2019); residual connections between layers, He et al. 2016, for
recurrent layers Wu et al. 2016.

An utterance's logits do not depend on the rest of its batch: padding affects neither the smoothing (it is zero, like
the bins beyond the end of a single utterance) nor the GRU (packed sequences).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from search_spaces.config import RunConfig
from trainable.compute.measures import measures_on
from trainable.compute.precision import gru_backend
from trainable.layers.gru import gru
from trainable.layers.head import feed_forward
from trainable.layers.padded import padded_gru, turning


class Decoder(nn.Module):
    """The decoder of `config`, for data with these numbers of features, classes (blank included) and days."""

    def __init__(self, config: RunConfig, n_features: int, n_classes: int, n_days: int) -> None:
        super().__init__()
        model = config.model
        self.kernel, self.stride = model.kernel, model.stride
        self.input_dropout, self.dropout = config.augmentation.input_dropout, model.dropout
        augmentation = config.augmentation
        self.day_dropout, self.residual = model.day_dropout, model.residual
        self.speckle_features, self.speckle_frames = augmentation.speckle_features, augmentation.speckle_frames
        self.taps = gaussian_taps(
            augmentation.smoothing_sd, augmentation.smoothing_kernel, even=augmentation.smoothing_even
        )
        self.day_weight: nn.Parameter | None = None
        self.day_bias: nn.Parameter | None = None
        if model.day_layers:
            self.day_weight = nn.Parameter(torch.eye(n_features).repeat(n_days, 1, 1))
            self.day_bias = nn.Parameter(torch.zeros(n_days, 1, n_features))
        width = model.hidden * (2 if model.bidirectional else 1)
        inputs = [n_features * model.kernel] + [width] * (model.layers - 1)
        self.layers = nn.ModuleList(nn.GRU(size, model.hidden, bidirectional=model.bidirectional) for size in inputs)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in inputs) if model.layer_norm else None
        self.start = nn.Parameter(_first_state(model.hidden)) if model.learned_start else None
        self.head = feed_forward(model, width)
        self.output = nn.Linear(width, n_classes)
        for name, parameter in self.layers.named_parameters():
            if "weight_hh" in name:
                nn.init.orthogonal_(parameter)
            elif "weight_ih" in name:
                nn.init.xavier_uniform_(parameter)

    def forward(self, features: Tensor, bins: Tensor, day: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [batch, frames, classes] and how many frames of each utterance count, int64 [batch] on the CPU.

        `features` float32 [batch, time, features], zero beyond an utterance's end; `bins` int64 [batch] on the CPU;
        `day` int64 [batch]. An utterance shorter than the kernel has 0 frames. Longest first is fastest.
        """
        return self.decode(self.smooth(features), bins, day)

    def smooth(self, features: Tensor) -> Tensor:
        """`features` [batch, time, features] smoothed over time; beyond both ends the signal counts as zero."""
        if len(self.taps) == 1:
            return features
        return (_conv1d if measures_on(features.device).conv1d else _convolve)(features, self.taps)

    def decode(self, features: Tensor, bins: Tensor, day: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` without the smoothing; where training augments the smoothed features, it starts here."""
        frames = output_frames(bins, self.kernel, self.stride)
        packed = self._windows(self._by_day(features, day), frames.clamp(min=1))

        def run(layer: nn.GRU, data: Tensor) -> Tensor:
            return gru(layer, packed._replace(data=data), self.start).data

        logits = self._layers(packed.data, run)
        logits, _ = pad_packed_sequence(packed._replace(data=logits), batch_first=True)
        return logits, frames

    def decode_padded(self, features: Tensor, frames: Tensor, day: Tensor) -> Tensor:
        """`decode` with padding: logits [frames, batch, classes], whose shape follows from that of `features`.

        Nothing in it looks at a number, so a CUDA graph can hold it. `features` [batch, time, features] are kernel bins
        or more; `frames` int64 [batch], 1 or more, and `day` are on the device. An utterance's own frames have the
        logits that `decode` gives it; those beyond mean nothing.
        """
        x = self._by_day(features, day).unfold(1, self.kernel, self.stride).permute(1, 0, 3, 2).flatten(2)
        x = F.dropout(x, self.input_dropout, self.training)
        if self.training:
            x = self._speckled(x)
        order = turning(frames, len(x))
        with gru_backend(x):
            return self._layers(x, lambda layer, data: padded_gru(layer, data, order, self.start))

    def _by_day(self, features: Tensor, day: Tensor) -> Tensor:
        """[batch, time, features] after the layer of the recording day and softsign, in the type of the weights."""
        x = features.to(self.output.weight.dtype)
        if self.day_weight is not None and self.day_bias is not None:
            x = torch.baddbmm(self.day_bias[day].to(x.dtype), x, self.day_weight[day].to(x.dtype))
        x = F.softsign(x)
        return F.dropout(x, self.day_dropout, self.training) if self.day_dropout > 0 else x

    def _layers(self, x: Tensor, run: Callable[[nn.GRU, Tensor], Tensor]) -> Tensor:
        """From windows to logits, fp32 or more precise: [..., kernel * features] to [..., classes], packed or padded.

        `run` runs a GRU; everything else is done for each frame by itself.
        """
        for i, layer in enumerate(self.layers):
            before = x
            if i > 0:
                x = F.dropout(x, self.dropout, self.training)
            x = run(cast(nn.GRU, layer), x)
            if self.norms is not None:
                x = self.norms[i](x)
            if self.residual and i > 0:
                x = before + x
        logits = self.output(x if self.head is None else self.head(x))
        return cast(Tensor, logits.to(torch.promote_types(logits.dtype, torch.float32)))

    def _windows(self, x: Tensor, frames: Tensor) -> PackedSequence:
        """Packed windows, data [all frames, kernel * features], bin after bin within a window."""
        short = self.kernel - x.shape[1]
        if short > 0:
            x = F.pad(x, (0, 0, 0, short))
        # A view [frames, batch, kernel * features], of which packing makes the only copy.
        windows = x.unfold(1, self.kernel, self.stride).permute(1, 0, 3, 2).flatten(2)
        if measures_on(x.device).copied_windows:
            windows = windows.contiguous()
        falling = bool((frames[:-1] >= frames[1:]).all())
        packed = pack_padded_sequence(windows, frames, enforce_sorted=falling)
        packed = packed._replace(data=F.dropout(packed.data, self.input_dropout, self.training))
        return packed._replace(data=self._speckled(packed.data, packed.batch_sizes)) if self.training else packed

    def _speckled(self, data: Tensor, sizes: Tensor | None = None) -> Tensor:
        """Inputs set to 0 in all frames of an utterance, and in single frames; what is left is not scaled.

        `data` is padded, [frames, batch, inputs], or packed, [all frames, inputs]; then `sizes` are its batch sizes.
        """
        if self.speckle_features > 0:
            batch = data.shape[1] if sizes is None else int(sizes[0])
            kept = torch.rand(batch, data.shape[-1], device=data.device) >= self.speckle_features
            if sizes is not None:
                kept = kept[torch.cat([torch.arange(size) for size in sizes.tolist()]).to(data.device)]
            data = data * kept
        if self.speckle_frames > 0:
            data = data * (torch.rand((*data.shape[:-1], 1), device=data.device) >= self.speckle_frames)
        return data


def _first_state(hidden: int) -> Tensor:
    """[1, 1, hidden], as the '25 reference draws it (its `h0`)."""
    return nn.init.xavier_uniform_(torch.zeros(1, 1, hidden))


def output_frames(bins: Tensor, kernel: int, stride: int) -> Tensor:
    """How many windows fit: (bins - kernel) // stride + 1, or 0 where bins < kernel."""
    return ((bins - kernel).div(stride, rounding_mode="floor") + 1).clamp(min=0)


def gaussian_taps(sd: float, kernel: int, *, even: bool = False) -> tuple[float, ...]:
    """A Gaussian of s.d. `sd` bins over `kernel` bins, of sum 1; `sd` 0 gives the single tap 1, which does not smooth.

    An even `kernel` gets one tap more, so that the taps lie symmetrically about a bin and nothing is shifted in time.
    With `even` it gets none: its middle is half a bin later than the bin, as in the reference.
    """
    if even and sd > 0 and kernel % 2 == 0:
        taps = [math.exp(-0.5 * ((position - (kernel - 1) / 2) / sd) ** 2) for position in range(kernel)]
        return tuple(tap / math.fsum(taps) for tap in taps)
    half = kernel // 2 if sd > 0 else 0
    taps = [math.exp(-0.5 * (position / sd) ** 2) if position else 1.0 for position in range(-half, half + 1)]
    return tuple(tap / math.fsum(taps) for tap in taps)


def _convolve(x: Tensor, taps: tuple[float, ...]) -> Tensor:
    """x [batch, time, features] convolved over time with symmetric taps; on a CPU five times as fast as conv1d.

    The middle of an odd number of taps is at the bin, that of an even number half a bin after it.
    """
    before, time = (len(taps) - 1) // 2, x.shape[1]
    padded = F.pad(x, (0, 0, before, len(taps) - 1 - before))
    result = x * taps[before]
    for shift in range(1, len(taps) // 2 + 1):
        for place in (before - shift, before + shift):
            if place >= 0:
                result.add_(padded[:, place : place + time], alpha=taps[place])
    return result


def _conv1d(x: Tensor, taps: tuple[float, ...]) -> Tensor:
    """The same as `_convolve` by torch's convolution, which on a card is one kernel instead of two for each tap."""
    before = (len(taps) - 1) // 2
    padded = F.pad(x.transpose(1, 2), (before, len(taps) - 1 - before))
    weight = _weight(taps, x.device, x.dtype).expand(x.shape[2], 1, -1)
    return F.conv1d(padded, weight, groups=x.shape[2]).transpose(1, 2)


@functools.lru_cache(maxsize=8)
def _weight(taps: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """[1, 1, taps], copied to the device once."""
    return torch.tensor(taps, dtype=dtype, device=device).view(1, 1, -1)
