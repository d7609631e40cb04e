"""The yardstick: a faithful re-statement of the reference recipe (`speechBaseline4` of cffan/neural_seq_decoder).

What makes it slow, and is kept on purpose: random batches padded to their longest utterance, a GRU that runs over the
padding, float32, a feature-by-feature convolution for the smoothing, the optimizer's default code path, and an
evaluation that decodes utterance by utterance with an edit distance in Python.

What it shares with `trainable` is the mathematics: `copy_weights` puts our decoder's weights into it, and on utterances
without padding and with an odd smoothing kernel the logits and the loss agree (tests/trainable/test_reference.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from trainable.data.dataset import Split
from trainable.model import Decoder


@dataclass(frozen=True)
class Recipe:
    """The reference's settings; the defaults are its own."""

    hidden: int = 1024
    layers: int = 5
    bidirectional: bool = True
    dropout: float = 0.4
    kernel: int = 32
    stride: int = 4
    smoothing_sd: float = 2.0
    smoothing_kernel: int = 20
    batch_size: int = 64
    white_noise: float = 0.8
    constant_offset: float = 0.2
    lr: float = 0.02
    eps: float = 0.1
    weight_decay: float = 1e-5


class ReferenceModel(nn.Module):
    """Features [batch, time, features] and days [batch] to logits [batch, frames, classes]."""

    def __init__(self, recipe: Recipe, n_features: int, n_classes: int, n_days: int) -> None:
        super().__init__()
        self.recipe = recipe
        position = torch.arange(recipe.smoothing_kernel, dtype=torch.float64) - (recipe.smoothing_kernel - 1) / 2
        taps = torch.exp(-0.5 * (position / recipe.smoothing_sd) ** 2)
        self.register_buffer("taps", (taps / taps.sum()).view(1, 1, -1).repeat(n_features, 1, 1).float())
        self.day_weight = nn.Parameter(torch.eye(n_features).repeat(n_days, 1, 1))
        self.day_bias = nn.Parameter(torch.zeros(n_days, 1, n_features))
        self.gru = nn.GRU(
            n_features * recipe.kernel,
            recipe.hidden,
            recipe.layers,
            batch_first=True,
            dropout=recipe.dropout,
            bidirectional=recipe.bidirectional,
        )
        for name, parameter in self.gru.named_parameters():
            if "weight_hh" in name:
                nn.init.orthogonal_(parameter)
            elif "weight_ih" in name:
                nn.init.xavier_uniform_(parameter)
        self.output = nn.Linear(recipe.hidden * (2 if recipe.bidirectional else 1), n_classes)

    def forward(self, features: Tensor, day: Tensor) -> Tensor:
        """Every window that fits gives a frame, those over the padding too."""
        recipe = self.recipe
        x = F.conv1d(features.transpose(1, 2), self.taps, padding="same", groups=features.shape[2]).transpose(1, 2)
        x = torch.einsum("btd,bdk->btk", x, self.day_weight.index_select(0, day)) + self.day_bias.index_select(0, day)
        x = F.softsign(x)
        x = F.unfold(x.transpose(1, 2)[:, :, :, None], (recipe.kernel, 1), stride=recipe.stride)
        return self.output(self.gru(x.transpose(1, 2))[0])  # type: ignore[no-any-return]


