"""Results in an object store (s3://, gs://, abfss://, whatever pyarrow opens): `--results s3://bucket/prefix`.

An object store cannot append to a file, and the log must be on the disk before a decision is carried out. So a study is
in a local working folder, and its driver mirrors it to the store: checkpoints first, then the log, then the tables,
every `EVERY` seconds and at the end, each object in one upload. The mirror is therefore the study as it was some
seconds ago, and a driver on any machine can continue from it: the log is never behind a checkpoint. If the driver's
disk is lost, only those seconds are lost. The log is uploaded in parts of `PART` bytes, so that a long one is not
uploaded repeatedly.

A command with such a URI first downloads the store's logs and tables (to `TUNER_CACHE`, else ~/.cache/b2t-tuner), and
works there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results.store.lock import is_held
from results.store.paths import StudyPaths, is_name, leads_out, refuse_links_out
from search_spaces.common import atomic
from search_spaces.errors import InputError
from search_spaces.redact import HIDDEN, public, redacted, secrets_of

MARKER = ".remote"
"""A file in a working folder: its store, and the state of each study there."""
LOG_PARTS = "events"
"""The folder of the log's parts in the store."""
DRIVER = "driver.json"
"""Names the driver that mirrors a study, and when it last did."""
INSIDE = StudyPaths(Path())
"""The paths relative to the study, which are the names of the objects."""
PART = 4 << 20
EVERY = float(os.environ.get("TUNER_MIRROR_SECONDS", "60"))


@dataclass
class Store:
    """A prefix of a pyarrow file system."""

    fs: Any
    root: str
    uri: str

    def list(self, below: str = "") -> dict[str, tuple[int, int]]:
        """Relative path -> (bytes, modified in ns) of every object below a relative path."""
        from pyarrow.fs import FileSelector, FileType

        base, cut = f"{self.root}/{below}".rstrip("/"), len(self.root.strip("/")) + 1
        found = self.fs.get_file_info(FileSelector(base, allow_not_found=True, recursive=True))
        return {
            info.path.strip("/")[cut:]: (info.size, info.mtime_ns or 0)
            for info in found
            if info.type == FileType.File and not info.base_name.startswith(".")
        }

    def read(self, path: str) -> bytes:
        """A whole object."""
        with self.fs.open_input_stream(f"{self.root}/{path}") as stream:
            data: bytes = stream.read()
            return data

    def put(self, path: str, source: bytes | Path) -> None:
        """Write an object in one step: stores show an object only when its upload is complete."""
        target = f"{self.root}/{path}"
        local = self.fs.type_name == "local"
        if self.fs.type_name in ("local", "hdfs"):  # an object store has no folders, only names with slashes
            self.fs.create_dir(target.rsplit("/", 1)[0], recursive=True)
        written = f"{target.rsplit('/', 1)[0]}/.{target.rsplit('/', 1)[1]}.{os.getpid()}" if local else target
        with self.fs.open_output_stream(written) as stream:
            if isinstance(source, bytes):
                stream.write(source)
            else:
                with source.open("rb") as file:
                    while block := file.read(PART):
                        stream.write(block)
        if local:
            self.fs.move(written, target)

    def stamp(self, path: str) -> Stamp:
        """Of one object."""
        info = self.fs.get_file_info(f"{self.root}/{path}")
        return info.size, info.mtime_ns or 0

    def delete(self, path: str) -> None:
        """Remove an object, if it exists."""
        with contextlib.suppress(FileNotFoundError):
            self.fs.delete_file(f"{self.root}/{path}")


_GIVEN: dict[str, str] = {}
"""URI without its keys -> URI as the user gave it: keys are kept only in this process."""


