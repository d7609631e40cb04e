"""`tuner evaluate` as a user runs it, on a checkpoint of the tiny data."""

from __future__ import annotations

import csv
import json
import pickle

import pytest


@pytest.fixture(scope="module")
def trained(tiny_data, tmp_path_factory):
    """(checkpoint of `tuner train`, the PER it reported)."""
    import torch

    from search_spaces import RunConfig
    from trainable import train
    from trainable.checkpoint import for_evaluation, save
    from trainable.data.dataset import open_dataset

    torch.set_num_threads(1)
    config = RunConfig.model_validate(
        {
            "model": {"hidden": 24, "layers": 1, "kernel": 8, "stride": 4},
            "optimizer": {"kind": "adam", "eps": 1e-8},
            "schedule": {"kind": "constant", "peak_lr": 1e-2},
            "training": {"batches": 40, "batches_per_epoch": 40, "batch_size": 16, "device": "cpu"},
        }
    )
    (report,) = train(config, open_dataset(tiny_data))
    path = tmp_path_factory.mktemp("trained") / "best.pt"
    save(path, for_evaluation(report.checkpoint()))
    return path, report.per


def test_greedy_is_the_per_that_training_reported(call, trained, tiny_data):
    """As JSON: corpus PER, its interval, its parts, days that add up, the most frequent errors first."""
    path, per = trained
    status, out, _ = call("evaluate", path, "--data", tiny_data, "--format", "json")
    report = json.loads(out)
    whole = report["all"]
    assert status == 0
    assert whole["per"] == per and whole["low"] < per < whole["high"]
    assert whole["substitutions"] + whole["insertions"] + whole["deletions"] == round(per * whole["phonemes"])
    assert report["without_sil"]["phonemes"] < whole["phonemes"]
    for key in ("utterances", "substitutions", "insertions", "deletions", "phonemes"):
        assert sum(day[key] for day in report["days"]) == (report if key == "utterances" else whole)[key]
    times = [row["times"] for row in report["confusions"]]
    assert times == sorted(times, reverse=True) and len(times) == 10


def test_beam_search_is_another_decoder_of_the_same_checkpoint(call, trained, tiny_data):
    """It says so, and its PER is near the greedy one."""
    path, per = trained
    _, out, _ = call("evaluate", path, "--data", tiny_data, "--decoder", "beam", "--beam", "8", "--format", "json")
    report = json.loads(out)
    assert (report["decoder"], report["beam"]) == ("beam", 8)
    assert abs(report["all"]["per"] - per) < 0.1  # barely trained, so the two may differ by more than a hundredth


def test_the_table_is_for_reading(call, trained, tiny_data):
    """The same numbers with four digits, per day and per error."""
    path, per = trained
    status, out, _ = call("evaluate", path, "--data", tiny_data)
    assert status == 0
    for text in (f"{per:.4f}", "without SIL", "synthetic.01", "(nothing)", "most frequent errors"):
        assert text in out


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_out_writes_every_hypothesis(call, trained, tiny_data, tmp_path, ending):
    """Utterance, day, text, reference, hypothesis and errors; the errors add up to the PER."""
    path, per = trained
    out = tmp_path / f"hypotheses.{ending}"
    status, said, _ = call("evaluate", path, "--data", tiny_data, "--out", out)
    with out.open(newline="") as file:
        rows = [json.loads(line) for line in file] if ending == "jsonl" else list(csv.DictReader(file))
    assert status == 0 and f"wrote {out}: {len(rows)} hypotheses" in said
    assert list(rows[0]) == ["utterance", "day", "text", "reference", "hypothesis", "errors", "phonemes"]
    assert sum(int(row["errors"]) for row in rows) / sum(int(row["phonemes"]) for row in rows) == pytest.approx(per)
    assert all(len(row["reference"].split()) == int(row["phonemes"]) for row in rows)


