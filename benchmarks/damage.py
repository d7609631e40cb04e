"""What `benchmarks/chaos.py` does to a search: each kind of damage, and the small tools for it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from results.store.paths import StudyPaths
from trainable.data.intact import WHAT_NOW

LIMIT = 300.0
"""Seconds that any one search may take."""
DISK_MB = 24
SLEEP = 12.0
"""Seconds of SIGSTOP: a driver that is awake looks at its trials far more often than every ten."""


def damage(kind: str, study: Path, process: subprocess.Popen[str], rng: random.Random, **more: Any) -> str:
    """Do the round's damage to a search; returns what was done. AssertionError where the search does not take it right.

    `more`: `pid` of the process that trains, `data` folder of this round, `said` (what the search has printed so far),
    and for a node `end_node`, which kills the node above a process.
    """
    if kind in ("driver-kill", "torn-log", "short-log", "checkpoint"):
        process.kill()
        process.wait()
    return _KINDS[kind](study=study, process=process, rng=rng, **more)


def _driver_kill(**_: Any) -> str:
    return "SIGKILL"


def _driver_term(process: subprocess.Popen[str], **_: Any) -> str:
    began = time.monotonic()
    process.terminate()
    process.wait(LIMIT)
    return f"left in {time.monotonic() - began:.1f} s"


def _suspend(process: subprocess.Popen[str], said: Any, **_: Any) -> str:
    process.send_signal(signal.SIGSTOP)
    time.sleep(SLEEP)
    process.send_signal(signal.SIGCONT)
    process.wait(LIMIT)
    assert process.returncode != 0 or "did not run for" in said(), "the sleep was not told"
    return f"SIGSTOP for {SLEEP:.0f} s"


def _torn_log(study: Path, rng: random.Random, **_: Any) -> str:
    half = StudyPaths(study).log.read_bytes().splitlines(keepends=True)[-1]
    with StudyPaths(study).log.open("ab") as log:
        log.write(half[: rng.randrange(1, len(half))])
    return "half a line"


def _short_log(study: Path, rng: random.Random, **_: Any) -> str:
    log = StudyPaths(study).log
    lines = log.read_bytes().splitlines(keepends=True)
    left = rng.randrange(1, len(lines))
    os.truncate(log, sum(map(len, lines[:left])) + rng.randrange(2) * rng.randrange(len(lines[left])))
    return f"{left} of {len(lines)} lines left"


def _swap_data(data: Path, process: subprocess.Popen[str], said: Any, **_: Any) -> str:
    features = data / "features.npy"
    kept = features.read_bytes()
    other = np.load(features)[::-1]
    np.save(data / "other.npy", other)
    (data / "other.npy").replace(features)
    status = process.wait(LIMIT)
    features.write_bytes(kept)
    if status == 0:
        return "the last epoch was on its way"
    assert status == 1 and WHAT_NOW in said(), f"other data were not told: status {status}"
    return "told"


def _parquet(study: Path, process: subprocess.Popen[str], rng: random.Random, **_: Any) -> str:
    _driver_term(process)
    return ", ".join(spoil(path, rng) for path in sorted(study.glob("*.parquet")))


def _checkpoint(study: Path, pid: int, rng: random.Random, **_: Any) -> str:
    trainers = [psutil.Process(pid)] if psutil.pid_exists(pid) else []
    psutil.wait_procs(trainers, timeout=60)  # they outlive their driver by an epoch, and would write a whole one
    newest = max(study.glob("checkpoints/*/last.pt"), key=lambda path: path.stat().st_mtime, default=None)
    return spoil(newest, rng) if newest else "there was none"


def _worker_kill(pid: int, **_: Any) -> str:
    return "SIGKILL" if kill(pid) else "it had just ended"


def _node(pid: int, end_node: Any, **_: Any) -> str:
    return f"node {end_node(pid)}"


def _full_disk(study: Path, process: subprocess.Popen[str], rng: random.Random, **_: Any) -> str:
    return fill(study.parents[0], rng.uniform(2.0, 5.0), process)


_KINDS = {
    "driver-kill": _driver_kill,
    "driver-term": _driver_term,
    "suspend": _suspend,
    "torn-log": _torn_log,
    "short-log": _short_log,
    "swap-data": _swap_data,
    "parquet": _parquet,
    "checkpoint": _checkpoint,
    "worker-kill": _worker_kill,
    "node": _node,
    "full-disk": _full_disk,
}


def kill(pid: int) -> bool:
    """SIGKILL; False if there is no such process any more."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def spoil(path: Path, rng: random.Random) -> str:
    """Cut a file short, or overwrite some of it."""
    size = path.stat().st_size
    if rng.random() < 0.5:
        os.truncate(path, rng.randrange(size))
        return f"{path.name} cut short"
    with path.open("r+b") as file:
        file.seek(rng.randrange(max(1, size - 64)))
        file.write(rng.randbytes(64))
    return f"{path.name} overwritten"


def fill(disk: Path, seconds: float, process: subprocess.Popen[str]) -> str:
    """Fill a file system to its last byte for some seconds, or until the driver has left."""
    filler = disk / "filler"
    end = time.monotonic() + seconds
    with filler.open("wb", buffering=0) as file:
        while time.monotonic() < end and process.poll() is None:
            take_every_byte(file)
            time.sleep(0.05)
    filler.unlink()
    return f"full for {seconds:.1f} s"


def take_every_byte(file: FileIO) -> None:
    """Write to an unbuffered file until its disk takes nothing more."""
    for size in (1 << 16, 1 << 10, 1):
        with contextlib.suppress(OSError):
            while file.write(b"x" * size) == size:
                pass


def mount(folder: Path) -> bool:
    """A small file system of its own; False where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    return made.returncode == 0
