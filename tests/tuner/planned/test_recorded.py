"""Runs that were not run here become a study: the recorded history, and the reference trainer's result folders."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from results.store.events import read_events
from results.store.tables import load_tables
from search_spaces import InputError, load_run, to_dict
from tuner.planned.imported.reading import read_results
from tuner.planned.past import add_recorded, write_study

ARGS = {
    "outputDir": "/somewhere/speechBaseline4",
    "datasetPath": "/somewhere/ptDecoder_ctc",
    "seqLen": 150,
    "maxTimeSeriesLen": 1200,
    "batchSize": 64,
    "lrStart": 0.02,
    "lrEnd": 0.02,
    "nUnits": 1024,
    "nBatch": 400,
    "nLayers": 5,
    "seed": 3,
    "nClasses": 40,
    "nInputFeatures": 256,
    "dropout": 0.4,
    "whiteNoiseSD": 0.8,
    "constantOffsetSD": 0.2,
    "gaussianSmoothWidth": 2.0,
    "strideLen": 4,
    "kernelLen": 32,
    "bidirectional": True,
    "l2_decay": 1e-5,
}
FORK = {
    **{k: v for k, v in ARGS.items() if not k.startswith("lr")},
    "gradient_accumulation_steps": 2,
    "batchSize": 32,
    "nBatch": 600,
    "optimizer": "adam",
    "weight_decay": 2e-5,
    "use_layer_norm": True,
    "input_dropout": 0.05,
    "peak_lr": 0.001,
    "lrEnd": 1e-7,
    "warmup_steps": 60,
    "cosine_T_max": 540,
    "use_ema": True,
    "ema_decay": 0.9995,
    "grad_clip_norm": 1.0,
    "use_amp": True,
    "eval_every": 100,
    "time_mask_prob": 0.08,
    "plateau_guard": False,
    "run_purpose": "EMA=0.999 with a long tail",
}


def folder(root: Path, name: str = "run", args: Any = ARGS, pers=None, metrics=None) -> Path:
    """A result folder as the trainer leaves it."""
    path = root / name
    path.mkdir(parents=True)
    if args is not None:
        (path / "args").write_bytes(pickle.dumps(args))
    if pers is not None:
        stats = {"testLoss": 3 * np.array(pers), "testCER": np.array(pers)}
        (path / "trainingStats").write_bytes(pickle.dumps(stats))
    if metrics is not None:
        (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    return path


def metrics(steps, pers) -> list[dict[str, Any]]:
    return [
        {"step": s, "per": p, "ctc_loss": 3 * p, "lr": 1e-3, "grad_norm_avg": 2.0, "eval_split": "valid"}
        for s, p in zip(steps, pers, strict=True)
    ]


@pytest.fixture
def imported(tmp_path):
    """Imports a folder as the study `lab` and gives its tables as lists of dicts."""

    def run(path: Path) -> SimpleNamespace:
        write_study(tmp_path / "results", "lab", read_results(path).trials, data={"name": "x", "path": "x"}, note="n")
        tables, problems = load_tables(tmp_path / "results", ["lab"])
        assert problems == []
        return SimpleNamespace(**{name: table.to_pylist() for name, table in tables.items()})

    return run


def test_the_recorded_runs_are_rows(tmp_path):
    """All 23 runs are trials of origin recorded, with the PER that the page gives and none where it gives none."""
    runs = add_recorded(tmp_path, "recorded")
    trials = {row["run"]: row for row in load_tables(tmp_path)[0]["trials"].to_pylist()}
    assert len(trials) == 23
    assert {row["origin"] for row in trials.values()} == {"recorded"}
    for run in runs:
        row = trials[run.name]
        assert row["best_per"] == run.recorded.get("per") == row["last_per"]
        assert row["beam_per"] == run.recorded.get("per_beam")
        assert (row["parent"], row["phase"], row["purpose"]) == (run.parent, run.phase, run.purpose)
        assert row["schedule_peak_lr"] == run.config.schedule.peak_lr
        assert (row["epochs"], row["best_epoch"], row["batches"]) == (None, None, None)
    assert list(trials)[:2] == ["speechBaseline4", "gru_ctc_reg1"]


def test_incomplete_and_unknown_results_are_told_apart(tmp_path):
    """Training that the page calls incomplete is interrupted; a run without a result on the page is completed, null."""
    add_recorded(tmp_path, "recorded")
    trials = {row["run"]: row for row in load_tables(tmp_path)[0]["trials"].to_pylist()}
    assert {name for name, row in trials.items() if row["status"] == "interrupted"} == {
        "run16_2",
        "run18_long_sgdr_swa",
    }
    assert (trials["gru_ctc_reg2"]["status"], trials["gru_ctc_reg2"]["best_per"]) == ("completed", None)
    assert trials["speechBaseline4"]["decoder"] == "greedy"
    assert trials["gru_ctc_reg1"]["decoder"] is None
    assert trials["run16_4"]["split"] == "test"


def test_what_is_assumed_is_named(tmp_path):
    """A trial lists, as columns of the table, the settings that nobody wrote down."""
    add_recorded(tmp_path, "recorded")
    table = load_tables(tmp_path)[0]["trials"]
    for text in table["assumed"].to_pylist():
        assert set(text.split(", ")) <= set(table.column_names)


def test_an_existing_study_is_not_overwritten(tmp_path):
    """A second time is refused in one line, and leaves the log as it was and nothing beside it."""
    add_recorded(tmp_path, "recorded")
    before = (tmp_path / "recorded" / "events.jsonl").read_bytes()
    with pytest.raises(InputError, match="exists") as caught:
        add_recorded(tmp_path, "recorded")
    assert len(caught.value.problems) == 1
    assert (tmp_path / "recorded" / "events.jsonl").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["recorded"]


def test_a_study_is_whole_or_not_there(tmp_path, monkeypatch):
    """If writing fails half way, no study and no half of one is left."""
    from results.store.events import EventLog

    append = EventLog.append

    def failing(self, event, **fields):
        if fields.get("trial") == 5:
            raise InputError("the disk is full")
        return append(self, event, **fields)

    monkeypatch.setattr(EventLog, "append", failing)
    with pytest.raises(InputError, match="full"):
        add_recorded(tmp_path, "recorded")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x\ny"])
def test_a_study_name_that_is_no_folder_name_is_refused(tmp_path, name):
    """A name that would lead elsewhere makes nothing."""
    with pytest.raises(InputError, match="not allowed as a name"):
        add_recorded(tmp_path / "results", name)
    assert list(tmp_path.iterdir()) == []


def test_the_reference_folder(tmp_path, imported):
    """args become the configuration with the trainer's own eps, testCER at every 100th batch the epochs."""
    tables = imported(folder(tmp_path, "speechBaseline4", pers=[0.97, 0.6, 0.3, 0.35]))
    (trial,) = tables.trials
    assert (trial["run"], trial["origin"], trial["status"], trial["split"]) == (
        "speechBaseline4",
        "recorded",
        "completed",
        "test",
    )
    assert (trial["best_per"], trial["best_epoch"], trial["last_per"], trial["batches"]) == (0.3, 3, 0.35, 301)
    assert (trial["model_hidden"], trial["optimizer_eps"], trial["optimizer_weight_decay"]) == (1024, 0.1, 1e-5)
    assert (trial["schedule_kind"], trial["schedule_peak_lr"], trial["seed"]) == ("constant", 0.02, 3)
    assert trial["augmentation_white_noise"] == 0.8
    assert trial["note"] is None
    assert [row["batch"] for row in tables.epochs] == [1, 101, 201, 301]
    assert tables.epochs[1]["val_loss"] == pytest.approx(1.8)


