"""What a search does while its results disk is full, read-only or away: it waits, and nothing is lost."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # benchmarks/ is beside the packages, not one of them

from benchmarks.damage import take_every_byte
from results.store.events import EventLog, read_events
from results.store.lock import StudyLock
from search_spaces import InputError
from tuner.study import faults
from tuner.study.faults import PatientLog, Unwritable


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if made.returncode != 0:
        pytest.skip("mounting a file system is not allowed here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Take every byte that is left."""
    with (disk / "filler").open("wb", buffering=0) as file:
        take_every_byte(file)
    return disk / "filler"


def test_the_log_waits_for_a_full_disk_and_goes_on(small_disk):
    """While the results disk is full the search waits and says so once; with room again it goes on, nothing lost."""
    said = []
    told = threading.Event()

    def say(line):
        said.append(line)
        told.set()

    log = PatientLog(EventLog(small_disk / "s" / "events.jsonl"), say=say)
    log.append("study_started", text="x" * 100)
    filler = fill(small_disk)
    size = (small_disk / "s" / "events.jsonl").stat().st_size
    writer = threading.Thread(target=log.append, args=("epoch",), kwargs={"text": "y" * 5000})
    writer.start()
    assert told.wait(600)
    assert (small_disk / "s" / "events.jsonl").stat().st_size == size  # no half line
    filler.unlink()
    writer.join(600)
    events, problems = read_events(small_disk / "s" / "events.jsonl")
    assert [e["event"] for e in events] == ["study_started", "epoch"]
    assert not problems
    assert "waiting" in said[0] and "press Ctrl-C to leave" in said[0]
    assert "the search continues" in said[1]


def test_ctrl_c_leaves_a_full_disk_as_a_failed_job(small_disk):
    """Who is asked to hurry does not wait: the error has exit status 1, the log is whole, and the lock still beats."""
    with StudyLock(small_disk / "s") as lock:
        log = PatientLog(EventLog(small_disk / "s" / "events.jsonl"), lock, say=lambda line: log.hurry.set())
        log.append("study_started")
        fill(small_disk)
        with pytest.raises(Unwritable, match="make room, then resume") as error:
            log.append("epoch", text="y" * 5000)
        with pytest.raises(Unwritable):
            log.append("epoch", text="y" * 5000)
        assert error.value.exit_status == 1
        lock._beat()
        lock.check()
    assert [e["event"] for e in read_events(small_disk / "s" / "events.jsonl")[0]] == ["study_started"]


def test_a_driver_whose_study_was_taken_writes_nothing_more(tmp_path):
    """After --force-unlock elsewhere the old driver's next event is refused, so the log has one writer."""
    first = StudyLock(tmp_path, stale=0.0)
    first.acquire()
    log = PatientLog(EventLog(tmp_path / "events.jsonl"), first)
    log.append("study_started")
    with StudyLock(tmp_path, force=True):
        time.sleep(0.01)
        with pytest.raises(InputError, match="another driver took over"):
            log.append("epoch")
    first.release()
    assert len(read_events(tmp_path / "events.jsonl")[0]) == 1


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
def test_the_log_waits_for_rights_to_write(number, tmp_path, monkeypatch):
    """A file server that refuses for a while is waited for like a full disk; the event is there once."""
    said, left, real = [], [2], os.write
    inner = EventLog(tmp_path / "events.jsonl")
    log = PatientLog(inner, say=said.append)
    monkeypatch.setattr(log.hurry, "wait", lambda seconds: False)

    def write(fd, data):
        if fd == inner._fd and left[0]:
            left[0] -= 1
            raise OSError(number, os.strerror(number))
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    log.append("epoch", epoch=1)
    assert len(said) == 2 and os.strerror(number) in said[0] and "continues" in said[1]
    assert [event["event"] for event in read_events(tmp_path / "events.jsonl")[0]] == ["epoch"]


@pytest.mark.parametrize("how", ["deleted", "moved", "made anew"])
def test_a_folder_that_is_gone_is_named(how, tmp_path):
    """A deleted file takes events like any other, and nobody would ever see them: the search ends, and says why."""
    folder = tmp_path / "s"
    log = PatientLog(EventLog(folder / "events.jsonl"))
    log.append("epoch", epoch=1)
    if how == "deleted":
        shutil.rmtree(folder)
    else:
        folder.rename(tmp_path / "t")
    if how == "made anew":
        EventLog(folder / "events.jsonl").close()
    with pytest.raises(Unwritable, match="was deleted or moved while its search ran; put it back and resume"):
        log.append("epoch", epoch=2)


class Refusing:
    """An event log on a disk that refuses so many times, for a reason; then it writes."""

    def __init__(self, folder, why, times):
        self.path, self.problems, self.left, self.why = folder / "events.jsonl", [], times, why
        self.written = []

    def is_there(self):
        return True

    def append(self, event, **fields):
        if self.left:
            self.left -= 1
            raise InputError(f"{self.path}: {self.why}") from self.why
        self.written.append(event)
        return {"event": event, **fields}


@pytest.fixture
def waiting(tmp_path, monkeypatch):
    """`waiting(why, times, patience)`: a patient log whose every wait takes 10 s of a clock of the test's own, the log
    below it, and the lines that it said.
    """
    now = [1000.0]

    def monotonic():
        now[0] += 0.001
        return now[0]

    monkeypatch.setattr(faults, "time", SimpleNamespace(monotonic=monotonic))

    def make(why, times, patience=1800.0):
        inner, said = Refusing(tmp_path, why, times), []
        log = PatientLog(inner, patience=patience, say=said.append)

        def wait(seconds):
            now[0] += 10.0

        monkeypatch.setattr(log.hurry, "wait", wait)
        return log, inner, said

    return make


@pytest.mark.parametrize("why", [None, ValueError("no JSON"), OSError(errno.EINVAL, "Invalid argument")], ids=str)
def test_what_will_not_pass_is_not_waited_for(why, waiting):
    """An event that cannot be written at all, or a disk error that never goes away, is an error at once, and not one
    of the disk.
    """
    log, inner, said = waiting(why, 1)
    with pytest.raises(InputError) as error:
        log.append("epoch")
    assert not isinstance(error.value, Unwritable)
    assert (inner.left, inner.written, said) == (0, [], [])


def test_the_wait_has_an_end_and_comes_once(waiting):
    """A disk that is full for longer than the patience of 30 s: told once, tried for 30 s, then a failed job; what is
    written after that, as the driver leaves, is tried once more and not waited for.
    """
    log, inner, said = waiting(OSError(errno.ENOSPC, "No space left on device"), 100, patience=30.0)
    with pytest.raises(Unwritable):
        log.append("epoch")
    assert 100 - inner.left == 4  # after 0, 10, 20 and 30 s
    (line,) = said
    assert "No space left on device: waiting up to 0 minutes" in line
    with pytest.raises(Unwritable):
        log.append("study_ended")
    assert 100 - inner.left == 5
    assert inner.written == []


def test_each_wait_says_how_long_it_was(waiting):
    """Two times full, two minutes allowed: each is told when it begins and when it ends, with its own seconds."""
    log, inner, said = waiting(OSError(errno.ENOSPC, "No space left on device"), 2, patience=120.0)
    assert log.append("epoch", epoch=1) == {"event": "epoch", "epoch": 1}
    inner.left = 1
    log.append("epoch", epoch=2)
    assert inner.written == ["epoch", "epoch"]
    assert ["waiting up to 2 minutes" in line for line in said] == [True, False, True, False]
    assert said[1] == "results disk: written again after 20 s, the search continues"
    assert said[3] == "results disk: written again after 10 s, the search continues"
