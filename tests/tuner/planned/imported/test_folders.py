"""Result folders of the reference, its forks and the '25 baseline as trials, and what their notes say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from search_spaces import InputError, load_run
from tests.tuner.planned.imported.conftest import ARGS, BASELINE_25, EPOCHS
from tuner.planned.imported.reading import read_results

PERS = [0.9, 0.6, 0.4, 0.3]


def rows(steps, pers, **more):
    return [{"step": step, "per": per, **more} for step, per in zip(steps, pers, strict=True)]


def test_epochs_are_passes_over_the_data(run_folder, imported):
    """Of a run that is counted in epochs, each value of trainingStats is after a whole pass."""
    tables = imported(run_folder(args={**EPOCHS, "n_epochs": 4, "milestones": [2]}, pers=PERS), utterances=1000)
    assert [row["batch"] for row in tables.epochs] == [32, 64, 96, 128]
    assert (tables.trials[0]["status"], tables.trials[0]["best_per"]) == ("completed", 0.3)
    assert tables.epochs[-1]["schedule_fraction"] == 1.0


def test_an_unknown_setting_is_an_empty_column_that_is_named(run_folder, imported):
    """The column is null and under `assumed`; a column beside it has its value."""
    (trial,) = imported(run_folder(args={**ARGS, "optimizer": "lion", "seed": None}, pers=PERS)).trials
    assert trial["optimizer_kind"] is trial["optimizer_eps"] is trial["training_clip"] is trial["seed"] is None
    assert {"optimizer_kind", "optimizer_eps", "training_clip"} <= set(trial["assumed"].split(", "))
    assert trial["optimizer_weight_decay"] == 3e-5


def test_a_loss_that_was_never_logged_is_no_divergence(run_folder, imported):
    """Without any loss a run is completed; with one that ended in NaN it is diverged."""
    run_folder("never", metrics__jsonl=rows(range(0, 900, 100), np.linspace(0.9, 0.3, 9)))
    run_folder("lost", metrics__jsonl=rows([0, 100], [0.9, 0.8], ctc_loss=float("nan")))
    tables = imported(run_folder("never").parent)
    assert {row["run"]: row["status"] for row in tables.trials} == {"never": "completed", "lost": "diverged"}
    assert {row["val_loss"] for row in tables.epochs} == {None}


def test_rows_without_a_per_are_no_evaluations(run_folder, imported):
    """Rows of training alone do not count, and are no fault of the file."""
    mixed = [
        row for step in range(0, 900, 100) for row in ({"step": step, "train_loss_avg": 1.0}, *rows([step], [0.5]))
    ]
    tables = imported(run_folder(metrics__jsonl=mixed))
    assert len(tables.epochs) == 9
    assert tables.found.problems == []


def test_a_run_that_went_on_and_a_per_in_percent_are_noted(run_folder, imported):
    """Both come in, with a note; PERs are fractions in the tables."""
    run_folder("on", pers=np.linspace(0.9, 0.3, 12))
    run_folder("percent", pers=100 * np.array(PERS))
    trials = {row["run"]: row for row in imported(run_folder("on").parent).trials}
    assert "went on beyond its settings: 1,101 batches of 900" in trials["on"]["note"]
    assert trials["on"]["status"] == "completed"
    assert trials["percent"]["best_per"] == pytest.approx(0.3)
    assert "was in percent (up to 90); divided by 100" in trials["percent"]["note"]


def test_a_per_above_one_is_not_percent(run_folder, imported):
    """A decoder that inserts phonemes makes more errors than there are phonemes; that stays as it is."""
    assert imported(run_folder(pers=[2.8, 1.2, 1.1])).trials[0]["best_per"] == pytest.approx(1.1)


def test_evaluations_join_their_run(run_folder, imported):
    """The best of several beam searches is beam_per, greedy on test is test_per; a held-out split has no labels."""
    result = {"num_samples": 880, "median_PER": 0.2, "checkpoint": "best_model.pt"}
    folder = run_folder(
        pers=PERS,
        eval_test__json={**result, "split": "test", "avg_PER": 0.21, "decoding_method": "greedy"},
        eval_beam__json={**result, "split": "test", "avg_PER": 0.63, "decoding_method": "beam_search"},
        eval_test_beam__json={**result, "split": "test", "avg_PER": 0.54},
        eval_competition__json={**result, "split": "competition", "avg_PER": 2.9},
    )
    (folder / "eval_torn.json").write_text('{"split": "te')
    tables = imported(folder)
    (trial,) = tables.trials
    assert (trial["test_per"], trial["beam_per"], trial["best_per"]) == (0.21, 0.54, 0.3)
    assert "eval_test.json: greedy PER 0.2100 on test (mean over utterances)" in trial["note"]
    assert [line.rpartition("/")[2].split(":")[0] for line in tables.found.problems] == [
        "eval_competition.json", "eval_torn.json",
    ]  # fmt: skip


def test_an_evaluation_belongs_to_the_last_start(run_folder, imported):
    """In a folder whose run was started again, the weights that were evaluated are the last start's."""
    folder = run_folder(
        metrics__jsonl=rows([0, 100, 0], [0.9, 0.2, 0.91]), eval_test__json={"split": "test", "avg_PER": 0.92}
    )
    assert [row["test_per"] for row in imported(folder).trials] == [None, 0.92]


