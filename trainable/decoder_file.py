"""A trained decoder as a file that other programs load: TorchScript and ONNX.

The exported module has plain `nn.GRU` layers in place of `trainable.layers.gru` and takes padded batches. A backward
GRU would read an utterance's padding first, so each utterance is turned around within its own length before and
after it; an utterance's logits are then those that it gets alone, as in `trainable.model`.

    features float32 [batch, time, features]   zero beyond an utterance's end
    bins     int64 [batch]                     length of each utterance, time at most
    day      int64 [batch]                     index into the decoder's days
      -> logits float32 [batch, frames, classes], frames = (time - kernel) // stride + 1; class 0 is the CTC blank
      -> counts int64 [batch]: frames of each utterance that count; the others are 0
"""

from __future__ import annotations

import importlib.util
import io
import tempfile
import warnings
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.errors import InputError
from trainable.model import Decoder

TOLERANCE = 1e-4
"""Largest difference of a logit between the model and what was exported of it."""
ONNX_PACKAGES = ("onnx", "onnxruntime")
OPSET = 18


class _OneWay(nn.Module):
    """A GRU layer of one direction over [batch, frames, inputs], and its layer norm."""

    def __init__(self, layer: nn.GRU, norm: nn.Module, residual: bool) -> None:
        super().__init__()
        self.forwards = _one_direction(layer, "")
        self.norm, self.residual = norm, residual

    def forward(self, x: Tensor, order: Tensor, first: Tensor) -> Tensor:
        """`first` [1, batch, hidden] is the state before the first frame."""
        result = self.norm(self.forwards(x, first)[0])
        return x + result if self.residual else result


class _BothWays(nn.Module):
    """A GRU layer of two directions over [batch, frames, inputs], and its layer norm."""

    def __init__(self, layer: nn.GRU, norm: nn.Module, residual: bool) -> None:
        super().__init__()
        self.forwards = _one_direction(layer, "")
        self.backwards = _one_direction(layer, "_reverse")
        self.norm, self.residual = norm, residual

    def forward(self, x: Tensor, order: Tensor, first: Tensor) -> Tensor:
        """`order` int64 [batch, frames]: each utterance's frames from its last to its first, padding in its place.

        `first` [1, batch, hidden] is the state before the first frame, and after the last.
        """
        turned = torch.gather(x, 1, order.unsqueeze(2).expand(-1, -1, x.size(2)))
        back = self.backwards(turned, first)[0]
        back = torch.gather(back, 1, order.unsqueeze(2).expand(-1, -1, back.size(2)))
        result = self.norm(torch.cat([self.forwards(x, first)[0], back], dim=2))
        return x + result if self.residual else result


