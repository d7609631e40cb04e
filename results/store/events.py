"""The event log of one study: JSON lines, one per event, on the disk before the program acts on them.

Every other state (ASHA's rungs, the Optuna study, the trial states, the Parquet tables) is a replay of this file.
Each line is `{"event": kind, "seq": n, "time": unix seconds, "elapsed": seconds, ..., "sum": checksums}`; `seq` counts
from 1 without gaps. `elapsed` counts from when this driver opened the log, by a clock that never goes backwards,
without the time for which the driver was suspended; `time` does not go backwards within a driver either, even if the
clock is changed. `sum` is the checksum of the line and its place (`results.store.lines`); readers of events do not get
it. Numbers that are not finite are stored as null, because JSON cannot hold them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from results.store.lines import LineScanner, sealed
from results.store.telling import meet
from search_spaces.common import atomic
from search_spaces.errors import InputError

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file has reached the size limit",
}


class EventLog:
    """Appends events to `path`; one process at a time (hold the `StudyLock`).

    Opening creates the file and its folder where missing, and removes an incomplete last line that a killed writer
    left, which was never acknowledged. `problems` has a line on it, and `last_seq` is the number of the last event (0
    if none). Raises `InputError` if the file cannot be opened for writing.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.problems: list[str] = []
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = not self.path.exists()
            self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            if new:
                atomic.sync_folder(self.path.parent)
        except OSError as error:
            raise InputError(f"{self.path}: cannot write there: {error.strerror}; choose another folder") from error
        self._mutex = threading.Lock()
        self._opened = time.monotonic()
        self._began = self._last_time = time.time()
        self._last_elapsed = self._slept = 0.0
        self._size, self.last_seq, self._sum = self._repair()
        self._whole = True

    def append(self, event: str, **fields: Any) -> dict[str, Any]:
        """Write one event and return it as written; it is on the disk when this returns.

        Values are JSON types, tuples, paths and numpy scalars or arrays. Raises `InputError` when the disk is full
        (the log is not changed, so that the study can continue later) and `TypeError` for a value JSON cannot hold.
        """
        with self._mutex:
            now, elapsed = self._times()
            record = {"event": event, "seq": self.last_seq + 1, "time": now, "elapsed": elapsed, **fields}
            content = _encode(record)
            line, own = sealed(content, self._sum)
            try:
                self._trim()
                self._whole = False
                written = os.write(self._fd, line)
                if written < len(line):  # a full disk takes what fits and reports the error only on the next write
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(self._fd)
            except OSError as error:
                with contextlib.suppress(
                    OSError
                ):  # the disk accepts no writes at all: this is repeated before the next event
                    self._trim()
                why = _FULL.get(error.errno or 0, error.strerror)
                raise InputError(
                    f"{self.path}: event {record['seq']} ({event}) could not be written: {why}; "
                    "everything before it is kept: make room, then resume the study"
                ) from error
            self._size += len(line)
            self._whole = True
            self._sum = own
            self.last_seq += 1
        decoded: dict[str, Any] = json.loads(content + b"}")
        return decoded

    def slept(self, seconds: float) -> None:
        """The driver was suspended for this time, which does not count in its session (`elapsed`)."""
        with self._mutex:
            self._slept += seconds

    def _times(self) -> tuple[float, float]:
        """The next event's `time` and `elapsed`, neither before the last event's."""
        elapsed = round(time.monotonic() - self._opened - self._slept, 3)
        self._last_elapsed = max(self._last_elapsed, elapsed)
        self._last_time = max(self._last_time, time.time(), self._began + self._last_elapsed)
        return self._last_time, self._last_elapsed

    def _trim(self) -> None:
        """Remove the remains of a failed write, so that the log never has an incomplete line in the middle."""
        if not self._whole:
            os.ftruncate(self._fd, self._size)
            self._whole = True

    def is_there(self) -> bool:
        """Whether the open file still has this name: a deleted file can still be written."""
        try:
            found, written = self.path.stat(), os.fstat(self._fd)
        except FileNotFoundError:
            return False
        except OSError:  # unavailable for now
            return True
        return (found.st_dev, found.st_ino) == (written.st_dev, written.st_ino)

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _repair(self) -> tuple[int, int, int]:
        """Remove or complete an unterminated last line; returns the size in bytes, the last event's number and sum."""
        size, last = os.fstat(self._fd).st_size, b""
        scanner = LineScanner(str(self.path), [])
        with open_log(self.path) as file:
            for line in file:
                if line.endswith(b"\n"):
                    for _ in scanner.scan([line], wanted=lambda _: False):
                        pass
                else:
                    last = line
        if last:
            size = self._repair_last(scanner, last, size)
        return size, scanner.numbers.next - 1, scanner.sum or scanner.known

    def _repair_last(self, scanner: LineScanner, last: bytes, size: int) -> int:
        """Keep an unterminated last line that is complete, remove one that is not; returns the new size of the log."""
        for end in dict.fromkeys((len(last), last.rfind(b"}") + 1)):  # what follows may be a newline that is damaged
            if end and any(True for _ in scanner.copy().scan([last[:end] + b"\n"])):
                list(scanner.scan([last[:end] + b"\n"]))
                size += end - len(last)
                os.ftruncate(self._fd, size)
                size += os.write(self._fd, b"\n")
                os.fsync(self._fd)
                return size
        os.ftruncate(self._fd, size - len(last))
        os.fsync(self._fd)
        self.problems.append(f"{self.path}: half a last line ({len(last)} bytes) was cut off")
        return size - len(last)


