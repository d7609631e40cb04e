"""The packed data folder: one copy of the features on disk, memory-mapped by every trial on a machine.

    features.npy        float32 [total_bins, features], all utterances one after the other
    utterances.parquet  one row per utterance, in the order of the features (`UTTERANCES`)
    dataset.json        schema version, classes, days, bin width, where it came from, fingerprint
    verified.json       size and times of these files when they were last found to have that fingerprint (`stamps`)

`open_dataset` reads it, `trainable.data.packed.write_dataset` writes it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from search_spaces.errors import InputError
from search_spaces.parsing.feature_choice import chosen_features
from search_spaces.wording import reason_of
from trainable.data.packed import (
    FEATURES_FILE,
    INFO_FILE,
    SCHEMA_VERSION,
    SPLITS,
    UTTERANCES,
    UTTERANCES_FILE,
    DatasetWriter,
    Fingerprint,
    write_dataset,
)

__all__ = [
    "SPLITS",
    "Dataset",
    "DatasetWriter",
    "Split",
    "check_features",
    "open_dataset",
    "verify",
    "with_features",
    "write_dataset",
]

CHUNK_BINS = 65536
"""Bins read at once by whatever goes through all features."""


@dataclass(frozen=True, eq=False)
class Split:
    """The utterances of one split, in the order of the data folder. All arrays are over those n utterances."""

    matrix: np.ndarray
    """float32 [total_bins, features], read-only, of the whole data folder."""
    start: np.ndarray
    """int64 [n], first bin of each utterance in `matrix`."""
    bins: np.ndarray
    """int64 [n], length of each utterance."""
    day: np.ndarray
    """int64 [n], index into `Dataset.days`."""
    label_start: np.ndarray
    """int64 [n + 1]; the label of utterance i is `labels[label_start[i]:label_start[i + 1]]`."""
    labels: np.ndarray
    """int64 [sum of label lengths], class ids from 1 on; an unlabelled utterance has none."""
    text: list[str]
    """What was said, as far as it is known."""
    utterance: np.ndarray
    """int64 [n], row number in the data folder."""
    columns: np.ndarray | None = None
    """int64 [features that are used], of the columns of `matrix`; None for all."""

    def __len__(self) -> int:
        return len(self.start)

    @property
    def label_lengths(self) -> np.ndarray:
        """int64 [n]."""
        return np.diff(self.label_start)

    @property
    def width(self) -> int:
        """Features of an utterance."""
        return int(self.matrix.shape[1] if self.columns is None else len(self.columns))

    def features(self, i: int) -> np.ndarray:
        """float32 [bins, features] of utterance i: a read-only view into the memory map, or a copy of some columns."""
        rows = self.matrix[self.start[i] : self.start[i] + self.bins[i]]
        return rows if self.columns is None else rows[:, self.columns]

    def label(self, i: int) -> np.ndarray:
        """int64 [label length], the class ids of utterance i."""
        return self.labels[self.label_start[i] : self.label_start[i + 1]]


@dataclass(frozen=True, eq=False)
class Dataset:
    """An open data folder. Pickled as its path, so that a worker maps the same file instead of receiving a copy."""

    path: Path
    name: str
    source: Mapping[str, Any]
    classes: tuple[str, ...]
    days: tuple[str, ...]
    n_features: int
    bin_ms: float
    fingerprint: str
    created: str
    train: Split
    val: Split
    test: Split

    @property
    def n_classes(self) -> int:
        """Classes, the blank included."""
        return len(self.classes)

    @property
    def splits(self) -> dict[str, Split]:
        """The three splits by name."""
        return {name: getattr(self, name) for name in SPLITS}

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return (open_dataset, (self.path,))


def open_dataset(path: str | Path) -> Dataset:
    """Open a packed data folder; features are mapped, not read, and the fingerprint is not checked (see `intact`).

    Raises `InputError` where the folder is missing or empty, of another schema version, truncated or inconsistent.
    """
    path = Path(path).resolve()
    info = _read_info(path)
    table = _read_utterances(path)
    matrix = _map_features(path)
    problems = _problems(path, info, table, matrix)
    if problems:
        raise InputError(problems)
    splits = {name: _split(table, matrix, name) for name in SPLITS}
    return Dataset(
        path=path,
        name=info["name"],
        source=info["source"],
        classes=tuple(info["classes"]),
        days=tuple(info["days"]),
        n_features=info["features"],
        bin_ms=float(info["bin_ms"]),
        fingerprint=info["fingerprint"],
        created=info["created"],
        **splits,
    )


def _read_info(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        raise InputError(f"{path}: data folder {what}; make one with `tuner data synthetic` or `tuner data import`")
    missing = [name for name in (INFO_FILE, UTTERANCES_FILE, FEATURES_FILE) if not (path / name).is_file()]
    if missing:
        raise InputError(
            f"{path}: not a packed data folder, {' and '.join(missing)} missing; "
            "make one with `tuner data synthetic` or `tuner data import`"
        )
    file = path / INFO_FILE
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{file}: cannot be read ({reason_of(error)}); make the data folder again") from None
    version = info.get("schema_version") if isinstance(info, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{file}: schema_version: {version} is not allowed; this version of the program reads {SCHEMA_VERSION}; "
            "make the data folder again"
        )
    wanted: dict[str, type | tuple[type, ...]] = {
        "name": str,
        "source": dict,
        "features": int,
        "classes": list,
        "days": list,
        "bin_ms": (int, float),
        "fingerprint": str,
        "created": str,
    }
    wrong = [key for key, kind in wanted.items() if not isinstance(info.get(key), kind)]
    if wrong:
        raise InputError(f"{file}: {', '.join(wrong)} missing or of a wrong type; make the data folder again")
    return dict(info)


def _read_utterances(path: Path) -> pa.Table:
    file = path / UTTERANCES_FILE
    try:
        table = pq.read_table(file, page_checksum_verification=True)
        table.validate(full=True)  # a file without checksums may hold text that is none
    except (OSError, pa.ArrowException) as error:
        reason = reason_of(error)
        raise InputError(f"{file}: cannot be read ({reason}); make the data folder again") from None
    if not table.schema.equals(UTTERANCES):
        raise InputError(f"{file}: columns {table.schema.names} are not those of a data folder; make it again")
    return table


def _map_features(path: Path) -> np.ndarray:
    file = path / FEATURES_FILE
    try:
        mapped = np.load(file, mmap_mode="r")
    except Exception as error:  # numpy reads a damaged header as Python, which fails in many ways
        raise InputError(
            f"{file}: truncated or not a features file ({reason_of(error)}); make the data folder again"
        ) from None
    # A plain array over the map: slicing np.memmap is several times slower, and it is sliced per utterance.
    return np.asarray(mapped)


def _problems(path: Path, info: Mapping[str, Any], table: pa.Table, matrix: np.ndarray) -> list[str]:
    problems = []
    again = "make the data folder again"
    features, classes, days = info["features"], len(info["classes"]), len(info["days"])
    if table.num_rows == 0:
        problems.append(f"{path / UTTERANCES_FILE}: no utterances; {again}")
    if matrix.dtype != np.dtype("<f4") or matrix.ndim != 2 or matrix.shape[1] != features:
        problems.append(
            f"{path / FEATURES_FILE}: {matrix.dtype} {list(matrix.shape)} is not float32 [bins, {features}]; {again}"
        )
    bins = table["bins"].to_numpy().astype(np.int64)
    start = table["start"].to_numpy()
    if table.num_rows and (bins.min() < 1 or not np.array_equal(start, np.cumsum(bins) - bins)):
        problems.append(f"{path / UTTERANCES_FILE}: start and bins do not follow one another; {again}")
    elif matrix.ndim == 2 and int(bins.sum()) != matrix.shape[0]:
        problems.append(
            f"{path / FEATURES_FILE}: {matrix.shape[0]} bins, but the utterances have {int(bins.sum())}; {again}"
        )
    for row, split in enumerate(table["split"].to_pylist()):
        if split not in SPLITS:
            problems.append(f"{path / UTTERANCES_FILE}: split {split!r} of utterance {row} is not one of {SPLITS}")
            break
    day = table["day"].to_numpy()
    if table.num_rows and (day.min() < 0 or day.max() >= days):
        problems.append(f"{path / UTTERANCES_FILE}: day {day.max()} of an utterance is outside 0..{days - 1}; {again}")
    labels, label_start = _labels(table)
    outside = np.flatnonzero((labels < 1) | (labels >= classes))
    if outside.size:
        row = int(np.searchsorted(label_start, outside[0], side="right")) - 1
        problems.append(
            f"{path / UTTERANCES_FILE}: label {labels[outside[0]]} of utterance {row} is not allowed; "
            f"labels are 1..{classes - 1}; {again}"
        )
    return problems


def _labels(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """All labels int64 [total] and where each utterance's begin, int64 [n + 1]."""
    column = table["labels"].combine_chunks()
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return column.flatten().to_numpy(zero_copy_only=False).astype(np.int64), np.concatenate([[0], np.cumsum(lengths)])


