"""Ways of computing the same numbers, and which is the fastest on which device.

One H100 (torch 2.11, `benchmarks/training.py` at full size in bf16) and two cores of an AMD EPYC (torch 2.13) gave the
entries; how far apart the ways are is in docs/benchmarks.md. The rest is the same on both, because what a measurement
said was within its noise, or the same: a fused optimizer, edit distances by rapidfuzz, evaluation in batches.
"""

from __future__ import annotations

from dataclasses import dataclass

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
