"""The study lock: one driver at a time, never stuck, and looking does not disturb."""

from __future__ import annotations

import errno
import fcntl
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from results.lock import StudyLock, is_held
from search_spaces.errors import InputError

HOLDER = """
import sys
from results.lock import StudyLock
StudyLock(sys.argv[1]).acquire()
print("held", flush=True)
sys.stdin.read()
"""


def start_holder(study: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(study)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_second_driver_is_refused_by_name(tmp_path: Path) -> None:
    """While another process holds the study, acquire raises InputError with its host and pid."""
    holder = start_holder(tmp_path / "study")
    try:
        with pytest.raises(InputError, match=f"host {socket.gethostname()}, pid {holder.pid}"):
            StudyLock(tmp_path / "study").acquire()
    finally:
        holder.communicate()


def test_a_killed_driver_leaves_no_lock(tmp_path: Path) -> None:
    """kill -9 of the holder frees the study at once."""
    holder = start_holder(tmp_path)
    assert is_held(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not is_held(tmp_path)
    with StudyLock(tmp_path):
        assert is_held(tmp_path)
    assert not is_held(tmp_path)


def test_looking_does_not_disturb_the_holder(tmp_path: Path) -> None:
    """After many looks the holder still holds, its identity is intact, and a second lock is still refused."""
    with StudyLock(tmp_path):
        before = (tmp_path / "lock").read_bytes()
        assert all(is_held(tmp_path) for _ in range(100))
        assert (tmp_path / "lock").read_bytes() == before
        assert json.loads(before)["host"] == socket.gethostname()
        with pytest.raises(InputError):
            StudyLock(tmp_path).acquire()


def test_acquire_outlasts_a_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that holds the shared lock for a moment does not make a starting driver fail."""
    real, refusals = fcntl.flock, iter([True, True, False])

    def busy_twice(fd: int, kind: int) -> None:
        if next(refusals, False):
            raise OSError(errno.EWOULDBLOCK, "busy")
        real(fd, kind)

    monkeypatch.setattr(fcntl, "flock", busy_twice)
    with StudyLock(tmp_path):
        pass


def test_a_folder_without_a_lock_is_free(tmp_path: Path) -> None:
    """A study that was never run, or a missing folder, is not held, and asking creates nothing."""
    assert not is_held(tmp_path / "missing")
    assert not is_held(tmp_path)
    assert list(tmp_path.iterdir()) == []


class TestWithoutFlock:
    """A file system that refuses flock: the presence of lock.held is the lock."""

    @pytest.fixture(autouse=True)
    def _no_flock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(fd: int, kind: int) -> None:
            raise OSError(errno.ENOLCK, "no locks available")

        monkeypatch.setattr(fcntl, "flock", refuse)

    def test_one_holder_at_a_time(self, tmp_path: Path) -> None:
        """The second driver is refused while the first lives, and admitted after it lets go."""
        with StudyLock(tmp_path):
            assert is_held(tmp_path)
            with pytest.raises(InputError, match=r"lock\.held"):
                StudyLock(tmp_path).acquire()
            assert is_held(tmp_path)
        assert not is_held(tmp_path)
        with StudyLock(tmp_path):
            pass

    def test_a_dead_holder_of_this_machine_is_replaced(self, tmp_path: Path) -> None:
        """A lock.held whose process is gone does not block the study."""
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        (tmp_path / "lock").touch()
        (tmp_path / "lock.held").write_text(json.dumps({"host": socket.gethostname(), "pid": gone.pid}))
        assert not is_held(tmp_path)
        with StudyLock(tmp_path):
            assert is_held(tmp_path)

    def test_a_holder_of_another_machine_is_believed(self, tmp_path: Path) -> None:
        """A lock.held of another host counts as held, and the line says which file to remove if it is gone."""
        (tmp_path / "lock").touch()
        (tmp_path / "lock.held").write_text(json.dumps({"host": "elsewhere", "pid": 1}))
        assert is_held(tmp_path)
        with pytest.raises(InputError, match=r"host elsewhere, pid 1.*remove .*lock\.held"):
            StudyLock(tmp_path).acquire()
