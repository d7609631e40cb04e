"""The optimizer of a configuration, with its parameters in groups by weight decay, and day layers by themselves."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch
from torch import nn

from search_spaces.config import RunConfig, SGDConfig
from trainable.schedules import day_lr_at, lr_at


def make_optimizer(model: nn.Module, config: RunConfig) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD over `model`'s parameters, fused into one kernel; the loop sets its rates at every batch."""
    settings = config.optimizer
    groups = parameter_groups(model, config)
    lr = config.schedule.peak_lr
    if isinstance(settings, SGDConfig):
        return _plain(torch.optim.SGD)(
            groups, lr=lr, momentum=settings.momentum, nesterov=settings.nesterov, fused=True
        )
    kind = torch.optim.AdamW if settings.kind == "adamw" else torch.optim.Adam
    return _plain(kind)(groups, lr=lr, betas=(settings.beta1, settings.beta2), eps=settings.eps, fused=True)


@functools.cache
def _plain(kind: type[torch.optim.Optimizer]) -> Any:
    """A class of optimizers without what torch puts around their methods for `torch.compile`: the numbers are the same.

    The first call of such a method loads `torch._dynamo`, over a thousand modules, which takes as long as some epochs.
    """
    names = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
    plain = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    return type(kind.__name__, (kind,), {**plain, "step": torch.no_grad()(inspect.unwrap(kind.step))})


def parameter_groups(model: nn.Module, config: RunConfig) -> list[dict[str, Any]]:
    """Two groups: what decays, and what does not; and a third of the day layers, where they have settings of their own.

    A group may be empty, so that the state always has the same form. Matrices always decay. Biases and layer norms (all
    one-dimensional parameters) decay with `decay_biases`, the day layers' weights and biases with `decay_day_layers`,
    or by their own `day_weight_decay` (Card et al. 2024, Neuroprosthetics-Lab/nejm-brain-to-text).
    """
    settings = config.optimizer
    own = config.days_apart
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    days: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        of_day = name.startswith("day_")
        rule = settings.decay_day_layers if of_day else parameter.ndim > 1 or settings.decay_biases
        (days if of_day and own else decaying if rule else others).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": decaying, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return [*groups, {"params": days, **_day_settings(config)}] if own else groups


def _day_settings(config: RunConfig) -> dict[str, float]:
    settings = config.optimizer
    decay = settings.weight_decay if settings.decay_day_layers else 0.0
    found = {"weight_decay": decay if settings.day_weight_decay is None else settings.day_weight_decay}
    if not isinstance(settings, SGDConfig):
        found["eps"] = settings.eps if settings.day_eps is None else settings.day_eps
    return found


def set_rates(optimizer: torch.optim.Optimizer, config: RunConfig, batch: int) -> None:
    """Give every group its rate at a batch."""
    *groups, last = optimizer.param_groups
    for group in groups:
        group["lr"] = lr_at(config, batch)
    last["lr"] = day_lr_at(config, batch) if config.days_apart else lr_at(config, batch)
