"""The study lock: one driver at a time, never stuck, and looking does not disturb."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from results.store import lock as lock_module
from results.store.lock import StudyLock, holder_of, is_held
from results.store.paths import StudyPaths
from search_spaces.errors import InputError

HOLDER = """
import sys
from results.store.lock import StudyLock
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
    assert (tmp_path / "lock").read_bytes() == b""  # given back: it names nobody


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


class Elsewhere:
    """A driver on another machine, as this one sees it: a lock that flock does not know of, and a heartbeat file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "lock").write_text(
            json.dumps({"host": "elsewhere", "pid": 7, "machine": "elsewhere 1", "token": "theirs"})
        )
        self.beat(0)

    def beat(self, count: int) -> None:
        (self.folder / "lock.beat").write_text(f"theirs {count:012d}\n")
        os.utime(self.folder / "lock.beat", (10**9, 10**9))  # its clock is in 2001

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        over = threading.Event()

        def beat() -> None:
            count = 0
            while not over.wait(0.05):
                count += 1
                self.beat(count)

        thread = threading.Thread(target=beat)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Elsewhere:
    return Elsewhere(tmp_path)


def test_a_driver_elsewhere_holds_while_its_heart_beats(elsewhere: Elsewhere) -> None:
    """flock may not reach another machine: its driver is believed for as long as its heartbeat is seen to change,
    whatever its clock says, and the second driver is told its host and pid.
    """
    line = r"host elsewhere, pid 7, last sign of life \d+ s ago.*--force-unlock"
    with elsewhere.beating(), pytest.raises(InputError, match=line):
        StudyLock(elsewhere.folder, stale=5).acquire()


def test_a_driver_elsewhere_that_died_is_replaced(elsewhere: Elsewhere) -> None:
    """A heartbeat that stands still while it is watched blocks nobody."""
    with StudyLock(elsewhere.folder, stale=0.3):
        assert is_held(elsewhere.folder)


def test_a_fresh_heartbeat_elsewhere_counts_as_held(elsewhere: Elsewhere) -> None:
    """Who only looks does not wait: the heartbeat file's age says whether the driver elsewhere lives."""
    assert not is_held(elsewhere.folder)
    os.utime(elsewhere.folder / "lock.beat")
    holder = holder_of(elsewhere.folder)
    assert holder is not None
    assert (holder.host, holder.pid) == ("elsewhere", 7)


@pytest.mark.parametrize(("silent", "held"), [(10, True), (21, False)])
def test_a_heartbeat_elsewhere_is_fresh_for_twenty_seconds(elsewhere: Elsewhere, silent: float, held: bool) -> None:
    """A driver on another machine counts as running for 20 s after its last sign of life."""
    os.utime(elsewhere.folder / "lock.beat", (time.time() - silent,) * 2)
    assert is_held(elsewhere.folder) is held


def test_force_takes_the_study_of_a_driver_elsewhere_at_once(elsewhere: Elsewhere) -> None:
    """Whoever forces does not watch the other's heartbeat: the study is theirs while it still beats."""
    with elsewhere.beating(), StudyLock(elsewhere.folder, force=True) as lock:
        lock.check()
        assert json.loads((elsewhere.folder / "lock").read_bytes())["host"] == socket.gethostname()


