"""One driver per study: an advisory lock on `<study>/lock`.

The lock is the kernel's (`flock`), so it goes with the process however that ends; the file's text (host, pid, since)
only says whom to ask. On a file system without `flock` the presence of `<study>/lock.held` is the lock instead: it is
made exclusively, a holder on this machine that has died is noticed by its pid, one on another machine is not.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from search_spaces.errors import InputError

LOCK_NAME = "lock"
_HELD_NAME = "lock.held"
_BUSY = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class StudyLock:
    """The right to run a study; a context manager.

    `acquire` raises `InputError`, naming host and pid, if a live driver holds it. Another `StudyLock` of the same
    process is another holder.
    """

    def __init__(self, study_dir: str | Path) -> None:
        self.study_dir = Path(study_dir)
        self._fd = -1
        self._held_file: Path | None = None

    def acquire(self) -> None:
        """Take the lock, making the study folder where missing; returns at once or raises `InputError`."""
        if self._fd >= 0:
            return
        path = self.study_dir / LOCK_NAME
        try:
            self.study_dir.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise InputError(f"{path}: cannot write there: {error.strerror}; choose another results folder") from error
        try:
            outcome = _try_lock(fd, fcntl.LOCK_EX)
            for _ in range(10):
                if outcome != "busy":
                    break
                time.sleep(0.02)  # `is_held` of another process holds a shared lock for a moment
                outcome = _try_lock(fd, fcntl.LOCK_EX)
            if outcome == "busy":
                raise InputError(_refusal(self.study_dir, _read(path)))
            if outcome == "unsupported":
                self._held_file = _take_held_file(self.study_dir)
            os.ftruncate(fd, 0)
            os.pwrite(fd, _identity(), 0)
        except BaseException:
            self._drop_held_file()
            os.close(fd)
            raise
        self._fd = fd

    def release(self) -> None:
        """Give the lock back; releasing twice is harmless."""
        if self._fd < 0:
            return
        # The file itself stays: removing it would let two drivers lock two different files of the same name.
        os.ftruncate(self._fd, 0)
        self._drop_held_file()
        os.close(self._fd)
        self._fd = -1

    def _drop_held_file(self) -> None:
        if self._held_file is not None:
            self._held_file.unlink(missing_ok=True)
            self._held_file = None

    def __enter__(self) -> StudyLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def is_held(study_dir: str | Path) -> bool:
    """Whether a live driver runs this study. Never blocks, writes nothing, works on a read-only folder."""
    folder = Path(study_dir)
    try:
        fd = os.open(folder / LOCK_NAME, os.O_RDONLY)
    except OSError:
        return False
    try:
        outcome = _try_lock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)
    if outcome == "unsupported":
        return _held_file_is_live(folder / _HELD_NAME)
    return outcome == "busy"


def _try_lock(fd: int, kind: int) -> str:
    """One of "locked", "busy" (another holds it) and "unsupported" (the file system has no such locks)."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return "busy"
        if error.errno in _UNSUPPORTED:
            return "unsupported"
        raise
    return "locked"


def _identity() -> bytes:
    holder = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return json.dumps(holder).encode() + b"\n"


def _read(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        holder = json.loads(path.read_bytes())
        if isinstance(holder, dict):
            return holder
    return {}


def _refusal(study_dir: Path, holder: dict[str, Any], advice: str = "") -> str:
    who = f"host {holder.get('host', 'unknown')}, pid {holder.get('pid', 'unknown')}"
    since = f", since {holder['since']}" if "since" in holder else ""
    advice = advice or "wait for it or stop it, or choose another study name"
    return f"{study_dir.name}: a search is running this study ({who}{since}); {advice}"


def _take_held_file(study_dir: Path) -> Path:
    path = study_dir / _HELD_NAME
    for _ in range(2):
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            if _held_file_is_live(path):
                raise InputError(
                    _refusal(study_dir, _read(path), f"if that process is gone for good, remove {path}")
                ) from None
            stale = path.with_name(f"{_HELD_NAME}.{os.getpid()}")
            with contextlib.suppress(FileNotFoundError):  # renamed first: of two claimants only one removes it
                path.rename(stale)
                stale.unlink()
            continue
        with os.fdopen(fd, "wb") as file:
            file.write(_identity())
        return path
    raise InputError(_refusal(study_dir, _read(path)))


def _held_file_is_live(path: Path) -> bool:
    """A holder on another machine counts as live: it cannot be asked."""
    if not path.exists():
        return False
    holder = _read(path)
    if holder.get("host") != socket.gethostname() or not isinstance(holder.get("pid"), int):
        return True
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
