"""What a model is worth on a split: loss, greedy PER, share of blanks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainable.data.batches import Batch, Loader
from trainable.data.feasible import bins_needed
from trainable.decoding import BLANK, collapse, error_counts, per, utterance_per
from trainable.model import Decoder


@dataclass(frozen=True)
class Evaluation:
    """The result on one split; arrays are over its utterances, in its order."""

    per: float
    """Corpus PER: all errors over all reference phonemes."""
    per_utterance_mean: float
    """Mean over utterances of each one's PER."""
    loss: float
    """Mean CTC loss of the utterances that CTC can align, reduced as in training."""
    blank_share: float
    """Share of frames whose likeliest class is the blank."""
    hypotheses: list[list[int]]
    errors: np.ndarray
    """int64 [n], edit distances."""


def ctc_losses(logits: Tensor, frames: Tensor, batch: Batch, reduction: str) -> Tensor:
    """CTC loss of each utterance, float32 [batch]; 0, with no gradient, where CTC cannot align the label.

    `reduction` target_mean divides an utterance's loss by its label length, as the reference does; utterance_mean
    leaves it. The mean over utterances is the caller's, who knows how many a step of several micro-batches has.
    """
    losses = F.ctc_loss(
        logits.log_softmax(2).transpose(0, 1),
        batch.labels,
        frames,
        batch.label_lengths,
        blank=BLANK,
        reduction="none",
        zero_infinity=True,
    )
    if reduction == "target_mean":
        return losses / batch.label_lengths.clamp(min=1).to(losses.device, non_blocking=True)
    return losses


@torch.inference_mode()
def emissions(model: Decoder, loader: Loader, autocast: torch.autocast) -> Iterator[tuple[Batch, Tensor, Tensor]]:
    """Batches of the split with their logits [batch, frames, classes] and frame counts int64 [batch] (CPU)."""
    model.eval()
    for batch in loader.in_order():
        with autocast:
            logits, frames = model(batch.features, batch.bins, batch.day)
        yield batch, logits, frames


def evaluate(model: Decoder, loader: Loader, reduction: str, autocast: torch.autocast) -> Evaluation:
    """Greedy decoding and loss over a whole split. Utterances without a label count in nothing but `hypotheses`."""
    split = loader.split
    hypotheses: list[list[int]] = [[] for _ in range(len(split))]
    losses = np.zeros(len(split))
    blanks = frames_in_all = 0
    for batch, logits, frames in emissions(model, loader, autocast):
        path, lengths = logits.argmax(dim=2).cpu().numpy(), frames.numpy()
        for row, hypothesis in zip(batch.rows, collapse(path, lengths), strict=True):
            hypotheses[row] = hypothesis
        losses[batch.rows] = ctc_losses(logits, frames, batch, reduction).cpu().numpy()
        counted = np.arange(path.shape[1]) < lengths[:, None]
        blanks += int(np.sum((path == BLANK) & counted))
        frames_in_all += int(np.sum(lengths))
    labelled = split.label_lengths > 0
    aligned = labelled & (split.bins >= bins_needed(split, model.kernel, model.stride))
    references = [split.label(i).tolist() for i in range(len(split))]
    errors = np.where(labelled, error_counts(references, hypotheses), 0)
    return Evaluation(
        per=per(errors, split.label_lengths),
        per_utterance_mean=utterance_per(errors, split.label_lengths),
        loss=float(losses[aligned].mean()) if aligned.any() else float("nan"),
        blank_share=blanks / frames_in_all if frames_in_all else float("nan"),
        hypotheses=hypotheses,
        errors=errors,
    )
