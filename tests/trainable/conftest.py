"""A task small enough to train on in a test, made in memory, and the configuration for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search_spaces.config import RunConfig
from trainable.data.dataset import Dataset, Split

CLASSES = ("<blank>", "AA", "B", "K", "S", "SIL")


def make_split(labels: list[list[int]], bins: list[int] | None = None, features: int = 6, seed: int = 0) -> Split:
    """One pattern per class, held for equal shares of the utterance, with noise; days alternate between two."""
    rng = np.random.default_rng(seed)
    patterns = np.random.default_rng(99).normal(size=(len(CLASSES), features))
    bins = bins or [8 * (len(label) + 1) for label in labels]
    rows = []
    for label, length in zip(labels, bins, strict=True):
        classes = np.array(label or [5])[np.arange(length) * max(len(label), 1) // length]
        rows.append(patterns[classes] + 0.3 * rng.normal(size=(length, features)))
    lengths = np.array([len(label) for label in labels], dtype=np.int64)
    sizes = np.array(bins, dtype=np.int64)
    return Split(
        matrix=np.concatenate(rows).astype(np.float32),
        start=np.cumsum(sizes) - sizes,
        bins=sizes,
        day=np.arange(len(labels), dtype=np.int64) % 2,
        label_start=np.concatenate([[0], np.cumsum(lengths)]),
        labels=np.concatenate([np.array(label, dtype=np.int64) for label in labels]),
        text=[""] * len(labels),
        utterance=np.arange(len(labels), dtype=np.int64),
    )


def random_labels(count: int, seed: int) -> list[list[int]]:
    """Sequences of 1 to 6 classes, no two neighbours equal."""
    rng = np.random.default_rng(seed)
    labels = []
    for _ in range(count):
        label = [int(rng.integers(1, 6))]
        for _ in range(int(rng.integers(0, 6))):
            label.append(int(rng.choice([c for c in range(1, 6) if c != label[-1]])))
        labels.append(label)
    return labels


def make_dataset(train: Split, val: Split, fingerprint: str = "f" * 64) -> Dataset:
    """A data set that is not on disk."""
    return Dataset(
        path=Path("in-memory"),
        name="in-memory",
        source={},
        classes=CLASSES,
        days=("monday", "tuesday"),
        n_features=train.matrix.shape[1],
        bin_ms=20.0,
        fingerprint=fingerprint,
        created="2024-01-01T00:00:00+00:00",
        train=train,
        val=val,
        test=make_split([[1]]),
    )


def make_config(**changes: Any) -> RunConfig:
    """A run of 12 batches in 3 epochs on a CPU; `section={...}` replaces a section's values."""
    sections: dict[str, dict[str, Any]] = {
        "model": {"hidden": 12, "layers": 2, "kernel": 8, "stride": 2, "dropout": 0.2},
        "optimizer": {"kind": "adam", "eps": 1e-8, "weight_decay": 0.0},
        "schedule": {"kind": "constant", "peak_lr": 5e-3},
        "augmentation": {"smoothing_sd": 1.0, "smoothing_kernel": 6, "white_noise": 0.1},
        "training": {"batches": 12, "batches_per_epoch": 4, "batch_size": 8, "clip": 5.0, "device": "cpu"},
    }
    for section, values in changes.items():
        replaced = "kind" in values and values["kind"] != sections.get(section, {}).get("kind")
        sections[section] = values if replaced else {**sections.get(section, {}), **values}
    return RunConfig.model_validate(sections)


@pytest.fixture(scope="session")
def tiny() -> Dataset:
    """24 training and 10 validation utterances of 16 to 56 bins, 6 features, 5 classes and the blank, 2 days."""
    return make_dataset(make_split(random_labels(24, 1), seed=1), make_split(random_labels(10, 2), seed=2))


@pytest.fixture(scope="session")
def config() -> Callable[..., RunConfig]:
    """`make_config`."""
    return make_config


@pytest.fixture(scope="session")
def split() -> Callable[..., Split]:
    """`make_split`."""
    return make_split


@pytest.fixture(scope="session")
def dataset() -> Callable[..., Dataset]:
    """`make_dataset`."""
    return make_dataset
