"""TensorBoard event files: real ones by tensorboardX, whole, cut short and damaged."""

from __future__ import annotations

import shutil

import pytest
from tensorboardX import SummaryWriter

from search_spaces import InputError
from tests.tuner.planned.imported.conftest import ARGS
from tuner.callbacks.loggers import replay
from tuner.planned.imported.reading import read_results
from tuner.planned.imported.tensorboard import records


def written(folder, pers=(0.9, 0.5, 0.4)):
    """The event file of a run with a PER every 100 batches and an image-sized record between."""
    with SummaryWriter(str(folder)) as writer:
        for n, per in enumerate(pers):
            writer.add_scalar("val/per", per, 100 * n)
            writer.add_scalar("train/loss", 2 * per, 100 * n)
        writer.add_text("notes", "x" * 100_000)
        writer.add_scalar("val/per", 0.3, 100 * len(pers))
    return next(folder.glob("events.*"))


def test_scalars_are_read(tmp_path, imported, write):
    """PER by step from the tags; a record that is too long for a scalar is passed over; settings beside it are used."""
    written(tmp_path / "tb")
    write(tmp_path / "tb" / "config.json", {**ARGS, "nBatch": 300})
    tables = imported(tmp_path / "tb")
    assert [row["batch"] for row in tables.epochs] == [0, 100, 200, 300]
    assert [row["per"] for row in tables.epochs] == pytest.approx([0.9, 0.5, 0.4, 0.3])
    assert (tables.trials[0]["status"], tables.trials[0]["model_hidden"]) == ("completed", 256)


@pytest.mark.parametrize("damage", ["cut", "bit", "length"])
def test_a_damaged_file_is_read_up_to_the_damage(tmp_path, damage):
    """A file that is cut, has a changed byte, or a length that leads beyond its end: what comes before is read, and the
    place is told.
    """
    path = written(tmp_path / "tb")
    whole = path.read_bytes()
    sizes, problems = [12 + len(record) + 4 for record in records(path, [])], []
    at = sum(sizes[:4])
    changed = bytearray(whole)
    if damage == "cut":
        changed = changed[: at + 7]
    elif damage == "bit":
        changed[at + 14] ^= 4
    else:
        changed[at + 6] = 255
    path.write_bytes(bytes(changed))
    assert len(list(records(path, problems))) == 4
    assert len(problems) == 1 and f"at byte {at}" in problems[0]
    assert len(read_results(tmp_path / "tb").problems) == 1


def test_a_study_of_ours_comes_back(toy, tmp_path, imported):
    """What `tuner log --to tensorboard` writes of a study is imported with its curves and its configurations."""
    study = toy.create("s", budget={"trials": 2, "hours": None})
    toy.drive(study)
    study.close()
    replay("tensorboard", toy.folder / "s", tmp_path / "tb")
    tables = imported(tmp_path / "tb")
    assert len(tables.trials) == 2
    for row in tables.trials:
        trial = study.state.trials[int(row["run"].removeprefix("trial_"))]
        assert row["best_per"] == pytest.approx(trial.best[0])
        assert row["schedule_peak_lr"] == pytest.approx(trial.config.schedule.peak_lr)
        assert row["model_hidden"] == trial.config.model.hidden


def test_files_without_a_per_and_a_missing_package_are_one_line(tmp_path, monkeypatch):
    """What is there, and what to do."""
    with SummaryWriter(str(tmp_path / "a")) as writer:
        writer.add_scalar("loss", 1.0, 1)
    with pytest.raises(InputError, match="no column is known as a PER"):
        read_results(tmp_path / "a")
    written(tmp_path / "b")
    shutil.rmtree(tmp_path / "a")
    monkeypatch.setattr("tuner.planned.imported.tensorboard.importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install '\.\[tensorboard\]'"):
        read_results(tmp_path / "b")


def test_what_is_not_known_is_not_logged(run_folder, imported, tmp_path):
    """`tuner log` of an imported run writes no default for a setting that nobody knows."""
    imported(run_folder(args={**ARGS, "optimizer": "lion"}, pers=[0.9, 0.4]))
    replay("tensorboard", tmp_path / "results" / "lab", tmp_path / "tb")
    again = read_results(tmp_path / "tb").trials[0]
    assert "optimizer.kind" in again.unknown
    assert again.config.model.hidden == 256
