"""The synthetic speaker: the same on every machine, and hard in the ways the recorded task is hard."""

from __future__ import annotations

import dataclasses
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from search_spaces.config import RunConfig
from search_spaces.errors import InputError
from trainable import train
from trainable.checkpoint import load_model
from trainable.compute.precision import autocast_for
from trainable.data.batches import Loader
from trainable.data.dataset import Dataset, open_dataset, verify
from trainable.data.feasible import infeasible
from trainable.data.lexicon import LEXICON
from trainable.data.phonemes import CLASSES, PHONEMES
from trainable.data.synthetic import MANNERS, SIZES, generate, make_synthetic
from trainable.evaluation import evaluate

TINY_FINGERPRINT = "ef907daef0402ade4d71b7b2aa4e576b5b9a328b50c1ab78d3faa208b64424e6"
"""Of size tiny, seed 0. It changes only when the generator is changed on purpose."""


@pytest.fixture(scope="module")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_synthetic(tmp_path_factory.mktemp("synthetic") / "tiny", "tiny")


@pytest.fixture(scope="module")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_synthetic(tmp_path_factory.mktemp("synthetic") / "small", "small")


def decent(**changes: dict[str, Any]) -> RunConfig:
    """A reasonable small run: 80 batches of 32; `section={...}` changes it."""
    sections: dict[str, dict[str, Any]] = {
        "model": {"hidden": 64, "layers": 1, "kernel": 12, "stride": 4},
        "optimizer": {"kind": "adam", "eps": 1e-8},
        "schedule": {"kind": "one_cycle", "peak_lr": 6e-3, "start_lr": 6e-4, "end_lr": 1e-5},
        "augmentation": {"smoothing_sd": 1.0, "smoothing_kernel": 9, "white_noise": 0.3, "constant_offset": 0.1},
        "training": {"batches": 80, "batches_per_epoch": 80, "batch_size": 32, "clip": 5.0, "device": "cpu"},
    }
    return RunConfig.model_validate({key: values | changes.get(key, {}) for key, values in sections.items()})


def final_per(dataset: Dataset, **changes: dict[str, Any]) -> float:
    return list(train(decent(**changes), dataset))[-1].per


def test_the_same_size_and_seed_give_the_same_bytes(tiny_data: Dataset, tmp_path: Path) -> None:
    """Made twice, features and utterances are byte-identical; the fingerprint is the pinned one of every machine."""
    again = make_synthetic(tmp_path / "again", "tiny")
    for file in ("features.npy", "utterances.parquet"):
        assert (again.path / file).read_bytes() == (tiny_data.path / file).read_bytes()
    assert verify(again.path).fingerprint == TINY_FINGERPRINT


def test_another_seed_is_another_speaker(tiny_data: Dataset, tmp_path: Path) -> None:
    """Features and sentences differ; sizes do not."""
    other = make_synthetic(tmp_path / "other", "tiny", seed=1)
    assert other.fingerprint != tiny_data.fingerprint
    assert other.train.text != tiny_data.train.text
    assert len(other.train) == len(tiny_data.train)


@pytest.mark.parametrize("name", ["tiny", "small"])
def test_a_size_is_what_it_says(name: str, request: pytest.FixtureRequest) -> None:
    """Utterances, days, features and lengths are those of `SIZES`; every day has training and validation utterances."""
    dataset, size = request.getfixturevalue(f"{name}_data"), SIZES[name]
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (size.train, size.val, 0)
    assert (len(dataset.days), dataset.n_features) == (size.days, size.features)
    for split in (dataset.train, dataset.val):
        assert split.bins.min() >= size.bins[0]
        assert split.bins.max() <= size.bins[1]
        counts = np.bincount(split.day, minlength=size.days)
        assert counts.max() - counts.min() <= 1
        assert infeasible(split, kernel=12, stride=4).mean() < 0.05


def test_a_label_is_the_pronunciation_of_its_text(small_data: Dataset) -> None:
    """Each word's phonemes, then SIL; so every utterance ends in SIL and no class follows itself."""
    for split in (small_data.train, small_data.val):
        for i in range(len(split)):
            spoken = [p for word in split.text[i].split() for p in (*LEXICON[word], "SIL")]
            assert [CLASSES[label] for label in split.label(i)] == spoken
    assert set(small_data.train.labels.tolist()) == set(range(1, 41))


def test_the_lexicon_covers_the_phonemes() -> None:
    """All 39 occur, nothing else does, and each belongs to one manner of articulation."""
    assert {phoneme for word in LEXICON.values() for phoneme in word} == set(PHONEMES)
    assert sorted(" ".join(MANNERS.values()).split()) == sorted(PHONEMES)


def test_features_are_z_scored_per_block(tiny_data: Dataset) -> None:
    """Over all bins of a block, training and validation together, each feature has mean 0 and s.d. 1."""
    rows = pq.read_table(tiny_data.path / "utterances.parquet").to_pylist()
    blocks: dict[tuple[str, int], list[np.ndarray]] = {}
    for row in rows:
        features = tiny_data.train.matrix[row["start"] : row["start"] + row["bins"]]
        blocks.setdefault((row["session"], row["block"]), []).append(features)
    assert len(blocks) == 9
    for parts in blocks.values():
        block = np.concatenate(parts)
        np.testing.assert_allclose(block.mean(axis=0), 0.0, atol=2e-3)
        np.testing.assert_allclose(block.std(axis=0), 1.0, atol=2e-3)


