"""One driver per study: an advisory lock on `<study>/lock`, with a heartbeat beside it.

The lock is the kernel's (`flock`), so it disappears with the process however that ends; the text of the file (host,
pid, since) names the holder. Not every shared file system passes `flock` on to other machines, so a free kernel lock
proves only that no process of this machine holds it. A holder on another machine is alive as long as its heartbeat, a
counter in `<study>/lock.beat`, changes while it is watched; clocks are not compared. Where there is no `flock` at all,
`<study>/lock.held`, made exclusively, is the lock, and its holder is judged in the same two ways.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from results.store.paths import StudyPaths
from search_spaces.common.processes import is_alive
from search_spaces.errors import InputError

BEAT_SECONDS = 2.0
"""How often a driver gives a sign of life."""
STALE_SECONDS = 20.0
"""Seconds after which a driver on another machine counts as dead, if its heartbeat does not change."""
_BUSY = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@dataclass(frozen=True)
class Holder:
    """Who runs a study."""

    host: str
    pid: int | None
    since: str | None
    """ISO time, by that host's clock."""
    silent: float | None
    """Seconds since its last sign of life, by the clocks of the file's host and this one: only for display."""

    def __str__(self) -> str:
        seen = "" if self.silent is None else f", last sign of life {self.silent:.0f} s ago"
        since = f", since {self.since}" if self.since else ""
        return f"host {self.host}, pid {'unknown' if self.pid is None else self.pid}{since}{seen}"


class StudyLock:
    """The right to run a study; a context manager.

    `acquire` raises `InputError`, naming host, pid and last sign of life, if a live driver holds it; it watches one on
    another machine for up to `stale` seconds. With `force` it removes the lock of any holder: that driver
    notices it at its next heartbeat or event (`check`) and stops. Another `StudyLock` of the same process is another
    holder.
    """

    def __init__(self, study_dir: str | Path, *, force: bool = False, stale: float = STALE_SECONDS) -> None:
        self.study_dir = Path(study_dir)
        self._paths = StudyPaths(self.study_dir)
        self._force, self._stale = force, stale
        self._fd = -1
        self._held_file: Path | None = None
        self._token = ""
        self._beats = 0
        self._last_beat = 0.0
        self._lost = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Take the lock, making the study folder where missing; or raise `InputError`."""
        if self._fd >= 0:
            return
        path = self._paths.lock
        try:
            self.study_dir.mkdir(parents=True, exist_ok=True)
            if self._force:
                for old in (path, self._paths.held, self._paths.beat):  # the holder keeps an open file without a name
                    old.unlink(missing_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise InputError(f"{path}: cannot write there: {error.strerror}; choose another results folder") from error
        self._held_file = None  # that of an earlier turn may be another driver's by now
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
                self._held_file = _take_held_file(self.study_dir, self._stale)
            elif (before := _read(path)) and not _is_here(before) and _is_seen_beating(self.study_dir, self._stale):
                raise InputError(_refusal(self.study_dir, before))
            self._token = uuid.uuid4().hex
            try:
                _rewrite(fd, _identity(self._token))
            except OSError as error:
                raise InputError(f"{path}: cannot write there: {error.strerror}; make room") from error
        except BaseException:
            self._drop_held_file()
            os.close(fd)
            raise
        self._fd, self._lost = fd, False
        self._beat()
        self._stop.clear()
        self._thread = threading.Thread(target=self._keep_beating, name="study-lock", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Release the lock; releasing twice is harmless, and a lock that another driver took is not changed."""
        if self._fd < 0:
            return
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if not self._lost and self._is_ours() is not False:
            with contextlib.suppress(OSError):
                self._paths.beat.unlink(missing_ok=True)
                # The file itself stays: removing it would let two drivers lock two different files of the same name.
                os.ftruncate(self._fd, 0)
            self._drop_held_file()
        os.close(self._fd)
        self._fd = -1

    def check(self) -> None:
        """Raise `InputError` if another driver has taken the study (by force, or while this one was suspended).

        Costs nothing while the heartbeat is fresh; call it before each event is written.
        """
        if not self._lost and _awake_or_asleep() - self._last_beat > self._stale / 2:
            self._lost = self._is_ours() is False
        if self._lost:
            holder = _holder(self.study_dir, _read(self._paths.lock))
            raise InputError(
                f"{self.study_dir.name}: another driver took over this study ({holder}); this driver stops"
            )

    def _is_ours(self) -> bool | None:
        """Whether the lock file is still the one this driver wrote; None where the file system does not answer."""
        try:
            found = json.loads(self._paths.lock.read_bytes())
        except FileNotFoundError:
            return False
        except (OSError, ValueError):
            return None  # a disk that is unavailable for a while does not release a lock
        return isinstance(found, dict) and found.get("token") == self._token

    def _keep_beating(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            if self._is_ours() is False:
                self._lost = True
                return
            self._beat()

    def _beat(self) -> None:
        self._beats += 1
        with contextlib.suppress(OSError):
            # Opened and closed each time: only then does a network file system show it to others. In place
            # and of one length: a full disk has room for it.
            fd = os.open(self._paths.beat, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.pwrite(fd, f"{self._token} {self._beats:012d}\n".encode(), 0)
            finally:
                os.close(fd)
            self._last_beat = _awake_or_asleep()

    def _drop_held_file(self) -> None:
        if self._held_file is not None:
            self._held_file.unlink(missing_ok=True)

    def __enter__(self) -> StudyLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def is_held(study_dir: str | Path) -> bool:
    """Whether a live driver runs this study. Never blocks, writes nothing, works on a read-only folder.

    For a driver on another machine it only checks whether the file of its heartbeat is recent.
    """
    return holder_of(study_dir) is not None


def holder_of(study_dir: str | Path) -> Holder | None:
    """The driver that runs this study, without waiting; None if there is none."""
    paths = StudyPaths(Path(study_dir))
    try:
        fd = os.open(paths.lock, os.O_RDONLY)
    except OSError:
        return None
    try:
        outcome = _try_lock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)
    found = _read(paths.held if outcome == "unsupported" else paths.lock)
    holder = _holder(paths.folder, found)
    if outcome == "busy":
        return holder
    if outcome == "unsupported" and not paths.held.exists():
        return None
    if not found or _is_here(found):
        alive = outcome == "unsupported" and (not found or _process_lives(found))
    else:
        alive = holder.silent is not None and holder.silent < STALE_SECONDS
    return holder if alive else None


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


def _identity(token: str) -> bytes:
    holder = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "token": token,
        "machine": _machine(),
        "born": _born(os.getpid()),
    }
    return json.dumps(holder).encode() + b"\n"


