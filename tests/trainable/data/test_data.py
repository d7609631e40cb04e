"""The packed data folder: what is written comes back, and nothing broken gets in."""

from __future__ import annotations

import itertools
import json
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.config import RunConfig
from search_spaces.errors import InputError
from trainable.data.dataset import (
    Dataset,
    Split,
    check_features,
    open_dataset,
    verify,
    write_dataset,
)
from trainable.data.feasible import check_trainable, infeasible
from trainable.data.overview import summary

FEATURES = 5
PINNED = "5151679edac51bdab9ab93f7854119b89940f69942687b477d4f02bcbca6db0c"
"""Fingerprint of `pack`'s folder."""


def utterance(i: int) -> dict[str, Any]:
    """What `writer.add` is given for the i-th of the test utterances: 20 + i bins, 3 + i labels."""
    rng = np.random.default_rng(i)
    return {
        "features": rng.normal(size=(20 + i, FEATURES)).astype(np.float32),
        "labels": (np.arange(3 + i) * (i + 1)) % 40 + 1,
        "split": ("train", "val", "train", "test")[i % 4],
        "session": f"day.{i // 4}",
        "text": f"sentence {i}",
        "block": i // 2,
        "trial": i,
    }


def pack(path: Path, count: int = 8, **changes: Any) -> Path:
    """A folder of `count` test utterances; `changes` replace values of the last one."""
    with write_dataset(path, source={"kind": "test"}, bin_ms=20) as writer:
        for i in range(count):
            writer.add(**{**utterance(i), **(changes if i == count - 1 else {})})
    return path


def fails(act: Callable[[], Any]) -> list[str]:
    """The lines of the `InputError` that `act` raises, each a single line."""
    with pytest.raises(InputError) as raised:
        act()
    assert all("\n" not in line for line in raised.value.problems)
    return raised.value.problems


def run_config(kernel: int = 8, stride: int = 2, max_bins: int | None = None) -> RunConfig:
    return RunConfig.model_validate(
        {
            "data": {"max_bins": max_bins},
            "model": {"kernel": kernel, "stride": stride},
            "schedule": {"kind": "constant", "peak_lr": 1e-3},
        }
    )


def test_every_utterance_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """Features, labels, day, text and order survive the folder exactly, split by split."""
    dataset = open_dataset(pack(tmp_path / "data"))
    for name, split in dataset.splits.items():
        expected = [u for u in map(utterance, range(8)) if u["split"] == name]
        assert len(split) == len(expected)
        for i, given_ in enumerate(expected):
            np.testing.assert_array_equal(split.features(i), given_["features"])
            np.testing.assert_array_equal(split.label(i), given_["labels"])
            assert split.text[i] == given_["text"]
            assert dataset.days[split.day[i]] == given_["session"]
            assert split.utterance[i] == given_["trial"]
    assert dataset.n_features == FEATURES
    assert dataset.n_classes == 41
    assert dataset.classes[0] == "<blank>"
    assert dataset.classes[40] == "SIL"
    assert verify(dataset.path).fingerprint == dataset.fingerprint


def test_features_are_views_of_a_memory_map_that_pickling_does_not_copy(tmp_path: Path) -> None:
    """All utterances share one read-only map, and a pickled data set is a path: workers share the page cache."""
    dataset = open_dataset(pack(tmp_path / "data"))
    first = dataset.train.features(0)
    assert not first.flags.writeable
    assert np.shares_memory(dataset.train.matrix, first)
    assert np.shares_memory(dataset.train.matrix, dataset.val.matrix)
    sent = pickle.dumps(dataset)
    assert len(sent) < 1000
    assert pickle.loads(sent).fingerprint == dataset.fingerprint


