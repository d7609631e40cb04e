"""Averages of the weights over training: exponential (EMA), one or several side by side, and equal-weight (SWA).

Each average is a second model, so it can be evaluated without copying weights. Only weights need averaging: the decoder
has layer norm, whose statistics are not stored, and no batch norm.

Several averages in one run cost little, because those with long windows need not be updated at every batch: k batches
of decay d are one update of decay d^k, with the weights at its end standing for those of all k. k is a power of two,
and k batches are at most `SPARSE` of the average's window of 1 / (1 - d) batches at that time.

Sources: EMA as in Polyak & Juditsky 1992 and its decay's warm-up as in TensorFlow's ExponentialMovingAverage; SWA,
Izmailov et al. 2018.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from search_spaces.config import EMAConfig, NoAveraging, SWAConfig
from trainable.compute import torch_private
from trainable.compute.precision import flatten
from trainable.data.batches import room_on_card
from trainable.model import Decoder

AveragingConfig = NoAveraging | EMAConfig | SWAConfig
RAW = "raw"
"""The name of the weights as the optimizer leaves them."""
SWA = "swa"
SPARSE = 0.05
"""Where several averages are tracked: the longest time between two updates, as a share of the average's window."""
MEMORY = 0.1
"""Largest share of the memory that is left for a trial on a card that its averages may take."""
MOST_SKIPPED = 64
"""The longest time between two updates in batches: beyond it there is nothing left to save."""


@dataclass
class Average:
    """One average of the weights of a run."""

    name: str
    """The decay as text, such as "0.999", or "swa"."""
    config: EMAConfig | SWAConfig
    """Of this average alone: an EMA has its `decay` and no `decays`."""
    model: nn.Module
    sparse: bool = False
    """Whether some batches may be skipped."""
    updates: int = 0
    """Batches that it has seen; of SWA, weights in the mean."""
    pending: float = 1.0
    """Share that is kept over the batches since the last update."""

    @property
    def decay(self) -> float | None:
        """The decay of an EMA; None for SWA."""
        return self.config.decay if isinstance(self.config, EMAConfig) else None


def parts(config: AveragingConfig) -> list[EMAConfig | SWAConfig]:
    """The averages of a configuration, each as the configuration of a run that has only this one."""
    if isinstance(config, NoAveraging):
        return []
    if isinstance(config, SWAConfig) or config.decays is None:
        return [config]
    return [EMAConfig(decay=decay, warmup=config.warmup) for decay in config.decays]


def name_of(part: EMAConfig | SWAConfig) -> str:
    """The name of one average: its decay, or "swa"."""
    return SWA if isinstance(part, SWAConfig) else str(part.decay)


def chooses(config: AveragingConfig) -> bool:
    """Whether the best of several weights is what counts, and not one average whatever it is worth."""
    return config.or_raw if isinstance(config, SWAConfig) else getattr(config, "decays", None) is not None


def make_averages(model: nn.Module, config: AveragingConfig, names: Sequence[str] | None = None) -> list[Average]:
    """Averages without updates yet, on the device of `model`; those called `names` only, where they are given."""
    made = []
    sparse = isinstance(config, EMAConfig) and config.decays is not None
    for part in parts(config):
        name = name_of(part)
        if names is None or name in names:
            average = copy.deepcopy(model).requires_grad_(False)
            flatten(average)
            made.append(Average(name, part, average, sparse))
    return made