def _rewrite(fd: int, text: bytes) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, text, 0)
    os.fsync(fd)


def _machine() -> str:
    """The id of this boot of the machine, and of its pid namespace: containers may share a host name."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _born(pid: int) -> str | None:
    """When a process began, in the kernel's ticks: distinguishes it from a later one with the same number."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    return None


def _read(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        holder = json.loads(path.read_bytes())
        if isinstance(holder, dict):
            return holder
    return {}


def _is_here(holder: dict[str, Any]) -> bool:
    """Whether the holder is, or was, a process of this machine, so that the kernel can be asked."""
    if "machine" in holder:
        return bool(holder["machine"] == _machine())
    return bool(holder.get("host") == socket.gethostname())


def _process_lives(holder: dict[str, Any]) -> bool:
    pid = holder.get("pid")
    if not isinstance(pid, int):
        return True
    return is_alive(pid) and holder.get("born") in (None, _born(pid))


def _is_seen_beating(study_dir: Path, stale: float) -> bool:
    """Whether the heartbeat changes within `stale` seconds of watching; False at once where there is none."""

    def beat() -> bytes | None:
        try:
            return StudyPaths(study_dir).beat.read_bytes()
        except OSError:
            return None

    first, end = beat(), time.monotonic() + stale
    if first is None:
        return False
    while time.monotonic() < end:
        time.sleep(min(0.25, stale / 10))
        now = beat()
        if now is None:
            return False  # released while it was watched
        if now != first:
            return True
    return False


def _awake_or_asleep() -> float:
    """Seconds of a clock that never goes backwards and continues while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _holder(study_dir: Path, found: dict[str, Any]) -> Holder:
    silent = None
    with contextlib.suppress(OSError):
        silent = max(0.0, time.time() - StudyPaths(study_dir).beat.stat().st_mtime)
    pid = found.get("pid")
    return Holder(str(found.get("host", "unknown")), pid if isinstance(pid, int) else None, found.get("since"), silent)


def _refusal(study_dir: Path, found: dict[str, Any]) -> str:
    return (
        f"{study_dir.name}: a search is running this study, held by {_holder(study_dir, found)}; wait for it or stop "
        "it, or choose another study name; if that driver has died, add --force-unlock"
    )


def _take_held_file(study_dir: Path, stale: float) -> Path:
    path = StudyPaths(study_dir).held
    for _ in range(2):
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            found = _read(path)
            alive = _process_lives(found) if _is_here(found) else _is_seen_beating(study_dir, stale)
            if alive:
                raise InputError(_refusal(study_dir, found)) from None
            gone = path.with_name(f"{path.name}.{os.getpid()}")
            with contextlib.suppress(FileNotFoundError):  # renamed first: of two claimants only one removes it
                path.rename(gone)
                gone.unlink()
            continue
        with os.fdopen(fd, "wb") as file:
            file.write(_identity(""))
        return path
    raise InputError(_refusal(study_dir, _read(path)))
