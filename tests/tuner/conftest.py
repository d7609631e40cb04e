"""A small space, and a way to drive a study without workers."""

from __future__ import annotations

import contextlib
import csv
import functools
import os
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from results.store.events import read_events
from search_spaces import load_space
from tuner.cli import main
from tuner.study.settings import StudySettings
from tuner.study.study import Study
from tuner.testing import toy as toy_studies
from tuner.testing.toy import RUN, SPACE, curve, decisions, drive, write_space

__all__ = ["RUN", "SPACE", "curve", "decisions", "drive", "settings_for"]


def settings_for(space, **changes):
    """The settings of a study over `space`, with its start points."""
    starts = [space.start_params(point)[0] for point in space.start_points]
    return toy_studies.settings_for(space, **{"start_points": starts, **changes})


@pytest.fixture
def call(capsys):
    """Runs the command line in this process: (exit status, stdout, stderr)."""

    def run(*arguments):
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        return left.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def space_file(tmp_path: Path) -> Path:
    """A space of five dimensions over a run of nine epochs."""
    return write_space(tmp_path)


def toy_in(folder, space):
    """Makes, drives and compares studies in a folder: `create(name, **settings)`."""

    def create(name, clock=time.monotonic, **changes):
        return Study.create(folder / name, StudySettings.read(settings_for(space, **changes)), [], clock=clock)

    def resume(name, changed=None):
        return Study.resume(folder / name, changed or {}, [])

    return SimpleNamespace(
        space=space,
        folder=folder,
        create=create,
        resume=resume,
        drive=drive,
        curve=curve,
        decisions=lambda name: decisions(folder / name),
    )


@pytest.fixture
def toy(space_file, tmp_path):
    """Studies over the toy space, in the folder of the test."""
    return toy_in(tmp_path, load_space(space_file))


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """The same for all tests of a file: for studies that they only read, or copy."""
    folder = tmp_path_factory.mktemp("toys")
    return toy_in(folder, load_space(write_space(folder)))


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """The tiny synthetic data set, made once."""
    from trainable.data.synthetic import make_synthetic

    folder = tmp_path_factory.mktemp("data") / "tiny"
    make_synthetic(folder, "tiny")
    return folder


FLOORS = (0.30, 0.22, 0.35, 0.20, 0.28, 0.40, 0.26, 0.33)


def recorded(step=10):
    """Made-up curves: runs of 4 epochs (even) and 8 (odd), straight down to FLOORS; the best is a slow one, run 3."""
    table = []
    for trial, floor in enumerate(FLOORS):
        epochs = 8 if trial % 2 else 4
        for epoch in range(1, epochs + 1):
            per = floor + (0.9 - floor) * (1 - epoch / epochs)
            table.append({"trial": trial, "batch": step * epoch, "per": round(per, 6), "horizon": step * epochs})
    return table


def write_curves(path, table):
    """The rows as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in table for key in row)))
        writer.writeheader()
        writer.writerows(table)
    return path


@pytest.fixture
def banks():
    """Recorded curves for rules to be tried on: `banks.rows()` and `banks.write(path, rows)`."""
    return SimpleNamespace(rows=recorded, write=write_curves)


REAL_RUN = """
purpose: a run that trains in seconds
model: {hidden: 12, layers: 1, dropout: 0.2, kernel: 8, stride: 4}
optimizer: {kind: adam, eps: 1.0e-8}
schedule: {kind: one_cycle, start_lr: 1.0e-4, peak_lr: 1.0e-2, end_lr: 1.0e-5}
augmentation: {white_noise: 0.1, time_masks: 1}
averaging: {kind: ema, decay: 0.9}
training: {batches: 36, batches_per_epoch: 4, batch_size: 16, clip: 5}
"""
REAL_SPACE = """
purpose: a space for tests that train
base: real.yaml
dimensions:
  schedule.peak_lr: {log_uniform: [1.0e-4, 5.0e-2]}
  averaging.kind: {choice: [none, ema]}
  augmentation.white_noise: {uniform: [0, 0.5]}
start_points: [real.yaml]
searcher: {kind: tpe, startup_trials: 3}
stopping: {kind: asha, grace: 1, reduction: 2}
budget: {trials: 6}
"""


@pytest.fixture(scope="session")
def real_space(tmp_path_factory) -> Path:
    """A space whose trials train for seconds on the tiny data."""
    folder = tmp_path_factory.mktemp("space")
    (folder / "real.yaml").write_text(REAL_RUN)
    path = folder / "toy_real.yaml"
    path.write_text(REAL_SPACE)
    return path


def start(python, *arguments, cwd, **options) -> subprocess.Popen:
    """`tuner` with arguments, as a user would start it: in a folder of its own, without a terminal."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TUNER_")}
    environment["COLUMNS"] = "200"
    return subprocess.Popen(
        [python, "-m", "tuner", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


@pytest.fixture(scope="session")
def tuner(wait, end, warm_python):
    """The command line in a process: `tuner.run(...)` to the end (status, out, err), `tuner.start(...)` in the
    background, `tuner.wait_for_epochs(process, log, count)`.
    """

    begin = functools.partial(start, warm_python)

    def run(*arguments, cwd):
        return end(begin(*arguments, cwd=cwd), cwd)

    def wait_for_epochs(process, log, count):
        def there():
            assert process.poll() is None, process.communicate()
            return log.exists() and sum(e["event"] == "epoch" for e in read_events(log)[0]) >= count

        wait(there, lambda: log.exists() and log.stat().st_size)

    return SimpleNamespace(run=run, start=begin, decisions=decisions, wait_for_epochs=wait_for_epochs)


@pytest.fixture
def cli(capsys):
    """The command line within this process, for many quick calls: `cli(..., cwd=folder)` -> status, out, err."""

    def call(*arguments, cwd="."):
        capsys.readouterr()
        with contextlib.chdir(cwd), pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        return SimpleNamespace(status=left.value.code, **dict(zip(("out", "err"), capsys.readouterr(), strict=True)))

    return call
