"""Sealed parts of a log that is still growing: what will not change any more, as tables beside it.

A driver calls `seal` each time the log has grown by `EVERY` bytes. Then `STUDY/sealed/` holds

    trials-N.parquet     the rows of all trials that have ended for good
    epochs-N.parquet     their epochs, a file for each sealing
    index.json           up to which line that goes, and where the lines of all other trials and of the study are

so that a reader parses the lines that `index.json` names and those after the sealed ones: some megabytes of a log of
hundreds. The index is written last, in one step, so a driver may die at any point. Whatever does not fit (another log,
damage, an event of a trial that had ended) makes `read` give None, and the whole log is replayed. The driver removes
the folder when the tables of the whole log are written.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from results.store.bulk import Replayed, replay_file
from results.store.columns import SCHEMA_VERSION
from results.store.lines import LineScanner, Numbers, has_sum, read_line
from results.store.made import open_parquet
from results.store.paths import StudyPaths
from results.store.replay import Replay, scalar
from search_spaces.common import atomic

EVERY = 4 << 20
"""Bytes by which the log grows between two sealings: what a reader may have to parse."""
_TRIAL = re.compile(rb'"trial":(\d+)')
_STUDY = (b'{"event":"study_', b'{"event":"checkpoints_dropped"', b'{"event":"stop_requested"')
_FINAL = ("completed", "stopped", "diverged", "failed")
_SUM = 28


@dataclass
class Index:
    """How far the log is sealed."""

    size: int = 0
    """Bytes of it."""
    seq: int = 0
    sum: int = 0
    """Checksum of the last line."""
    lines: int = 0
    events: int = 0
    number: int = 0
    """Of the last sealing."""
    trials: list[int] = field(default_factory=list)
    """Those whose rows are in the file."""
    open: list[tuple[int, int, int]] = field(default_factory=list)
    """(trial, or -1 for the study; offset; bytes) of each line that is not sealed."""
    schema_version: int = SCHEMA_VERSION


@dataclass
class Sealed:
    """A study from its sealed parts and the lines after them."""

    index: Index
    replayed: Replayed
    """What is not sealed, replayed."""
    trials: pa.Table
    parts: list[Path]
    """The files of sealed epochs."""

    def epochs(self) -> list[pa.Table]:
        """The sealed epochs. Raises OSError or ArrowException for a file that is damaged or gone."""
        return [_read(path) for path in self.parts]


def read(folder: Path) -> Sealed | None:
    """The study from its sealed parts; None where there are none, or they do not fit its log. Problems of the lines
    after them are in `replayed.scanner`.
    """
    place, log = StudyPaths(folder).sealed, StudyPaths(folder).log
    try:
        index = _load(place, log)
        replayed = None if index is None else _replay(log, index)
        if index is None or replayed is None:
            return None
        trials = _read(place / f"trials-{index.number}.parquet")
        parts = [place / f"epochs-{number}.parquet" for number in range(1, index.number + 1)]
        if trials["trial"].to_pylist() != index.trials or not all(path.is_file() for path in parts):
            return None
        return Sealed(index, replayed, trials, parts)
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException):
        return None


def seal(folder: Path) -> bool:
    """Seal what the log has by now; only for whoever holds the study's lock. Returns whether that could be done.

    Raises OSError where the files cannot be written.
    """
    place, log = StudyPaths(folder).sealed, StudyPaths(folder).log
    before = read(folder)
    if before is None:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(place)
    size = _whole(log)
    old = before.index if before else Index()
    replayed = before.replayed if before else replay_file(log, size, [])
    scanner, replay = replayed.scanner, replayed.replay
    if before is None and (scanner.problems or not scanner.summed):
        return False
    if before is not None and (scanner.problems or not _catch_up(log, old, replayed, size)):
        return False
    ended = replay.ended(_FINAL)
    trials, epochs = replay.part(folder.name, ended)
    number = old.number + 1
    rows = [before.trials, trials] if before is not None else [trials]
    place.mkdir(exist_ok=True)
    _write(place / f"epochs-{number}.parquet", epochs)
    _write(place / f"trials-{number}.parquet", pa.concat_tables(rows, promote_options="permissive"))
    lines = [*old.open, *_lines(log, old.size, size)]
    gone = set(ended)
    index = Index(
        size=size,
        seq=scanner.seq,
        sum=scanner.known,
        lines=scanner.lines,
        events=scanner.events,
        number=number,
        trials=[*old.trials, *sorted(ended)],
        open=[line for line in lines if line[0] not in gone],
    )
    atomic.write(place / "index.json", json.dumps(vars(index)), sync_name=True)
    (place / f"trials-{old.number}.parquet").unlink(missing_ok=True)
    pa.default_memory_pool().release_unused()
    return True


def size_sealed(folder: Path) -> int:
    """Up to which byte the log is sealed; 0 where it is not."""
    index = None
    with contextlib.suppress(OSError, ValueError, TypeError):
        index = _load(StudyPaths(folder).sealed, StudyPaths(folder).log)
    return index.size if index else 0


def remove(folder: Path) -> None:
    """Remove the sealed parts: the tables have all of them."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(StudyPaths(folder).sealed)


