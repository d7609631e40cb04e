"""Writing the packed data folder: streaming, checked, fingerprinted, and complete or not there at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from search_spaces.common import atomic
from search_spaces.common.processes import is_alive
from search_spaces.errors import InputError
from trainable.data.phonemes import CLASSES
from trainable.data.stamps import remember, stamp_of

SCHEMA_VERSION = 1
SPLITS = ("train", "val", "test")
FEATURES_FILE, UTTERANCES_FILE, INFO_FILE = "features.npy", "utterances.parquet", "dataset.json"

UTTERANCES = pa.schema(
    [
        ("utterance", pa.int32()),  # row number
        ("split", pa.string()),  # train, val or test
        ("session", pa.string()),  # recording session, as the source names it
        ("day", pa.int32()),  # index into dataset.json's days
        ("start", pa.int64()),  # first bin in features.npy
        ("bins", pa.int32()),  # length
        ("labels", pa.list_(pa.int16())),  # class ids from 1 on; empty if unlabelled
        ("text", pa.string()),  # what was said
        ("block", pa.int32()),  # block of the session
        ("trial", pa.int32()),  # trial of the block or session, as the source counts
    ]
)
"""Columns of utterances.parquet."""

HEADER_BYTES = 128


class Unusable(InputError):
    """An utterance or file that cannot come in; the rest can, so importers leave it out and count it by `reason`."""

    def __init__(self, problems: str | Iterable[str], reason: str = "unusable") -> None:
        super().__init__(problems)
        self.reason = reason


class Fingerprint:
    """sha256 over schema version, classes, days, utterances and feature bytes, fed piece by piece.

    The same data has the same fingerprint on every machine; names, paths and dates play no part.
    """

    def __init__(self) -> None:
        self._features = hashlib.sha256()
        self._utterances = hashlib.sha256()

    def add_features(self, features: np.ndarray) -> None:
        """Features [bins, features], in the order of the file; how they are cut into pieces does not matter."""
        self._features.update(np.ascontiguousarray(features, dtype="<f4").data)

    def add_utterance(self, row: Mapping[str, Any]) -> None:
        """A row of `UTTERANCES`."""
        self._utterances.update((json.dumps([row[key] for key in UTTERANCES.names]) + "\n").encode())

    def hexdigest(self, classes: Sequence[str], days: Sequence[str]) -> str:
        """64 hexadecimal digits."""
        parts = [
            SCHEMA_VERSION,
            list(classes),
            list(days),
            self._utterances.hexdigest(),
            self._features.hexdigest(),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class DatasetWriter:
    """What `write_dataset` yields: takes one utterance at a time and holds none of them."""

    def __init__(self, folder: Path, file: BinaryIO, classes: Sequence[str]) -> None:
        self.folder = folder
        self.classes = tuple(classes)
        self.days: dict[str, int] = {}
        self.n_features: int | None = None
        self.bins = 0
        self.fingerprint = Fingerprint()
        self._rows: dict[str, list[Any]] = {key: [] for key in UTTERANCES.names}
        self._file = file
        file.write(b"\0" * HEADER_BYTES)

    def __len__(self) -> int:
        return len(self._rows["utterance"])

    def counts(self) -> dict[str, int]:
        """Utterances so far in each split."""
        return {split: self._rows["split"].count(split) for split in SPLITS}

    def add(
        self,
        features: np.ndarray,
        labels: Sequence[int] | np.ndarray,
        *,
        split: str,
        session: str,
        text: str = "",
        block: int = 0,
        trial: int = 0,
        where: str | None = None,
    ) -> None:
        """Append one utterance: features [bins, features] of any real type, labels [length] of class ids.

        Raises `Unusable`, starting with `where`, on an unknown split, features that are no real numbers, NaN or
        infinite, another number of features than before, no bins, a label or number out of range, a text that is not
        Unicode, or no labels in train or val; nothing is appended then.
        Raises a plain `InputError` where the disk takes no more.
        """
        where = where or f"{session}: {split} trial {trial} of block {block}"
        if split not in SPLITS:
            raise Unusable(
                f"{where}: split {split!r} is not allowed; give one of {', '.join(SPLITS)}", "split is not allowed"
            )
        features = np.asarray(features)
        if features.dtype.kind not in "biuf":
            raise Unusable(f"{where}: features are {features.dtype}, not real numbers", "features are not real numbers")
        with np.errstate(over="ignore"):
            features = np.ascontiguousarray(features, dtype="<f4")
        label_list = [int(label) for label in labels]
        self._check(features, label_list, split, where)
        _check_numbers({"block": block, "trial": trial, "bins": len(features)}, where)
        _check_texts({"session": session, "text": text}, where)
        self.n_features = features.shape[1]
        row = {
            "utterance": len(self),
            "split": split,
            "session": session,
            "day": self.days.setdefault(session, len(self.days)),
            "start": self.bins,
            "bins": len(features),
            "labels": label_list,
            "text": text,
            "block": int(block),
            "trial": int(trial),
        }
        with _writing_errors(self.folder):
            self._file.write(features.data)
        self.fingerprint.add_features(features)
        self.fingerprint.add_utterance(row)
        for key, value in row.items():
            self._rows[key].append(value)
        self.bins += len(features)

    def _check(self, features: np.ndarray, labels: list[int], split: str, where: str) -> None:
        if features.ndim != 2 or 0 in features.shape:
            raise Unusable(
                f"{where}: features of shape {list(features.shape)}; they must be [bins, features]",
                "features are not [bins, features]",
            )
        if self.n_features is not None and features.shape[1] != self.n_features:
            raise Unusable(
                f"{where}: {features.shape[1]} features, but the utterances before have {self.n_features}; "
                "a data set has one number of features",
                "another number of features than the utterances before",
            )
        if not np.isfinite(features).all():
            bad = int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
            raise Unusable(
                f"{where}: NaN or infinite features in bin {bad}; features must be finite float32 numbers; "
                "repair or remove this utterance",
                "NaN or infinite features",
            )
        if not labels and split != "test":
            raise Unusable(f"{where}: no labels; only the test split may be unlabelled", f"no label in {split}")
        wrong = [label for label in labels if not 1 <= label < len(self.classes)]
        if wrong:
            raise Unusable(
                f"{where}: label {wrong[0]} is not allowed; labels are 1..{len(self.classes) - 1} "
                f"({self.classes[1]}..{self.classes[-1]})",
                "label out of range",
            )

    def _finish(self, name: str, source: Mapping[str, Any], bin_ms: float) -> None:
        self._file.seek(0)
        self._file.write(_npy_header(self.bins, self.n_features or 0))
        self._file.close()
        table = pa.table(self._rows, schema=UTTERANCES)
        pq.write_table(table, self.folder / UTTERANCES_FILE, write_page_checksum=True)
        info = {
            "schema_version": SCHEMA_VERSION,
            "name": name,
            "source": dict(source),
            "features": self.n_features,
            "classes": list(self.classes),
            "days": list(self.days),
            "bin_ms": float(bin_ms),
            "fingerprint": self.fingerprint.hexdigest(self.classes, list(self.days)),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        (self.folder / INFO_FILE).write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
        files = (FEATURES_FILE, UTTERANCES_FILE, INFO_FILE)
        remember(self.folder, str(info["fingerprint"]), stamp_of(self.folder, files))


def _check_numbers(numbers: Mapping[str, int], where: str) -> None:
    """Raise `Unusable` for a number that the table of utterances cannot hold."""
    for key, number in numbers.items():
        if not -(2**31) <= int(number) < 2**31:
            raise Unusable(f"{where}: {key} {number} is not allowed; it must fit in 32 bits", f"{key} is out of range")


def _check_texts(texts: Mapping[str, str], where: str) -> None:
    """Raise `Unusable` for a text that is not Unicode, as the name of a folder may be."""
    for key, text in texts.items():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Unusable(
                f"{where}: {key} {text[:60]!r} is not valid Unicode", f"{key} is not valid Unicode"
            ) from None


def _npy_header(bins: int, features: int) -> bytes:
    """The 128 bytes before the data of a version 1.0 .npy file; padded, because `bins` is known only at the end."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({bins}, {features}), }}"
    length = HEADER_BYTES - 10
    return np.lib.format.magic(1, 0) + length.to_bytes(2, "little") + (text.ljust(length - 1) + "\n").encode("latin1")


