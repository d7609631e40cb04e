"""Matrix products on a CPU, by the library that is faster there.

torch multiplies fp32 matrices with MKL, which on processors that are not Intel's uses half of their vector width.
oneDNN, which torch has too, uses all of it: 2.2 times as fast on an AMD EPYC (Zen 5) for every product of a GRU layer,
those of one time step included (`benchmarks/training.py`, "products by MKL"). The choice is a function of the
processor, not of a measurement, so that a run that goes on there gives the same bits.
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from torch import Tensor

from trainable.compute import torch_private

FASTER_IN_ONEDNN = ("AuthenticAMD", "HygonGenuine")
"""Makers of processors, as they name themselves, on which MKL is the slower one."""


@functools.cache
def onednn() -> bool:
    """Whether this processor multiplies in oneDNN."""
    return torch.backends.mkldnn.is_available() and _maker() in FASTER_IN_ONEDNN


def _maker(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return ""
    return next((line.split(":")[1].strip() for line in lines if line.startswith("vendor_id")), "")


def product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, both matrices on a CPU and of one type; without gradients."""
    if a.dtype == torch.float32 and onednn():
        return torch_private.onednn_product(a, b)
    return a @ b