def open_store(uri: str) -> Store:
    """The store at a URI, with the keys that were given in it before, or that its SDK finds; `Store.uri` has no keys.

    Raises InputError if pyarrow knows no such store.
    """
    from pyarrow.fs import FileSystem

    name = public(uri.rstrip("/"))
    if name != uri.rstrip("/"):
        _GIVEN[name] = uri
    try:
        fs, root = FileSystem.from_uri(_GIVEN.get(name, uri))
    except (ValueError, OSError, NotImplementedError) as error:
        raise InputError(
            f"--results {redacted(uri)}: {_short(error)}; give s3://BUCKET/PREFIX, gs://..., abfss://... or a path"
        ) from error
    return Store(fs, root.rstrip("/"), name)


def working_folder(uri: str) -> Path:
    """The local folder for a URI, with the store's logs and tables; one store has one folder, whatever its keys.

    Raises InputError if they cannot be read.
    """
    store, place = open_store(uri), public(uri.rstrip("/"))
    name = re.sub(r"[^A-Za-z0-9]+", "-", place.split("?")[0])[-40:].strip("-")
    cache = Path(os.environ.get("TUNER_CACHE") or Path.home() / ".cache" / "b2t-tuner")
    folder = cache / f"{name}-{hashlib.sha256(place.encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    pull(store, folder)
    return folder


def uri_of(results_dir: Path) -> str | None:
    """The store that a results folder is the working folder of, without keys."""
    try:
        uri = (results_dir / MARKER / "uri").read_text().strip()
    except OSError:
        return None
    if public(uri) != uri:  # written by an earlier version
        _GIVEN.setdefault(public(uri), uri)
    return public(uri)


Stamp = tuple[int, int]
"""Bytes and time of change in ns."""


@dataclass
class Known:
    """The files that were equal here and in the store after the last transfer: path in the study -> stamps."""

    path: Path
    here: dict[str, Stamp] = field(default_factory=dict)
    there: dict[str, Stamp] = field(default_factory=dict)
    log: int = 0
    """Bytes of the log that the store has."""

    @classmethod
    def load(cls, folder: Path) -> Known:
        """The state of the study in `folder`; empty where the file is missing or damaged."""
        path = folder.parent / MARKER / f"{folder.name}.json"
        try:
            found = json.loads(path.read_bytes())
            here, there = ({key: (size, at) for key, (size, at) in found[side].items()} for side in ("here", "there"))
            return cls(path, here, there, found["log"])
        except (OSError, ValueError, KeyError, TypeError):
            return cls(path)

    def save(self) -> None:
        """Write the state in one step."""
        atomic.write(self.path, json.dumps({"here": self.here, "there": self.there, "log": self.log}))


def _stamp(path: Path) -> Stamp:
    info = path.stat()
    return info.st_size, info.st_mtime_ns


def pull(store: Store, folder: Path, study: str | None = None, *, ours: bool = False) -> int:
    """Download what is new in the store: logs and tables of all studies, or all of `study`; returns objects read.

    A study that a driver of this machine runs (unless it is `ours`), or whose log has more events here than there, is
    not changed. Raises InputError if the store cannot be read, or holds another study of the same name.
    """
    (folder / MARKER).mkdir(parents=True, exist_ok=True)
    (folder / MARKER / "uri").write_text(store.uri)
    try:
        objects = store.list("" if study is None else study)
        names = sorted({name for path in objects if "/" in path and is_name(name := path.split("/")[0])})
        count = 0
        for name in names:
            mine = {
                key: stamp
                for path, stamp in objects.items()
                for where, _, key in [path.partition("/")]
                if where == name and not {"", ".", ".."} & set(key.split("/"))
            }
            if ours or not is_held(folder / name):
                try:
                    count += _pull_study(store, folder / name, mine, study is not None)
                except InputError as error:
                    if study is not None:
                        raise
                    print(f"warning: {error}", file=sys.stderr)  # the other studies can still be used
    except OSError as error:
        raise InputError(f"--results {store.uri}: cannot be read ({_short(error)})") from error
    return count


