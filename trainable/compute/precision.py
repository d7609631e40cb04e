"""The device of a run and the precision of its arithmetic.

On a CPU bf16 and fp16 are torch's autocast: each product is rounded, weights and results between products stay fp32.
On a card the weights themselves are rounded (`trainable.compute.shadow`) and nothing is left to autocast, because
torch's autocast runs cuDNN's GRU in fp16 whatever type it was asked for.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from search_spaces.config import RunConfig
from search_spaces.errors import InputError
from trainable.compute import torch_private

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""`training.precision` -> the type of the forward pass."""

BF16_FROM = (8, 0)
"""The compute capability from which a card multiplies in bf16; older ones imitate it, slower than fp32."""

TF32 = {None: (True, "highest"), True: (True, "high"), False: (False, "highest")}
"""`training.tf32` -> may cuDNN, so the GRU, round fp32 products to TF32; torch's word for all other fp32 products.

None is what torch itself starts with.
"""


def choose_device(config: RunConfig) -> torch.device:
    """The device of `training.device`, checked for `training.precision`."""
    wanted, precision = config.training.device, config.training.precision
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("training.device: cuda is not available on this machine; give cpu or auto")
    device = torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")
    if precision == "bf16" and device.type == "cuda" and torch.cuda.get_device_capability(device) < BF16_FROM:
        name, has = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
        raise InputError(
            f"training.precision: bf16 needs a card of compute capability 8.0 (A100, RTX 30) or newer; {name} has "
            f"{has[0]}.{has[1]}; give fp16 or fp32"
        )
    if precision == "fp16" and device.type == "cpu" and not torch_private.cpu_has("fp16"):
        raise InputError("training.precision: fp16 is not supported by this CPU; give fp32 or bf16, or device cuda")
    return device


def set_tf32(device: torch.device, wanted: bool | None) -> None:
    """Set torch's two switches as `training.tf32` has them. Trials of other settings may have had this process."""
    if device.type == "cuda":
        in_cudnn, elsewhere = TF32[wanted]
        torch.backends.cudnn.allow_tf32 = in_cudnn
        torch.set_float32_matmul_precision(elsewhere)


def weights_dtype(config: RunConfig, device: torch.device) -> torch.dtype:
    """The type of the weights in the forward pass."""
    return torch.float32 if device.type == "cpu" else DTYPES[config.training.precision]


def autocast_for(config: RunConfig, device: torch.device) -> torch.autocast:
    """The lower precision of a CPU as a context manager that can be entered repeatedly; on a card it does nothing."""
    lowered = device.type == "cpu" and config.training.precision != "fp32"
    return torch.autocast(
        device.type, dtype=DTYPES[config.training.precision] if lowered else torch.bfloat16, enabled=lowered
    )


def flatten(model: nn.Module) -> None:
    """Put the weights of each GRU into one block of memory, in any type that cuDNN's GRU has.

    cuDNN needs it, and copying or casting a model loses it: without it the weights are copied at every call.
    """
    for module in model.modules():
        if isinstance(module, nn.GRU):
            in_one_block(list(module.parameters()), module)


def in_one_block(weights: list[nn.Parameter], layer: nn.GRU) -> None:
    """The same for some weights of `layer`: those of both directions or of one."""
    if weights[0].is_cuda and gru_by_cudnn(weights[0].dtype):
        torch_private.flatten_weights(weights, layer)


@functools.cache
def gru_by_cudnn(dtype: torch.dtype) -> bool:
    """Whether cuDNN runs a GRU of this type on this card: before cuDNN 9.13 and torch 2.10 it did not in bf16."""
    if dtype != torch.bfloat16:
        return True
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        layer = nn.GRU(8, 8).to("cuda", dtype)
        x = torch.zeros(2, 1, 8, device="cuda", dtype=dtype, requires_grad=True)
        try:
            torch_private.flatten_weights(list(layer.parameters()), layer)
            layer(x)[0].sum().backward()
            torch.cuda.synchronize()
        except RuntimeError:
            return False
        return torch.cudnn_is_acceptable(x)


@contextlib.contextmanager
def gru_backend(tensor: Tensor) -> Iterator[None]:
    """While GRUs run on `tensor`: torch's own kernels on a card whose cuDNN does not have its type."""
    enabled = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = enabled and (not tensor.is_cuda or gru_by_cudnn(tensor.dtype))
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = enabled