class ExportedDecoder(nn.Module):
    """The evaluated decoder `model` with the inputs and outputs of this file's docstring, in fp32 on the CPU."""

    def __init__(self, model: Decoder) -> None:
        super().__init__()
        self.kernel, self.stride = model.kernel, model.stride
        self.before, self.after = (len(model.taps) - 1) // 2, len(model.taps) // 2
        self.taps = _constant(torch.tensor(model.taps).view(1, 1, -1))
        self.has_days = model.day_weight is not None
        self.day_weight, self.day_bias = _constant(model.day_weight), _constant(model.day_bias)
        norms = model.norms if model.norms is not None else [nn.Identity() for _ in model.layers]
        layers = [cast(nn.GRU, layer) for layer in model.layers]
        self.layers = nn.ModuleList(
            (_BothWays if layer.bidirectional else _OneWay)(layer, norm, model.residual and i > 0)
            for i, (layer, norm) in enumerate(zip(layers, norms, strict=True))
        )
        hidden = layers[0].hidden_size
        self.start = _constant(torch.zeros(1, 1, hidden) if model.start is None else model.start)
        self.head = nn.Identity() if model.head is None else model.head
        self.output = model.output
        self.requires_grad_(False).eval()

    def forward(self, features: Tensor, bins: Tensor, day: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and frame counts."""
        x = features
        if self.after > 0:
            batch, time, width = x.size(0), x.size(1), x.size(2)
            columns = x.transpose(1, 2).reshape(batch * width, 1, time)
            columns = F.pad(columns, (self.before, self.after))
            x = F.conv1d(columns, self.taps).reshape(batch, width, time).transpose(1, 2)
        if self.has_days:
            x = torch.baddbmm(self.day_bias[day], x, self.day_weight[day])
        x = F.softsign(x)
        if x.size(1) < self.kernel:
            x = F.pad(x, (0, 0, 0, self.kernel - x.size(1)))
        number = (x.size(1) - self.kernel) // self.stride + 1
        first = torch.arange(number, device=x.device) * self.stride
        windows = x[:, first.unsqueeze(1) + torch.arange(self.kernel, device=x.device)].flatten(2)
        counts = (torch.div(bins - self.kernel, self.stride, rounding_mode="floor") + 1).clamp(min=0)
        if not self.has_days:
            counts = counts + 0 * day  # so that every ONNX file has this input
        frame = torch.arange(number, device=x.device).unsqueeze(0)
        length = counts.clamp(min=1).unsqueeze(1)
        order = torch.where(frame < length, length - 1 - frame, frame)
        first = self.start.expand(1, windows.size(0), -1).contiguous()
        for layer in self.layers:
            windows = layer(windows, order, first)
        logits = self.output(self.head(windows))
        return logits * (frame < length).unsqueeze(2).to(logits.dtype), counts


def _constant(value: Tensor | None) -> nn.Parameter:
    """A tensor of the module that is not trained; an empty one, which is not used, for None."""
    return nn.Parameter(torch.empty(0) if value is None else value.detach().clone(), requires_grad=False)


def _one_direction(layer: nn.GRU, suffix: str) -> nn.GRU:
    """One direction of a layer as a GRU of its own, over [batch, frames, inputs]."""
    alone = nn.GRU(layer.input_size, layer.hidden_size, batch_first=True)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        getattr(alone, f"{name}_l0").data.copy_(getattr(layer, f"{name}_l0{suffix}").data)
    return alone


def torchscript(model: Decoder, features: int, days: int) -> tuple[bytes, float]:
    """A TorchScript file of the decoder, and the largest difference of its logits from the model's.

    Raises RuntimeError if that is above `TOLERANCE`.
    """
    with warnings.catch_warnings():
        # torch calls TorchScript deprecated since 2.10; its files are what loads with torch alone.
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(ExportedDecoder(model))
        buffer = io.BytesIO()
        torch.jit.save(scripted, buffer)
        buffer.seek(0)
        loaded = torch.jit.load(buffer)
    return buffer.getvalue(), check(model, loaded, features, days)


def onnx(model: Decoder, features: int, days: int) -> tuple[bytes, float]:
    """An ONNX file of the decoder, and the largest difference of its logits from the model's under onnxruntime.

    Batch and time are free; time must be the kernel or more. Raises InputError where the packages for it are missing,
    RuntimeError if the difference is above `TOLERANCE`.
    """
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"ONNX needs the packages {', '.join(missing)}; pip install '.[export]' in the checkout of b2t-tuner"
        )
    import onnxruntime

    free = {"features": {0: "batch", 1: "time"}, "logits": {0: "batch", 1: "frames"}}
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "decoder.onnx"
        warnings.simplefilter("ignore")  # what they warn of, other batches and lengths, is checked below
        torch.onnx.export(
            ExportedDecoder(model),
            _example(model, features, days, lengths=(model.kernel + 5 * model.stride, model.kernel)),
            path,
            dynamo=False,  # the other exporter fails on a GRU (torch 2.13)
            opset_version=OPSET,
            input_names=["features", "bins", "day"],
            output_names=["logits", "counts"],
            dynamic_axes={**free, **{name: {0: "batch"} for name in ("bins", "day", "counts")}},
        )
        content = path.read_bytes()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        names = [entry.name for entry in session.get_inputs()]
        found = session.run(None, dict(zip(names, (tensor.numpy() for tensor in inputs), strict=True)))
        return tuple(torch.from_numpy(array) for array in found)

    return content, check(model, run, features, days)


@torch.inference_mode()
def check(model: Decoder, exported: Any, features: int, days: int) -> float:
    """The largest difference of a logit between `model` and `exported`, over batches of several lengths and all days.

    Raises RuntimeError if it is above `TOLERANCE` or the frame counts differ.
    """
    kernel, stride = model.kernel, model.stride
    worst = 0.0
    for lengths in (
        (kernel,),
        (kernel + 7 * stride + 1, kernel, kernel + 3 * stride),
        (kernel + 40 * stride, max(1, kernel - 1), kernel + 11 * stride - 1, kernel + stride),
    ):
        inputs = _example(model, features, days, lengths)
        wanted, wanted_counts = model(*inputs)
        found, counts = exported(*inputs)
        worst = max(worst, float((found[:, : wanted.shape[1]] - wanted).abs().max()))
        if counts.tolist() != wanted_counts.tolist() or not worst <= TOLERANCE:
            raise RuntimeError(
                f"the exported decoder differs from the model: {worst:.2g} in a logit, {counts.tolist()}"
            )
    return worst


def _example(model: Decoder, features: int, days: int, lengths: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    bins = torch.tensor(lengths)
    x = torch.randn(len(lengths), max(lengths), features, generator=generator)
    x *= (torch.arange(max(lengths)) < bins[:, None])[:, :, None]
    return x, bins, torch.arange(len(lengths)) % max(1, days)