def _pull_study(store: Store, folder: Path, objects: Mapping[str, Stamp], whole: bool) -> int:
    parts = sorted(key for key in objects if key.startswith(f"{LOG_PARTS}/"))
    log, total = StudyPaths(folder).log, sum(objects[key][0] for key in parts)
    if not parts or (log.exists() and log.stat().st_size > total):
        return 0
    known, count = Known.load(folder), 0
    folder.mkdir(exist_ok=True)
    tables = {str(path) for path in INSIDE.tables.values()}
    files = [key for key in objects if key in tables or (whole and key.startswith(f"{INSIDE.checkpoints}/"))]
    for key in sorted(files):  # before the log, which must not be behind a checkpoint
        target = folder / key
        if not target.exists() or known.there.get(key) != objects[key]:
            target.parent.mkdir(parents=True, exist_ok=True)
            if leads_out(target.parent, folder):  # a link to somewhere else
                continue
            atomic.write(target, store.read(f"{folder.name}/{key}"))
            known.here[key], known.there[key] = _stamp(target), objects[key]
            count += 1
    count += _pull_log(store, folder, parts, objects)
    known.log = total
    known.save()
    return count


def _pull_log(store: Store, folder: Path, parts: Sequence[str], objects: Mapping[str, Stamp]) -> int:
    """Append the events that only the store has; together, the store's parts are complete lines."""
    count = 0
    with StudyPaths(folder).log.open("a+b") as file:
        for number, key in enumerate(parts):
            begin, size = number * PART, objects[key][0]
            file.seek(begin)
            have = file.read(PART)
            if len(have) == size and number < len(parts) - 1:
                continue
            there = store.read(f"{folder.name}/{key}")
            if not there.startswith(have):
                raise InputError(
                    f"{folder.name}: the study in {store.uri} was continued from an earlier state than that of "
                    f"{folder}, or is another one; move that folder away to use the store's"
                )
            file.write(there[len(have) :])
            file.flush()
            count += len(have) < size
    return count


