"""What tables were made from, as they say themselves, and whether the log beside them still has it.

The finished tables say so in their Parquet metadata, the sealed parts of a log that still grows in an `Index`.

A log only grows. One that has less than its tables were made from was emptied, cut short or damaged: the tables are
then the better record, and nothing is written over them (`results.store.repair` brings both together again).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from results.store.columns import SCHEMA_VERSION
from results.store.events import open_log
from results.store.lines import LineScanner, Numbers, decode, read_line
from results.store.paths import StudyPaths
from search_spaces.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

_TAIL = 4096
_FIRST = 16 << 20  # a first line is not longer: it has a study's settings


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
    what: str = field(default="tables", compare=False)
    """The kind of file, for messages."""

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


@dataclass
class Index:
    """What of a log that grows is sealed (`results.store.sealed`), as `STUDY/sealed/index.json` says."""

    size: int
    """Bytes of the log that are sealed; they end with a line."""
    tail: str
    """Fingerprint of the last of them."""
    first: int
    """CRC-32 of the log's first line: tells the log of another study."""
    seq: int
    sum: int
    events: int
    lines: int
    """Where the reader of the log stands behind them (`LineScanner`)."""
    number: int
    """Of the last sealing."""
    open: list[tuple[int, int, int, int]]
    """(trial, or -1 for the study; offset; bytes; CRC-32) of each line that is not sealed."""
    files: dict[str, tuple[int, int]]
    """Name -> (bytes, CRC-32) of each file of sealed rows."""
    about: dict[str, Any]
    """What the driver says of itself (`tuner.callbacks.sealing`)."""
    schema_version: int = SCHEMA_VERSION

    @property
    def made(self) -> Made:
        """What the sealed parts were made from."""
        return Made(self.size, self.tail, self.seq, self.sum, self.events, what="sealed parts")

    def scanner(self, name: str, problems: list[str]) -> LineScanner:
        """A scanner for the lines after the sealed ones."""
        return LineScanner(
            name,
            problems,
            lines=self.lines,
            seq=self.seq,
            sum=self.sum,
            known=self.sum,
            events=self.events,
            summed=True,
            numbers=Numbers(self.seq + 1),
        )

    def fits(self, log: Path) -> bool:
        """Whether the log has, at a glance, the bytes that are sealed."""
        return log.stat().st_size >= self.size and self.tail == tail_of(log, self.size)

    def text(self) -> str:
        """As JSON, with a checksum over it."""
        content = json.dumps(asdict(self))
        return json.dumps({"index": content, "sum": crc32(content.encode())})


def load_index(folder: Path, problems: list[str]) -> Index | None:
    """The index of a study's sealed parts; None where there is none for its log. Damage is appended to `problems`."""
    paths = StudyPaths(folder)
    path = paths.sealed / "index.json"
    try:
        found = json.loads(path.read_bytes())
        content = found["index"]
        if crc32(content.encode()) != found["sum"]:
            raise ValueError(path)
        values = json.loads(content)
        if values["schema_version"] > SCHEMA_VERSION:
            return None
        index = Index(**values)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        problems.append(f"{path}: damaged; the log is read instead")
        return None
    first = _first_line(paths.log)
    if first is not None and crc32(first) != index.first:
        problems.append(f"{path}: of the log of another study; it is not used")
        return None
    return index


class Damaged(ValueError):
    """A file of sealed rows that is not as it was written, or gone."""


def load_part(folder: Path, index: Index, table: str) -> pa.Table:
    """The rows of one of the files that the index names. Raises Damaged where it is not as it was written."""
    import pyarrow as pa  # as in `_made`
    import pyarrow.parquet as pq

    path = StudyPaths(folder).sealed / f"{table}.parquet"
    try:
        content = path.read_bytes()
        if [len(content), crc32(content)] != list(index.files[path.name]):
            raise Damaged(f"{path}: damaged: its checksum is wrong")
        return pq.ParquetFile(pa.BufferReader(content)).read()
    except (OSError, LookupError, pa.ArrowException) as error:
        raise Damaged(f"{path}: damaged or gone") from error


def open_events(log: Path, index: Index) -> list[dict[str, Any]] | None:
    """Of the events up to where the index goes those that are not sealed, in order; None where one is damaged."""
    events = []
    with log.open("rb") as file:
        for _, offset, length, own in index.open:
            file.seek(offset)
            line = file.read(length)
            event = decode(line) if crc32(line) == own else None
            if event is None:
                return None
            event.pop("sum", None)
            events.append(event)
    return events


def _first_line(log: Path) -> bytes | None:
    """The first line of a log; None where it is not there or damaged."""
    try:
        with log.open("rb") as file:
            line = file.readline(_FIRST)
    except OSError:
        return None
    return line if read_line(line).event is not None else None


def open_parquet(path: Path) -> pa.OSFile:
    """The file, open: pyarrow takes no name that is not UTF-8, and takes one with a colon for an address."""
    import pyarrow as pa

    return pa.OSFile(os.fsencode(path))


def newest(folder: Path) -> Made | None:
    """What the study's tables, sealed parts included, were made from: of those that can be read the one with most."""
    index = load_index(folder, [])
    found = [None if index is None else index.made, *map(_made, StudyPaths(folder).tables.values())]
    return max((made for made in found if made is not None), key=lambda made: (made.seq, made.events), default=None)


def _made(path: Path) -> Made | None:
    if not path.is_file():
        return None
    import pyarrow as pa  # a study that runs has no tables yet, and is looked at without a table library
    import pyarrow.parquet as pq

    with contextlib.suppress(pa.ArrowException, OSError), open_parquet(path) as file:
        return Made.of(pq.read_metadata(file).metadata)
    return None


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
    of = f"its {made.what} were made from {made.events}, up to event {made.seq}"
    last = scanner.numbers.next - 1
    if last < made.seq:
        return Lost(_advice(folder, f"{has} and ends at event {last}; {of}: it was emptied or cut short"), short=True)
    own, events = scanner.marked or (None, 0)
    if events < made.events:
        gone = made.events - events
        return Lost(_advice(folder, f"{has}; {of}: {gone} of these {'is' if gone == 1 else 'are'} damaged or gone"))
    if None not in (own, made.sum) and own != made.sum:
        other = f"{has}, and up to event {made.seq} others than those that its {made.what} were made from"
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
