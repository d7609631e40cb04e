"""The public reference models, stated again from their published definitions, and files as their trainers write them.

'24: `GRUDecoder` of cffan/neural_seq_decoder. '25: `GRUDecoder` and `gauss_smooth` of
Neuroprosthetics-Lab/nejm-brain-to-text. Names and shapes of the weights are theirs; the lines are not.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn


class Taps(nn.Module):
    """A buffer named as the '24 smoother's: [features, 1, size], the same taps for every feature."""

    def __init__(self, features: int, size: int, sd: float) -> None:
        super().__init__()
        distance = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
        taps = torch.exp(-((distance / sd) ** 2) / 2)
        self.register_buffer("weight", (taps / taps.sum()).repeat(features, 1, 1))


class Model24(nn.Module):
    """Smoothing with padding "same", day layer, softsign, unfolded windows (feature after feature), GRU, linear."""

    def __init__(self, features: int, classes: int, hidden: int, layers: int, days: int, *, kernel: int = 8,
                 stride: int = 2, sd: float = 2.0, taps: int = 20, bidirectional: bool = True) -> None:  # fmt: skip
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.gaussianSmoother = Taps(features, taps, sd)
        self.dayWeights = nn.Parameter(torch.eye(features).repeat(days, 1, 1))
        self.dayBias = nn.Parameter(torch.zeros(days, 1, features))
        self.gru_decoder = nn.GRU(
            features * kernel, hidden, layers, batch_first=True, dropout=0.4, bidirectional=bidirectional
        )
        for day in range(days):
            setattr(self, f"inpLayer{day}", nn.Linear(features, features))
        self.fc_decoder_out = nn.Linear(hidden * (2 if bidirectional else 1), classes)

    def forward(self, x: Tensor, day: Tensor) -> Tensor:
        taps = self.gaussianSmoother.weight
        smooth = F.conv1d(x.mT, taps, padding="same", groups=x.shape[2]).mT
        affine = torch.einsum("btd,bdk->btk", smooth, self.dayWeights[day]) + self.dayBias[day]
        columns = F.unfold(F.softsign(affine).mT.unsqueeze(3), (self.kernel, 1), stride=self.stride)
        return self.fc_decoder_out(self.gru_decoder(columns.mT)[0])


class Model25(nn.Module):
    """Day layer, softsign, patches (bin after bin), a GRU from a learned state, linear; smoothing is outside."""

    def __init__(self, features: int, classes: int, hidden: int, layers: int, days: int, *, kernel: int = 8,
                 stride: int = 2) -> None:  # fmt: skip
        super().__init__()
        self.layers, self.kernel, self.stride = layers, kernel, stride
        self.day_weights = nn.ParameterList(nn.Parameter(torch.eye(features)) for _ in range(days))
        self.day_biases = nn.ParameterList(nn.Parameter(torch.zeros(1, features)) for _ in range(days))
        self.gru = nn.GRU(features * kernel, hidden, layers, batch_first=True, dropout=0.4)
        self.out = nn.Linear(hidden, classes)
        self.h0 = nn.Parameter(torch.zeros(1, 1, hidden))

    def forward(self, x: Tensor, day: Tensor) -> Tensor:
        weight = torch.stack([self.day_weights[i] for i in day])
        bias = torch.stack([self.day_biases[i] for i in day])
        x = F.softsign(torch.bmm(x, weight) + bias)
        last = x.shape[1] - self.kernel
        patches = torch.stack([x[:, t : t + self.kernel].flatten(1) for t in range(0, last + 1, self.stride)], dim=1)
        first = self.h0.expand(self.layers, len(x), -1).contiguous()
        return self.out(self.gru(patches, first)[0])


def smooth25(x: Tensor, sd: float = 2.0, size: int = 100) -> Tensor:
    """The '25 smoothing: the response of scipy's filter to an impulse, without taps of 0.01 or less."""
    impulse = np.zeros(size, dtype=np.float32)
    impulse[size // 2] = 1
    taps = gaussian_filter1d(impulse, sd)
    taps = taps[taps > 0.01]
    kernel = torch.tensor(taps / taps.sum()).repeat(x.shape[2], 1, 1)
    return F.conv1d(x.mT, kernel, padding="same", groups=x.shape[2]).mT


def stirred(model: nn.Module) -> Any:
    """The model with every weight away from its start, in evaluation mode."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def write24(folder: Path, model: Model24, **args: Any) -> Path:
    """`modelWeights` and `args` as the '24 trainer writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), folder / "modelWeights")
    given = {"strideLen": model.stride, "kernelLen": model.kernel, "dropout": 0.4, "lrStart": 0.02, **args}
    (folder / "args").write_bytes(pickle.dumps(given))
    return folder / "modelWeights"


def write25(folder: Path, model: Model25, sessions: list[str], prefix: str = "_orig_mod.", **smoothing: Any) -> Path:
    """`best_checkpoint` and `args.yaml` as the '25 trainer writes them, compiled, and with its loss a numpy number."""
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, [lambda step: 1.0])
    state = {
        "model_state_dict": {prefix + name: value for name, value in model.state_dict().items()},
        "optimizer_state_dict": optimizer.state_dict(),
        "scheduler_state_dict": scheduler.state_dict(),
        "val_PER": 0.1,
        "val_loss": np.mean([1.0, 2.0]),
    }
    torch.save(state, folder / "best_checkpoint")
    args = {
        "model": {"patch_size": model.kernel, "patch_stride": model.stride, "rnn_dropout": 0.4},
        "dataset": {
            "sessions": sessions,
            "data_transforms": {"smooth_data": True, "smooth_kernel_std": 2, "smooth_kernel_size": 100, **smoothing},
        },
    }
    (folder / "args.yaml").write_text(yaml.safe_dump(args))
    return folder / "best_checkpoint"
