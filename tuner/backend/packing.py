"""How many trials should share a GPU: measured by training one configuration in several processes at once.

One small trial leaves most of a GPU idle. Four trials that share it are slower each, but may be faster together. The
best number depends on the model, the data and the GPU, so it is measured: `count` processes train the same
configuration at the same time, each within 1 / count of the GPU's memory, like the workers of a search. On a CPU the
same is measured for processes on its cores.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from pathlib import Path
from threading import BrokenBarrierError
from types import ModuleType
from typing import Any

from search_spaces import InputError, RunConfig
from search_spaces.config import ConstantSchedule, SWAConfig
from trainable.compute.measures import no_graphs
from trainable.data.dataset import open_dataset
from tuner.backend import mps
from tuner.backend.worker import take_share

COUNTS = (1, 2, 4, 8)
BATCHES = 20
WORTH = 1.05
"""More trials on a GPU must be faster by this factor: with fewer at a time, searcher and stopping rule know more."""
PATIENCE = 600.0
"""Seconds for which a process waits until the others are ready."""


@dataclass(frozen=True)
class Packing:
    """The measurement with `count` trials at a time."""

    count: int
    fits: bool
    """Whether every process had enough memory."""
    batches_per_second: float | None
    """Optimizer steps per second of all processes together, while all train; None where they do not fit."""
    trials_per_hour: float | None
    """Whole runs of the configuration, evaluations included, of all processes together."""
    peak_memory_mb: float | None
    """Most memory of one process: reserved on the GPU, or resident on a CPU."""
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types, for the log."""
        return asdict(self)


def measure(
    config: RunConfig,
    data: Path,
    counts: Sequence[int] = COUNTS,
    batches: int = BATCHES,
    cpus: float = 1.0,
    progress: Callable[[Packing], None] | None = None,
) -> list[Packing]:
    """Train `config` on the data folder in each of `counts` (rising) processes at once, on `config.training.device`.

    Each process has `cpus` torch threads, trains an epoch of `batches` to warm up, waits for the others, and trains
    another one; the slowest counts. Ends at the first count that does not fit. `progress` is called with each result.
    Raises `InputError` if the configuration does not train even alone.
    """
    found: list[Packing] = []
    for count in counts:
        found.append(_measure_one(config, data, count, batches, cpus))
        if progress is not None:
            progress(found[-1])
        if not found[-1].fits:
            break
    if not found[0].fits:
        raise InputError(f"the configuration does not train in {found[0].count} processes at once: {found[0].error}")
    return found


def best_packing(found: Sequence[Packing]) -> Packing:
    """The packing with the most trials per hour; of those within 5 % of each other the smallest."""
    fitting = sorted((each for each in found if each.fits), key=lambda each: each.count)
    best = fitting[0]
    for each in fitting[1:]:
        if (each.trials_per_hour or 0.0) > WORTH * (best.trials_per_hour or 0.0):
            best = each
    return best


def table(found: Sequence[Packing], title: str) -> Any:
    """A rich table of the measurements."""
    from rich.table import Table

    shown = Table(title=title)
    for column in ("trials at once", "batches/s", "trials/hour", "x first", "MB each"):
        shown.add_column(column, justify="right")
    alone = found[0].trials_per_hour
    for each in found:
        if each.batches_per_second is None or each.trials_per_hour is None or alone is None:
            shown.add_row(str(each.count), "does not fit", "", "", "")
        else:
            gain = f"{each.trials_per_hour / alone:.2f}"
            numbers = (f"{each.batches_per_second:.2f}", f"{each.trials_per_hour:.2f}", gain)
            shown.add_row(str(each.count), *numbers, f"{each.peak_memory_mb:.0f}")
    return shown


def mps_note() -> str:
    """Whether processes that share a GPU here use NVIDIA's MPS: without it they take turns."""
    if os.environ.get("TUNER_NO_MPS"):
        return "without MPS (TUNER_NO_MPS is set)"
    return "with MPS" if "CUDA_MPS_PIPE_DIRECTORY" in os.environ or shutil.which(mps.CONTROL) else "without MPS"