def test_an_evaluation_with_all_utterances_is_over_all_phonemes(run_folder, imported):
    """Where every utterance is there, the PER is all edits over all phonemes, as in the tables."""
    details = [{"len_target": 10, "distance": 5, "per": 0.5}, {"len_target": 30, "distance": 3, "per": 0.1}]
    file = {"split": "test", "num_samples": 2, "avg_PER": 0.3, "sample_details": details}
    assert imported(run_folder(pers=PERS, eval_test__json=file)).trials[0]["test_per"] == pytest.approx(0.2)


def test_losses_that_do_not_match_are_left_out(run_folder, imported, write):
    """A fork's testPER with fewer losses than PERs: the PERs count, a line tells of the losses."""
    folder = run_folder()
    write(folder / "trainingStats", {"testLoss": np.array([1.0, 2.0]), "testPER": np.array(PERS)})
    tables = imported(folder)
    assert [row["per"] for row in tables.epochs] == PERS
    assert "4 values of testPER and 2 of testLoss" in tables.found.problems[0]


LOG = """2026-01-02 10:00:00,000: Using device: cuda:1
2026-01-02 10:00:05,000: Train batch 0: loss: 90.00 grad norm: 50.00 time: 0.5
2026-01-02 10:00:09,000: Running test after training batch: 0
2026-01-02 10:00:20,000: Val batch 0: PER (avg): 0.9800 CTC Loss (avg): 80.1000 time: 11.0
2026-01-02 10:30:20,000: Val batch 2500: PER (avg): 0.3100 CTC Loss (avg): 30.5000 time: 11.0
2026-01-02 10:59:20,000: Val batch 4999: PER (avg): 0.2100 CTC Loss (avg): 20.25 time: 11.0
"""


def test_the_25_baselines_folder(tmp_path, write, imported):
    """args.yaml beside the checkpoints and the text of training_log: a trial on the validation split."""
    write(tmp_path / "b25" / "checkpoint" / "args.yaml", BASELINE_25)
    write(tmp_path / "b25" / "training_log", LOG)
    tables = imported(tmp_path / "b25")
    (trial,) = tables.trials
    assert (trial["run"], trial["status"], trial["best_per"], trial["split"]) == ("b25", "completed", 0.21, None)
    assert [(row["batch"], row["val_loss"]) for row in tables.epochs] == [(1, 80.1), (2501, 30.5), (5000, 20.25)]
    (tmp_path / "b25" / "checkpoint" / "args.yaml").unlink()
    with pytest.raises(InputError, match=r"has no args\.yaml"):
        read_results(tmp_path / "b25")


def test_folders_are_found_at_any_depth(run_folder, imported):
    """A lab's folders of folders come in together; one that cannot be read is named and left out."""
    run_folder("2024/a", pers=PERS)
    run_folder("2025/spring/b", pers=PERS)
    run_folder("2025/bad", args=[1])
    tables = imported(run_folder("2024/a").parents[1])
    assert sorted(row["run"] for row in tables.trials) == ["a", "b"]
    assert len(tables.found.problems) == 1 and "bad/args" in tables.found.problems[0]


def test_show_and_the_run_file_say_what_is_not_known(run_folder, tmp_path, cli):
    """`tuner show` names the settings, its JSON has null, and the saved run file has them under `assumed`."""
    run_folder("lion", args={**ARGS, "optimizer": "lion"}, pers=PERS)
    assert "not known, so empty: optimizer_kind" in cli("results", "import", "lab", cwd=tmp_path).out
    assert "not known" in cli("show", "lab", "lion", cwd=tmp_path).out
    facts = json.loads(cli("show", "lab", "lion", "--format", "json", cwd=tmp_path).out)
    assert facts["config"]["optimizer"]["kind"] is None
    assert facts["config"]["model"]["hidden"] == 256
    cli("runs", "save", "lab", "lion", "saved.yaml", cwd=tmp_path)
    run = load_run(tmp_path / "saved.yaml")
    assert "optimizer.eps" in run.assumed and "model.hidden" not in run.assumed


def test_a_repaired_study_keeps_what_is_not_known(run_folder, imported, tmp_path, cli):
    """When the log is lost and made again from the tables, an empty column stays empty."""
    imported(run_folder(args={**ARGS, "optimizer": "lion", "use_plateau_scheduler": True}, pers=PERS))
    (tmp_path / "results" / "lab" / "events.jsonl").write_text("")
    cli("results", "repair", "lab", "--results", "results", cwd=tmp_path)
    (row,) = json.loads(
        cli("query", "select optimizer_kind, schedule_kind, best_per, model_hidden from trials", "--results", "results",
            "--format", "json", cwd=tmp_path).out
    )  # fmt: skip
    assert row == {"optimizer_kind": None, "schedule_kind": None, "best_per": 0.3, "model_hidden": 256}
