"""What runs in a worker: one trial at a time, one epoch per step, its checkpoints in the study's folder."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAST, BEST = "last.pt", "best.pt"
"""The whole state after the last saved epoch; the evaluated weights of the best one."""


@dataclass(frozen=True)
class Place:
    """Where a worker finds what it needs: the data, the study's folder, and its share of the machine."""

    data: str
    folder: str
    cpus: float
    gpus: float


Work = Callable[[Any, Place], Iterator[dict[str, Any]]]
"""Yields the rows of one attempt (a `tuner.study.Job`): `train_job`, or something lighter in a benchmark."""


def train_job(job: Any, place: Place) -> Iterator[dict[str, Any]]:
    """Train one attempt: the data are memory-mapped once, the checkpoint of an earlier attempt is found by its
    number.
    """
    take_share(place.cpus, place.gpus)
    folder = Path(place.folder) / "checkpoints" / str(job.trial)
    return run_trial(job.config, _dataset(place.data), folder, epochs_logged=job.epochs_logged, gpus=place.gpus)


def take_share(cpus: float, gpus: float) -> None:
    """Keep this process to its cores and, where several trials are on a card, to its share of the card's memory."""
    import torch

    from trainable.batches import limit_memory

    torch.set_num_threads(max(1, int(cpus)))
    if 0 < gpus < 1 and torch.cuda.is_available():
        limit_memory(gpus)


@functools.lru_cache(maxsize=1)
def _dataset(path: str) -> Any:
    from trainable.data import open_dataset

    return open_dataset(path)


def run_trial(
    config: Any, dataset: Any, folder: Path, *, epochs_logged: int = 0, gpus: float = 0.0
) -> Iterator[dict[str, Any]]:
    """Train one trial and yield the row of each epoch once its checkpoint is on the disk.

    Goes on from `folder/last.pt` where there is one. If that checkpoint is further than the log, its own epoch is
    yielded again first: the driver died between the checkpoint and the log. `cpu_seconds` and `gpu_seconds` in a row
    are those of this attempt so far; `host` and `pid` name the process.
    """
    from trainable import train
    from trainable.checkpoint import for_evaluation, load, save

    state = load(folder / LAST) if (folder / LAST).exists() else None
    wall, cpu = time.monotonic(), time.process_time()

    def spent() -> dict[str, Any]:
        return {
            "cpu_seconds": time.process_time() - cpu,
            "gpu_seconds": (time.monotonic() - wall) * gpus,
            "host": os.uname().nodename,
            "pid": os.getpid(),
        }

    if state is not None and state["epoch"] > epochs_logged:
        yield {**state["report"], "diverged": False, **spent()}
    for report in train(config, dataset, resume_from=state):
        if not report.diverged:
            whole = report.checkpoint()
            if whole["best"] is not None and whole["best"]["epoch"] == report.epoch:
                save(folder / BEST, for_evaluation(whole))
            save(folder / LAST, whole)
        yield {**report.row(), "diverged": report.diverged, **spent()}