def read_events(path: str | Path) -> tuple[list[dict[str, Any]], list[str]]:
    """All events of a log in order, and one line per problem; safe while another process appends.

    An incomplete last line, a line that is not an event and a gap in the numbering are reported and skipped, not
    raised. Raises `InputError` if there is no such file or it cannot be read.
    """
    problems: list[str] = []
    events = list(scan_events(path, problems))
    meet(problems)
    return events, problems


def scan_events(
    path: str | Path,
    problems: list[str],
    size: int | None = None,
    wanted: Callable[[bytes], bool] | None = None,
) -> Iterator[dict[str, Any]]:
    """`read_events` one event at a time, so that memory stays flat; problems are appended to `problems`.

    With `size`, only the first `size` bytes are read: a snapshot of a log that is growing. With `wanted`, only the
    events of lines that it says yes to are parsed, where the others are proven by their checksums.
    """
    scanner = LineScanner(str(path), problems)
    left = sys.maxsize if size is None else size
    with open_log(path) as file:
        for line in file:
            yield from scanner.scan([line[:left]], wanted)
            left -= len(line)
            if left <= 0:
                return


def without_settings(path: str | Path) -> str:
    """The error line for a log that does not begin with its study's settings."""
    return (
        f"{path}: does not begin with the study's settings: its first line is damaged or missing; "
        f"'tuner results repair {shlex.quote(Path(path).parent.name)}' rebuilds what can be rebuilt"
    )


@contextlib.contextmanager
def open_log(path: str | Path) -> Iterator[BinaryIO]:
    """The log, open for reading; an error of the file system becomes an `InputError`."""
    try:
        with Path(path).open("rb") as file:
            yield file
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no event log; give a study folder that holds one") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _encode(record: dict[str, Any]) -> bytes:
    """The canonical content of a line (`results.store.lines`)."""
    # ASCII escapes keep any name (newlines, lone surrogates of odd file names) on one line of valid bytes.
    try:
        text = json.dumps(record, allow_nan=False, separators=(",", ":"), default=_plain)
    except ValueError:
        text = json.dumps(_finite(record), allow_nan=False, separators=(",", ":"))
    return text[:-1].encode("ascii")


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy scalars and arrays, without importing numpy
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"an event cannot hold {value!r} of type {type(value).__name__}; give JSON types")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if value is None or isinstance(value, str | int):
        return value
    return _finite(_plain(value))
