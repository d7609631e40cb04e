"""The event log: what is acknowledged is there, whatever happened to the writer."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.store.events import EventLog, read_events, scan_events
from results.store.replay import build
from search_spaces.errors import InputError

WRITER = """
import sys
from results.store.events import EventLog
log = EventLog(sys.argv[1])
number = log.last_seq
while True:
    event = log.append("epoch", trial=number, text="x" * (number * 37 % 5000))
    sys.stdout.write(f"{event['seq']}\\n")
    sys.stdout.flush()
    number += 1
"""


def write(path: Path, n: int) -> bytes:
    with EventLog(path) as log:
        for trial in range(n):
            log.append("trial_started", trial=trial)
    return path.read_bytes()


def test_append_returns_what_is_read_back(tmp_path: Path) -> None:
    """An appended event is read back as `append` returned it, numbered from 1 and timed."""
    path = tmp_path / "study" / "events.jsonl"
    with EventLog(path) as log:
        written = [log.append("study_started", study="a", seed=3), log.append("epoch", trial=0, per=0.5)]
    read, problems = read_events(path)
    assert read == written
    assert problems == []
    assert [event["seq"] for event in read] == [1, 2]
    assert all(event["time"] > 1e9 for event in read)


def test_values_become_json(tmp_path: Path) -> None:
    """Non-finite floats become null at any depth; numpy scalars and arrays, tuples and paths become JSON."""
    with EventLog(tmp_path / "events.jsonl") as log:
        event = log.append(
            "epoch",
            nan=math.nan,
            numpy_nan=np.float32("nan"),
            single=np.float32(0.5),
            double=np.float64("-inf"),
            count=np.int64(7),
            flag=np.bool_(True),
            array=np.array([1.0, np.nan]),
            pair=(1, {"deep": [math.inf]}),
            path=Path("a/b"),
        )
    assert event["nan"] is event["numpy_nan"] is event["double"] is None
    assert (event["single"], event["count"], event["flag"]) == (0.5, 7, True)
    assert (event["array"], event["pair"], event["path"]) == ([1.0, None], [1, {"deep": [None]}], "a/b")


def test_a_value_json_cannot_hold_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    """A value that is no JSON type raises TypeError, and neither the file nor the numbering moves."""
    with EventLog(tmp_path / "events.jsonl") as log:
        with pytest.raises(TypeError, match="object"):
            log.append("epoch", value=object())
        assert log.append("epoch")["seq"] == 1
    assert read_events(tmp_path / "events.jsonl")[1] == []


@given(text=st.text())
@settings(max_examples=50, deadline=None)
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Any text, newlines and control characters included, comes back as it was, on one line."""
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    with EventLog(path) as log:
        log.append("trial_ended", error=text)
    assert read_events(path)[0][0]["error"] == text
    assert path.read_bytes().count(b"\n") == 1


def test_every_cut_of_the_last_line_is_survived(tmp_path: Path) -> None:
    """However many bytes of the last line reached the disk, the others are read and the next append is whole."""
    path = tmp_path / "events.jsonl"
    data = write(path, 3)
    second_end = data.index(b"\n", data.index(b"\n") + 1) + 1
    for cut in range(second_end + 1, len(data)):
        path.write_bytes(data[:cut])
        whole = cut == len(data) - 1  # only the newline is missing: the event itself is complete
        read, problems = read_events(path)
        assert len(read) == (3 if whole else 2)
        assert len(problems) == (0 if whole else 1)
        with EventLog(path) as log:
            assert len(log.problems) == len(problems)
            log.append("study_ended")
        read, problems = read_events(path)
        assert [event["seq"] for event in read] == list(range(1, len(read) + 1))
        assert len(read) == (4 if whole else 3)
        assert problems == []


def test_a_last_line_with_a_damaged_end_is_kept(tmp_path: Path) -> None:
    """The event itself is complete, whatever its newline became: it is kept, and no problem."""
    path = tmp_path / "events.jsonl"
    data = write(path, 3)
    for end in (b"", b"\x0b", b"\x00", b"\x00\xff"):
        path.write_bytes(data[:-1] + end)
        with EventLog(path) as log:
            assert (log.last_seq, log.problems) == (3, [])
        assert path.read_bytes() == data