def measured_config(config: RunConfig, batches: int, share: float = 1.0) -> RunConfig:
    """`config` for two epochs of `batches`: the same work for each step, at a rate too low to diverge.

    With CUDA graphs if the whole run, on this share of a card, would be run with them.
    """
    averaging = config.averaging
    if isinstance(averaging, SWAConfig):  # SWA's evaluation belongs to a whole run, except at its beginning
        averaging = averaging.model_copy(update={"start_batch": 0, "lr": None})
    graphs = "off" if no_graphs(config, share, config.training.batches) else "on"
    length = {"batches": 2 * batches, "batches_per_epoch": batches}
    training = config.training.model_copy(update={**length, "graphs": graphs})
    schedule = ConstantSchedule(peak_lr=1e-6)
    return config.model_copy(update={"averaging": averaging, "training": training, "schedule": schedule})


def _measure_one(config: RunConfig, data: Path, count: int, batches: int, cpus: float) -> Packing:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(count)
    readers: list[Any] = []
    processes: list[Any] = []
    short = measured_config(config, batches, 1 / count)
    try:
        for _ in range(count):
            reader, writer = context.Pipe(duplex=False)
            process = context.Process(target=_train, args=(short, data, 1 / count, cpus, barrier, writer), daemon=True)
            with _no_script():
                process.start()
            writer.close()  # so that the end of the process ends the pipe
            readers.append(reader)
            processes.append(process)
        answers = _answers(readers, barrier)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
    errors = [answer["error"] for answer in answers if "error" in answer]
    if errors:
        first = next((error for error in errors if error), "a process waited too long for the others")
        return Packing(count, False, None, None, None, first)
    training = max(answer["training"] for answer in answers)
    epoch = config.training.batches_per_epoch / batches * training + max(answer["evaluation"] for answer in answers)
    run = epoch * config.training.batches / config.training.batches_per_epoch
    memory = max(answer["peak_memory_mb"] for answer in answers)
    return Packing(count, True, count * batches / training, 3600 * count / run, memory)


@contextlib.contextmanager
def _no_script() -> Iterator[None]:
    """A spawned process runs the program's script, which may have no guard and would search again. `_train` needs
    nothing of it: meanwhile there is none.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _answers(readers: list[Any], barrier: Any) -> list[dict[str, Any]]:
    """The answer of each process; when one dies without an answer, the others stop waiting for it."""
    answers: list[dict[str, Any]] = []
    left = list(readers)
    while left:
        ready: list[Any] = wait(left)
        for reader in ready:
            left.remove(reader)
            try:
                answers.append(reader.recv())
            except EOFError:
                answers.append({"error": "a process died; a likely reason is that memory was full"})
            if "error" in answers[-1]:
                barrier.abort()
    return answers


def _train(config: RunConfig, data: Path, share: float, cpus: float, barrier: Any, answer: Any) -> None:
    """In a process of its own: two epochs, the second one timed and at the same time as the others'."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the waiting process handles Ctrl-C and ends this one
    try:
        from trainable.data.batches import Sampler
        from trainable.loop import train

        take_share(cpus, share, f"packing {os.getppid()}")
        dataset = open_dataset(data)
        reports = train(config, dataset)
        if next(reports).diverged:
            raise ValueError("the loss is NaN or infinite at the beginning")
        barrier.wait(PATIENCE)
        report = next(reports)
        training, sampler = config.training, Sampler(dataset.train, config)
        steps = range(training.batches_per_epoch * training.accumulation, training.batches * training.accumulation)
        seconds = sum(len(sampler.micro_batch(step)[0]) for step in steps) / report.samples_per_second
        evaluation, memory = report.seconds - seconds, report.peak_memory_mb
        answer.send({"training": seconds, "evaluation": evaluation, "peak_memory_mb": memory})
    except BrokenBarrierError:
        answer.send({"error": ""})
    except Exception as error:
        with contextlib.suppress(OSError):
            answer.send({"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"})