def test_paper_has_the_lengths_of_the_recordings(tmp_path: Path) -> None:
    """100 to 900 bins, about 314 on average, labels of about 28, and a kernel of 32 at stride 4 fits nearly all."""
    size = SIZES["paper"]
    assert (size.days, size.train, size.val, size.features) == (24, 8800, 880, 256)
    few = dataclasses.replace(size, days=2, train=400, val=40, features=2)
    split = generate(tmp_path / "paper", few, 0, source={}).train
    assert split.bins.min() >= 100
    assert split.bins.max() <= 900
    assert split.bins.max() > 500
    assert 295 < split.bins.mean() < 335
    assert 26 < split.label_lengths.mean() < 31
    assert infeasible(split, kernel=32, stride=4).mean() < 0.02


def test_more_days_take_no_more_memory(tmp_path: Path) -> None:
    """One block is in memory at a time: 12 days peak where 2 days do."""

    def peak(days: int) -> int:
        size = dataclasses.replace(SIZES["tiny"], days=days, train=32 * days, val=days, features=128)
        tracemalloc.start()
        try:
            generate(tmp_path / str(days), size, 0, source={})
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(12) < 1.25 * peak(2)


def test_progress_counts_up_to_the_end(tmp_path: Path) -> None:
    """Called after each block with what is done of all utterances."""
    calls: list[tuple[int, int, str]] = []
    make_synthetic(tmp_path / "tiny", "tiny", progress=lambda *call: calls.append(call))
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert calls[-1] == (128, 128, "day 3 of 3")


def test_an_interrupted_generation_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C on the second day."""

    def interrupt(done: int, total: int, what: str) -> None:
        if what.startswith("day 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_synthetic(tmp_path / "tiny", "tiny", progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_wrong_sizes_seeds_and_targets_are_refused(tmp_path: Path) -> None:
    """One line each, with what is allowed."""
    with pytest.raises(InputError, match="size: 'huge' is not allowed; give one of tiny, small, paper"):
        make_synthetic(tmp_path / "out", "huge")
    with pytest.raises(InputError, match="seed: -1 is not allowed; give 0 or more"):
        make_synthetic(tmp_path / "out", "tiny", seed=-1)
    make_synthetic(tmp_path / "out", "tiny")
    with pytest.raises(InputError, match="exists already"):
        make_synthetic(tmp_path / "out", "tiny")
    assert open_dataset(tmp_path / "out").fingerprint == TINY_FINGERPRINT


@pytest.fixture(scope="module")
def decent_per(small_data: Dataset) -> float:
    """PER of `decent` on small: about 0.35."""
    return final_per(small_data)


def test_an_untrained_model_knows_nothing(small_data: Dataset) -> None:
    """After one batch at a rate of nearly 0, PER is near 1 or above."""
    rate = {"peak_lr": 1e-9, "start_lr": 0.0, "end_lr": 0.0}
    assert final_per(small_data, schedule=rate, training={"batches": 1}) > 0.9


def test_a_decent_run_learns_most_but_not_all(decent_per: float) -> None:
    """80 batches are enough to come down to a PER that leaves room for better settings."""
    assert 0.2 < decent_per < 0.42


def test_day_layers_are_needed(small_data: Dataset, decent_per: float) -> None:
    """The tuning drifts so much that one input layer for all days is clearly worse (about 0.48)."""
    assert final_per(small_data, model={"day_layers": False}) > decent_per + 0.07


@pytest.mark.parametrize(
    "bad",
    [
        {"schedule": {"peak_lr": 1e-4, "start_lr": 1e-5}},
        {"optimizer": {"eps": 0.1}, "schedule": {"peak_lr": 2e-3, "start_lr": 2e-4}},
        {"model": {"hidden": 8}},
    ],
    ids=["rate far too low", "low rate at eps 0.1", "far too few units"],
)
def test_bad_settings_end_clearly_worse(small_data: Dataset, decent_per: float, bad: dict[str, Any]) -> None:
    """Settings that fail on recordings fail here (about 0.94, 0.84 and 0.8)."""
    assert final_per(small_data, **bad) > decent_per + 0.3


def test_without_augmentation_it_over_fits(tiny_data: Dataset) -> None:
    """Training utterances are decoded nearly without errors (about 0.00), others are not (about 0.24)."""
    plain = decent(
        augmentation={"white_noise": 0.0, "constant_offset": 0.0},
        training={"batches": 150, "batches_per_epoch": 150, "batch_size": 16},
        model={"kernel": 8},
    )
    (report,) = train(plain, tiny_data)
    cpu, unseen = torch.device("cpu"), report.per
    loader = Loader(tiny_data.train, cpu)
    seen = evaluate(load_model(report.checkpoint()), loader, "target_mean", autocast_for(plain, cpu)).per
    assert seen < 0.05
    assert unseen > seen + 0.1