def test_a_falling_rate_is_a_line(tmp_path, imported):
    """lrStart above lrEnd is the reference's linear schedule."""
    (trial,) = imported(folder(tmp_path, args={**ARGS, "lrEnd": 0.005}, pers=[0.5])).trials
    assert (trial["schedule_kind"], trial["schedule_peak_lr"], trial["schedule_end_lr"]) == ("linear", 0.02, 0.005)


def test_a_forks_folder_is_counted_in_optimizer_steps(tmp_path, imported):
    """With accumulation 2, micro-batch 599 is batch 300, and the schedule that was laid out for 600 is half done."""
    tables = imported(folder(tmp_path, args=FORK, metrics=metrics(range(0, 600, 100), [0.9, 0.5, 0.4, 0.3, 0.2, 0.3])))
    (trial,) = tables.trials
    assert (trial["schedule_kind"], trial["schedule_horizon"], trial["training_batches"]) == ("warmup_cosine", 600, 300)
    assert (trial["training_accumulation"], trial["training_batches_per_epoch"]) == (2, 50)
    assert (trial["averaging_kind"], trial["averaging_decay"]) == ("ema", 0.9995)
    assert (trial["optimizer_eps"], trial["optimizer_weight_decay"], trial["training_clip"]) == (1e-8, 2e-5, 1.0)
    assert (trial["status"], trial["split"], trial["best_per"]) == ("completed", "valid", 0.2)
    assert trial["purpose"] == "EMA=0.999 with a long tail"
    assert "optimizer_eps" in trial["assumed"]
    last = tables.epochs[-1]
    assert (last["batch"], last["lr"], last["grad_norm"]) == (250, 1e-3, 2.0)
    assert last["schedule_fraction"] == pytest.approx(250 / 600)


