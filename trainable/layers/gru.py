"""A GRU layer over packed sequences, the fast way on a CPU.

`torch.nn.GRU` on a CPU records about ten autograd nodes for every time step and direction, and its backward pass
multiplies small matrices for the weight gradients at each of them. Here the whole layer is one autograd function: the
loop over time does only what depends on the previous step, everything else is one product over all frames. Mathematics
and parameters are those of `torch.nn.GRU` (Cho et al. 2014, with PyTorch's placement of the reset gate):

    r = sigmoid(x W_ir' + b_ir + h W_hr' + b_hr)        z = sigmoid(x W_iz' + b_iz + h W_hz' + b_hz)
    n = tanh(x W_in' + b_in + r * (h W_hn' + b_hn))     h_next = (1 - z) * n + z * h

Rows are packed: all sequences' first frames, then all second frames, ..., longest sequence first, so that no work is
done on padding and none of it can reach a result. On CUDA the layer is `torch.nn.GRU` itself (cuDNN).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import PackedSequence

from trainable.compute.precision import gru_backend
from trainable.compute.products import product, product_of, sum_of_products


def gru(layer: nn.GRU, packed: PackedSequence, start: Tensor | None = None) -> PackedSequence:
    """One-layer `layer` over `packed` (data [frames, inputs]): packed outputs, data [frames, hidden * directions].

    `start` [1, 1, hidden] is the state before the first frame of every sequence, in each direction; None is 0.
    """
    sizes = packed.batch_sizes.tolist()
    if packed.data.device.type != "cpu":
        ways = 2 if layer.bidirectional else 1
        first = None if start is None else start.expand(ways, sizes[0], -1).to(packed.data.dtype).contiguous()
        with gru_backend(packed.data):
            output: PackedSequence = layer(packed, first)[0]
        return output
    directions = [("", False), ("_reverse", True)] if layer.bidirectional else [("", False)]
    outputs = [
        _Scan.apply(
            packed.data,
            *(getattr(layer, f"{name}_l0{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
            start,
            sizes,
            reverse,
        )
        for suffix, reverse in directions
    ]
    data = torch.cat(outputs, dim=1) if len(outputs) > 1 else outputs[0]
    return PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)


def _product(a: Tensor, b: Tensor, dtype: torch.dtype | None, bias: Tensor | None = None) -> Tensor:
    """a @ b plus `bias`, in a's dtype, multiplied in `dtype` if one is given (autocast's)."""
    if dtype is None:
        return product(a, b, bias)
    lowered = (a.to(dtype) @ b.to(dtype)).to(a.dtype)
    return lowered if bias is None else lowered.add_(bias)


def _sum_of_products(a: Tensor, b: Tensor, dtype: torch.dtype | None) -> Tensor:
    """a.T @ b in the same way: a weight's gradient, summed over all frames."""
    return sum_of_products(a, b) if dtype is None else (a.t().to(dtype) @ b.to(dtype)).to(a.dtype)


class _Scan(torch.autograd.Function):
    """One direction. `sizes[t]` sequences have a frame t; under autocast the products over all frames are lowered."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor,
        b_hh: Tensor,
        start: Tensor | None,
        sizes: list[int],
        reverse: bool,
    ) -> Tensor:
        lowered = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
        hidden = w_hh.shape[1]
        two = 2 * hidden
        with torch.autocast("cpu", enabled=False):
            x = x.to(w_ih.dtype)
            # What does not depend on the state, for all frames at once; the loop adds the rest in place.
            gates = _product(x, w_ih[:two].t(), lowered, b_ih[:two] + b_hh[:two])
            new = _product(x, w_ih[two:].t(), lowered, b_ih[two:])
            state_part = b_hh[two:].repeat(len(new), 1)  # a copy, always: it is written to
            out = torch.empty_like(new)
            w_gates, w_new = w_hh[:two].t(), w_hh[two:].t()
            rows = [tensor.split(sizes) for tensor in (gates, gates[:, :hidden], gates[:, hidden:])]
            rows += [tensor.split(sizes) for tensor in (new, state_part, out)]
            first = x.new_zeros(sizes[0], hidden) if start is None else start.view(1, hidden).expand(sizes[0], hidden)
            h = first[: sizes[-1]] if reverse else first
            before: list[Tensor] = []
            steps = list(zip(sizes, *rows, strict=True))
            times_gates, times_new = product_of(sizes[0], w_gates), product_of(sizes[0], w_new)
            now = len(h)
            for k, gate, r, z, n, s, o in reversed(steps) if reverse else steps:
                if k < now:  # forwards: the shortest sequences have ended
                    h = h[:k]
                elif k > now:  # backwards: sequences that end here begin with the first state
                    h = torch.cat([h, first[: k - now]])
                before.append(h)
                gate.add_(times_gates(h, w_gates)).sigmoid_()
                s.add_(times_new(h, w_new))
                torch.addcmul(n, r, s, out=n).tanh_()
                h, now = torch.lerp(n, h, z, out=o), k
            if any(ctx.needs_input_grad):
                states = torch.cat(before[::-1] if reverse else before)
                ctx.save_for_backward(x, w_ih, w_hh, states, gates, new, state_part)
        ctx.sizes, ctx.reverse, ctx.lowered = sizes, reverse, lowered
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w_ih, w_hh, before, gates, n, state_part = ctx.saved_tensors
        frames, hidden = n.shape
        r, z = gates[:, :hidden], gates[:, hidden:]
        # factor: d(pre-activation of r, z and the state's part of n) / d(h_next), so the loop only multiplies.
        d_new = (1 - n * n).mul_(1 - z)
        factor = torch.empty(frames, 3, hidden, dtype=n.dtype)
        torch.mul(d_new, state_part, out=factor[:, 0]).mul_(r).mul_(1 - r)
        torch.sub(before, n, out=factor[:, 1]).mul_(z).mul_(1 - z)
        torch.mul(d_new, r, out=factor[:, 2])
        flat = factor.view(frames, 3 * hidden)
        d_out = grad.clone()
        steps = list(zip(ctx.sizes, *(t.split(ctx.sizes) for t in (d_out, factor, flat, z)), strict=True))
        carry, carried, times = None, 0, product_of(ctx.sizes[0], w_hh)
        d_start: Tensor | None = torch.zeros(hidden, dtype=n.dtype) if ctx.needs_input_grad[5] else None
        for k, d, f, row, zt in steps if ctx.reverse else reversed(steps):
            if carry is not None:
                both = min(carried, k)
                d[:both].add_(carry[:both])
                if d_start is not None and both < carried:  # backwards: these sequences began here
                    d_start += carry[both:].sum(0)
            f.mul_(d.unsqueeze(1))
            carry, carried = times(row, w_hh).addcmul_(d, zt), k
        d_w_hh = _sum_of_products(flat, before, ctx.lowered)
        d_b_hh = flat.sum(0)
        # The input's part of n is not scaled by r; the other two gates have the same gradient on both sides.
        torch.mul(d_out, d_new, out=factor[:, 2])
        d_b_ih = torch.cat([d_b_hh[: 2 * hidden], flat[:, 2 * hidden :].sum(0)])
        d_w_ih = _sum_of_products(flat, x, ctx.lowered)
        d_x = _product(flat, w_ih, ctx.lowered) if ctx.needs_input_grad[0] else None
        if d_start is not None and carry is not None:
            d_start = (d_start + carry.sum(0)).view(1, 1, hidden)
        return d_x, d_w_ih, d_w_hh, d_b_ih, d_b_hh, d_start, None, None
