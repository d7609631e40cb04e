"""The optimizer of a configuration, with its parameters in groups by weight decay."""

from __future__ import annotations

import torch
from torch import nn

from search_spaces.config import RunConfig, SGDConfig


def make_optimizer(model: nn.Module, config: RunConfig) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD over `model`'s parameters, fused into one kernel; the loop sets its rate at every batch."""
    settings = config.optimizer
    groups = parameter_groups(model, config)
    lr = config.schedule.peak_lr
    if isinstance(settings, SGDConfig):
        return torch.optim.SGD(groups, lr=lr, momentum=settings.momentum, nesterov=settings.nesterov, fused=True)
    kind = torch.optim.AdamW if settings.kind == "adamw" else torch.optim.Adam
    return kind(groups, lr=lr, betas=(settings.beta1, settings.beta2), eps=settings.eps, fused=True)


def parameter_groups(model: nn.Module, config: RunConfig) -> list[dict[str, object]]:
    """Two groups: what decays, and what does not. A group may be empty, so that the state always has the same form.

    Matrices always decay. Biases and layer norms (all one-dimensional parameters) decay with `decay_biases`, the day
    layers' weights and biases with `decay_day_layers`.
    """
    settings = config.optimizer
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        rule = settings.decay_day_layers if name.startswith("day_") else parameter.ndim > 1 or settings.decay_biases
        (decaying if rule else others).append(parameter)
    return [
        {"params": decaying, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