def test_what_is_repaired_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A last line that is completed or cut off is so on the disk before the next event is written."""
    path, real, sizes = tmp_path / "events.jsonl", os.fsync, []
    data = write(path, 2)

    def sync(fd: int) -> None:
        sizes.append(os.fstat(fd).st_size)
        real(fd)

    monkeypatch.setattr(os, "fsync", sync)
    for cut, left in ((1, len(data)), (2, data.index(b"\n") + 1)):
        path.write_bytes(data[:-cut])
        EventLog(path).close()
        assert sizes.pop() == path.stat().st_size == left


def test_a_log_can_be_read_by_others_and_written_by_its_owner(tmp_path: Path) -> None:
    """As any file that a program makes: what the umask takes away is the user's choice."""
    before = os.umask(0)
    try:
        write(tmp_path / "events.jsonl", 1)
    finally:
        os.umask(before)
    assert (tmp_path / "events.jsonl").stat().st_mode & 0o777 == 0o644


def test_a_part_of_a_log_has_its_whole_lines(tmp_path: Path) -> None:
    """Of a snapshot that ends anywhere the whole lines are read, and one that is cut is a problem."""
    path = tmp_path / "events.jsonl"
    data = write(path, 3)
    for size in range(1, len(data) + 1):
        problems: list[str] = []
        read = list(scan_events(path, problems, size))
        ends = [n for n in range(1, size + 1) if data[n - 1 : n] == b"\n"]
        cut = size - (ends[-1] if ends else 0)
        complete = data[size : size + 1] == b"\n"  # but for its newline
        assert len(read) == len(ends) + complete
        assert len(problems) == (1 if cut and not complete else 0), size


def test_a_last_line_longer_than_the_read_window(tmp_path: Path) -> None:
    """A whole or a torn last line of megabytes does not hide the events before it from the numbering."""
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        log.append("epoch")
        log.append("study_started", space="x" * 1_000_000)
    data = path.read_bytes()
    with EventLog(path) as log:
        assert log.last_seq == 2
    path.write_bytes(data[:-10])
    with EventLog(path) as log:
        assert log.last_seq == 1
        assert len(log.problems) == 1
    assert len(read_events(path)[0]) == 1


@pytest.mark.parametrize("junk", [b"\x00\x00\x00", b"{not json", b"[1, 2]", b'{"event": "epoch"}', b"\xff\xfe"])
def test_a_corrupt_middle_line_is_skipped_and_named(tmp_path: Path, junk: bytes) -> None:
    """A damaged line costs itself only; its number and the missing event are reported."""
    path = tmp_path / "events.jsonl"
    lines = write(path, 3).splitlines()
    path.write_bytes(b"\n".join([lines[0], junk, lines[2], b""]))
    read, problems = read_events(path)
    assert [event["trial"] for event in read] == [0, 2]
    assert "line 2" in problems[0]
    assert "event 2 was expected, found 3" in problems[1]
    with EventLog(path) as log:
        assert log.append("study_ended")["seq"] == 4


def test_a_missing_log_is_one_line(tmp_path: Path) -> None:
    """Reading a folder without a log raises InputError with a line that says what to give."""
    with pytest.raises(InputError, match="no event log"):
        read_events(tmp_path / "events.jsonl")


def test_an_unwritable_place_is_one_line(tmp_path: Path) -> None:
    """A path that cannot be a file raises InputError."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write there"):
        EventLog(tmp_path / "file" / "events.jsonl")


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    """When the file can grow no further, append raises InputError and keeps the log; with room it goes on."""
    path = tmp_path / "events.jsonl"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with EventLog(path) as log:
        log.append("epoch", trial=0)
        size = path.stat().st_size
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, hard))
            for _ in range(2):
                with pytest.raises(InputError, match=r"could not be written: the (disk is full|file has reached)"):
                    log.append("epoch", trial=1, text="x" * 200)
                assert path.stat().st_size == size
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert log.append("epoch", trial=1)["seq"] == 2
    read, problems = read_events(path)
    assert [event["trial"] for event in read] == [0, 1]
    assert problems == []


def test_what_a_disk_that_was_away_has_of_a_line_goes_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails amid a line and does not even let it be cut off; when it is back, the next event comes after a
    whole one.
    """
    path = tmp_path / "events.jsonl"
    real = os.write

    def half(fd: int, data: bytes) -> int:
        return real(fd, data[: len(data) // 2])

    def away(fd: int, size: int) -> None:
        raise OSError(5, "Input/output error")

    with EventLog(path) as log:
        log.append("epoch", trial=0)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", half)
            patch.setattr(os, "ftruncate", away)
            with pytest.raises(InputError, match="could not be written"):
                log.append("epoch", trial=1)
        assert not path.read_bytes().endswith(b"\n")
        assert log.append("epoch", trial=2)["seq"] == 2
    read, problems = read_events(path)
    assert [event["trial"] for event in read] == [0, 2]
    assert problems == []


def test_a_gap_in_the_numbers_is_said_once(tmp_path: Path) -> None:
    """Event 2 of 5 is missing: one problem, at its line; the events after it are as they should be."""
    path = tmp_path / "events.jsonl"
    lines = write(path, 5).splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:1] + lines[2:]))
    read, problems = read_events(path)
    assert [event["seq"] for event in read] == [1, 3, 4, 5]
    assert ["line 2: event 2 was expected, found 3" in problem for problem in problems if "expected" in problem] == [
        True
    ]