@contextmanager
def write_dataset(
    path: str | Path,
    *,
    name: str | None = None,
    source: Mapping[str, Any],
    bin_ms: float,
    classes: Sequence[str] = CLASSES,
) -> Iterator[DatasetWriter]:
    """Write a packed data folder: `with write_dataset(out, ...) as writer: writer.add(...)`.

    Everything goes to a hidden folder beside `path`, renamed when the block ends; an exception or Ctrl-C inside it
    leaves nothing, and what a killed process left is removed by the next one that writes here. Days are numbered as
    their sessions first appear. `name` defaults to the folder's.
    Raises `InputError` if `path` exists and is not an empty folder, cannot be written, or nothing was added.
    """
    path = Path(path).resolve()
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path}: exists already; choose another --out")
    if not (np.isfinite(bin_ms) and bin_ms > 0):
        raise InputError(f"bin_ms: {bin_ms} is not allowed; give the width of a bin in milliseconds, above 0")
    new_parents = [parent for parent in path.parents if not parent.exists()]
    staging = path.parent / f".{path.name}.{socket.gethostname()}.{os.getpid()}.partial"
    done = False
    try:
        with _writing_errors(path):
            _remove_abandoned(path)
            staging.mkdir(parents=True)
            file = (staging / FEATURES_FILE).open("wb")
        with file:
            writer = DatasetWriter(staging, file, classes)
            yield writer
            if len(writer) == 0:
                raise InputError(f"{path}: no utterances to write; nothing was made")
            with _writing_errors(path):
                writer._finish(name or path.name, source, bin_ms)
        with _writing_errors(path):
            atomic.sync_files(staging)
            staging.rename(path)
            atomic.sync_folder(path.parent)
        done = True
    finally:
        if not done:
            shutil.rmtree(staging, ignore_errors=True)
            for parent in new_parents:
                if parent.is_dir() and not any(parent.iterdir()):
                    parent.rmdir()


def _remove_abandoned(path: Path) -> None:
    """Remove half-written folders of processes of this machine that are no more."""
    ours = re.compile(re.escape(f".{path.name}.{socket.gethostname()}.") + r"(\d+)\.partial")
    for folder in path.parent.glob(".*.partial"):
        match = ours.fullmatch(folder.name)
        if match and not is_alive(int(match[1])):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _writing_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error}); "
            "give a folder that can be written, with enough space"
        ) from None
