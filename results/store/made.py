"""What tables were made from, as their Parquet metadata says, and whether the log beside them still has it.

A log only grows. One that has less than its tables were made from was emptied, cut short or damaged: the tables are
then the better record, and nothing is written over them (`results.store.repair` brings both together again).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from results.store.columns import SCHEMA_VERSION
from results.store.events import open_log
from results.store.lines import LineScanner
from results.store.paths import StudyPaths
from search_spaces.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

_TAIL = 4096


@dataclass(frozen=True)
class Made:
    """What a Parquet file was made from."""

    size: int
    """Bytes of the log."""
    tail: str
    """Fingerprint of the last of them."""
    seq: int
    """Number of the last event."""
    sum: int | None = None
    """Its checksum; None in files of before."""
    events: int = 0
    """Events that were read; as many as there are numbers in files of before."""
    study: bytes = b""
    version: int = SCHEMA_VERSION

    @classmethod
    def of(cls, about: Mapping[bytes, bytes] | None) -> Made | None:
        """From the metadata of a file; None where it does not say."""
        if not about:
            return None
        try:
            seq = int(about[b"last_seq"])
            own = about.get(b"log_sum")
            return cls(
                int(about[b"log_size"]),
                about[b"log_tail"].decode(),
                seq,
                None if own is None else int(own, 16),
                int(about.get(b"log_events", seq)),
                about[b"study"],
                int(about[b"schema_version"]),
            )
        except (KeyError, ValueError):
            return None

    def metadata(self) -> dict[str, str | bytes]:
        """For a file that is made from this."""
        return {
            "schema_version": str(self.version),
            "study": self.study,
            "log_size": str(self.size),
            "log_tail": self.tail,
            "last_seq": str(self.seq),
            "log_sum": f"{self.sum or 0:08x}",
            "log_events": str(self.events),
        }

    def is_all_of(self, log: Path, study: str) -> bool:
        """Whether the log is, at a glance, just what the file was made from."""
        return (
            self.version <= SCHEMA_VERSION
            and self.study == os.fsencode(study)
            and log.stat().st_size == self.size
            and self.tail == tail_of(log, self.size)
        )


def open_parquet(path: Path) -> pa.OSFile:
    """The file, open: pyarrow takes no name that is not UTF-8, and takes one with a colon for an address."""
    import pyarrow as pa

    return pa.OSFile(os.fsencode(path))


def newest(folder: Path) -> Made | None:
    """What the study's tables were made from, of those that can be read the one made from most."""
    there = [path for path in StudyPaths(folder).tables.values() if path.is_file()]
    if not there:
        return None
    import pyarrow as pa  # a study that runs has no tables yet, and is looked at without a table library
    import pyarrow.parquet as pq

    found = []
    for path in there:
        unreadable = contextlib.suppress(pa.ArrowException, OSError)
        with unreadable, open_parquet(path) as file:
            found.append(Made.of(pq.read_metadata(file).metadata))
    return max((made for made in found if made is not None), key=lambda made: (made.seq, made.events), default=None)


@dataclass(frozen=True)
class Lost:
    """What a log lacks of what its tables were made from."""

    text: str
    """A line that says so, and what to do."""
    short: bool = False
    """Whether it ends before they do."""
    fewer: bool = True
    """Whether it has fewer events, rather than others."""


def lost(folder: Path, made: Made | None, scanner: LineScanner) -> Lost | None:
    """What the log lacks of what the study's tables were made from; None if nothing.

    `scanner` has read the whole log, with `mark` at `made.seq`.
    """
    if made is None or made.seq == 0:
        return None
    has = f"the log has {scanner.events} events"
    of = f"its tables were made from {made.events}, up to event {made.seq}"
    last = scanner.numbers.next - 1
    if last < made.seq:
        return Lost(_advice(folder, f"{has} and ends at event {last}; {of}: it was emptied or cut short"), short=True)
    own, events = scanner.marked or (None, 0)
    if events < made.events:
        gone = made.events - events
        return Lost(_advice(folder, f"{has}; {of}: {gone} of these {'is' if gone == 1 else 'are'} damaged or gone"))
    if None not in (own, made.sum) and own != made.sum:
        other = f"{has}, and up to event {made.seq} others than those that its tables were made from"
        return Lost(_advice(folder, other), fewer=scanner.summed)
    return None


def look(folder: Path) -> Lost | None:
    """`lost` of a study folder: a glance where the log has simply grown.

    Damage inside such a log is found when all of it is read.
    """
    made, log = newest(folder), StudyPaths(folder).log
    if made is None:
        return None
    try:
        if log.stat().st_size >= made.size and tail_of(log, made.size) == made.tail:
            return None
        scanner = LineScanner(str(log), [], mark=made.seq)
        with open_log(log) as file:
            for _ in scanner.scan(file, wanted=lambda _: False):
                pass
    except OSError:
        return None
    return lost(folder, made, scanner)


def refuse_short(folder: Path) -> None:
    """Raises InputError where the log ends before its tables do: a search that went on would be another one."""
    found = look(folder)
    if found is not None and found.short:
        raise InputError(found.text)


def _advice(folder: Path, why: str) -> str:
    name = shlex.quote(folder.name)
    return f"{StudyPaths(folder).log}: damaged: {why}; 'tuner results repair {name}' makes both whole as far as can be"


def tail_of(log: Path, size: int) -> str:
    """Fingerprint of the last of the first `size` bytes: tells a log from another of the same size."""
    with log.open("rb") as file:
        file.seek(max(0, size - _TAIL))
        return hashlib.sha256(file.read(min(size, _TAIL))).hexdigest()
