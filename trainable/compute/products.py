"""Matrix products on a CPU, by the library that is faster there.

torch multiplies fp32 matrices with MKL, which on processors that are not Intel's uses half of their vector width.
oneDNN, which torch has too, uses all of it: 2.2 times as fast on an AMD EPYC (Zen 5) for the products of a wide GRU
layer, those of one time step included (`benchmarks/training.py`, "products by MKL"). The choice is a function of the
processor and the shapes, not of a measurement, so that a run that goes on there gives the same bits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
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


BLOCK = 32
"""Rows that are multiplied in oneDNN are a multiple of this, the others in MKL.

oneDNN compiles a program for each new shape, which takes as long as a small product; the number of frames is another in
each batch.
"""
LEAST = 2**21
"""Multiplications from which oneDNN pays: a call takes 15 microseconds longer than one of MKL's."""


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a @ b, plus `bias` in each row; matrices on a CPU and of one type; without gradients."""
    rows = _in_blocks(a, b, a.shape[0])
    if rows == 0:
        return a @ b if bias is None else torch.addmm(bias, a, b)
    first = torch_private.onednn_product(a[:rows], b)
    if rows == a.shape[0]:
        return first if bias is None else first.add_(bias)
    whole = a.new_empty(a.shape[0], b.shape[1])
    torch.add(first, 0.0 if bias is None else bias, out=whole[:rows])
    torch.addmm(whole[rows:] if bias is None else bias, a[rows:], b, beta=0 if bias is None else 1, out=whole[rows:])
    return whole


def product_of(rows: int, b: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """What multiplies up to so many rows by `b` as `product` does: `torch.mm` itself where all of them are few.

    A small layer's step takes some microseconds, and asking at each of them which library is faster as long as that.
    """
    return torch.mm if rows * b.numel() < LEAST else product


def sum_of_products(a: Tensor, b: Tensor) -> Tensor:
    """a.T @ b for a [frames, n] and b [frames, m], where it is the number of frames that changes."""
    frames = _in_blocks(a.t(), b, a.shape[0])
    if frames == 0:
        return a.t() @ b
    total = torch_private.onednn_product(a[:frames].t(), b[:frames])
    return total if frames == a.shape[0] else total.addmm_(a[frames:].t(), b[frames:])


def _in_blocks(a: Tensor, b: Tensor, changing: int) -> int:
    """How many of the `changing` rows of a @ b oneDNN multiplies; batches of up to a block are never cut."""
    if a.dtype != torch.float32 or a.numel() * b.shape[1] < LEAST or not onednn():
        return 0
    return changing if changing <= BLOCK else changing // BLOCK * BLOCK
