"""What benchmarks/fuzz.py starts from: the toy study of `tuner.testing`, without workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def make_study(folder: Path) -> None:
    """A finished search of eight trials, with its tables; nothing is trained."""
    from results.store.tables import compact
    from tuner.study.settings import StudySettings
    from tuner.study.study import Study
    from tuner.testing import toy

    settings = toy.settings_for(toy.make_space(), study="s", budget={"trials": 8, "hours": None})
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
    """Work for a study, two trials at a time, until it is done or so many epochs are reported.

    Unlike `toy.drive` it ends where nothing can start, as in a study whose log is damaged.
    """
    from tuner.testing.toy import curve

    running: list[list[Any]] = []
    count = 0
    while not study.done and (epochs is None or count < epochs):
        while len(running) < 2 and (job := study.ask()) is not None:
            running.append([job, job.epochs_logged])
        if not running:
            break
        job, epoch = running.pop(0)
        epoch += 1
        if study.report(job.trial, job.attempt, curve(job.config, epoch)) == "continue":
            running.append([job, epoch])
        count += 1
    if epochs is None:
        study.interrupt("budget")
