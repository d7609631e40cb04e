"""From logits to phonemes, and from phonemes to the phoneme error rate (PER)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein
from torch import Tensor

BLANK = 0


def greedy(logits: Tensor, lengths: Tensor) -> list[list[int]]:
    """Best path: the likeliest class of each frame, repeats merged, blanks dropped (Graves et al. 2006).

    `logits` [batch, frames, classes], of which the first `lengths` int64 [batch] frames of each utterance count. One
    transfer from the device. A class that is really said twice survives if a blank stands between.
    """
    return collapse(logits.argmax(dim=2).cpu().numpy(), lengths.cpu().numpy())


def collapse(path: np.ndarray, lengths: np.ndarray) -> list[list[int]]:
    """Class ids of a path of classes, int64 [batch, frames], of which `lengths` [batch] frames count."""
    keep = path != BLANK
    keep[:, 1:] &= path[:, 1:] != path[:, :-1]
    keep &= np.arange(path.shape[1]) < lengths[:, None]
    ends = np.cumsum(keep.sum(axis=1))
    return [part.tolist() for part in np.split(path[keep], ends[:-1])]


def error_counts(references: Sequence[Sequence[int]], hypotheses: Sequence[Sequence[int]]) -> np.ndarray:
    """Edit distance (substitutions, insertions, deletions, each 1) of each pair: int64 [pairs]."""
    pairs = zip(references, hypotheses, strict=True)
    return np.array([Levenshtein.distance(reference, hypothesis) for reference, hypothesis in pairs], dtype=np.int64)


def per(errors: np.ndarray, lengths: np.ndarray) -> float:
    """Corpus PER: all errors over all reference phonemes. NaN where there are no reference phonemes."""
    total = int(np.sum(lengths))
    return float(np.sum(errors) / total) if total else float("nan")


def utterance_per(errors: np.ndarray, lengths: np.ndarray) -> float:
    """Mean over utterances of errors / reference length, as `speechBaseline4` reports it; unlabelled ones left out."""
    labelled = np.asarray(lengths) > 0
    return float(np.mean(errors[labelled] / lengths[labelled])) if labelled.any() else float("nan")
