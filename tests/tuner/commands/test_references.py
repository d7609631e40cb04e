"""Weights of the public reference models on the command line: evaluated, and started from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from search_spaces import load_run, load_space
from tests.trainable.weights.references import Model24, Model25, stirred, write24, write25
from trainable.data.dataset import open_dataset
from trainable.weights.start import read_given
from tuner.launch.checks import check_data

RUN = """
model: {hidden: 8, layers: 1, bidirectional: false, kernel: 8, stride: 4, learned_start: true}
optimizer: {kind: adam, eps: 1.0e-8}
schedule: {kind: constant, peak_lr: 3.0e-3}
augmentation: {smoothing_sd: 2, smoothing_kernel: 9}
training: {batches: 4, batches_per_epoch: 2, batch_size: 8, init_from: start/best_checkpoint}
"""
SPACE = """
base: run.yaml
dimensions:
  schedule.peak_lr: {log_uniform: [1.0e-3, 1.0e-2]}
  training.init_from: {choice: [null, start/best_checkpoint]}
budget: {trials: 2}
"""


def reference(kind: str, folder: Path, data: Path) -> Path:
    """A small reference model for these data, with weights away from their start, as its trainer writes it."""
    dataset = open_dataset(data)
    sizes: Any = {
        "features": dataset.n_features, "classes": dataset.n_classes, "hidden": 8, "layers": 1,
        "days": len(dataset.days), "stride": 4,
    }  # fmt: skip
    if kind == "24":
        return write24(folder, stirred(Model24(**sizes)))
    return write25(folder, stirred(Model25(**sizes)), list(dataset.days))


@pytest.mark.parametrize("kind", ["24", "25"])
def test_a_reference_is_evaluated(call, tiny_data, tmp_path, kind):
    """It has a PER like any checkpoint, in greedy and beam decoding, and what differs is said."""
    path = reference(kind, tmp_path, tiny_data)
    status, out, err = call("evaluate", "--reference", path, "--data", tiny_data)
    assert (status, err) == (0, "")
    assert f"{path} (reference model) on" in out and "most frequent errors" in out
    assert out.count("note: ") == (3 if kind == "24" else 1)
    assert ("the last frame of an utterance counts here" in out) == (kind == "24")
    status, out, _ = call("evaluate", "--reference", path, "--data", tiny_data, "--decoder", "beam", "--format", "json")
    report = json.loads(out)
    assert status == 0 and report["all"]["per"] > 0 and report["epoch"] is None and report["notes"]


def test_one_file_is_evaluated_at_a_time(call, tiny_data, tmp_path):
    """Neither or both of CHECKPOINT and --reference is an error of usage; each kind of file has its own way."""
    path = reference("24", tmp_path, tiny_data)
    for given in ([], [path, "--reference", path]):
        status, _, err = call("evaluate", *given, "--data", tiny_data)
        assert status == 2 and "give either CHECKPOINT or --reference FILE" in err
    status, _, err = call("evaluate", path, "--data", tiny_data)
    assert status == 2 and len(err.splitlines()) == 1 and "not a checkpoint of this program" in err
    (tmp_path / "run.yaml").write_text(RUN.replace(", init_from: start/best_checkpoint", ""))
    own = tmp_path / "own.pt"
    assert call("train", tmp_path / "run.yaml", "--data", tiny_data, "--out", own)[0] == 0
    status, _, err = call("evaluate", "--reference", own, "--data", tiny_data)
    assert status == 2 and "is a checkpoint of this program; give it without --reference" in err
    assert read_given(own).kind == "checkpoint"


def test_a_run_file_says_where_it_starts(call, tiny_data, tmp_path, monkeypatch):
    """A path is meant from the folder of the file; the training says what differs, and begins with these weights."""
    path = reference("25", tmp_path / "runs" / "start", tiny_data)
    run = tmp_path / "runs" / "run.yaml"
    run.write_text(RUN)
    assert load_run(run).config.training.init_from == str(path)
    status, out, _ = call("train", run, "--data", tiny_data)
    assert status == 0 and "note: best_checkpoint: the file has no names of classes" in out
    monkeypatch.chdir(path.parent)
    with_set = load_run("small", ["training.init_from=best_checkpoint"]).config
    assert with_set.training.init_from == str(path)
    other = "training.init_from=missing.pt"
    assert load_run("small", [other]).config.training.init_from == "missing.pt"
    status, _, err = call("train", "small", "--data", tiny_data, "--set", other)
    assert status == 2 and len(err.splitlines()) == 1 and "missing.pt: does not exist" in err


def test_a_space_may_choose_where_to_start(call, tiny_data, tmp_path):
    """A choice between a file and none; before a search it is read, its notes are told, and a misfit is one line."""
    path = reference("25", tmp_path / "start", tiny_data)
    (tmp_path / "run.yaml").write_text(RUN)
    space_file = tmp_path / "space.yaml"
    space_file.write_text(SPACE)
    space = load_space(space_file)
    (dimension,) = [d for d in space.dimensions if d.path == "training.init_from"]
    assert dimension.choices == (None, str(path))
    notes = check_data(space, [], open_dataset(tiny_data))
    assert notes == ["best_checkpoint: the file has no names of classes; they are taken in the order of the data"]
    (tmp_path / "run.yaml").write_text(RUN.replace("hidden: 8", "hidden: 16"))
    status, _, err = call("search", space_file, "--data", tiny_data, "--results", tmp_path / "results")
    assert status == 2 and len(err.splitlines()) == 1
    assert "does not fit this run: model.hidden is 8 there, 16 here" in err
    space_file.write_text(SPACE.replace("  training.init_from: {choice: [null, start/best_checkpoint]}\n", "")
                          + "fixed: {training.init_from: start/best_checkpoint}\n")  # fmt: skip
    assert load_space(space_file).fixed["training.init_from"] == str(path)
