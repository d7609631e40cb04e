"""Ways of computing the same numbers, and which is the fastest on which device.

One H100 (torch 2.11, `benchmarks/training.py` at full size in bf16) and two cores of an AMD EPYC (torch 2.13) gave the
entries; how far apart the ways are is in docs/benchmarks.md. The rest is the same on both, because what a measurement
said was within its noise, or the same: a fused optimizer, edit distances by rapidfuzz, evaluation in batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from search_spaces.config import RunConfig

if TYPE_CHECKING:  # choosing does not need torch
    import torch


@dataclass(frozen=True)
class Measures:
    """What is done one way on one device and another way on another."""

    conv1d: bool
    """Smoothing by torch's convolution; else by adding up shifted copies."""
    copied_windows: bool
    """Windows are copied into place before packing; else packing gathers them from an overlapping view."""
    check_every: int
    """Steps between two looks at the losses. On a card a look waits for it."""


MEASURES = {
    "cpu": Measures(conv1d=False, copied_windows=False, check_every=1),
    "cuda": Measures(conv1d=True, copied_windows=True, check_every=20),
}


def measures_on(device: torch.device) -> Measures:
    """Those of a device."""
    return MEASURES[device.type]


GRAPHED_HIDDEN = {
    "alone": {"fp32": 512, "bf16": 8192, "fp16": 8192},
    "shared": {"fp32": 512, "bf16": 512, "fp16": 512},
}
"""Widest GRU, in units of each direction, that is run as CUDA graphs: by whether the card is the trial's alone.

On one H100 a prototype took 29.6 ms a step at 1024 units in bf16 where plain kernels took 40 to 48, and more than they
in fp32; two of it that shared the card were slower together than plain ones. At 128 units graphs were always faster.
Where between the two it turns has not been measured.
"""
GRAPHED_STEPS = 300
"""Steps from which capturing pays: it takes some seconds, and each step then saves about ten milliseconds."""
GRAPHED_MEMORY = 0.6
"""Largest share of the memory that is left for this trial that its graphs may take."""


def no_graphs(config: RunConfig, share: float, steps: int) -> str | None:
    """Why a run with `steps` to go and this share of a card is not run as CUDA graphs; None where it is."""
    training, hidden = config.training, config.model.hidden
    if training.graphs == "off":
        return "training.graphs is off"
    if training.graphs == "on":
        return None
    place = "alone" if share >= 1 else "shared"
    widest = GRAPHED_HIDDEN[place][training.precision]
    if hidden > widest:
        how = "on a card of its own" if share >= 1 else "where trials share a card"
        return f"in {training.precision} {how} they pay up to {widest} units, this model has {hidden}"
    if steps < GRAPHED_STEPS:
        return f"they pay from {GRAPHED_STEPS} steps on, and {steps} are left"
    return None


def no_memory(needed: float, room: float) -> str | None:
    """Why graphs that need so many bytes are not made where `room` are left for this trial; None where they are."""
    if needed <= GRAPHED_MEMORY * room:
        return None
    allowed = f"{GRAPHED_MEMORY:.0%} of the {room / 2**30:.1f} GB that are left for this trial"
    return f"they need {needed / 2**30:.1f} GB, more than {allowed}"
