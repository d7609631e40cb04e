"""The names of torch that its documentation does not promise, in one place.

An upgrade of torch may move them without a word. `NAMES` says what each is used for;
tests/trainable/compute/test_torch_private.py looks for each and fails with that line. No other module uses such names
(tests/test_architecture.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

NAMES = {
    "mkldnn._is_mkldnn_bf16_supported": "to know whether this CPU trains in bf16, or ten times slower",
    "mkldnn._is_mkldnn_fp16_supported": "to know whether this CPU trains in fp16",
    "mkldnn._linear_pointwise": "to multiply fp32 matrices in oneDNN, twice as fast as MKL on AMD's processors",
    "torch._VF": "to run one direction of a GRU by itself, with weights of its own",
    "torch._use_cudnn_rnn_flatten_weight": "to put the weights of a bf16 GRU into one block of memory",
    "torch._cudnn_rnn_flatten_weight": "to put the weights of a bf16 GRU into one block of memory",
    "torch._foreach_zero_": "to begin a step with gradients of 0, all at once",
    "torch._foreach_copy_": "to round all weights into the shadow's at once",
    "torch._foreach_lerp_": "to move all weights of an average towards the model's at once",
    "torch._foreach_add_": "to add up gradients in fp32, all at once",
}
"""Where a name is (`mkldnn` is `torch.ops.mkldnn`) -> what it is used for."""

_CUDNN_GRU = 3
"""cuDNN's number for a GRU."""


def cpu_has(precision: str) -> bool:
    """Whether this CPU computes in `precision` (fp32, bf16, fp16) by instructions of its own."""
    if precision == "fp32" or not torch.backends.mkldnn.is_available():
        return precision == "fp32"
    asked = {"bf16": torch.ops.mkldnn._is_mkldnn_bf16_supported, "fp16": torch.ops.mkldnn._is_mkldnn_fp16_supported}
    return bool(asked[precision]())


def flatten_weights(weights: Sequence[nn.Parameter], layer: nn.GRU) -> None:
    """One block of memory for these weights of a one-layer GRU: w_ih, w_hh, b_ih, b_hh of both directions or of one.

    Torch's own `flatten_parameters` leaves bf16 as it is.
    """
    if weights[0].is_cuda and torch.backends.cudnn.enabled and torch._use_cudnn_rnn_flatten_weight():
        sizes = (layer.input_size, _CUDNN_GRU, layer.hidden_size, 0, 1)
        with torch.no_grad(), torch.cuda.device_of(weights[0]):
            torch._cudnn_rnn_flatten_weight([*weights], 4, *sizes, False, len(weights) == 8)


def run_gru(x: Tensor, start: Tensor, weights: Sequence[nn.Parameter], training: bool) -> Tensor:
    """A one-layer GRU of one direction over x [frames, batch, inputs] from `start` [1, batch, hidden]."""
    output: Tensor = torch._VF.gru(x, start, [*weights], True, 1, 0.0, training, False, False)[0]
    return output


def onednn_product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, fp32 on a CPU, in oneDNN; without gradients."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")
    return product


def zero_all(tensors: Sequence[Tensor]) -> None:
    """Set the tensors to 0."""
    torch._foreach_zero_(list(tensors))


def copy_all(into: Sequence[Tensor], source: Sequence[Tensor]) -> None:
    """Copy each tensor of `source` into its place, rounded to the type there."""
    torch._foreach_copy_(list(into), list(source))


def add_all(to: Sequence[Tensor], parts: Sequence[Tensor]) -> None:
    """Add each tensor of `parts` to its place."""
    torch._foreach_add_(list(to), list(parts))


def move_all(tensors: Sequence[Tensor], towards: Sequence[Tensor], share: float) -> None:
    """Move each tensor this share of the way towards the one in its place."""
    torch._foreach_lerp_(list(tensors), list(towards), share)