def test_settings_without_a_counterpart_are_listed(tmp_path):
    """What is switched on and has no counterpart is named; what is off, or says nothing about learning, is not."""
    found = read_results(folder(tmp_path, args=FORK, pers=[0.5]))
    assert found.unmatched == {"time_mask_prob": ["run"]}
    assert found.trials[0].about["note"] == "settings that do not exist here: time_mask_prob"


def test_a_run_that_ended_early_is_interrupted(tmp_path, imported):
    """A log that ends before the last evaluation, and a folder with settings only, are interrupted runs."""
    folder(tmp_path / "lab", "early", args=FORK, metrics=metrics([0, 100], [0.9, 0.8]))
    folder(tmp_path / "lab", "never", args=ARGS)
    folder(tmp_path / "lab", "nan", args=ARGS, pers=[0.9, float("nan")])
    status = {row["run"]: row["status"] for row in imported(tmp_path / "lab").trials}
    assert status == {"early": "interrupted", "never": "interrupted", "nan": "diverged"}


def test_a_second_start_in_a_folder_is_another_run(tmp_path, imported):
    """metrics.jsonl that begins again at step 0 holds two runs: the second does not overwrite the first one's PER."""
    rows = metrics([0, 100, 200, 0], [0.9, 0.5, 0.3, 0.91])
    trials = imported(folder(tmp_path, "run16_2", args=FORK, metrics=rows)).trials
    assert [(row["run"], row["best_per"]) for row in trials] == [("run16_2", 0.3), ("run16_2_restart1", 0.91)]
    assert "started again" in trials[0]["note"]


def test_a_step_that_comes_again_is_a_further_attempt(tmp_path, imported):
    """A run that went on from step 100 has one row per evaluation, the later attempt's."""
    tables = imported(
        folder(tmp_path, args=FORK, metrics=metrics([0, 100, 200, 100, 200], [0.9, 0.5, 0.4, 0.45, 0.35]))
    )
    assert [(row["attempt"], row["epoch"], row["per"]) for row in tables.epochs] == [
        (1, 1, 0.9),
        (2, 2, 0.45),
        (2, 3, 0.35),
    ]
    assert tables.trials[0]["attempts"] == 2


def test_the_log_can_be_read_by_a_searcher(tmp_path):
    """Every trial of an imported study has the fields of one run here, so that a search can replay it."""
    from tuner.study.state import StudyState

    write_study(
        tmp_path, "lab", read_results(folder(tmp_path, pers=[0.5, 0.4])).trials, data={"name": "", "path": ""}, note=""
    )
    state = StudyState()
    for event in read_events(tmp_path / "lab" / "events.jsonl")[0]:
        state.apply(event)
    assert state.trials[0].best == (0.4, 2)
    assert to_dict(state.trials[0].config)["training"]["seed"] == 3