def _load(place: Path, log: Path) -> Index | None:
    """The index, if the line up to which it goes is where it says."""
    try:
        index = Index(**json.loads((place / "index.json").read_bytes()))
    except FileNotFoundError:
        return None
    if index.schema_version > SCHEMA_VERSION or index.size < _SUM:
        return None
    with log.open("rb") as file:
        file.seek(index.size - _SUM)
        last = file.read(_SUM)
    return index if has_sum(last) and last.endswith(b'-%08x"}\n' % index.sum) else None


def _replay(log: Path, index: Index) -> Replayed | None:
    """The lines that are not sealed: those that the index names, and all after the sealed ones."""
    replay = Replay()
    with log.open("rb") as file:
        for _, offset, length in index.open:
            file.seek(offset)
            found = read_line(file.read(length))
            if found.event is None or found.before is None:
                return None
            replay.feed(found.event)
    replayed = Replayed(replay, LineScanner(str(log), []), index.size)
    scanner = replayed.scanner
    scanner.lines, scanner.seq, scanner.sum, scanner.known = index.lines, index.seq, index.sum, index.sum
    scanner.events, scanner.summed, scanner.numbers = index.events, True, Numbers(index.seq + 1)
    replay.last_seq = index.seq
    return replayed if _catch_up(log, index, replayed, log.stat().st_size) else None


def _catch_up(log: Path, index: Index, replayed: Replayed, size: int) -> bool:
    """Take in what comes after the place of the scanner, up to `size`; False for an event of a sealed trial."""
    if size > replayed.size:
        replay_file(log, size, [], replayed=replayed)
    return not set(index.trials) & set(replayed.replay.numbers())


def _lines(log: Path, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(trial, or -1 for the study; offset; bytes) of each line between two places."""
    with log.open("rb") as file:
        file.seek(start)
        offset = start
        for line in file:
            if offset >= end:
                return
            found = _TRIAL.search(line)
            if line.startswith(_STUDY) or found is None:
                yield -1, offset, len(line)
            else:
                yield int(found[1]), offset, len(line)
            offset += len(line)


def _whole(log: Path) -> int:
    """Bytes up to the last newline; the driver that calls is between two events."""
    size = log.stat().st_size
    with log.open("rb") as file:
        file.seek(max(0, size - 1))
        return size if file.read(1) == b"\n" else 0


def _read(path: Path) -> pa.Table:
    with open_parquet(path) as file:
        return pq.ParquetFile(file, page_checksum_verification=True).read()


def _write(path: Path, table: pa.Table) -> None:
    with atomic.file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def without(table: pa.Table, files: Sequence[str]) -> pa.Table:
    """The rows of trials, naming no checkpoint of those that were dropped."""
    if not files:
        return table
    column = table["checkpoint"]
    kept: Any = pc.if_else(pc.is_in(column, pa.array(list(files), pa.string())), scalar(None, pa.string()), column)
    return table.set_column(table.schema.get_field_index("checkpoint"), "checkpoint", kept)
