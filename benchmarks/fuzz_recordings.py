"""Recordings in the four layouts for benchmarks/fuzz.py, and how one object of them is spoilt.

Each layout has four training and two other utterances in a session; `spoil` puts something odd in the place of one
object and says which training utterances that touches (None: perhaps all). Every other one must come in unchanged.
"""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
from scipy import sparse
from scipy.io import loadmat, savemat

from trainable.data.dataset import open_dataset
from trainable.data.importers import import_dataset

BINS, COUNT = 60, 4
LABEL = [30, 3, 23, 40]
TEXT = "one"
PHONEMES = "T AH N SIL"

Spoil = Callable[[Path, random.Random], "set[str] | None"]


@dataclass(frozen=True)
class Layout:
    """A format, small."""

    kind: str
    source: str
    """What is imported, below the folder."""
    file: str
    """The file that is spoilt."""
    make: Callable[[Path], None]
    spoil: Spoil
    labels: bool = False
    """Whether labels come from a file."""


def features(number: int, columns: int = 8) -> np.ndarray:
    """[BINS, columns], different for each number."""
    return np.random.default_rng(number).normal(size=(BINS, columns))


def make_layout(layout: Layout, folder: Path) -> None:
    """Write the recordings, and import them as they are into `packed` beside."""
    layout.make(folder)
    (folder / "labels.csv").write_text(f"text,phonemes\n{TEXT},{PHONEMES}\n")
    more = {"labels": folder / "labels.csv"} if layout.labels else {}
    import_dataset(layout.kind, folder / layout.source, folder / "packed", strict=True, **more)


def spoilt(layout: Layout, file: Path, rng: random.Random, before: set[str] | None) -> set[str] | None:
    """Spoil one object more; returns which training utterances are touched now."""
    touched = layout.spoil(file, rng)
    return None if touched is None or before is None else touched | before


def untouched(packed: Path, touched: set[str]) -> str:
    """A line for each utterance of a data folder that is not touched: split, trial, label, and its features' hash."""
    if not packed.exists():
        return "nothing was imported"
    lines = []
    dataset = open_dataset(packed)
    rows = pq.read_table(packed / "utterances.parquet").to_pylist()
    for name, split in dataset.splits.items():
        for i in range(len(split)):
            trial = str(rows[int(split.utterance[i])]["trial"])
            if name != "train" or trial not in touched:
                print_of = hashlib.sha256(split.features(i).tobytes()).hexdigest()[:12]
                lines.append(f"{name} {trial} {split.label(i).tolist()} {print_of}")
    return "\n".join(sorted(lines))


ODD_NUMBERS: tuple[Any, ...] = (
    np.nan, np.inf, -np.inf, -1, 0, 1, 59, 61, 10**12, 2**63 - 1, 1.5, 60.0, True, np.float32(4), np.uint64(2**64 - 1),
    np.array([4]), np.array([[60]]), np.array([4, 5]), np.array([]), np.int8(-3), np.float16(60), np.complex64(1j),
)  # fmt: skip
ODD_TEXTS: tuple[Any, ...] = ("", "x", "one", "ä雪", "held out", "a" * 5000, "one\ntwo", "  ", "\t\x01")


