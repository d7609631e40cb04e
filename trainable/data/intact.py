"""Checks that the data have their fingerprint, from the first epoch to the last.

The content is hashed only when the size or time of a file has changed since it was last verified (`stamps`), so that a
search on gigabytes starts at once.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from search_spaces.errors import InputError
from trainable.data.dataset import Dataset, open_dataset, verify
from trainable.data.packed import FEATURES_FILE, INFO_FILE, UTTERANCES_FILE
from trainable.data.stamps import Stamp, remember, remembered, stamp_of

FILES = (FEATURES_FILE, UTTERANCES_FILE, INFO_FILE)


WHAT_NOW = "the search stops; what was reported is kept: restore the data, then resume the study"


class DataChanged(InputError):
    """The data changed or disappeared during a search: a failed job, not wrong input."""

    exit_status = 1


def open_intact(path: str | Path) -> Dataset:
    """`open_dataset`, with its content verified if it was touched since it last was.

    Raises `InputError` as `open_dataset` and `verify` do.
    """
    dataset = open_dataset(path)
    check_intact(dataset)
    return dataset


def check_intact(dataset: Dataset, known: Stamp | None = None) -> Stamp:
    """The stamp under which the content of an open data folder is what its fingerprint stands for.

    Reads nothing if that is `known`, or the one that the folder remembers. Raises `InputError` if the content is
    another, or changes meanwhile.
    """
    now = stamp_of(dataset.path, FILES)
    before = remembered(dataset.path, dataset.fingerprint)
    if len(now) == len(FILES) and now in (known, before):
        return now
    try:
        found = verify(dataset.path).fingerprint
    except InputError as error:
        raise InputError(_told(dataset.path, now, known or before, error.problems[0])) from error
    if found != dataset.fingerprint:
        text = f"{dataset.path}: holds other data now (fingerprint {found[:12]}, before {dataset.fingerprint[:12]})"
        raise InputError(text)
    if stamp_of(dataset.path, FILES) != now:
        raise InputError(f"{dataset.path}: is being changed now; do not change the data while they are used")
    remember(dataset.path, dataset.fingerprint, now)
    return now


def _told(path: Path, now: Stamp, before: Stamp | None, problem: str) -> str:
    """The problem, and which file was changed when, where that is known."""
    touched = [name for name in FILES if before and name in before and now.get(name) != before[name]]
    if not touched:
        return problem
    name = touched[0]
    if name not in now:
        return f"{path / name}: is gone; {problem}"
    when = datetime.fromtimestamp(now[name][1] / 1e9).astimezone().isoformat(" ", "seconds")
    return f"{problem} ({name} was last written at {when})"


class WatchedData:
    """An open data folder that is used for training: `check` raises if it has changed."""

    def __init__(self, path: str | Path, fingerprint: str) -> None:
        """Open it. Raises `DataChanged` if it is not what `fingerprint` stands for; "" accepts any data."""
        try:
            self.dataset = open_dataset(path)
            if fingerprint and self.dataset.fingerprint != fingerprint:
                here = self.dataset.fingerprint[:12]
                raise InputError(f"{path}: holds other data (fingerprint {here}, the study's is {fingerprint[:12]})")
            self._stamp = check_intact(self.dataset)
        except InputError as error:
            raise _changed(error) from error

    def check(self) -> None:
        """Takes microseconds while no file has changed. Raises `DataChanged` where the content is different."""
        try:
            self._stamp = check_intact(self.dataset, self._stamp)
        except InputError as error:
            raise _changed(error) from error


def _changed(error: InputError) -> DataChanged:
    return DataChanged([f"{problem}: {WHAT_NOW}" for problem in error.problems])
