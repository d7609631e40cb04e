"""Augmentation of a batch of features in training.

In order: `corrupt` mixes the recorded features a little, and adds a constant offset, white noise and a random walk
(before the model's smoothing, as in the references); `hide` sets single bins, time intervals and bands of features of
the smoothed features to 0, their mean, so that the smoothing does not fill these gaps again. Random cuts are made when
a batch is drawn (`trainable.data.batches`); input dropout and the speckle of whole inputs and frames are in the model.

All functions take features float32 [batch, time, features] and `bins` int64 [batch] on the same device, change the
features in place and return them. All random numbers come from `generator`.

Sources: white noise and constant offsets, Willett et al. 2023; masks, SpecAugment (Park et al. 2019), over the length
of the utterance as in Feghhi et al. 2025; speckle, random zeros as in denoising autoencoders (Vincent et al. 2008);
gain noise and the random walk, the '25 reference (`static_gain_std` and `random_walk_std` of
Neuroprosthetics-Lab/nejm-brain-to-text). Its walk goes over the last axis, the features, as `random_walk_over` can say.
"""

from __future__ import annotations

import torch
from torch import Tensor

from search_spaces.config import AugmentationConfig


def corrupt(features: Tensor, bins: Tensor, config: AugmentationConfig, generator: torch.Generator) -> Tensor:
    """Mix features, add an offset, one for each utterance and feature, white noise and a walk; padding stays 0."""
    batch, time, width = features.shape
    if config.gain_noise > 0:
        mixing = torch.randn(batch, width, width, generator=generator, device=features.device)
        features.add_(features @ mixing, alpha=config.gain_noise)
    if config.constant_offset > 0:
        offset = torch.randn(batch, 1, width, generator=generator, device=features.device)
        features.add_(offset, alpha=config.constant_offset)
    if config.white_noise > 0:
        noise = torch.randn(features.shape, generator=generator, device=features.device)
        features.add_(noise, alpha=config.white_noise)
    if config.random_walk > 0:
        steps = torch.randn(features.shape, generator=generator, device=features.device)
        features.add_(steps.cumsum(1 if config.random_walk_over == "time" else 2), alpha=config.random_walk)
    if config.constant_offset > 0 or config.white_noise > 0 or config.random_walk > 0:
        padding = torch.arange(time, device=features.device) >= bins[:, None]
        features.masked_fill_(padding[:, :, None], 0.0)
    return features


def hide(features: Tensor, bins: Tensor, config: AugmentationConfig, generator: torch.Generator) -> Tensor:
    """Set to 0: each bin of a feature with probability `speckle`, time intervals, bands of features.

    A time mask is 0 to ceil(time_mask_width * bins) bins long, each length as likely as the others, and lies anywhere
    in the utterance; a feature mask the same over the features. Masks may overlap.
    """
    time, width = features.shape[1:]
    if config.speckle > 0:
        kept = torch.rand(features.shape, generator=generator, device=features.device) >= config.speckle
        features.mul_(kept)
    if config.time_masks > 0 and config.time_mask_width > 0:
        masked = _bands(bins, time, config.time_masks, config.time_mask_width, generator)
        features.masked_fill_(masked[:, :, None], 0.0)
    if config.feature_masks > 0 and config.feature_mask_width > 0:
        masked = _bands(torch.full_like(bins, width), width, config.feature_masks, config.feature_mask_width, generator)
        features.masked_fill_(masked[:, None, :], 0.0)
    return features


def _bands(lengths: Tensor, size: int, count: int, share: float, generator: torch.Generator) -> Tensor:
    """bool [batch, size]: where one of `count` bands lies, each within the first `lengths` positions."""
    # In double precision, and a hair less: a share that is a whole number of positions must not be rounded above it.
    widest = (lengths.double() * (share * (1 - 1e-9))).ceil().clamp(max=size).float()[:, None]
    drawn = torch.rand(2, len(lengths), count, generator=generator, device=lengths.device)
    widths = (drawn[0] * (widest + 1)).floor()
    starts = (drawn[1] * (lengths[:, None] - widths + 1)).floor()
    position = torch.arange(size, device=lengths.device)
    inside = (position >= starts[:, :, None]) & (position < (starts + widths)[:, :, None])
    return inside.any(dim=1)