def test_other_data_are_one_line_each(call, trained, tmp_path):
    """Data of other features and days: what the checkpoint knows, and no traceback."""
    import numpy as np

    from trainable.data.packed import write_dataset
    from trainable.data.phonemes import CLASSES

    folder = tmp_path / "other"
    with write_dataset(folder, name="other", source={}, classes=CLASSES, bin_ms=20) as w:
        for split in ("train", "val"):
            w.add(np.zeros((40, 7), np.float32), split=split, session="somewhere", labels=[1, 2], text="")
    status, out, error = call("evaluate", trained[0], "--data", folder)
    assert (status, out) == (2, "")
    assert len(error.splitlines()) == 2
    assert "7 features a bin" in error and "no layer for day somewhere" in error


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def damage(how, whole, path, trap):
    import torch

    if how == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "hostile pickle":
        path.write_bytes(pickle.dumps({"schema": 1, "model": Hostile(trap)}))
    elif how == "hostile checkpoint":
        torch.save({"schema": 1, "model": Hostile(trap)}, path)
    elif how == "weights of something else":
        torch.save({"layer.weight": torch.zeros(3)}, path)
    elif how == "another model":
        path.write_bytes(whole)
        state = torch.load(path, weights_only=True)
        state["config"]["model"]["hidden"] = 32
        torch.save(state, path)
    elif how == "not a checkpoint":
        path.write_text("epoch,per\n1,0.5\n")


@pytest.mark.parametrize(
    "how",
    [
        "truncated",
        "hostile pickle",
        "hostile checkpoint",
        "weights of something else",
        "another model",
        "not a checkpoint",
        "missing",
    ],
)
def test_a_file_that_is_no_checkpoint_is_one_line(call, trained, tiny_data, tmp_path, how):
    """Damaged, foreign and hostile files: the file and the reason, status 2, and nothing in them runs."""
    path, trap = tmp_path / "bad.pt", tmp_path / "trap"
    damage(how, trained[0].read_bytes(), path, trap)
    status, out, error = call("evaluate", path, "--data", tiny_data)
    assert (status, out) == (2, "")
    assert len(error.splitlines()) == 1 and error.startswith(f"error: {path}: ")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--split", "test"), "no test utterances"),
        (("--out", "hypotheses.txt"), "the ending '.txt' is not allowed; give .jsonl or .csv"),
        (("--out", "missing/h.csv"), "the folder"),
    ],
)
def test_bad_options_are_one_line(call, trained, tiny_data, arguments, line):
    """A split without utterances, an unknown ending, a folder that does not exist."""
    status, out, error = call("evaluate", trained[0], "--data", tiny_data, *arguments)
    assert (status, out) == (2, "")
    assert len(error.splitlines()) == 1 and line in error


def test_utterances_without_labels_are_heard_but_not_scored(call, trained, tmp_path):
    """With --out the hypotheses are written; without it one line says why there is no PER."""
    import numpy as np

    from trainable.data.packed import write_dataset
    from trainable.data.phonemes import CLASSES

    folder = tmp_path / "unlabelled"
    day = "synthetic.01"
    with write_dataset(folder, name="x", source={}, classes=CLASSES, bin_ms=20) as writer:
        for split, labels in (("train", [1]), ("val", [1]), ("test", [])):
            writer.add(np.zeros((40, 24), np.float32), split=split, session=day, labels=labels, text="")
    arguments = ("evaluate", trained[0], "--data", folder, "--split", "test")
    status, _, error = call(*arguments)
    assert status == 2 and "the test utterances have no labels" in error
    out = tmp_path / "heard.csv"
    status, said, _ = call(*arguments, "--out", out)
    assert status == 0 and "without labels there is no PER" in said
    with out.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["errors"] == "" and row["reference"] == ""


def test_each_score_of_the_test_split_is_noted_and_counted(call, trained, tmp_path):
    """In the results folder, with the PER that is shown; the validation split may be scored as often as one likes."""
    import numpy as np

    from results.test_uses import uses
    from trainable.data.dataset import open_dataset
    from trainable.data.packed import write_dataset
    from trainable.data.phonemes import CLASSES

    folder, results = tmp_path / "labelled", tmp_path / "studies"
    with write_dataset(folder, name="x", source={}, classes=CLASSES, bin_ms=20) as writer:
        for split in ("train", "val", "test"):
            features = np.zeros((40, 24), np.float32)
            writer.add(features, split=split, session="synthetic.01", labels=[1, 2], text="")
    arguments = ("evaluate", trained[0], "--data", folder, "--results", results, "--split")
    assert call(*arguments, "val")[0] == 0 and not results.exists()
    status, said, _ = call(*arguments, "test")
    assert status == 0 and "greedy, fp32; the first use of this test split" in said
    status, out, _ = call(*arguments, "test", "--format", "json")
    report = json.loads(out)
    assert status == 0 and report["use"] == 2
    first, second = uses(results, open_dataset(folder).fingerprint)
    assert first["per"] == second["per"] == report["all"]["per"] and first["what"] == str(trained[0])
