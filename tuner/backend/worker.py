"""What runs in a worker: one trial at a time, one epoch per step, its checkpoints in the study's folder."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results.store.paths import StudyPaths
from trainable.data.intact import WatchedData
from tuner.backend import mps


@dataclass(frozen=True)
class Place:
    """What a worker needs: the data, the study's folder, and its share of the machine."""

    data: str
    folder: str
    cpus: float
    gpus: float
    checkpoints: Mapping[str, Any] = field(default_factory=dict)
    """The study's `search_spaces.checkpoints.Checkpoints`."""
    fingerprint: str = ""
    """The fingerprint that the data must have, on every node and until the end; "" if unknown."""


Work = Callable[[Any, Place], Iterator[dict[str, Any]]]
"""Yields the rows of one attempt (a `tuner.study.study.Job`): `train_job`, or something lighter in a benchmark."""


def train_job(job: Any, place: Place) -> Iterator[dict[str, Any]]:
    """Train one attempt: the data are memory-mapped once, the checkpoint of an earlier attempt is found by its
    number. Raises `DataChanged` where the data are not, or are no longer, what they were.
    """
    notes = take_share(place.cpus, place.gpus, place.folder)
    data = _data(place.data, place.fingerprint)
    folder = StudyPaths(Path(place.folder)).trial(job.trial).folder
    kept = {key: place.checkpoints[key] for key in ("every", "best_weights") if key in place.checkpoints}
    kept |= {"rungs": job.rungs, "pauses": job.pauses}
    return run_trial(
        job.config,
        data.dataset,
        folder,
        epochs_logged=job.epochs_logged,
        gpus=place.gpus,
        checkpoints=kept,
        inherited=job.inherited,
        check=data.check,
        notes=notes,
    )


_joined: list[str] = []  # what this process was told once about its card


def take_share(cpus: float, gpus: float, key: str = "") -> list[str]:
    """Limit this process to its cores and, where several trials share a GPU, to its share of the GPU's memory.

    There it is also a client of the MPS daemon of the search `key` (`tuner.backend.mps`); what is to be said of that is
    returned, once for a process.
    """
    import torch

    from trainable.data.batches import limit_memory

    torch.set_num_threads(max(1, int(cpus)))
    notes: list[str] = []
    if 0 < gpus < 1 and not _joined and mps.has_card():  # before CUDA is used
        _joined.append(mps.join(key, gpus))
        notes = list(filter(None, _joined))
    if 0 < gpus < 1 and torch.cuda.is_available():
        limit_memory(gpus)
    return notes


@functools.lru_cache(maxsize=1)
def _data(path: str, fingerprint: str) -> WatchedData:
    return WatchedData(path, fingerprint)


def run_trial(
    config: Any,
    dataset: Any,
    folder: Path,
    *,
    epochs_logged: int = 0,
    gpus: float = 0.0,
    checkpoints: Mapping[str, Any] | None = None,
    inherited: int = 0,
    check: Callable[[], None] = lambda: None,
    notes: Sequence[str] = (),
) -> Iterator[dict[str, Any]]:
    """Train one trial and yield the row of each epoch; `checkpoints` are settings of `trainable.keeping.Keeper`.

    Continues from the newest complete checkpoint in `folder`. Epochs that were logged after it are trained and yielded
    again. If the checkpoint is newer than the log, its own epoch is yielded again first: the driver died between the
    two. In a row, `cpu_seconds` and `gpu_seconds` are those of this attempt so far, `checkpoint_seconds`
    those for which training waited for this epoch's checkpoint, `note` names problems with checkpoints and how a card
    computes, `host` and `pid` name the process, and `card` its card. The first `inherited` epochs were another trial's,
    from whose state in `folder` this one goes on: the best of them is not its own. `check` is called before the first
    epoch, and after each before anything is kept of it: it raises where that must not be.
    """
    from trainable.keeping import Keeper
    from trainable.loop import train

    check()
    keeper = Keeper(folder, logged=epochs_logged, **(checkpoints or {}))
    keeper.notes += notes
    state = keeper.load()
    if state is not None and (state.get("best") or {}).get("epoch", inherited + 1) <= inherited:
        state = {**state, "best": None}
    wall, cpu = time.monotonic(), time.process_time()

    def spent(stalled: float = 0.0) -> dict[str, Any]:
        note = "; ".join(keeper.notes) or None
        keeper.notes.clear()
        return {
            "cpu_seconds": time.process_time() - cpu,
            "gpu_seconds": (time.monotonic() - wall) * gpus,
            "checkpoint_seconds": stalled,
            "note": note,
            "host": os.uname().nodename,
            "pid": os.getpid(),
            **_card(config, gpus),
        }

    if state is not None and state["epoch"] > epochs_logged:
        yield {**state["report"], "diverged": False, **spent()}
    try:
        for report in train(config, dataset, resume_from=state):
            check()
            keeper.notes += report.notes
            before = time.monotonic()
            keeper.keep(report)
            stalled = time.monotonic() - before
            yield {**report.row(), "diverged": report.diverged, **spent(stalled)}
    finally:
        keeper.flush()


def _card(config: Any, gpus: float) -> dict[str, str]:
    """The name of the card that a trial has; nothing on a CPU."""
    import torch

    if not gpus or config.training.device == "cpu" or not torch.cuda.is_available():
        return {}
    return {"card": torch.cuda.get_device_name()}