def one_line(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_results(path)
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


class Hostile:
    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_a_hostile_folder_runs_nothing(tmp_path):
    """A command in args or in trainingStats is refused in one line that names the file, and does not run."""
    mark = tmp_path / "it-ran"
    assert "args" in one_line(folder(tmp_path, "a", args={**ARGS, "seed": Hostile(mark)}))
    (folder(tmp_path, "b") / "trainingStats").write_bytes(pickle.dumps({"testCER": Hostile(mark)}))
    assert "trainingStats" in one_line(tmp_path / "b")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"nUnits": "many"}, "model.hidden"),
        ({"nUnits": -1}, "model.hidden"),
        ({"milestones": ["soon"], "gamma": 0.1, "learning_scheduler": "multistep"}, "impossible"),
        ({"nBatch": "ten"}, "impossible"),
        ({"dropout": float("nan")}, "model.dropout"),
    ],
)
def test_impossible_settings_are_one_line(tmp_path, changes, said):
    """A setting of the wrong type or range is named by its place in the configuration."""
    line = one_line(folder(tmp_path, args={**ARGS, **changes}))
    assert said in line
    assert "args" in line


def test_foreign_and_damaged_files_are_one_line(tmp_path):
    """Truncated pickles, other dicts, text, and metrics that are no JSON are each one line with the path."""
    whole = pickle.dumps(ARGS)
    path = folder(tmp_path, "a", args=None)
    (path / "args").write_bytes(whole[: len(whole) // 2])
    assert "args" in one_line(path)
    assert "dict" in one_line(folder(tmp_path, "b", args=[1, 2]))
    assert "without settings" in one_line(folder(tmp_path, "c", args=None, pers=[0.5]))
    path = folder(tmp_path, "d")
    (path / "trainingStats").write_bytes(pickle.dumps({"loss": 1}))
    assert "testCER" in one_line(path)
    path = folder(tmp_path, "e")
    (path / "metrics.jsonl").write_text("step,per\n0,0.9\n")
    assert "metrics.jsonl" in one_line(path)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "has no result folders" in one_line(empty)
    assert "not a folder" in one_line(tmp_path / "nowhere")


def test_of_several_folders_the_readable_ones_are_imported(tmp_path):
    """One damaged folder does not keep the others out; it is named."""
    folder(tmp_path / "lab", "good", pers=[0.5])
    bad = folder(tmp_path / "lab", "bad", args=None)
    (bad / "args").write_bytes(b"nothing")
    found = read_results(tmp_path / "lab")
    assert [trial.about["run"] for trial in found.trials] == ["good"]
    assert len(found.problems) == 1
    assert "bad" in found.problems[0]


def test_a_torn_line_of_metrics_is_left_out(tmp_path):
    """The line on which the trainer was killed is reported; the others count."""
    path = folder(tmp_path, args=FORK, metrics=metrics([0, 100], [0.9, 0.5]))
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 200, "pe')
    found = read_results(path)
    assert [row["per"] for row in found.trials[0].epochs] == [0.9, 0.5]
    assert "line 3" in found.problems[0]


def test_the_commands(tmp_path, cli):
    """`results add-recorded` and `results import` say what was added, and refuse in one line with status 2."""
    assert "added 23 recorded runs" in cli("results", "add-recorded", cwd=tmp_path).out
    folder(tmp_path / "lab", "one", args=FORK, pers=[0.5, 0.25])
    done = cli("results", "import", "lab", cwd=tmp_path)
    assert "added 1 runs with 2 evaluations" in done.out
    assert "setting does not exist here: time_mask_prob (one)" in done.out
    again = cli("results", "import", "lab", cwd=tmp_path)
    assert again.status == 2
    assert again.err.count("\n") == 1
    assert "recorded, not trained here" in cli("best", "lab", cwd=tmp_path).out


def test_the_baseline_file_agrees_with_the_reference(tmp_path):
    """The shipped speechBaseline4 is what the reference's own settings import as, where both say something."""
    found = read_results(folder(tmp_path, args={**ARGS, "nBatch": 10_000, "seed": 0}, pers=[0.5])).trials[0].config
    # The page says nothing of the reference's even kernel, which shifts the features by half a bin.
    assert found == load_run("speechBaseline4", ["augmentation.smoothing_even=true"]).config
