"""Sealed parts of a log that is still growing: what will not change any more, as tables beside it.

A driver calls `seal` each time the log has grown by `EVERY` bytes. Then `STUDY/sealed/` holds

    trials-N.parquet     the rows of all trials that have ended for good
    studies-N.parquet    the study, with its settings
    epochs-N.parquet     their epochs, a file for each sealing
    index.json           up to which line that goes, where the lines of all other trials and of the study are, and the
                         size and checksum of each file (`results.store.made.Index`)

so that a reader parses the lines that the index names and those after the sealed ones: some megabytes of a log of
hundreds. The index is written last, in one step, so a driver may die at any point. The log has the last word: where
the parts do not fit it, are damaged, or a trial that had ended goes on, `read` gives None and the log is replayed. A
log that has less than was sealed of it was cut short (`results.store.made.lost`), and `results.store.repair` rebuilds
it from the parts. The driver removes the folder when the tables of the whole log are written.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from results.store.bulk import Replayed, replay_file
from results.store.made import Damaged, Index, load_index, load_part, lost, newest, open_events, tail_of
from results.store.paths import StudyPaths
from results.store.replay import MARKS, Replay, Tables, scalar
from search_spaces.common import atomic

EVERY = 4 << 20
"""Bytes by which the log grows between two sealings: what a reader may have to parse."""
_TRIAL = re.compile(rb'"trial":(\d+)')
_STUDY = (b'{"event":"study_', b'{"event":"checkpoints_dropped"', b'{"event":"stop_requested"', b'{"event":"marked"')
_FINAL = ("completed", "stopped", "diverged", "failed")
Line = tuple[int, int, int, int]


@dataclass
class Sealed:
    """A study from its sealed parts and the lines after them."""

    folder: Path
    index: Index
    replayed: Replayed
    """What is not sealed, replayed."""
    trials: pa.Table

    def epochs(self) -> list[pa.Table]:
        """The sealed epochs. Raises Damaged."""
        return _epochs(self.folder, self.index)


def read(folder: Path, problems: list[str]) -> Sealed | None:
    """The study from its sealed parts; None where there are none, or they do not fit its log.

    Damage of the parts is appended to `problems`; problems of the lines after them are in `replayed.scanner`.
    """
    log = StudyPaths(folder).log
    try:
        index = load_index(folder, problems)
        if index is None or not index.fits(log):
            return None
        trials = load_part(folder, index, f"trials-{index.number}")
        replayed = _replay(log, index, set(trials["trial"].to_pylist()))
    except Damaged as error:
        if load_index(folder, []) is not None:  # otherwise the search has just ended, and its tables are there
            problems.append(f"{error}; the log is read instead")
        return None
    except OSError:
        return None
    return None if replayed is None else Sealed(folder, index, replayed, trials)


def tables(folder: Path, problems: list[str]) -> tuple[Tables, dict[str, Any] | None]:
    """What is sealed, as tables, whether the log has it or not; and the study's settings. Damage: in `problems`."""
    index, found = load_index(folder, problems), {}
    if index is None:
        return {}, None
    for name in ("studies", "trials"):
        with _noted(problems):
            found[name] = load_part(folder, index, f"{name}-{index.number}")
    with _noted(problems):
        found["epochs"] = pa.concat_tables(_epochs(folder, index))
    about = (found["studies"].schema.metadata or {}) if "studies" in found else {}
    return found, json.loads(about[b"settings"]) if b"settings" in about else None


def seal(folder: Path, about: Mapping[str, Any] | None = None) -> bool:
    """Seal what the log has by now, with what the driver says of itself; only for whoever holds the study's lock.

    Returns whether it can be sealed: False for one that is damaged or has no checksums. Raises OSError where the files
    cannot be written.
    """
    place, log = StudyPaths(folder).sealed, StudyPaths(folder).log
    before, made = read(folder, []), newest(folder)
    if not (size := _whole(log)):
        return False
    old = before.index if before else None
    replayed = before.replayed if before else replay_file(log, size, [], made.seq if made else 0)
    if before is not None and not _catch_up(log, set(before.trials["trial"].to_pylist()), replayed, size):
        return False
    scanner, replay = replayed.scanner, replayed.replay
    if scanner.problems or not scanner.summed or not scanner.orderly():
        return False
    if before is None:
        if lost(folder, made, scanner) is not None:
            return False  # what was sealed may be all that is left of it
        remove(folder)
    place.mkdir(exist_ok=True)
    ended = replay.ended(_FINAL)
    lines = [*(old.open if old else ()), *_lines(log, old.size if old else 0, size)]
    files = _write_parts(place, replay, folder.name, before, ended)
    gone = set(ended)
    index = Index(
        size=size,
        tail=tail_of(log, size),
        first=old.first if old else lines[0][3],
        seq=scanner.seq,
        sum=scanner.known,
        lines=scanner.lines,
        events=scanner.events,
        number=old.number + 1 if old else 1,
        open=[line for line in lines if line[0] not in gone],
        files=files,
        about=dict(about or {}),
    )
    atomic.write(place / "index.json", index.text(), sync_name=True)
    for name in ("trials", "studies"):  # those of the last sealing may be read at this moment
        (place / f"{name}-{index.number - 2}.parquet").unlink(missing_ok=True)
    pa.default_memory_pool().release_unused()
    return True


