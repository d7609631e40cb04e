"""What benchmarks/fuzz.py starts from: a study without workers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

RUN = """
purpose: a run of six epochs
model: {hidden: 8, layers: 1, kernel: 8, stride: 4}
optimizer: {kind: adam, eps: 1.0e-8}
schedule: {kind: one_cycle, start_lr: 1.0e-4, peak_lr: 3.0e-3, end_lr: 1.0e-5}
training: {batches: 12, batches_per_epoch: 2, batch_size: 8}
"""
SPACE = """
purpose: a small space
base: base.yaml
dimensions:
  schedule.kind: {choice: [one_cycle, constant]}
  schedule.peak_lr: {log_uniform: [1.0e-3, 1.0e-1]}
  averaging.kind: {choice: [none, ema]}
start_points: [base.yaml]
searcher: {kind: tpe, startup_trials: 4}
stopping: {kind: asha, grace: 1, reduction: 2}
budget: {trials: 8}
"""


def make_study(folder: Path) -> None:
    """A finished search of eight trials, with its tables; nothing is trained."""
    from results.store.tables import compact
    from search_spaces import load_space
    from tuner.study.settings import StudySettings
    from tuner.study.study import Study

    (folder.parent.parent / "base.yaml").parent.mkdir(parents=True, exist_ok=True)
    (folder.parent.parent / "base.yaml").write_text(RUN)
    (folder.parent.parent / "space.yaml").write_text(SPACE)
    space = load_space(folder.parent.parent / "space.yaml")
    settings = {
        "study": "s",
        "space": space.as_dict(),
        "data": {"path": "nowhere", "name": "none", "fingerprint": "0"},
        "code": {"version": "0", "git": None, "dirty": None},
        "packages": {},
        "searcher": space.searcher.model_dump(mode="json"),
        "stopping": space.stopping.model_dump(mode="json"),
        "objective": space.objective,
        "start_points": [space.start_params(name)[0] for name in space.start_points],
        "seed": 0,
        "budget": {"trials": 8, "hours": None},
        "retries": 0,
        "resources": {"cpus_per_trial": 1, "gpus_per_trial": 0, "concurrent": None},
    }
    study = Study.create(folder, StudySettings.read(settings), [])
    drive(study)
    study.close()
    compact(folder)


def go_on(folder: Path, epochs: int) -> list[str]:
    """Resume the study for so many epochs; returns what it said of its log."""
    from tuner.study.study import Study

    study = Study.resume(folder, {}, [])
    try:
        drive(study, epochs)
    finally:
        study.close()
    return list(study.problems)


def drive(study: Any, epochs: int | None = None) -> None:
    """Work for a study, two trials at a time, until it is done or so many epochs are reported."""
    running: list[list[Any]] = []
    count = 0
    while not study.done and (epochs is None or count < epochs):
        while len(running) < 2 and (job := study.ask()) is not None:
            running.append([job, job.epochs_logged])
        if not running:
            break
        job, epoch = running.pop(0)
        epoch += 1
        if study.report(job.trial, job.attempt, row(job.config, epoch)) == "continue":
            running.append([job, epoch])
        count += 1
    if epochs is None:
        study.interrupt("budget")


def row(config: Any, epoch: int) -> dict[str, Any]:
    """A made-up epoch: best near a rate of 0.01."""
    rate = config.schedule.peak_lr
    floor = 0.1 + 0.2 * abs(math.log10(rate / 0.01))
    per = floor + (1 - floor) * math.exp(-epoch / 2)
    return {
        "epoch": epoch, "batch": 2 * epoch, "per": per, "per_raw": per, "per_utterance_mean": per,
        "val_loss": 3 * per, "train_loss": 2 * per, "lr": rate, "schedule_fraction": epoch / config.epochs,
        "grad_norm": 1.0, "blank_share": 0.5, "infeasible": 0, "seconds": 1.0, "samples_per_second": 16.0,
        "peak_memory_mb": 1.0, "diverged": False, "checkpoint_seconds": 0.0, "cpu_seconds": 1.0 * epoch,
        "gpu_seconds": 0.0,
    }  # fmt: skip
