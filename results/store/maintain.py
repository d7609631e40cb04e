"""Maintenance of a results folder: check, merge and delete studies (see also `tables.compact`).

All of them are safe while searches run: they read running studies and refuse to change them.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from results.store import sealed
from results.store.lock import StudyLock, is_held
from results.store.made import open_parquet
from results.store.paths import StudyPaths, find_studies, leads_out, refuse_links_out
from results.store.replay import Tables
from results.store.tables import compact, open_sources, replay_log
from search_spaces.common import atomic
from search_spaces.errors import InputError
from search_spaces.wording import reason_of

_BLOCK = 1 << 20


def check(results_dir: str | Path, studies: Sequence[str] | None = None) -> list[str]:
    """Read every file of the studies and compare them; one line per problem, none if all is well.

    It finds: damaged or missing lines of the log; Parquet files that are unreadable (page checksums are verified) or
    differ from their log; checkpoints that the tables name and that are missing or truncated. A Parquet file that is
    only older than its log is not a problem: it is not used.
    """
    problems: list[str] = []
    for folder in find_studies(results_dir, studies):
        _check_study(folder, problems)
    return problems


def merge(results_dir: str | Path, source: str | Path, name: str | None = None) -> list[str]:
    """Merge a study folder that was copied from another machine into the results folder; returns what was done.

    A study of the same name is replaced if its log is the beginning of the new one's, not changed if it is the same or
    has more events, and refused with `InputError` if they differ; `name` gives the study another name. Also refused: a
    source that is not a study folder, and a study that a live driver holds on either side.
    """
    source, root = Path(source), Path(results_dir)
    new = StudyPaths(source).log
    if not new.is_file():
        raise InputError(f"{source}: is not a study folder (it has no {new.name}); give the folder of one study")
    study = name or source.resolve().name
    if study.startswith(".") or "/" in study:
        raise InputError(f"{study!r}: is not allowed as a study's name; choose one without / and no leading dot")
    if is_held(source):
        raise InputError(f"{source}: a search is running this study; merge it when it has ended")
    target = root / study
    if target.exists() and target.samefile(source):
        raise InputError(f"{source}: is already the study {study} of {root}")
    if new.is_symlink():
        raise InputError(f"{new}: is a link; give the folder of the study that it points to")
    if target.is_symlink() or target.exists():
        refuse_links_out(target)
    else:
        _copy_study(source, target)
        return [f"{study}: added", *compact(target)]
    with StudyLock(target):
        old = StudyPaths(target).log
        if not old.is_file():
            raise InputError(f"{target}: exists and has no {old.name}; give the study another name")
        if _begins_with(old, new):
            return [f"{study}: not changed; the study here is the same or has more events"]
        if not _begins_with(new, old):
            raise InputError(f"{study}: exists with other events in {root}; give the incoming study another name")
        # The log last: until it is renamed into place the study is unchanged.
        try:
            _copy_files(source, target, skip={new.name})
            _copy_file(new, old)
        except OSError as error:
            raise InputError(f"{target}: cannot be written: {error.strerror}; its log is unchanged") from error
        return [f"{study}: updated", *compact(target)]


def delete(results_dir: str | Path, study: str) -> None:
    """Remove a study and its checkpoints; of a symbolic link, in its place or inside, only the link.

    Raises `InputError` if there is none or a live driver holds it.
    """
    (folder,) = find_studies(results_dir, [study])
    if folder.is_symlink():
        folder.unlink()
        return
    with StudyLock(folder):
        # Renamed first, so that nobody reads a partial study, and a killed delete leaves only a hidden folder.
        doomed = folder.with_name(f".deleted-{study}-{os.getpid()}")
        try:
            folder.rename(doomed)
            atomic.sync_folder(doomed.parent)
            shutil.rmtree(doomed)
        except OSError as error:
            raise InputError(f"{folder}: cannot be deleted: {error.strerror}") from error


def _check_study(folder: Path, problems: list[str]) -> None:
    log = StudyPaths(folder).log
    (source,), found = open_sources(folder.parent, [folder.name])
    problems += found
    tables: Tables | None = None
    if log.is_file():
        replayed = replay_log(folder)
        problems += [line for line in replayed.problems if line not in found]
        tables = replayed.tables if replayed.lost is None else None
        if tables is not None:
            more: list[str] = []
            sealed.check(folder, tables, replayed.made.size, more)
            problems += [line for line in more if not any(told.startswith(line) for told in found)]
        if replayed.lost is not None and not any(line.startswith(replayed.lost.text) for line in found):
            problems.append(replayed.lost.text)
    for name, path in source.parquet.items():
        try:
            with open_parquet(path) as file:
                pq.ParquetFile(file, page_checksum_verification=True).read()
        except (pa.ArrowException, OSError) as error:
            problems.append(f"{path}: unreadable ({reason_of(error)}); {_again(folder)}")
            continue
        if tables is not None and not source.table(name).equals(tables[name]):
            problems.append(f"{path}: differs from {log.name}; {_again(folder)}")
    trials = (tables or source.tables).get("trials")
    if trials is None:
        with contextlib.suppress(KeyError, pa.ArrowException, OSError):
            trials = source.table("trials")
    if trials is not None:
        _check_checkpoints(folder, trials, problems)


def _again(folder: Path) -> str:
    return f"'tuner results repair {shlex.quote(folder.name)}' makes it again"


def _check_checkpoints(folder: Path, trials: pa.Table, problems: list[str]) -> None:
    for trial, checkpoint in zip(trials["trial"].to_pylist(), trials["checkpoint"].to_pylist(), strict=True):
        if checkpoint is None:
            continue
        path = folder / checkpoint
        if not path.is_file():
            problems.append(f"{path}: the checkpoint of trial {trial} is missing")
        elif path.suffix == ".pt" and (damage := _damage(path)):
            problems.append(f"{path}: the checkpoint of trial {trial} is {damage}")


def _damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, which is a zip archive with a checksum for each record."""
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except Exception:  # its directory is at the end; a changed bit in it can make zipfile raise any error
        return "truncated"
    return f"damaged (the checksum of {bad} is wrong)" if bad else None