def _split(table: pa.Table, matrix: np.ndarray, name: str) -> Split:
    part = table.filter(pc.equal(table["split"], name))
    labels, label_start = _labels(part)

    def column(key: str) -> np.ndarray:
        return np.asarray(part[key].to_numpy(), dtype=np.int64)

    return Split(
        matrix=matrix,
        start=column("start"),
        bins=column("bins"),
        day=column("day"),
        label_start=label_start,
        labels=labels,
        text=part["text"].to_pylist(),
        utterance=column("utterance"),
    )


def with_features(dataset: Dataset, choice: str | None, where: str = "data.features") -> Dataset:
    """The data set with the features of a choice (`data.features`) alone; the data set itself for None.

    Raises `InputError`, which begins with `where`, for features that the data do not have.
    """
    try:
        columns = chosen_features(choice, dataset.n_features)
    except ValueError as error:
        raise InputError(f"{where}: {error} ({dataset.path})") from None
    if columns is None:
        return dataset
    array = np.array(columns, dtype=np.int64)
    splits: Any = {name: dataclasses.replace(split, columns=array) for name, split in dataset.splits.items()}
    return dataclasses.replace(dataset, n_features=len(columns), **splits)


def check_features(dataset: Dataset) -> None:
    """Raise `InputError`, naming the first utterance, if a feature is NaN or infinite. Reads the whole file."""
    matrix = dataset.train.matrix
    for begin in range(0, len(matrix), CHUNK_BINS):
        chunk = matrix[begin : begin + CHUNK_BINS]
        # Sums in float64 cannot overflow here, so a finite sum means finite features, at a fraction of the cost.
        with np.errstate(invalid="ignore"):
            if np.isfinite(chunk.sum(dtype=np.float64)):
                continue
        bad = begin + int(np.flatnonzero(~np.isfinite(chunk).all(axis=1))[0])
        for name, split in dataset.splits.items():
            for i in np.flatnonzero((split.start <= bad) & (bad < split.start + split.bins)):
                raise InputError(
                    f"{dataset.path}: utterance {split.utterance[i]} ({name}, {dataset.days[split.day[i]]}): "
                    f"NaN or infinite features in bin {bad - split.start[i]}; make the data folder again"
                )


def verify(path: str | Path) -> Dataset:
    """Open a data folder and hash all of it; `InputError` if its content is not what the fingerprint stands for."""
    dataset = open_dataset(path)
    fingerprint = Fingerprint()
    for begin in range(0, len(dataset.train.matrix), CHUNK_BINS):
        fingerprint.add_features(dataset.train.matrix[begin : begin + CHUNK_BINS])
    for row in _read_utterances(dataset.path).to_pylist():
        fingerprint.add_utterance(row)
    found = fingerprint.hexdigest(dataset.classes, dataset.days)
    if found != dataset.fingerprint:
        check_features(dataset)  # where that is what is wrong, it says where
        raise InputError(
            f"{dataset.path}: content has fingerprint {found[:12]}, {INFO_FILE} says {dataset.fingerprint[:12]}; "
            "the data folder was changed after it was made; make it again"
        )
    check_features(dataset)
    return dataset
