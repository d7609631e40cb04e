"""Data that are overwritten under a study: told before another epoch is logged; put back, the study goes on."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from results.store.events import read_events
from results.store.paths import StudyPaths


@pytest.fixture
def data(tiny_data, tmp_path):
    """A copy of the tiny data that a test may spoil."""
    return shutil.copytree(tiny_data, tmp_path / "data")


def epochs(log):
    """Epochs in the log, now."""
    return sum(event["event"] == "epoch" for event in read_events(log)[0]) if log.exists() else 0


def overwrite(data):
    """Other features, in place: the same file with the same size, as another import would leave it."""
    features = np.load(data / "features.npy", mmap_mode="r+")
    features[:] = features[::-1].copy()
    features.flush()


def cut_short(data):
    """Whoever has the file mapped is killed when it reads what is gone (SIGBUS)."""
    with (data / "features.npy").open("r+b") as file:
        file.truncate(4096)


def test_data_overwritten_before_a_resume_are_told(toy, data, cli):
    """Exit status 2, the file named, and nothing is written to the log; a touched file with its content is no matter,
    and neither are data that are back.
    """
    from trainable.data.dataset import open_dataset

    facts = {"path": str(data), "name": "tiny", "fingerprint": open_dataset(data).fingerprint}
    toy.create("s", data=facts).close()
    log = StudyPaths(toy.folder / "s").log
    before, kept = log.read_bytes(), (data / "features.npy").read_bytes()
    overwrite(data)
    done = cli("resume", "s", "--results", toy.folder)
    assert done.status == 2
    assert [line for line in done.err.splitlines() if line.startswith("error:")] == done.err.splitlines()[-1:]
    assert f"{data}: content has fingerprint" in done.err and "features.npy was last written at" in done.err
    assert log.read_bytes() == before
    (data / "features.npy").write_bytes(kept)
    done = cli("resume", "s", "--results", toy.folder, "--trials", 0)  # gets past the data, to the next thing
    assert "fingerprint" not in done.err


@pytest.fixture(scope="module")
def space(real_space, tmp_path_factory):
    """A space of two runs of 20 epochs."""
    folder = tmp_path_factory.mktemp("longer")
    run = (real_space.parent / "real.yaml").read_text()
    (folder / "real.yaml").write_text(
        run.replace("batches: 36, batches_per_epoch: 4", "batches: 120, batches_per_epoch: 6")
    )
    (folder / "longer.yaml").write_text(real_space.read_text())
    return folder / "longer.yaml"


def given(data):
    """What both searches are asked for."""
    return ("--data", data, "--cpus", 1, "--concurrent", 1, "--trials", 2, "--stopping", "none")


@pytest.fixture(scope="module")
def undisturbed(tuner, space, tiny_data, tmp_path_factory):
    """What a search on data that nobody touches decides."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = tuner.run("search", space, *given(tiny_data), "--study", "w", cwd=folder)
    assert done.status == 0, done.err
    return tuner.decisions(folder / "results" / "studies" / "w")


@pytest.mark.ray
@pytest.mark.parametrize("spoil", [overwrite, cut_short])
def test_data_that_change_during_a_search_end_it(spoil, tuner, space, data, undisturbed, tmp_path, end):
    """One clear line and exit status 1; no epoch that was trained on other data is logged or kept, no trial has failed;
    with the data back, the study ends as one whose data were never touched.
    """
    kept = (data / "features.npy").read_bytes()
    process = tuner.start("search", space, *given(data), "--study", "s", cwd=tmp_path)
    study = tmp_path / "results" / "studies" / "s"
    tuner.wait_for_epochs(process, StudyPaths(study).log, 4)
    spoil(data)
    logged = epochs(StudyPaths(study).log)
    done = end(process, tmp_path)
    assert done.status == 1, done.err
    (line,) = [line for line in done.err.splitlines() if line.startswith("error:")]
    assert str(data) in line and "restore the data, then resume the study" in line
    assert epochs(StudyPaths(study).log) <= logged + 1  # one may have been on its way already
    events = read_events(StudyPaths(study).log)[0]
    assert not [e for e in events if e["event"] == "trial_ended" and e["status"] == "failed"]
    (data / "features.npy").write_bytes(kept)
    done = tuner.run("resume", "s", "--cpus", 1, "--concurrent", 1, cwd=tmp_path)
    assert done.status == 0, done.err
    assert tuner.decisions(study) == undisturbed