def _begins_with(log: Path, start: Path) -> bool:
    """Whether the whole lines of `start` are the first bytes of `log`."""
    left = _whole_lines(start)
    if log.stat().st_size < left:
        return False
    with log.open("rb") as a, start.open("rb") as b:
        while left > 0:
            mine, theirs = a.read(min(left, _BLOCK)), b.read(min(left, _BLOCK))
            if mine != theirs or not mine:
                return False
            left -= len(mine)
    return True


def _whole_lines(log: Path) -> int:
    """Bytes up to the last newline: what follows is incomplete because of a crash or the copy."""
    end = log.stat().st_size
    with log.open("rb") as file:
        while end > 0:
            start = max(0, end - _BLOCK)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
    return 0


def _copy_study(source: Path, target: Path) -> None:
    with atomic.folder(target, advice="nothing was merged") as incoming:
        _copy_files(source, incoming)


def _copy_files(source: Path, target: Path, skip: Collection[str] = ()) -> None:
    """Copy the files of a study; not its locks, what is made from its log, or links out of it."""
    paths = StudyPaths(source)
    hidden = (".", paths.lock.name)
    skip = {*skip, paths.sealed.name}
    for path in sorted(source.rglob("*")):
        inside = path.relative_to(source)
        left_out = inside.parts[0] in skip or path.suffix == ".parquet" or path.name.startswith(hidden)
        if (
            path.is_file()
            and not path.is_symlink()
            and not left_out
            and not leads_out((target / inside).parent, target)
        ):
            (target / inside).parent.mkdir(parents=True, exist_ok=True)
            _copy_file(path, target / inside)


def _copy_file(source: Path, target: Path) -> None:
    with atomic.file(target, sync_name=True) as copy:
        shutil.copyfile(source, copy)