class Reference:
    """The recipe on one data set: `step` trains on a random batch, `evaluate` goes through a split."""

    def __init__(self, recipe: Recipe, train: Split, n_classes: int, n_days: int, device: str, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.recipe, self.train, self.device = recipe, train, device
        self.model = ReferenceModel(recipe, train.matrix.shape[1], n_classes, n_days).to(device)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), recipe.lr, betas=(0.9, 0.999), eps=recipe.eps, weight_decay=recipe.weight_decay
        )
        self.scheduler = torch.optim.lr_scheduler.LinearLR(self.optimizer, 1.0, 1.0, 10_000)
        self.rng = np.random.default_rng(seed)

    def batch(self, split: Split, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Features, labels, bins, label lengths and days of these utterances, all padded and moved to the device."""
        features = pad_sequence([torch.from_numpy(np.array(split.features(i))) for i in rows], batch_first=True)
        labels = pad_sequence([torch.from_numpy(np.array(split.label(i))) for i in rows], batch_first=True)
        numbers = [torch.from_numpy(values[rows]) for values in (split.bins, split.label_lengths, split.day)]
        features, labels, *numbers = (tensor.to(self.device) for tensor in (features, labels, *numbers))
        return features, labels, *numbers  # type: ignore[return-value]

    def loss(self, logits: Tensor, labels: Tensor, bins: Tensor, label_lengths: Tensor) -> Tensor:
        """CTC loss, mean over utterances of loss / label length; as in the reference the last frame is not counted."""
        frames = ((bins - self.recipe.kernel) / self.recipe.stride).to(torch.int32)
        log_probs = logits.log_softmax(2).transpose(0, 1)
        return F.ctc_loss(log_probs, labels, frames, label_lengths, reduction="mean", zero_infinity=True)

    def step(self) -> int:
        """One optimizer step; how many utterances it used."""
        self.model.train()
        rows = self.rng.choice(len(self.train), min(self.recipe.batch_size, len(self.train)), replace=False)
        features, labels, bins, label_lengths, day = self.batch(self.train, rows)
        features += torch.randn(features.shape, device=self.device) * self.recipe.white_noise
        features += torch.randn(len(rows), 1, features.shape[2], device=self.device) * self.recipe.constant_offset
        loss = self.loss(self.model(features, day), labels, bins, label_lengths)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        return len(rows)

    @torch.no_grad()
    def evaluate(self, split: Split) -> float:
        """Greedy PER: total errors over total reference phonemes."""
        self.model.eval()
        errors = phonemes = 0
        for first in range(0, len(split), self.recipe.batch_size):
            rows = np.arange(first, min(first + self.recipe.batch_size, len(split)))
            features, labels, bins, label_lengths, day = self.batch(split, rows)
            logits = self.model(features, day)
            self.loss(logits, labels, bins, label_lengths).item()
            frames = ((bins - self.recipe.kernel) / self.recipe.stride).to(torch.int32)
            for i in range(len(rows)):
                path = torch.unique_consecutive(logits[i, : int(frames[i])].argmax(dim=-1)).cpu().numpy()
                hypothesis = [int(c) for c in path if c != 0]
                reference = labels[i, : int(label_lengths[i])].cpu().tolist()
                errors += edit_distance(reference, hypothesis)
                phonemes += len(reference)
        return errors / phonemes if phonemes else math.nan


def edit_distance(reference: list[int], hypothesis: list[int]) -> int:
    """Levenshtein distance by the textbook table, in Python."""
    table = np.zeros((len(reference) + 1, len(hypothesis) + 1), dtype=np.int64)
    table[:, 0] = np.arange(len(reference) + 1)
    table[0] = np.arange(len(hypothesis) + 1)
    for i in range(1, len(reference) + 1):
        for j in range(1, len(hypothesis) + 1):
            changed = table[i - 1, j - 1] + (reference[i - 1] != hypothesis[j - 1])
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, changed)
    return int(table[-1, -1])


@torch.no_grad()
def copy_weights(ours: Decoder, reference: ReferenceModel) -> None:
    """Put our decoder's weights into the reference's. Windows are bin by bin in ours, feature by feature there."""
    assert ours.day_weight is not None and ours.day_bias is not None and ours.norms is None
    n_features = ours.day_weight.shape[1]
    reference.day_weight.copy_(ours.day_weight)
    reference.day_bias.copy_(ours.day_bias)
    reference.output.load_state_dict(ours.output.state_dict())
    for i, layer in enumerate(ours.layers):
        for name, value in layer.named_parameters():
            if i == 0 and "weight_ih" in name:
                value = value.view(-1, ours.kernel, n_features).transpose(1, 2).flatten(1)
            getattr(reference.gru, name.replace("l0", f"l{i}")).copy_(value)