@dataclass
class StoreMirror:
    """Uploads the changes in a study's folder to the store; one thread at a time."""

    store: Store
    folder: Path
    known: Known

    def push(self) -> int:
        """Upload what has changed; returns the number of objects. Raises OSError where the store cannot be written."""
        found = sorted(StudyPaths(self.folder).checkpoints.rglob("*"))
        count = sum(self._put_file(path) for path in found if path.is_file() and not path.is_symlink())
        count += self._put_log()
        count += sum(self._put_file(path) for path in StudyPaths(self.folder).tables.values())
        for key in [key for key in self.known.here if not (self.folder / key).exists()]:
            self.store.delete(f"{self.folder.name}/{key}")
            del self.known.here[key], self.known.there[key]
        self.known.save()
        return count

    def _put_file(self, path: Path) -> bool:
        key = path.relative_to(self.folder).as_posix()
        if path.name.startswith("."):
            return False
        with contextlib.suppress(FileNotFoundError):  # a trial may end at any moment, and its last.pt is removed
            stamp = _stamp(path)
            if self.known.here.get(key) != stamp:
                self._put(key, path)
                self.known.here[key] = stamp
                return True
        return False

    def _put(self, key: str, source: bytes | Path) -> None:
        self.store.put(f"{self.folder.name}/{key}", source)
        self.known.there[key] = self.store.stamp(f"{self.folder.name}/{key}")

    def _put_log(self) -> int:
        """Upload the missing parts, up to the last complete line."""
        with StudyPaths(self.folder).log.open("rb") as file:
            size = file.seek(0, 2)
            start = self.known.log // PART * PART
            if size < self.known.log:  # the driver removed an event that was never acknowledged
                start = max(0, size // PART - 1) * PART
            file.seek(start)
            rest = file.read(size - start)
        rest = rest[: rest.rfind(b"\n") + 1]
        if start + len(rest) == self.known.log:
            return 0
        offsets = range(0, len(rest), PART)
        for offset in offsets:
            self._put(f"{LOG_PARTS}/{(start + offset) // PART:06d}.jsonl", rest[offset : offset + PART])
        self.known.log = start + len(rest)
        return len(offsets)

    def announce(self) -> None:
        """Record in the store that this driver is alive."""
        driver = {"host": os.uname().nodename, "pid": os.getpid(), "time": time.time()}
        self.store.put(f"{self.folder.name}/{DRIVER}", json.dumps(driver).encode())

    def refuse_others(self) -> None:
        """Raises InputError if another driver mirrored this study in the last minutes."""
        try:
            driver = json.loads(self.store.read(f"{self.folder.name}/{DRIVER}"))
        except (OSError, ValueError):
            return
        mine = driver.get("host") == os.uname().nodename  # then the study's own lock has decided
        ago = time.time() - driver.get("time", 0.0)
        if not mine and ago < 3 * EVERY:
            raise InputError(
                f"{self.folder.name}: a search on {driver.get('host')} (pid {driver.get('pid')}) mirrored this study "
                f"{ago:.0f} s ago; stop it there, or wait {3 * EVERY - ago:.0f} s if that machine was lost"
            )


@contextlib.contextmanager
def mirrored(folder: Path) -> Iterator[None]:
    """While a driver runs the study in `folder`: mirror it, if its results folder is that of a store.

    A store that is unavailable is tried again; this, and what could not be uploaded at the end, is printed. Raises
    InputError, before anything runs, if the store cannot be written or another driver runs this study.
    """
    uri = uri_of(folder.parent)
    if uri is None:
        yield
        return
    store, stop = open_store(uri), threading.Event()
    mirror = StoreMirror(store, folder, Known.load(folder))
    mirror.refuse_others()
    if StudyPaths(folder).log.exists():  # it is resumed, with the store's checkpoints
        pull(store, folder.parent, folder.name, ours=True)
        mirror.known = Known.load(folder)
    try:
        mirror.announce()
    except OSError as error:
        raise InputError(f"--results {uri}: cannot be written ({_short(error)})") from error

    def run() -> None:
        well = True
        while not stop.wait(EVERY):
            try:
                mirror.announce()
                if StudyPaths(folder).log.exists():
                    mirror.push()
                well = True
            except OSError as error:
                if well:
                    print(f"warning: {uri} cannot be written ({_short(error)}); trying again", file=sys.stderr)
                well = False

    thread = threading.Thread(target=run, name="mirror", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        _finish(mirror, uri)


def _finish(mirror: StoreMirror, uri: str) -> None:
    try:
        if StudyPaths(mirror.folder).log.exists():
            mirror.push()
        mirror.store.delete(f"{mirror.folder.name}/{DRIVER}")
    except OSError as error:
        print(
            f"warning: {uri} does not have the last events ({_short(error)}); they are in {mirror.folder}: "
            f"send them with: tuner sync {shlex.quote(mirror.folder.name)} --results {shlex.quote(uri)}",
            file=sys.stderr,
        )


def sync(folder: Path) -> tuple[int, int]:
    """Synchronize a study with its copy in the store, including checkpoints; returns objects (read, put).

    Raises InputError if the results folder is not that of a store, a driver runs, or the store cannot be used.
    """
    uri = uri_of(folder.parent)
    if uri is None:
        raise InputError(f"{folder.parent}: is not the working folder of a store; give --results s3://BUCKET/PREFIX")
    refuse_links_out(folder)
    if is_held(folder):
        raise InputError(f"{folder.name}: its driver is running here and mirrors it already")
    store = open_store(uri)
    read = pull(store, folder.parent, folder.name)
    if not StudyPaths(folder).log.exists():
        raise InputError(f"{folder.name}: there is no such study in {uri} or here; 'tuner best' lists what there is")
    mirror = StoreMirror(store, folder, Known.load(folder))
    mirror.refuse_others()
    try:
        return read, mirror.push()
    except OSError as error:
        raise InputError(f"--results {uri}: cannot be written ({_short(error)})") from error


def _short(error: BaseException) -> str:
    """The first line of an error, without keys from a URI: SDKs quote parts of what they were given."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    for uri in _GIVEN.values():
        for secret in secrets_of(uri):
            text = text.replace(secret, HIDDEN)
    return redacted(text)[:200]
