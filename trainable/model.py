"""The GRU-CTC phoneme decoder.

    features [batch, time, features]
      -> Gaussian smoothing over time
      -> affine layer of the recording day (identity at the start) -> softsign
      -> windows of `kernel` bins every `stride` bins -> input dropout
      -> GRU layers, uni- or bidirectional, with optional layer norm and dropout between them
      -> logits [batch, frames, classes], class 0 the CTC blank

after Willett et al. 2023 (the reference, `speechBaseline4`). Differences: the smoothing kernel is symmetric (the
reference's even kernel shifts by half a bin), and the last frame is kept: frames = (bins - kernel) // stride + 1.

An utterance's logits do not depend on the rest of its batch: padding affects neither the smoothing (it is zero, like
the bins beyond the end of a single utterance) nor the GRU (packed sequences).
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from search_spaces.config import RunConfig
from trainable.gru import gru


class Decoder(nn.Module):
    """The decoder of `config`, for data with these numbers of features, classes (blank included) and days."""

    def __init__(self, config: RunConfig, n_features: int, n_classes: int, n_days: int) -> None:
        super().__init__()
        model = config.model
        self.kernel, self.stride = model.kernel, model.stride
        self.input_dropout, self.dropout = config.augmentation.input_dropout, model.dropout
        self.taps = gaussian_taps(config.augmentation.smoothing_sd, config.augmentation.smoothing_kernel)
        self.day_weight: nn.Parameter | None = None
        self.day_bias: nn.Parameter | None = None
        if model.day_layers:
            self.day_weight = nn.Parameter(torch.eye(n_features).repeat(n_days, 1, 1))
            self.day_bias = nn.Parameter(torch.zeros(n_days, 1, n_features))
        width = model.hidden * (2 if model.bidirectional else 1)
        inputs = [n_features * model.kernel] + [width] * (model.layers - 1)
        self.layers = nn.ModuleList(nn.GRU(size, model.hidden, bidirectional=model.bidirectional) for size in inputs)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in inputs) if model.layer_norm else None
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
        return features if len(self.taps) == 1 else _convolve(features, self.taps)

    def decode(self, features: Tensor, bins: Tensor, day: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` without the smoothing; where training augments the smoothed features, it starts here."""
        frames = output_frames(bins, self.kernel, self.stride)
        x = features.to(self.output.weight.dtype)
        if self.day_weight is not None and self.day_bias is not None:
            x = torch.baddbmm(self.day_bias[day], x, self.day_weight[day])
        packed = self._windows(F.softsign(x), frames.clamp(min=1))
        for i, layer in enumerate(self.layers):
            if i > 0:
                packed = packed._replace(data=F.dropout(packed.data, self.dropout, self.training))
            packed = gru(cast(nn.GRU, layer), packed)
            if self.norms is not None:
                packed = packed._replace(data=self.norms[i](packed.data))
        logits = self.output(packed.data)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        logits, _ = pad_packed_sequence(packed._replace(data=logits), batch_first=True)
        return logits, frames

    def _windows(self, x: Tensor, frames: Tensor) -> PackedSequence:
        """Packed windows, data [all frames, kernel * features], bin after bin within a window."""
        short = self.kernel - x.shape[1]
        if short > 0:
            x = F.pad(x, (0, 0, 0, short))
        # A view [frames, batch, kernel * features]: packing makes the only copy.
        windows = x.unfold(1, self.kernel, self.stride).permute(1, 0, 3, 2).flatten(2)
        falling = bool((frames[:-1] >= frames[1:]).all())
        packed = pack_padded_sequence(windows, frames, enforce_sorted=falling)
        return packed._replace(data=F.dropout(packed.data, self.input_dropout, self.training))


def output_frames(bins: Tensor, kernel: int, stride: int) -> Tensor:
    """How many windows fit: (bins - kernel) // stride + 1, or 0 where bins < kernel."""
    return ((bins - kernel).div(stride, rounding_mode="floor") + 1).clamp(min=0)


def gaussian_taps(sd: float, kernel: int) -> tuple[float, ...]:
    """A Gaussian of s.d. `sd` bins over `kernel` bins, of sum 1; `sd` 0 gives the single tap 1, which does not smooth.

    An even `kernel` gets one tap more, so that the taps lie symmetrically about a bin and nothing is shifted in time.
    """
    half = kernel // 2 if sd > 0 else 0
    taps = [math.exp(-0.5 * (position / sd) ** 2) if position else 1.0 for position in range(-half, half + 1)]
    return tuple(tap / math.fsum(taps) for tap in taps)


def _convolve(x: Tensor, taps: tuple[float, ...]) -> Tensor:
    """x [batch, time, features] convolved over time with symmetric taps; on a CPU five times as fast as conv1d."""
    half, time = len(taps) // 2, x.shape[1]
    padded = F.pad(x, (0, 0, half, half))
    result = x * taps[half]
    for shift in range(1, half + 1):
        for start in (half - shift, half + shift):
            result.add_(padded[:, start : start + time], alpha=taps[half + shift])
    return result