def test_append_syncs_the_file_before_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each append makes one write of one whole line and one fsync after it."""
    calls: list[tuple[str, bytes]] = []
    real_write, real_sync = os.write, os.fsync

    def write(fd: int, data: bytes) -> int:
        calls.append(("write", data))
        return real_write(fd, data)

    def sync(fd: int) -> None:
        calls.append(("sync", b""))
        real_sync(fd)

    with EventLog(tmp_path / "events.jsonl") as log, monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        patch.setattr(os, "fsync", sync)
        log.append("epoch", trial=1)
    assert [kind for kind, _ in calls] == ["write", "sync"]
    assert calls[0][1].endswith(b"\n")
    assert json.loads(calls[0][1])["trial"] == 1


def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    """After kill -9 amid appends, five times on one log, every acknowledged event is there, once and in order."""
    path = tmp_path / "events.jsonl"
    acknowledged = 0
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(40):
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read()
        writer.wait()
        whole = rest[: rest.rfind("\n") + 1].split()
        acknowledged = int(whole[-1]) if whole else acknowledged
        seqs = [event["seq"] for event in read_events(path)[0]]
        assert seqs == list(range(1, len(seqs) + 1))
        assert len(seqs) >= acknowledged


def test_the_clock_may_be_set_back(tmp_path, monkeypatch):
    """A clock that jumps an hour back under a driver: no event is before the one above it, seconds still pass, and no
    trial ends before it started. What the driver slept is in `time` and not in `elapsed`.
    """
    clock = {"time": 1000.0, "monotonic": 50.0}
    monkeypatch.setattr("results.store.events.time", SimpleNamespace(**{key: lambda k=key: clock[k] for key in clock}))
    with EventLog(tmp_path / "events.jsonl") as log:
        log.append("study_started", study="s")
        log.append("trial_started", trial=0, attempt=1)
        clock.update(time=1000.0 - 3600, monotonic=60.0)
        log.append("trial_ended", trial=0, attempt=1, status="completed")
        clock.update(time=2000.0, monotonic=160.0)
        log.slept(100.0)
        log.append("study_ended", reason="budget")
    events, _ = read_events(tmp_path / "events.jsonl")
    assert [(e["time"], e["elapsed"]) for e in events] == [(1000, 0), (1000, 0), (1010, 10), (2000, 10)]


def test_an_old_log_whose_clock_was_set_back_has_no_end_before_its_start():
    """The tables of such a log say that the trial, and the study, ended when they started."""
    events = [
        {"event": "study_started", "seq": 1, "time": 1000.0, "study": "s"},
        {"event": "trial_started", "seq": 2, "time": 1000.0, "trial": 0, "attempt": 1},
        {"event": "trial_ended", "seq": 3, "time": 10.0, "trial": 0, "attempt": 1, "status": "completed"},
        {"event": "study_ended", "seq": 4, "time": 11.0, "reason": "budget"},
    ]
    tables = build(events, running=False)
    trial, study = tables["trials"].to_pylist()[0], tables["studies"].to_pylist()[0]
    assert trial["ended"] == trial["started"]
    assert study["ended"] == study["created"]


def test_the_time_of_an_event_is_in_milliseconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`elapsed` has three digits: a log of a million epochs is not made longer by digits that mean nothing."""
    now = [10.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with EventLog(tmp_path / "events.jsonl") as log:
        now[0] += 1.23456
        assert log.append("a")["elapsed"] == 1.235
