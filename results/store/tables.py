"""The tables on disk: three Parquet files beside each study's log, and reading them over all studies.

The metadata of a Parquet file has the number of bytes of the log from which it was made. If that is the whole log, the
file is read; otherwise (a search is running, the driver was killed, the file is damaged) the log is replayed. Every
Parquet file can be made again from the log.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from results.store import sealed
from results.store.bulk import replay_file
from results.store.columns import COLUMNS, SCHEMA_VERSION, TABLES, Column
from results.store.lock import is_held
from results.store.made import Damaged, Lost, Made, lost, newest, open_parquet, tail_of
from results.store.paths import StudyPaths, find_studies
from results.store.replay import Tables, build, by_section, clean_text, column_array, empty, scalar, schema
from results.store.sealed import Sealed
from results.store.telling import meet
from search_spaces.common import atomic
from search_spaces.errors import InputError
from search_spaces.wording import reason_of

__all__ = [
    "COLUMNS",
    "SCHEMA_VERSION",
    "TABLES",
    "Column",
    "Source",
    "build",
    "compact",
    "load_tables",
    "open_sources",
    "replay_log",
    "stack",
]

_ROW_GROUP = 122_880  # rows that DuckDB hands to one thread at a time


@dataclass
class Source:
    """One study, opened: the tables read so far, and the Parquet file of each table that is current with the log."""

    study: str
    folder: Path
    tables: Tables = field(default_factory=dict)
    parquet: dict[str, Path] = field(default_factory=dict)
    held: bool = False
    sealed: Sealed | None = None
    """The parts of a log that still grows, where `tables` has the rest of the epochs."""

    def table(self, name: str) -> pa.Table:
        """The table `name`, with all fixed columns, and the current status of trials without an end."""
        if name == "epochs" and self.sealed is not None:
            self._unseal()
        if name not in self.tables:
            with open_parquet(self.parquet[name]) as file:
                self.tables[name] = complete(pq.ParquetFile(file, page_checksum_verification=True).read(), name)
        table = self.tables[name]
        if name != "epochs" and not self.held and "running" in (status := table["status"].to_pylist()):
            # It was written under a driver that has died since.
            gone = pa.array(["interrupted" if value == "running" else value for value in status], pa.string())
            table = table.set_column(table.schema.get_field_index("status"), "status", gone)
        return table

    def _unseal(self) -> None:
        """Put the sealed epochs and the others together; where a part cannot be read, replay the log."""
        assert self.sealed is not None  # noqa: S101
        found, self.sealed = self.sealed, None
        try:
            parts = [*found.epochs(), self.tables["epochs"]]
        except Damaged as error:
            meet([f"{error}; the log is replayed"])
            self.tables = replay_log(self.folder).tables
            return
        whole = stack("epochs", [_of_study(part, self.study) for part in parts])
        order = pc.sort_indices(whole, [("trial", "ascending"), ("epoch", "ascending")])
        self.tables["epochs"] = whole.take(order)


def compact(study_dir: str | Path) -> list[str]:
    """Write a study's three Parquet files from its log; returns the problems of the log, one line each.

    Safe at any time, with a search running or another compaction at work: each file is written beside, synced and
    renamed. Memory is that of the tables. Raises `InputError` if there is no log, the folder cannot be written, or the
    log has less than its tables were made from: these are then left as they are.
    """
    folder = Path(study_dir)
    replayed = replay_log(folder)
    if replayed.lost is not None:
        raise InputError(f"{replayed.lost.text}; the tables are not changed")
    _sweep(folder)
    now = newest(folder)
    if now is None or now.seq <= replayed.made.seq:  # otherwise another compaction has read more of the log meanwhile
        try:
            write_tables(folder, replayed)
        except OSError as error:
            whole = StudyPaths(folder).log.name
            raise InputError(
                f"{folder}: the tables cannot be written: {error.strerror}; {whole} is complete"
            ) from error
    return replayed.problems


def write_tables(folder: Path, replayed: ReplayedLog) -> None:
    """Write the three Parquet files of a study, each in one step. Raises OSError."""
    about = replayed.made.metadata()
    for name, path in StudyPaths(folder).tables.items():
        more = {"settings": json.dumps(replayed.settings)} if name == "studies" else {}
        _write(path, replayed.tables[name].replace_schema_metadata({**about, **more}))
    atomic.sync_folder(folder)


def load_tables(
    results_dir: str | Path, studies: Sequence[str] | None = None, tables: Sequence[str] = TABLES
) -> tuple[Tables, list[str]]:
    """The tables named, over all studies of a results folder or the ones named, stacked; and the problems found.

    A column that one study lacks is null there; one that is whole numbers here and fractions there is float64.
    Raises `InputError` if the folder has no studies or not the ones named.
    """
    sources, problems = open_sources(results_dir, studies)
    loaded: Tables = {}
    for name in tables:
        parts = []
        for source in sources:
            parts.append(sound_table(source, name, problems))
        loaded[name] = stack(name, parts)
    meet(problems)
    return loaded, problems


def sound_table(source: Source, name: str, problems: list[str]) -> pa.Table:
    """The table `name` of a study: from its log where its file is damaged, which `problems` then tells.

    Raises InputError where there is no log.
    """
    try:
        return source.table(name)
    except (pa.ArrowException, OSError) as error:
        damaged = f"{source.parquet[name]}: unreadable ({reason_of(error)})"
        if not StudyPaths(source.folder).log.is_file():
            raise InputError(f"{damaged}, and there is no log to make it from") from error
        problems.append(f"{damaged}; the log is replayed")
    replayed = replay_log(source.folder)
    source.parquet, source.tables = {}, replayed.tables
    problems += replayed.problems
    return source.table(name)


def open_sources(results_dir: str | Path, studies: Sequence[str] | None = None) -> tuple[list[Source], list[str]]:
    """Each study as a `Source`, and the problems found: Parquet where it is current with the log, else a replay."""
    problems: list[str] = []
    sources = [_open(folder, problems) for folder in find_studies(results_dir, studies)]
    meet(problems)
    return sources, problems


def stack(name: str, parts: Sequence[pa.Table]) -> pa.Table:
    """Tables of one kind under each other: fixed columns first, configuration columns grouped by section."""
    fixed = schema(name)
    known = set(fixed.names)
    kinds = [{field.name: field.type for field in part.schema} for part in parts]
    extra = by_section(column for part in kinds for column in part if column not in known)
    fields = list(fixed)
    for column in extra:
        fields.append(pa.field(column, _common({part[column] for part in kinds if column in part})))
    target = pa.schema(fields)
    return pa.concat_tables(
        [_conform(*part, target) for part in zip(parts, kinds, strict=True)] or [target.empty_table()]
    ).combine_chunks()


def _open(folder: Path, problems: list[str]) -> Source:
    source = Source(folder.name, folder, held=is_held(folder))
    paths = StudyPaths(folder)
    log = paths.log
    has_log = log.is_file()
    current = True
    for name, path in paths.tables.items():
        try:
            with open_parquet(path) as file:
                opened = pq.ParquetFile(file)
                made = Made.of(opened.metadata.metadata)
                if len(set(names := opened.schema_arrow.names)) < len(names):
                    raise pa.ArrowInvalid("two columns have one name")
        except FileNotFoundError:
            current = False
        except (pa.ArrowException, OSError) as error:
            current = False
            problems.append(f"{path}: unreadable ({reason_of(error)})" + ("; the log is used" if has_log else ""))
        else:
            source.parquet[name] = path
            current = current and (not has_log or (made is not None and made.is_all_of(log, folder.name)))
    if not has_log:
        name = shlex.quote(folder.name)
        problems.append(
            f"{log}: there is no log; the study is shown from its tables; 'tuner results repair {name}' rebuilds "
            "the log from them"
        )
        source.tables = {name: table for name, table in empty().items() if name not in source.parquet}
    elif not current:
        _use_log(source, problems)
    return source


def _use_log(source: Source, problems: list[str]) -> None:
    """Show the study from its log, or from its tables where the log has fewer events than they do."""
    if _use_sealed(source, problems):
        return
    replayed = replay_log(source.folder)
    problems += replayed.problems
    if replayed.lost is not None:
        before = newest(source.folder)
        more = replayed.lost.fewer and before is not None and before.seq >= replayed.made.seq
        if more and len(source.parquet) == len(TABLES):
            problems.append(f"{replayed.lost.text}; the study is shown from its tables")
            return
        problems.append(replayed.lost.text)
    source.parquet, source.tables = {}, replayed.tables


def _use_sealed(source: Source, problems: list[str]) -> bool:
    """Show the study from the sealed parts of its log and the lines after them; False where that cannot be done."""
    found = sealed.read(source.folder, problems)
    before = newest(source.folder)
    if found is None or (before is not None and before.seq > found.replayed.scanner.seq):
        return False
    problems += found.replayed.scanner.problems
    replay = found.replayed.replay
    live = replay.tables(source.held, source.study)
    done = _of_study(replay.marked(sealed.without(found.trials, replay.dropped)), source.study)
    trials = stack("trials", [done, live["trials"]])
    trials = trials.take(pc.sort_indices(trials, [("trial", "ascending")]))
    studies = replay.study_table(clean_text(source.study), trials, source.held)
    source.parquet, source.sealed = {}, found
    source.tables = {"studies": studies, "trials": trials, "epochs": live["epochs"]}
    return True


def _of_study(table: pa.Table, study: str) -> pa.Table:
    name = pa.repeat(scalar(clean_text(study), pa.string()), table.num_rows)
    return table.set_column(table.schema.get_field_index("study"), "study", name)


@dataclass
class ReplayedLog:
    """The tables of a log, what they are made from, and what is wrong with it."""

    tables: Tables
    made: Made
    problems: list[str]
    settings: dict[str, Any]
    """What the study was started with, and what resuming changed: its log can be rebuilt with them."""
    lost: Lost | None
    """What it lacks of what the Parquet files were made from (`results.store.made.lost`)."""


def replay_log(folder: Path, running: bool | None = None) -> ReplayedLog:
    """The tables from the log of a study; `running` as for `build` (by the lock, where it is not given).

    Raises `InputError` if there is none or it cannot be read.
    """
    log = StudyPaths(folder).log
    problems: list[str] = []
    try:
        size = log.stat().st_size
    except OSError:
        size = 0  # replay_file reports what is wrong with the file
    before = newest(folder)
    replayed = replay_file(log, size, problems, before.seq if before else 0)
    scanner = replayed.scanner
    made = Made(size, tail_of(log, size), scanner.seq, scanner.known, scanner.events, os.fsencode(folder.name))
    tables = replayed.replay.tables(is_held(folder) if running is None else running, folder.name)
    return ReplayedLog(tables, made, problems, replayed.replay.settings, lost(folder, before, scanner))


def _write(path: Path, table: pa.Table) -> None:
    repeating = [f.name for f in table.schema if not pa.types.is_floating(f.type)]  # measurements hardly repeat
    with atomic.file(path) as temporary, temporary.open("wb") as file:
        pq.write_table(
            table,
            file,
            compression="zstd",
            row_group_size=_ROW_GROUP,
            use_dictionary=repeating,
            write_page_checksum=True,
        )


def _sweep(folder: Path) -> None:
    """Remove the files of a killed compaction; those of a running one are less than an hour old."""
    for path in folder.glob(".*.parquet.*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > 3600:
                path.unlink()


def complete(table: pa.Table, name: str) -> pa.Table:
    """Add the fixed columns that a file of an older version lacks, in their order; keep those it has beyond."""
    return stack(name, [table.replace_schema_metadata(None)])


def _conform(part: pa.Table, kinds: Mapping[str, pa.DataType], target: pa.Schema) -> pa.Table:
    """The rows with the columns of `target`; `kinds` are the types that they have by name."""
    columns = []
    for f in target:
        if f.name not in kinds:
            columns.append(pa.nulls(part.num_rows, f.type))
        elif kinds[f.name] == f.type:
            columns.append(part[f.name])
        else:
            try:
                columns.append(part[f.name].cast(f.type))
            except pa.ArrowException:  # a text of one version where another has a number
                columns.append(column_array(part[f.name].to_pylist(), f.type))
    return pa.table(columns, schema=target)


def _common(kinds: Iterable[pa.DataType]) -> pa.DataType:
    known = {kind for kind in kinds if not pa.types.is_null(kind)}
    if not known:
        return pa.null()
    if len(known) == 1:
        return known.pop()
    numeric = all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in known)
    return pa.float64() if numeric else pa.string()