def test_a_driver_that_was_suspended_looks_whether_the_study_is_still_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check costs nothing for half the time after which a heartbeat is stale; after that the lock is looked at."""
    now = 1000.0
    monkeypatch.setattr(lock_module, "_awake_or_asleep", lambda: now)
    monkeypatch.setattr(lock_module, "BEAT_SECONDS", 1000.0)  # what a suspended process does not do
    first = StudyLock(tmp_path, stale=20)
    first.acquire()
    with StudyLock(tmp_path, force=True):
        now += 10
        first.check()
        now += 1
        with pytest.raises(InputError, match="another driver took over"):
            first.check()
    first.release()


def test_a_driver_notices_at_its_next_heartbeat_that_its_study_was_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait: Callable[..., None]
) -> None:
    """Long before its own heartbeat would be stale."""
    monkeypatch.setattr(lock_module, "BEAT_SECONDS", 0.01)
    first = StudyLock(tmp_path, stale=10_000)
    first.acquire()

    def refused() -> bool:
        try:
            first.check()
        except InputError as error:
            return "another driver took over" in str(error)
        return False

    with StudyLock(tmp_path, force=True):
        wait(refused, patience=60)
    first.release()


def test_force_takes_the_study_and_the_old_driver_notices(tmp_path: Path) -> None:
    """With force a live driver's study is taken; the old one's next check says so, and it takes nothing away."""
    first = StudyLock(tmp_path, stale=0.0)
    first.acquire()
    first.check()
    with StudyLock(tmp_path, force=True) as second:
        with pytest.raises(InputError, match="another driver took over"):
            first.check()
        first.release()
        second.check()
        assert is_held(tmp_path)
        with pytest.raises(InputError, match="held by"):
            StudyLock(tmp_path).acquire()
    assert not is_held(tmp_path)
    assert not (tmp_path / "lock.beat").exists()


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
            with pytest.raises(InputError, match=f"pid {os.getpid()}"):
                StudyLock(tmp_path).acquire()
            assert is_held(tmp_path)
        assert not is_held(tmp_path)
        with StudyLock(tmp_path):
            pass

    def test_force_takes_it_here_too(self, tmp_path: Path) -> None:
        """With force a live driver's lock.held is taken, and that driver notices."""
        first = StudyLock(tmp_path, stale=0.0)
        first.acquire()
        with StudyLock(tmp_path, force=True) as second:
            with pytest.raises(InputError, match="another driver took over"):
                first.check()
            first.release()
            second.check()
            assert is_held(tmp_path)
        assert not is_held(tmp_path)

    def test_a_driver_that_is_refused_takes_away_nothing(self, tmp_path: Path) -> None:
        """Neither one that held the study before and let it go, nor one that lost it to the driver that has it now."""
        let_go, lost = StudyLock(tmp_path), StudyLock(tmp_path)
        let_go.acquire()
        let_go.release()
        lost.acquire()
        with StudyLock(tmp_path, force=True):
            lost.release()
            for earlier in (let_go, lost):
                with pytest.raises(InputError, match="held by"):
                    earlier.acquire()
                assert is_held(tmp_path)

    def test_a_dead_holder_of_this_machine_is_replaced(self, tmp_path: Path) -> None:
        """A lock.held whose process is gone does not block the study."""
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        (tmp_path / "lock").touch()
        (tmp_path / "lock.held").write_text(json.dumps({"host": socket.gethostname(), "pid": gone.pid}))
        assert not is_held(tmp_path)
        with StudyLock(tmp_path):
            assert is_held(tmp_path)

    def test_a_number_given_to_another_process_does_not_block(self, tmp_path: Path) -> None:
        """A lock.held whose process number belongs to a younger process now is a dead driver's."""
        (tmp_path / "lock").touch()
        held = {"host": socket.gethostname(), "pid": os.getpid(), "born": "1"}
        (tmp_path / "lock.held").write_text(json.dumps(held))
        assert not is_held(tmp_path)
        with StudyLock(tmp_path):
            assert is_held(tmp_path)

    def test_a_driver_elsewhere_is_watched(self, elsewhere: Elsewhere) -> None:
        """Without flock too, a driver on another machine holds the study while its heart beats."""
        (elsewhere.folder / "lock.held").write_bytes((elsewhere.folder / "lock").read_bytes())
        with elsewhere.beating(), pytest.raises(InputError, match="host elsewhere"):
            StudyLock(elsewhere.folder, stale=5).acquire()
        with StudyLock(elsewhere.folder, stale=0.3):
            assert is_held(elsewhere.folder)


def test_a_lock_that_was_taken_over_is_left_to_its_new_holder(tmp_path: Path) -> None:
    """Another host took it by force: on release the file and its heartbeat are the other's, and stay."""
    lock = StudyLock(tmp_path)
    lock.acquire()
    file, beat = StudyPaths(tmp_path).lock, StudyPaths(tmp_path).beat
    other = json.loads(file.read_text()) | {"token": "another", "host": "elsewhere"}
    file.write_text(json.dumps(other))
    beat.write_text("another 000000000007\n")
    lock.release()
    assert json.loads(file.read_text())["token"] == "another"
    assert beat.read_text() == "another 000000000007\n"


def test_releasing_twice_and_beating_leave_no_file_open_and_close_nothing_else(tmp_path: Path) -> None:
    """A driver beats for weeks: each heartbeat closes what it opened, and the standard output stays open."""
    lock = StudyLock(tmp_path)
    lock.acquire()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        lock._beat()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    lock.release()
    lock.release()
    assert lock._fd < 0


def test_a_lock_that_is_taken_again_beats_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait: Callable[..., None]
) -> None:
    """A released lock can be taken again; its heart beats at once and then again and again, as the first time."""
    lock, beat = StudyLock(tmp_path), StudyPaths(tmp_path).beat

    def beats_again() -> None:
        first = beat.read_bytes()
        wait(lambda: beat.read_bytes() != first, patience=20)

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(lock_module, "BEAT_SECONDS", 1000)
            with lock:
                assert beat.exists()
            assert not beat.exists()
        with monkeypatch.context() as patch:
            patch.setattr(lock_module, "BEAT_SECONDS", 0.001)
            with lock:
                beats_again()


def test_release_waits_for_the_heartbeat_that_is_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would come after the release, as that of a study that nobody runs."""
    monkeypatch.setattr(lock_module, "BEAT_SECONDS", 0.001)
    begun, at_once, others = threading.Event(), StudyLock._beat, set(threading.enumerate())

    def beat(lock: StudyLock) -> None:
        if threading.current_thread().name == "study-lock":
            begun.set()
            lock._stop.wait()
            time.sleep(0.02)
        at_once(lock)

    monkeypatch.setattr(StudyLock, "_beat", beat)
    with StudyLock(tmp_path):
        assert begun.wait(60)
    assert "study-lock" not in [thread.name for thread in threading.enumerate() if thread not in others]
    assert not StudyPaths(tmp_path).beat.exists()


@pytest.mark.skipif(not Path("/proc/self/ns/pid").exists(), reason="needs Linux's namespaces of processes")
def test_two_containers_with_one_host_name_are_two_machines() -> None:
    """A pid says nothing across namespaces, so the id of the machine names this process's own."""
    assert str(Path("/proc/self/ns/pid").readlink()) in lock_module._machine()