def _write_parts(
    place: Path, replay: Replay, study: str, before: Sealed | None, ended: Sequence[int]
) -> dict[str, tuple[int, int]]:
    """Write the files of the next sealing; returns all that the index is to name, with their sizes and checksums."""
    number = before.index.number + 1 if before else 1
    trials, epochs = replay.part(study, ended)
    rows = [before.trials, trials] if before else [trials]
    trials = pa.concat_tables(rows, promote_options="permissive")
    about = replay.study_table(study, trials, True).replace_schema_metadata({"settings": json.dumps(replay.settings)})
    files = {k: v for k, v in before.index.files.items() if k.startswith("epochs")} if before else {}
    for name, table in (("trials", trials), ("studies", about), ("epochs", epochs)):
        path = place / f"{name}-{number}.parquet"
        with atomic.file(path) as temporary:
            pq.write_table(table, temporary, compression="zstd")
            content = temporary.read_bytes()
        files[path.name] = (len(content), crc32(content))
    return files


def size_sealed(folder: Path) -> int:
    """Up to which byte the log is sealed; 0 where it is not."""
    index = load_index(folder, [])
    return index.size if index is not None and index.fits(StudyPaths(folder).log) else 0


def remove(folder: Path) -> None:
    """Remove the sealed parts: the tables have all of them."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(StudyPaths(folder).sealed)


def check(folder: Path, whole: Tables, size: int, problems: list[str]) -> None:
    """Append what is wrong with the sealed parts to `problems`; `whole` are the tables of the log's `size` bytes."""
    found, _ = tables(folder, problems)
    if "trials" not in found or size_sealed(folder) > size or read(folder, []) is None:
        return  # parts that do not count, because a trial that had ended goes on, need not be right
    numbers = found["trials"]["trial"].combine_chunks()
    for name in found.keys() & {"trials", "epochs"}:
        rows = whole[name].filter(pc.is_in(whole[name]["trial"], numbers))
        if not _same(found[name], rows):
            problems.append(f"{StudyPaths(folder).sealed}: its {name} differ from the log's; the log counts")


def _same(part: pa.Table, rows: pa.Table) -> bool:
    """Whether rows of trials or epochs say the same, in any order, but for what can change later.

    That is a checkpoint's name, which goes when it is removed, tags and notes, and the type of a configuration's
    column.
    """
    keys = [(key, "ascending") for key in ("trial", "epoch") if key in rows.column_names]
    later = ("study", "checkpoint", *MARKS)
    names = [name for name in rows.column_names if name in part.column_names and name not in later]
    names = [name for name in names if part.schema.field(name).type == rows.schema.field(name).type]
    return bool(part.select(names).sort_by(keys).equals(rows.select(names).sort_by(keys)))


def _epochs(folder: Path, index: Index) -> list[pa.Table]:
    return [load_part(folder, index, f"epochs-{number}") for number in range(1, index.number + 1)]


@contextlib.contextmanager
def _noted(problems: list[str]) -> Iterator[None]:
    try:
        yield
    except Damaged as error:
        problems.append(str(error))


def _replay(log: Path, index: Index, ended: set[int]) -> Replayed | None:
    """The lines that are not sealed: those that the index names, and all after the sealed ones."""
    events = open_events(log, index)
    if events is None:
        return None
    replay = Replay()
    for event in events:
        replay.feed(event)
    replay.last_seq = index.seq
    replayed = Replayed(replay, index.scanner(str(log), []), index.size)
    return replayed if _catch_up(log, ended, replayed, log.stat().st_size) else None


def _catch_up(log: Path, ended: Iterable[int], replayed: Replayed, size: int) -> bool:
    """Take in what comes after the place of the scanner, up to `size`; False for an event of a sealed trial."""
    if size > replayed.size:
        replay_file(log, size, [], replayed=replayed)
    return replayed.replay.numbers().isdisjoint(ended)


def _lines(log: Path, start: int, end: int) -> Iterator[Line]:
    """(trial, or -1 for the study; offset; bytes; CRC-32) of each line between two places."""
    with log.open("rb") as file:
        file.seek(start)
        offset = start
        for line in file:
            if offset >= end:
                return
            found = None if line.startswith(_STUDY) else _TRIAL.search(line)
            yield -1 if found is None else int(found[1]), offset, len(line), crc32(line)
            offset += len(line)


def _whole(log: Path) -> int:
    """Bytes up to the last newline; the driver that calls is between two events."""
    size = log.stat().st_size
    with log.open("rb") as file:
        file.seek(max(0, size - 1))
        return size if file.read(1) == b"\n" else 0


def without(table: pa.Table, files: Sequence[str]) -> pa.Table:
    """The rows of trials, naming no checkpoint of those that were dropped."""
    if not files:
        return table
    column = table["checkpoint"]
    kept: Any = pc.if_else(pc.is_in(column, pa.array(list(files), pa.string())), scalar(None, pa.string()), column)
    return table.set_column(table.schema.get_field_index("checkpoint"), "checkpoint", kept)