def within(names: Sequence[str], bytes_each: float, room: float) -> list[str]:
    """The averages that take at most `MEMORY` of `room` bytes together: all, else some spread over the decays."""
    count = min(len(names), int(MEMORY * room // bytes_each)) if bytes_each else len(names)
    places = [round((at + 0.5) * len(names) / count - 0.5) for at in range(count)]
    return [names[place] for place in places]


def averages_that_fit(
    model: nn.Module, config: AveragingConfig, device: torch.device, among: Sequence[str] | None = None
) -> tuple[list[Average], list[str]]:
    """(the averages, those called `among` only where it is given; lines for the log).

    Where several are tracked on a card that is short of memory, some are turned down; one alone never is.
    """
    names = [name for name in map(name_of, parts(config)) if among is None or name in among]
    if device.type != "cuda" or not isinstance(config, EMAConfig) or config.decays is None:
        return make_averages(model, config, names), []
    each, room = sum(p.numel() * p.element_size() for p in model.parameters()), room_on_card(device)
    kept = within(names, each, room)
    held = f"{len(kept) * each / 2**20:.0f} MB hold {len(kept)} averages of the weights"
    if lost := [name for name in names if name not in kept]:
        allowed = f"all would take more than {MEMORY:.0%} of the {room / 2**30:.1f} GB that are left for this trial"
        held += f"; decays {', '.join(lost)} are not tracked: {allowed}"
    return make_averages(model, config, kept), [held]


def kept_share(config: EMAConfig | SWAConfig, updates: int) -> float:
    """Fraction of the average that an update keeps, after `updates` others; the rest is the current weights.

    EMA: `decay`, or min(decay, (1 + updates) / (10 + updates)) with warm-up. SWA: updates / (updates + 1), which makes
    an equal-weight mean. The first update keeps nothing in either case.
    """
    if updates == 0:
        return 0.0
    if isinstance(config, SWAConfig):
        return updates / (updates + 1)
    decay = cast(float, config.decay)  # that of one average is never null
    return min(decay, (1 + updates) / (10 + updates)) if config.warmup else decay


def batches_between(kept: float) -> int:
    """Batches from one update to the next where a batch keeps this share: a power of two, from 1 to `MOST_SKIPPED`."""
    batches = 1
    while batches < MOST_SKIPPED and 2 * batches * (1 - kept) <= SPARSE:
        batches *= 2
    return batches


def update_averages(averages: Sequence[Average], model: nn.Module, batch: int) -> None:
    """After the optimizer step of `batch`: include the model's weights in each average, if an update is due."""
    for average in averages:
        if isinstance(average.config, SWAConfig):
            since = batch - average.config.start_batch
            if since < 0 or since % average.config.every_batches != 0:
                continue
        kept = kept_share(average.config, average.updates)
        average.updates += 1
        average.pending *= kept
        if not average.sparse or average.updates % batches_between(kept) == 0:
            _fold_in(average, model)


def settle(averages: Sequence[Average], model: nn.Module) -> None:
    """Include the weights of the last batch in each average that skipped it: they are evaluated now."""
    for average in averages:
        if average.pending < 1:
            _fold_in(average, model)


@torch.no_grad()
def _fold_in(average: Average, model: nn.Module) -> None:
    own, new = list(average.model.parameters()), list(model.parameters())
    if average.pending == 0:
        torch_private.copy_all(own, new)
    else:
        torch_private.move_all(own, new, 1 - average.pending)
    average.pending = 1.0


def same_weights(averages: Sequence[Average]) -> dict[str, list[str]]:
    """The averages by name, each with the others that have the same weights: those whose warm-up has not ended yet.

    Only the first of those is a key. Averages without updates are left out.
    """
    groups: dict[Any, list[str]] = {}
    for average in averages:
        if average.updates:
            kept = kept_share(average.config, average.updates - 1)
            alone = isinstance(average.config, SWAConfig) or kept == average.decay
            groups.setdefault(average.name if alone else None, []).append(average.name)
    return {names[0]: names for names in groups.values()}


def evaluated_weights(averages: Sequence[Average], model: Decoder, name: str) -> Decoder:
    """The model with the weights called `name`."""
    return next((cast(Decoder, average.model) for average in averages if average.name == name), model)


def average_state(averages: Sequence[Average], chosen: str | None = None) -> dict[str, Any] | None:
    """The averages as plain tensors and numbers.

    One average is {"updates", "model"}; where the best is chosen, {"averages": name -> the same, "chosen": its name}.
    """
    if not averages:
        return None
    states = {each.name: {"updates": each.updates, "model": each.model.state_dict()} for each in averages}
    return states[averages[0].name] if chosen is None else {"averages": states, "chosen": chosen}


def load_averages(averages: Sequence[Average], state: Mapping[str, Any]) -> None:
    """Restore what `average_state` returned; an empty mapping where it was None."""
    states = state["averages"] if "averages" in state else {each.name: state for each in averages}
    for average in averages:
        average.model.load_state_dict(states[average.name]["model"])
        average.updates, average.pending = states[average.name]["updates"], 1.0
