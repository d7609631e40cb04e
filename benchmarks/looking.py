"""What a look at a running search costs, and what a search costs its driver beside the training.

    python benchmarks/looking.py                              # 10,000 trials x 100 epochs
    python benchmarks/looking.py --trials 1000 --epochs 20

A study is run by this process as a driver runs it, with random search and trials that train nothing, up to its last
trial, which stays open; only the waiting for the disk is left out. While it holds the lock, `tuner best`, `status`
and `watch --once` are called, each in a process of its own: wall and CPU seconds, the best of `--repeat`. Beside them:
the same without the sealed parts of the log, which is what a look costs where all of it is read.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # as a program, this file's own folder comes first
from benchmarks.orchestration import SPACE
from results.store.lines import content, sealed
from results.store.lock import StudyLock
from results.store.paths import StudyPaths
from search_spaces import load_space
from tuner.callbacks.sealing import Sealing
from tuner.study.settings import StudySettings
from tuner.study.study import Study

COMMANDS = (("best", "long"), ("status", "long"), ("watch", "long", "--once"))


class QuickLog:
    """An event log that does not wait for the disk."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._seq = self._sum = 0
        self._begin = time.time()

    def append(self, event: str, **fields: Any) -> dict[str, Any]:
        """Write one event and return it."""
        self._seq += 1
        now = time.time()
        record = {"event": event, "seq": self._seq, "time": now, "elapsed": round(now - self._begin, 3), **fields}
        text = content(record)
        line, self._sum = sealed(text, self._sum)
        self._file.write(line)
        return dict(json.loads(text + b"}"))

    def slept(self, seconds: float) -> None:
        """Nothing sleeps here."""

    def close(self) -> None:
        """Write no more."""
        self._file.close()


def row(job: Any, epoch: int) -> dict[str, Any]:
    """What a worker would report: a curve that falls to a level of its own."""
    per = 0.15 + abs(job.config.schedule.peak_lr - 0.01) + 0.8 * 0.95**epoch
    return {
        "epoch": epoch, "batch": epoch, "per": per, "per_raw": per, "per_utterance_mean": per, "val_loss": 3 * per,
        "train_loss": per, "lr": 0.1, "schedule_fraction": 1.0, "grad_norm": 1.0, "blank_share": 0.5,
        "infeasible": 0, "seconds": 1.0, "samples_per_second": 100.0, "peak_memory_mb": 1.0, "diverged": False,
        "cpu_seconds": 1.0 * epoch, "gpu_seconds": 0.0, "pid": 1,
    }  # fmt: skip


def driven(folder: Path, trials: int, epochs: int) -> Iterator[dict[str, float]]:
    """Run the study up to the last epoch but one of its last trial; a row at a tenth, at half and at the end."""
    space_file = folder / "long.yaml"
    space_file.write_text(SPACE.replace("EPOCHS", str(epochs)).replace("SEARCHER", "random"))
    space = load_space(space_file)
    settings = {
        "study": "long", "space": space.as_dict(), "data": {"path": "none", "name": "none", "fingerprint": "0"},
        "searcher": space.searcher.model_dump(mode="json"), "stopping": {"kind": "none"}, "objective": "best_per",
        "seed": 0, "budget": {"trials": trials, "hours": None},
        "resources": {"cpus_per_trial": 1, "gpus_per_trial": 0, "concurrent": None},
    }  # fmt: skip
    path = folder / "results" / "long"
    study = Study.create(path, StudySettings.read(settings), [], QuickLog(StudyPaths(path).log))
    study.observers.append(Sealing(study))
    before, since, done = _memory(), time.process_time(), 0
    marks = {max(1, trials // 10), max(2, trials // 2), trials}
    for number in range(1, trials + 1):
        job = study.ask()
        assert job is not None
        for epoch in range(1, epochs + (number < trials)):
            study.report(job.trial, job.attempt, row(job, epoch))
        if number in marks:
            used = time.process_time()
            yield {
                "trials": number,
                "driver_kb_per_trial": (_memory() - before) / number,
                "driver_cpu_us_per_epoch": 1e6 * (used - since) / ((number - done) * epochs),
                "log_mb": StudyPaths(path).log.stat().st_size / 1e6,
            }
            since, done = time.process_time(), number


def timed(folder: Path, command: tuple[str, ...], repeat: int) -> dict[str, float]:
    """Wall and CPU seconds of a command, the lowest of each."""
    walls, cpus = [], []
    for _ in range(repeat):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        begun = time.perf_counter()
        called = [sys.executable, "-m", "tuner", *command, "--results", str(folder / "results")]
        subprocess.run(called, check=True, capture_output=True)
        walls.append(time.perf_counter() - begun)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {"wall_seconds": min(walls), "cpu_seconds": min(cpus)}


def _memory() -> float:
    """Resident memory of this process in KB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--whole", action="store_true", help="also measure without the sealed parts")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []

    def add(**found: Any) -> None:
        rows.append(found)
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in found.items()), flush=True)

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        study = folder / "results" / "long"
        with StudyLock(study):
            for found in driven(folder, given.trials, given.epochs):
                add(**found)
            for command in COMMANDS:
                add(command=" ".join(command), driver="runs", **timed(folder, command, given.repeat))
        for command in COMMANDS[:2]:
            add(command=" ".join(command), driver="killed", **timed(folder, command, given.repeat))
        if given.whole and StudyPaths(study).sealed.is_dir():
            StudyPaths(study).sealed.rename(study / "aside")
            for command in COMMANDS[:2]:
                add(command=" ".join(command), driver="killed, nothing sealed", **timed(folder, command, 1))
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