def test_an_unlabelled_test_utterance_is_kept(tmp_path: Path) -> None:
    """The test split may lack labels; the others may not."""
    dataset = open_dataset(pack(tmp_path / "data", labels=[]))
    assert dataset.test.label_lengths.tolist() == [6, 0]
    [line] = fails(lambda: pack(tmp_path / "other", count=7, labels=[]))
    assert "no labels" in line


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"features": np.full((4, FEATURES), np.nan)}, "NaN or infinite features in bin 0"),
        ({"features": np.r_[np.zeros((3, FEATURES)), np.full((1, FEATURES), -np.inf)]}, "in bin 3"),
        ({"features": np.full((4, FEATURES), 1e300)}, "NaN or infinite"),
        ({"features": np.zeros((4, FEATURES + 1))}, "6 features, but the utterances before have 5"),
        ({"features": np.zeros((0, FEATURES))}, "[0, 5]"),
        ({"features": np.zeros(4)}, "[4]"),
        ({"labels": [1, 41]}, "label 41 is not allowed; labels are 1..40"),
        ({"labels": [0]}, "label 0 is not allowed"),
        ({"labels": [-3]}, "label -3 is not allowed"),
        ({"split": "dev"}, "'dev' is not allowed; give one of train, val, test"),
    ],
)
def test_a_broken_utterance_is_refused_by_name_and_leaves_nothing(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    """The line names the utterance and what is wrong; neither the folder nor a staging folder stays."""
    [line] = fails(lambda: pack(tmp_path / "deep" / "data", **changes))
    assert line.startswith("day.1: ")
    assert "trial 7 of block 3" in line
    assert says in line
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C in the middle removes what was written, and the folders that were made for it."""
    with pytest.raises(KeyboardInterrupt), write_dataset(tmp_path / "a" / "b", source={}, bin_ms=20) as writer:
        writer.add(**utterance(0))
        assert any(tmp_path.rglob("features.npy"))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_the_folder_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    """Until the writer is done nothing is at the final place, so a reader never sees half a data set."""
    with write_dataset(tmp_path / "data", source={}, bin_ms=20) as writer:
        writer.add(**utterance(0))
        assert not (tmp_path / "data").exists()
    assert open_dataset(tmp_path / "data").train.features(0).shape == (20, FEATURES)


def test_an_existing_folder_is_never_written_over(tmp_path: Path) -> None:
    """A folder with anything in it is refused before any work, and stays as it is."""
    path = pack(tmp_path / "data")
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    [line] = fails(lambda: pack(path))
    assert "exists already; choose another --out" in line
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_data_set_without_utterances_is_not_made(tmp_path: Path) -> None:
    """Nothing added: a clear line, no folder."""
    [line] = fails(lambda: pack(tmp_path / "data", count=0))
    assert "no utterances" in line
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """A file where a parent folder should be: an `InputError`, not an operating system traceback."""
    (tmp_path / "file").write_text("")
    [line] = fails(lambda: pack(tmp_path / "file" / "data"))
    assert "cannot be written" in line


def test_the_fingerprint_is_of_the_content_alone(tmp_path: Path) -> None:
    """Name, place and date do not change it; it is the same on every machine, so its value is pinned here."""
    first = open_dataset(pack(tmp_path / "one"))
    assert open_dataset(pack(tmp_path / "two")).fingerprint == first.fingerprint
    assert first.fingerprint == PINNED


@pytest.mark.parametrize(
    "changes",
    [
        {"features": utterance(7)["features"] + np.float32(1e-3) * (np.arange(FEATURES) == 0)},
        {"labels": np.r_[utterance(7)["labels"][:-1], 1]},
        {"split": "train"},
        {"session": "day.9"},
        {"text": "another"},
        {"block": 77},
    ],
)
def test_any_change_changes_the_fingerprint(tmp_path: Path, changes: dict[str, Any]) -> None:
    """One feature, one label, a split, a session, a text or a block is enough."""
    assert open_dataset(pack(tmp_path / "data", **changes)).fingerprint != PINNED


def test_verify_finds_a_changed_byte(tmp_path: Path) -> None:
    """A folder edited after it was made opens, but does not verify."""
    path = pack(tmp_path / "data")
    with (path / "features.npy").open("r+b") as file:
        file.seek(128 + 4 * 17)
        file.write(np.float32(3.25).tobytes())
    assert open_dataset(path).train.matrix.reshape(-1)[17] == 3.25
    [line] = fails(lambda: verify(path))
    assert "changed after it was made" in line


def test_check_features_names_the_utterance_with_a_nan(tmp_path: Path) -> None:
    """A NaN put into a finished folder is found before training, with its utterance, session and bin."""
    path = pack(tmp_path / "data")
    check_features(open_dataset(path))
    bins = [20 + i for i in range(8)]
    with (path / "features.npy").open("r+b") as file:
        file.seek(128 + 4 * FEATURES * (sum(bins[:5]) + 2))
        file.write(np.float32("inf").tobytes())
    [line] = fails(lambda: check_features(open_dataset(path)))
    assert "utterance 5 (val, day.1): NaN or infinite features in bin 2" in line


def change_info(path: Path, **changes: Any) -> None:
    file = path / "dataset.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def change_column(path: Path, name: str, values: list[Any]) -> None:
    table = pq.read_table(path / "utterances.parquet")
    column = table.schema.get_field_index(name)
    field = table.schema.field(column)
    pq.write_table(table.set_column(column, field, pa.array(values, field.type)), path / "utterances.parquet")


def truncate(file: Path, lost: int) -> None:
    file.write_bytes(file.read_bytes()[:-lost])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda p: [file.unlink() for file in p.iterdir()], "not a packed data folder"),
        (lambda p: (p / "utterances.parquet").unlink(), "utterances.parquet missing"),
        (lambda p: truncate(p / "features.npy", 40), "features.npy: truncated"),
        (lambda p: (p / "features.npy").write_bytes(b""), "features.npy: truncated"),
        (lambda p: truncate(p / "utterances.parquet", 40), "utterances.parquet: cannot be read"),
        (lambda p: truncate(p / "dataset.json", 40), "dataset.json: cannot be read"),
        (lambda p: (p / "dataset.json").write_text("[]"), "schema_version: None is not allowed"),
        (lambda p: change_info(p, schema_version=2), "schema_version: 2 is not allowed"),
        (lambda p: change_info(p, features=6), "is not float32 [bins, 6]"),
        (lambda p: change_info(p, days=None), "days missing or of a wrong type"),
        (lambda p: change_info(p, days=["one"]), "is outside 0..0"),
        (lambda p: change_info(p, classes=["<blank>", "AA", "B"]), "labels are 1..2"),
        (lambda p: change_column(p, "bins", [20] * 8), "start and bins"),
        (lambda p: change_column(p, "split", ["train"] * 7 + ["dev"]), "'dev' of utterance 7"),
        (lambda p: change_column(p, "labels", [[1]] * 7 + [[41]]), "label 41 of utterance 7"),
        (lambda p: np.save(p / "features.npy", np.zeros((9, FEATURES), "f4")), "9 bins, but the utterances have 188"),
        (lambda p: np.save(p / "features.npy", np.zeros((188, FEATURES), "f8")), "float64"),
    ],
)
def test_a_spoilt_folder_is_refused_in_one_line(tmp_path: Path, spoil: Callable[[Path], Any], says: str) -> None:
    """Each way a folder can be broken is named, with the file."""
    path = pack(tmp_path / "data")
    spoil(path)
    lines = fails(lambda: open_dataset(path))
    assert any(says in line for line in lines), lines
    assert all(line.startswith(str(path)) for line in lines)


def test_a_missing_folder_says_how_to_make_one(tmp_path: Path) -> None:
    """A wrong path, or a file in its place, is told apart."""
    assert "does not exist; make one with" in fails(lambda: open_dataset(tmp_path / "no"))[0]
    (tmp_path / "file").write_text("")
    assert "is not a folder" in fails(lambda: open_dataset(tmp_path / "file"))[0]


def split_of(bins: list[int], labels: list[list[int]]) -> Split:
    """A split without features."""
    lengths = np.array([len(label) for label in labels], dtype=np.int64)
    return Split(
        matrix=np.zeros((sum(bins), 1), np.float32),
        start=np.cumsum([0, *bins[:-1]]),
        bins=np.array(bins, dtype=np.int64),
        day=np.zeros(len(bins), np.int64),
        label_start=np.concatenate([[0], np.cumsum(lengths)]),
        labels=np.array([c for label in labels for c in label], dtype=np.int64),
        text=[""] * len(bins),
        utterance=np.arange(len(bins)),
    )


def some_path_spells(frames: int, label: list[int]) -> bool:
    """Whether any sequence of `frames` classes, merged and without blanks, is the label: CTC's own definition."""
    return any(
        [c for c, _ in itertools.groupby(path) if c] == label for path in itertools.product(range(3), repeat=frames)
    )


@given(
    st.lists(
        st.tuples(st.integers(1, 8), st.lists(st.integers(1, 2), max_size=4)),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_infeasible_is_what_no_ctc_path_can_spell(
    utterances: list[tuple[int, list[int]]], kernel: int, stride: int
) -> None:
    """Against brute force over all paths, for windows counted one by one; no window at all is infeasible too."""
    split = split_of([bins for bins, _ in utterances], [label for _, label in utterances])
    expected = []
    for bins, label in utterances:
        frames = sum(1 for begin in range(0, bins, stride) if begin + kernel <= bins)
        expected.append(frames == 0 or not some_path_spells(frames, label))
    assert infeasible(split, kernel, stride).tolist() == expected


def test_infeasible_of_an_empty_split_is_empty() -> None:
    """No utterances, no answer, no error."""
    assert infeasible(split_of([], []), 4, 2).shape == (0,)


def test_settings_that_cannot_learn_are_refused_with_every_reason(tmp_path: Path) -> None:
    """Kernel too long, stride too wide, max_bins too small: each named with what would do."""
    dataset = open_dataset(pack(tmp_path / "data"))
    check_trainable(run_config(), dataset)
    long = fails(lambda: check_trainable(run_config(kernel=40), dataset))
    assert len(long) == 2
    assert "longer than every training utterance" in long[0]
    assert "give 26 or less" in long[0]
    assert "longer than every validation utterance" in long[1]
    wide = fails(lambda: check_trainable(run_config(stride=16), dataset))
    assert "4 of 4 training labels" in wide[0]
    short = fails(lambda: check_trainable(run_config(max_bins=10), dataset))
    assert "leaves no training utterance" in short[0]
    assert "give 20 or more" in short[0]


def test_data_without_training_or_validation_utterances_is_refused(tmp_path: Path) -> None:
    """A folder may hold any splits; training needs both."""
    dataset = open_dataset(pack(tmp_path / "data", count=1))
    assert "no validation utterances" in fails(lambda: check_trainable(run_config(), dataset))[0]
    with write_dataset(tmp_path / "test_only", source={}, bin_ms=20) as writer:
        writer.add(**{**utterance(0), "split": "test"})
    lines = fails(lambda: check_trainable(run_config(), open_dataset(tmp_path / "test_only")))
    assert ["no training" in lines[0], "no validation" in lines[1]] == [True, True]


def test_some_infeasible_labels_are_allowed_most_are_not(tmp_path: Path) -> None:
    """Exactly half may be infeasible; the loop counts those."""

    def dataset_with(impossible: int) -> Dataset:
        path = tmp_path / str(impossible)
        with write_dataset(path, source={}, bin_ms=20) as writer:
            for i in range(4):
                for split in ("train", "val"):
                    long = i < impossible and split == "train"
                    writer.add(np.zeros((12, 2)), [1, 2] * (9 if long else 1), split=split, session="s")
        return open_dataset(path)

    check_trainable(run_config(kernel=4, stride=4), dataset_with(2))
    assert (
        "3 of 4 training labels" in fails(lambda: check_trainable(run_config(kernel=4, stride=4), dataset_with(3)))[0]
    )


def test_the_summary_is_what_numpy_says(tmp_path: Path) -> None:
    """Counts, durations, lengths, feature moments and infeasible labels of a folder small enough to check by hand."""
    dataset = open_dataset(pack(tmp_path / "data"))
    facts = json.loads(json.dumps(summary(dataset, kernel=8, stride=4)))
    everything = np.concatenate([utterance(i)["features"] for i in range(8)])
    assert facts["feature_mean"] == pytest.approx(everything.mean(), abs=1e-5)
    assert facts["feature_sd"] == pytest.approx(everything.std(), abs=1e-5)
    assert facts["utterances"] == 8
    assert facts["seconds"] == pytest.approx(188 * 0.02)
    assert facts["sessions"] == ["day.0", "day.1"]
    train = facts["splits"]["train"]
    assert train["utterances"] == 4
    assert train["bins"] == {"min": 20, "median": 23, "mean": 23, "max": 26}
    assert train["utterance_seconds"]["max"] == pytest.approx(0.52)
    assert train["label_length"]["mean"] == 6
    # Frames are 4, 4, 5, 5 and labels 3, 5, 7, 9 long.
    assert train["infeasible"] == 3
    assert summary(dataset, kernel=24, stride=4)["splits"]["train"]["shorter_than_kernel"] == 2


def test_writing_takes_no_more_memory_for_more_data(tmp_path: Path) -> None:
    """64 MB of features are written with a few MB of memory."""
    features = np.ones((4096, 64), np.float32)
    tracemalloc.start()
    try:
        with write_dataset(tmp_path / "data", source={}, bin_ms=20) as writer:
            for _ in range(64):
                writer.add(features, [1], split="train", session="s")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "data" / "features.npy").stat().st_size == 128 + 64 * features.nbytes
    assert peak < 4e6
