"""What is in a data folder, in numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainable.data.dataset import CHUNK_BINS, Dataset
from trainable.data.feasible import infeasible


def summary(dataset: Dataset, kernel: int, stride: int) -> dict[str, Any]:
    """What is in a data folder, and how much of it a kernel and stride can align: plain JSON types.

    Lengths in bins, durations in seconds; `splits` has one entry per split that is not empty. Reads all features, for
    their mean and standard deviation.
    """
    mean, sd = _moments(dataset.train.matrix)
    seconds = dataset.bin_ms / 1000
    splits = {}
    for name, split in dataset.splits.items():
        if len(split) == 0:
            continue
        labelled = split.label_lengths > 0
        splits[name] = {
            "utterances": len(split),
            "sessions": len(np.unique(split.day)),
            "unlabelled": int((~labelled).sum()),
            "seconds": round(float(split.bins.sum()) * seconds, 3),
            "bins": _spread(split.bins),
            "utterance_seconds": {key: round(value * seconds, 3) for key, value in _spread(split.bins).items()},
            "label_length": _spread(split.label_lengths[labelled]),
            "shorter_than_kernel": int((split.bins < kernel).sum()),
            "infeasible": int(infeasible(split, kernel, stride).sum()),
        }
    return {
        "path": str(dataset.path),
        "name": dataset.name,
        "source": dict(dataset.source),
        "created": dataset.created,
        "fingerprint": dataset.fingerprint,
        "features": dataset.n_features,
        "classes": dataset.n_classes,
        "bin_ms": dataset.bin_ms,
        "sessions": list(dataset.days),
        "utterances": sum(len(split) for split in dataset.splits.values()),
        "seconds": round(len(dataset.train.matrix) * seconds, 3),
        "feature_mean": mean,
        "feature_sd": sd,
        "kernel": kernel,
        "stride": stride,
        "splits": splits,
    }


def _spread(values: np.ndarray) -> dict[str, float]:
    if values.size == 0:
        return {}
    return {
        "min": float(values.min()),
        "median": float(np.median(values)),
        "mean": round(float(values.mean()), 3),
        "max": float(values.max()),
    }


def _moments(matrix: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation over all bins and features."""
    total = squares = 0.0
    for begin in range(0, len(matrix), CHUNK_BINS):
        chunk = matrix[begin : begin + CHUNK_BINS]
        total += float(chunk.sum(dtype=np.float64))
        squares += float(np.square(chunk, dtype=np.float64).sum())
    mean = total / matrix.size
    return round(mean, 6), round(max(squares / matrix.size - mean**2, 0.0) ** 0.5, 6)
