"""What `check_dataset` finds: every fault it is for, and nothing in data that have none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainable.data.checks import DataFinding, check_dataset, outliers
from trainable.data.dataset import Dataset, open_dataset, write_dataset
from trainable.data.phonemes import CLASSES

FEATURES = 5
HELD_OUT = [CLASSES.index(name) for name in ("HH", "EH", "L", "D", "SIL", "AW", "T", "SIL")]


def pack(path: Path, change: Callable[[list[dict[str, Any]]], Any] = lambda rows: None) -> Dataset:
    """24 sound utterances of two sessions, 8 train, 2 val, 2 test each, as `change` leaves them."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "features": rng.normal(size=(40 + i, FEATURES)).astype(np.float32),
            "labels": [1 + (i + j) % 39 for j in range(4)],
            "split": "train" if i % 12 < 8 else "val" if i % 12 < 10 else "test",
            "session": f"s{i // 12}",
            "text": f"sentence {i}",
        }
        for i in range(24)
    ]
    change(rows)
    with write_dataset(path, source={}, bin_ms=20) as writer:
        for row in rows:
            writer.add(row.pop("features"), row.pop("labels"), **row)
    return open_dataset(path)


def found(dataset: Dataset, kernel: int = 8, stride: int = 2) -> list[DataFinding]:
    return check_dataset(dataset, kernel, stride)


def test_nothing_is_found_in_sound_data(tmp_path: Path) -> None:
    """And progress is told from the first utterance to the last."""
    calls: list[tuple[int, int, str]] = []
    assert check_dataset(pack(tmp_path / "a"), 8, 2, lambda *call: calls.append(call)) == []
    assert calls[0][:2] == (0, 24)
    assert calls[-1][:2] == (24, 24)


def constant(rows: list[dict[str, Any]]) -> None:
    for row in rows[12:]:
        row["features"][:, 3] = 7.0


def relabel(labels: list[int], *numbers: int) -> Callable[[list[dict[str, Any]]], None]:
    def change(rows: list[dict[str, Any]]) -> None:
        for number in numbers:
            rows[number]["labels"] = labels

    return change


def keep(*splits: str) -> Callable[[list[dict[str, Any]]], None]:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[:] = [row for row in rows if row["split"] in splits]

    return change


def put(number: int, **changes: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda rows: rows[number].update(changes)


LONG = np.random.default_rng(5).normal(size=(2000, FEATURES))


@pytest.mark.parametrize(
    ("change", "level", "check", "split", "count", "example"),
    [
        (constant, "warning", "constant features", "all", 1, "s1: 1 of 5, the first is 3"),
        (relabel([1, 1] * 20, 1, 8), "warning", "infeasible labels", "train", 1, "utterance 1 (s0)"),
        (relabel([1, 2] * 20, 8, 9, 20), "error", "infeasible labels", "val", 3, "utterance 8 (s0)"),
        (lambda rows: rows[8].update(features=rows[2]["features"]), "error", "same features", "train+val", 1,
         "utterance 2 (s0) = utterance 8 (s0)"),
        (lambda rows: rows[3].update(features=rows[2]["features"]), "warning", "same features", "train", 1,
         "utterance 2 (s0) = utterance 3 (s0)"),
        (put(9, text="Sentence  5"), "warning", "same text", "train+val", 1, "utterance 5 (s0) and utterance 9 (s0)"),
        (put(10, text="held out"), "error", "held out", "test", 1, "utterance 10 (s0)"),
        (relabel(HELD_OUT, 11), "error", "held out", "test", 1, "utterance 11 (s0)"),
        (put(4, features=LONG), "warning", "odd length", "train", 1, "utterance 4 (s0): 2000 bins"),
        (relabel([3], 4), "warning", "odd rate", "train", 1, "utterance 4 (s0): 44 bins for each label"),
        (put(10, labels=[]), "note", "unlabelled", "test", 1, "utterance 10 (s0)"),
        (lambda rows: [row.update(session="s2") for row in rows[8:9]], "warning", "untrained day", "val", 1, "s2"),
        (keep("train", "val"), "note", "empty split", "test", 0, ""),
        (keep("train", "test"), "error", "empty split", "val", 0, ""),
        (keep("val", "test"), "error", "empty split", "train", 0, ""),
    ],
)  # fmt: skip
def test_each_fault_is_found(
    tmp_path: Path, change: Any, level: str, check: str, split: str, count: int, example: str
) -> None:
    """With its level, where it is and how often, and the first place."""
    found_here = [one for one in found(pack(tmp_path / "a", change)) if (one.check, one.split) == (check, split)]
    assert [(one.level, one.count, one.example) for one in found_here] == [(level, count, example)]


def test_the_same_text_in_another_session_is_no_fault(tmp_path: Path) -> None:
    """Sentences are repeated between days; only within one is it odd."""
    assert found(pack(tmp_path / "a", put(20, text="sentence 5"))) == []


def test_not_a_number_is_an_error_with_its_bin(tmp_path: Path) -> None:
    """What the writer would have refused, but a changed file may have; other checks go on without it."""
    dataset = pack(tmp_path / "a")
    features = np.load(tmp_path / "a" / "features.npy")
    features[dataset.val.start[0] + 3, 1] = np.nan
    np.save(tmp_path / "a" / "features.npy", features)
    [finding] = found(open_dataset(tmp_path / "a"))
    assert (finding.level, finding.check, finding.split) == ("error", "not finite", "val")
    assert finding.example == "utterance 8 (s0), bin 3"


def test_errors_come_first(tmp_path: Path) -> None:
    """Then warnings, then notes."""

    def change(rows: list[dict[str, Any]]) -> None:
        constant(rows)
        keep("train", "val")(rows)
        rows[8]["features"] = rows[2]["features"]

    assert [one.level for one in found(pack(tmp_path / "a", change))] == ["error", "warning", "note"]


@given(st.lists(st.integers(90, 100), min_size=3, max_size=30), st.sampled_from([1, 5000]))
def test_a_length_far_from_all_others_is_odd_and_they_are_not(lengths: list[int], far: int) -> None:
    """Whatever the others are between 90 and 100."""
    assert outliers([*lengths, far]).tolist() == [False] * len(lengths) + [True]
    assert not outliers([]).any()