def odd_arrays(columns: int = 8) -> tuple[Any, ...]:
    """What may stand where the features of an utterance should be."""
    return (
        np.float32(3), np.zeros((0, columns), "f4"), np.zeros((BINS, 0), "f4"), np.zeros((BINS, columns + 1), "f4"),
        np.zeros((columns, BINS), "f4"), np.zeros((BINS, columns, 1), "f4"), np.zeros(BINS, "f4"),
        np.full((BINS, columns), np.nan, "f4"), np.full((BINS, columns), np.inf), np.full((BINS, columns), 1e300),
        np.zeros((BINS, columns), "c8"), np.zeros((BINS, columns), "i8"), np.zeros((BINS, columns), "u1"),
        np.zeros((BINS, columns), bool), np.zeros((BINS, columns), ">f8"), np.zeros((BINS, columns), "f2"),
        np.zeros((BINS // 2, columns), "f4"), np.zeros((3 * BINS, columns), "f4"), np.zeros((1, columns), "f4"),
        np.zeros(0), np.zeros(3, "i4"), np.full(20, 99, "i4"), np.full(20, -1, "i4"), np.full(20, 2**40, "i8"),
        np.full(20, np.nan), np.full(20, np.inf), np.full(20, 1.5), np.zeros((1, 20), "i4"), np.zeros((20, 2), "i4"),
    )  # fmt: skip


def make_hdf5(folder: Path) -> None:
    """Two splits in the '25 layout."""
    (folder / "source" / "s1").mkdir(parents=True)
    for number, (split, count) in enumerate((("train", COUNT), ("val", 2))):
        with h5py.File(folder / "source" / "s1" / f"data_{split}.hdf5", "w") as file:
            for i in range(count):
                labels, codes = np.zeros(20, np.int32), np.zeros(20, np.int32)
                labels[:4], codes[:3] = LABEL, [ord(sign) for sign in TEXT]
                group = file.create_group(f"trial_{i:04d}")
                group["input_features"] = features(10 * number + i).astype("f4")
                group["seq_class_ids"], group["transcription"] = labels, codes
                about = {"n_time_steps": BINS, "seq_len": 4, "sentence_label": TEXT, "session": "s1", "block_num": 1}
                group.attrs.update(**about, trial_num=i)


def spoil_hdf5(path: Path, rng: random.Random) -> set[str] | None:
    """An attribute, a data set, a link or a trial of another kind."""
    with h5py.File(path, "a") as file:
        trial = rng.randrange(COUNT)
        group = file[f"trial_{trial:04d}"]
        what = rng.choice(["data", "data", "data", "attribute", "attribute", "attribute", "trial", "stored"])
        if what == "trial":
            name = rng.choice(["trial_0001", "trial_x", "other", "trial_9999", "trial_000ä", "9" * 300])
            if name in file:
                del file[name]
            file[name] = _odd_object(rng, file)
            return {"1"} if name == "trial_0001" else set()
        if what == "stored":
            _store_oddly(group, rng)
        elif what == "data":
            name = rng.choice(["input_features", "input_features", "seq_class_ids", "transcription"])
            odd = _odd_object(rng, file)
            del group[name]
            if rng.random() < 0.9:
                group[name] = odd
        else:
            name = rng.choice(["n_time_steps", "seq_len", "sentence_label", "session", "block_num", "trial_num"])
            del group.attrs[name]
            if rng.random() < 0.9:
                with contextlib.suppress(ValueError):  # an attribute that cannot be written is missing
                    group.attrs[name] = rng.choice([*ODD_NUMBERS, *ODD_TEXTS, *_only_hdf5(), *odd_arrays()])
        return {str(trial)}


def _only_hdf5() -> tuple[Any, ...]:
    return (
        b"\xff\xfe", np.bytes_(b"abc"), h5py.Empty("f4"), h5py.Empty("S4"), np.array(["one"], dtype=object),
        np.array([b"one"]), np.array([("a", 1)], dtype=[("x", "S3"), ("y", "i4")]),
        np.array(["one", "two"], dtype=h5py.string_dtype()),
    )  # fmt: skip


def _odd_object(rng: random.Random, file: h5py.File) -> Any:
    links = (
        h5py.SoftLink("/nowhere"), h5py.SoftLink("/trial_0002/input_features"), h5py.SoftLink("."), h5py.SoftLink("/"),
        h5py.ExternalLink("gone.hdf5", "/x"), h5py.ExternalLink("data_val.hdf5", "/trial_0000/input_features"),
        file["trial_0000"], file["trial_0003/transcription"], np.dtype("f4"),
    )  # fmt: skip
    values = (*odd_arrays(), *ODD_NUMBERS, *ODD_TEXTS[:3], *_only_hdf5())
    return rng.choice(links) if rng.random() < 0.3 else rng.choice(values)


def _store_oddly(group: h5py.Group, rng: random.Random) -> None:
    """Features whose content is elsewhere, or that were never written, or compressed."""
    del group["input_features"]
    how = rng.choice(["never", "large", "virtual", "external", "lzf", "checked"])
    name, shape = "input_features", (BINS, 8)
    if how == "virtual":
        layout = h5py.VirtualLayout(shape, "f4")
        layout[:] = h5py.VirtualSource(rng.choice(["gone.hdf5", "data_val.hdf5"]), "x", shape)
        group.create_virtual_dataset(name, layout)
    elif how == "external":
        group.create_dataset(name, shape, "f4", external=[("gone.raw", 0, 4 * BINS * 8)])
    elif how == "large":
        group.create_dataset(name, (2**40, 8), "f4", chunks=(64, 8))
    elif how == "never":
        group.create_dataset(name, shape, "f4", chunks=rng.choice([None, (16, 8)]))
    else:
        options = {"compression": "lzf"} if how == "lzf" else {"fletcher32": True}
        group.create_dataset(name, data=np.zeros(shape, "f4"), **options)


def _cells(values: list[Any]) -> np.ndarray:
    made = np.empty((1, len(values)), dtype=object)
    for i, value in enumerate(values):
        made[0, i] = value
    return made


def make_mat(folder: Path) -> None:
    """Train and test in the '24 layout."""
    for number, (part, count) in enumerate((("train", COUNT), ("test", 2))):
        content = {
            "sentenceText": np.array([TEXT] * count),
            "blockIdx": np.arange(count, dtype=np.uint8)[:, None],
            **{key: _cells([features(10 * number + i, 256) for i in range(count)]) for key in ("tx1", "spikePow")},
        }
        (folder / "source" / part).mkdir(parents=True)
        savemat(folder / "source" / part / "t12.2022.04.28.mat", content)


def spoil_mat(path: Path, rng: random.Random) -> set[str] | None:
    """A cell, a block or a text of another kind."""
    content = {key: value for key, value in loadmat(str(path)).items() if not key.startswith("__")}
    trial = rng.randrange(COUNT)
    what = rng.choice(["cell", "cell", "block", "text"])
    if what == "cell":
        odd = (*odd_arrays(256), "x", "", {"a": 1}, sparse.csc_matrix(np.zeros((BINS, 256))), _cells([1, 2]))
        content[rng.choice(["tx1", "spikePow"])][0, trial] = rng.choice(odd)
    elif what == "block":
        blocks = content["blockIdx"].astype(float)
        blocks[trial] = rng.choice([np.nan, np.inf, -1, 1.5, 1e30, 2**40, 77])
        content["blockIdx"] = blocks
    else:
        texts = [[TEXT] for _ in range(COUNT)]
        texts[trial] = [rng.choice([*ODD_TEXTS, 3.0, np.nan, np.zeros((2, 2)), np.array([], "U1"), {"a": 1}])]
        content["sentenceText"] = np.array([*(text[0] for text in texts), None], dtype=object)[:-1]
    savemat(path, content)
    return {str(trial)}


def make_pickle(folder: Path) -> None:
    """A day in the reference's pickle."""

    def day(first: int, count: int) -> dict[str, Any]:
        return {
            "sentenceDat": [features(first + i) for i in range(count)],
            "transcriptions": [np.array([*(ord(sign) for sign in TEXT), 0]) for _ in range(count)],
            "phonemes": [np.array([*LABEL, 0, 0], np.int32) for _ in range(count)],
            "timeSeriesLens": [BINS] * count,
            "phoneLens": [4] * count,
        }

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ptDecoder_ctc").write_bytes(pickle.dumps({"train": [day(0, COUNT)], "val": [day(10, 2)]}))


def spoil_pickle(path: Path, rng: random.Random) -> set[str] | None:
    """Something else in one of the lists of a day, or in the place of a list."""
    content = pickle.loads(path.read_bytes())
    day, trial = content["train"][0], rng.randrange(COUNT)
    odd = (*odd_arrays(), *ODD_NUMBERS, *ODD_TEXTS, None, [], [1, 2], {}, {"a": 1}, b"\xff", (3, "x"), [[1, 2], [3]])
    value = rng.choice([each for each in odd if not isinstance(each, complex | np.complexfloating)])
    kind = rng.random()
    if kind < 0.8:
        day[rng.choice(list(day))][trial] = value
    elif kind < 0.9:
        day[rng.choice(list(day))] = value
        trial = None
    else:
        content["val"] = value
        trial = None
    path.write_bytes(pickle.dumps(content))
    return None if trial is None else {str(trial)}


def make_arrays(folder: Path) -> None:
    """A session in the plain layout."""
    count = COUNT + 2
    (folder / "source").mkdir(parents=True)
    np.savez(
        folder / "source" / "s1.npz",
        features=np.concatenate([features(i) for i in range(count)]).astype("f4"),
        bins=np.full(count, BINS),
        split=np.array(["train"] * COUNT + ["val"] * 2),
        phonemes=np.array([PHONEMES] * count),
        text=np.array([TEXT] * count),
        block=np.zeros(count),
        trial=np.arange(count, dtype=float),
    )


def spoil_arrays(path: Path, rng: random.Random) -> set[str] | None:
    """One entry of an array, or another array in its place."""
    with np.load(path) as stored:
        content = dict(stored)
    trial = rng.randrange(COUNT)
    what = rng.choice(["number", "number", "text", "features", "array"])
    touched: set[str] | None = {str(trial)}
    if what == "number":
        content[rng.choice(["block", "trial"])][trial] = rng.choice([np.nan, np.inf, -1, 1.5, 1e30, 2.0**40])
    elif what == "text":
        key = rng.choice(["phonemes", "text", "split"])
        texts = content[key].astype("U6000")
        texts[trial] = rng.choice(["", "QQ", "AA " * 1500, "held out", "dev", "ä", "SIL"])
        content[key] = np.char.encode(texts) if texts[trial].isascii() and rng.random() < 0.5 else texts
    elif what == "features":
        content["features"][trial * BINS + rng.randrange(BINS)] = rng.choice([np.nan, np.inf, -np.inf])
    else:
        key = rng.choice(list(content))
        content[key] = rng.choice([*odd_arrays(), *(np.asarray(each) for each in (*ODD_NUMBERS, *ODD_TEXTS))])
        touched = None
    np.savez(path, **content)
    return touched


LAYOUTS = {
    "hdf5": Layout("b2t25", "source", "source/s1/data_train.hdf5", make_hdf5, spoil_hdf5),
    "mat": Layout("b2t24-mat", "source", "source/train/t12.2022.04.28.mat", make_mat, spoil_mat, labels=True),
    "pickle": Layout("reference-pickle", "ptDecoder_ctc", "ptDecoder_ctc", make_pickle, spoil_pickle),
    "arrays": Layout("arrays", "source", "source/s1.npz", make_arrays, spoil_arrays),
}
"""Area -> its layout."""
