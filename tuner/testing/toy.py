"""A small space and a study over it that is driven without workers, for the suites and for tests."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from results.store.events import read_events
from search_spaces import RunConfig, Space, load_space
from tuner.study.study import Study

RUN = """
purpose: a run of nine epochs
model: {hidden: 8, layers: 1, kernel: 8, stride: 4}
optimizer: {kind: adam, eps: 1.0e-8}
schedule: {kind: one_cycle, start_lr: 1.0e-4, peak_lr: 3.0e-3, end_lr: 1.0e-5}
training: {batches: 18, batches_per_epoch: 2, batch_size: 8}
"""
SPACE = """
purpose: a space for tests
base: base.yaml
dimensions:
  schedule.kind: {choice: [one_cycle, constant]}
  schedule.peak_lr: {log_uniform: [1.0e-3, 1.0e-1]}
  schedule.end_lr: {log_uniform: [1.0e-3, 0.3], of: schedule.peak_lr, when: {schedule.kind: one_cycle}}
  averaging.kind: {choice: [none, ema]}
  averaging.decay: {log_uniform: [1.0e-3, 1.0e-1], complement: true, when: {averaging.kind: ema}}
start_points: [base.yaml]
objective: best_per
searcher: {kind: tpe, startup_trials: 4}
stopping: {kind: asha, grace: 1, reduction: 3}
budget: {trials: 12}
"""
MORE = """
  model.hidden: {log_int: [4, 64]}
  model.layers: {int: [1, 3]}
  augmentation.white_noise: {uniform: [0, 1]}
constraints: ['augmentation.white_noise + 0.01 * model.hidden <= 0.8']
start_points"""
"""Instead of "start_points" in `SPACE`: whole numbers, and a constraint that two draws in five break."""


def write_space(folder: Path, *, wide: bool = False) -> Path:
    """The toy space and its base run as files in `folder`; returns the space's. `wide` has `MORE`."""
    (folder / "base.yaml").write_text(RUN)
    path = folder / "toy.yaml"
    path.write_text(SPACE.replace("\nstart_points", MORE, 1) if wide else SPACE)
    return path


def make_space(*, wide: bool = False) -> Space:
    """The toy space: five dimensions over a run of nine epochs, two of them with a condition; eight with `wide`."""
    with tempfile.TemporaryDirectory() as folder:
        return load_space(write_space(Path(folder), wide=wide))


def curve(config: RunConfig, epoch: int) -> dict[str, Any]:
    """A made-up learning curve: best near a rate of 0.01, better with averaging; not a number at high rates."""
    rate = config.schedule.peak_lr
    floor = 0.1 + 0.2 * abs(math.log10(rate / 0.01)) - (0.03 if config.averaging.kind == "ema" else 0)
    per = floor + (1 - floor) * math.exp(-epoch / 2)
    diverged = rate > 0.08 and epoch == 3
    return {
        "epoch": epoch,
        "batch": 2 * epoch,
        "per": math.nan if diverged else per,
        "per_raw": per,
        "per_utterance_mean": per,
        "val_loss": math.nan if diverged else 3 * per,
        "train_loss": 2 * per,
        "lr": rate,
        "schedule_fraction": epoch / config.epochs,
        "grad_norm": 1.0,
        "blank_share": 0.5,
        "infeasible": 0,
        "seconds": 1.0,
        "samples_per_second": 16.0,
        "peak_memory_mb": 1.0,
        "diverged": diverged,
        "checkpoint_seconds": 0.0,
        "cpu_seconds": 1.0 * epoch,
        "gpu_seconds": 0.0,
    }


def settings_for(space: Space, **changes: Any) -> dict[str, Any]:
    """The settings of a study over `space`."""
    settings = {
        "study": "toy",
        "space": space.as_dict(),
        "data": {"path": "nowhere", "name": "none", "fingerprint": "0"},
        "code": {"version": "0", "git": None, "dirty": None},
        "packages": {},
        "searcher": space.searcher.model_dump(mode="json"),
        "stopping": space.stopping.model_dump(mode="json"),
        "objective": space.objective,
        "start_points": [],
        "seed": 0,
        "budget": {"trials": 12, "hours": None},
        "retries": 0,
        "resources": {"cpus_per_trial": 1, "gpus_per_trial": 0, "concurrent": None},
    }
    return {**settings, **changes}


def drive(study: Study, workers: int = 1, events: int | None = None) -> bool:
    """Work for a study until it is done, or (like a killed driver) until `events` more epochs are in the log."""
    running: list[tuple[Any, int]] = []
    count = 0
    while not study.done:
        while len(running) < workers and (job := study.ask()) is not None:
            running.append((job, job.epochs_logged))
        job, epoch = running.pop(0)
        epoch += 1
        if study.report(job.trial, job.attempt, curve(job.config, epoch)) == "continue":
            running.append((job, epoch))
        count += 1
        if events is not None and count >= events:
            return False
    return True


def decisions(folder: Path) -> tuple[Mapping[int, Any], Mapping[tuple[int, int], Any], Mapping[int, str]]:
    """What matters of a log: proposals, epochs with their decisions, final states; without times and attempts."""
    events, problems = read_events(folder / "events.jsonl")
    assert not problems  # noqa: S101  a suite asserts
    asked: dict[int, Any] = {}
    epochs, ends = {}, {}
    for event in events:
        if event["event"] == "trial_started":
            assert asked.setdefault(event["trial"], event["params"]) == event["params"]  # noqa: S101
        elif event["event"] == "epoch":
            epochs[event["trial"], event["epoch"]] = (event["per"], event["decision"], event["rung"], event["reason"])
        elif event["event"] == "trial_ended" and event["status"] != "interrupted":
            ends[event["trial"]] = event["status"]
    return asked, epochs, ends
