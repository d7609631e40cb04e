"""Searches as a user runs them: the command line on a real local Ray, real training, real kills."""

import json
import os
import signal

import pyarrow.parquet as pq
import pytest

from results.store.events import read_events

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_data, real_space, tuner):
    """A search of six trials, one at a time, never interrupted."""
    folder = tmp_path_factory.mktemp("finished")
    done = tuner.run("search", real_space, "--data", tiny_data, "--study", "whole", "--concurrent", 1, cwd=folder)
    assert done.status == 0, done.err
    return folder, done


def study_folder(folder, name):
    return folder / "results" / "studies" / name


def test_a_search_fills_the_tables_and_prints_the_best(finished):
    """Six trials end; the tables have a row for each trial and each epoch; the table and the next step are printed."""
    folder, done = finished
    study = study_folder(folder, "whole")
    trials = pq.read_table(study / "trials.parquet").to_pylist()
    epochs = pq.read_table(study / "epochs.parquet").to_pylist()
    assert [t["trial"] for t in trials] == list(range(6))
    assert {t["status"] for t in trials} <= {"completed", "stopped"}
    assert [t["origin"] for t in trials] == ["start_point"] + ["searched"] * 5
    assert len({(e["trial"], e["epoch"]) for e in epochs}) == len(epochs) == sum(t["epochs"] for t in trials)
    best = min(t["best_per"] for t in trials)
    assert best == min(e["per"] for e in epochs)
    assert f"{best:.4f}" in done.out
    assert "tuner best whole" in done.out
    assert "6 of 6 ended" in done.err


def test_a_search_leaves_only_its_own_files(finished):
    """No result files of Tune, no temporary Ray folder, and no whole state of a trial that has ended."""
    study = study_folder(*finished[:1], "whole")
    names = {path.name for path in study.rglob("*") if path.is_file()}
    assert names == {"events.jsonl", "studies.parquet", "trials.parquet", "epochs.parquet", "lock", "best.pt"}
    assert [p.name for p in study.parent.iterdir()] == ["whole"]


def test_best_and_query_answer_from_the_tables(finished, cli):
    """`best` and `query` on the finished study, in several formats."""
    folder, _ = finished
    rows = json.loads(cli("best", "whole", "--top", 3, "--format", "json", cwd=folder).out)
    assert len(rows) == 3
    assert [r["best_per"] for r in rows] == sorted(r["best_per"] for r in rows)
    sql = "select averaging_kind, min(best_per) as best, count(*) as n from trials group by 1 order by 2"
    rows = json.loads(cli("query", sql, "--format", "json", cwd=folder).out)
    assert sum(r["n"] for r in rows) == 6
    assert {r["averaging_kind"] for r in rows} <= {"none", "ema"}


def test_the_best_checkpoint_scores_what_the_table_says(finished, tiny_data):
    """The checkpoint named in the trials table, loaded anew, has the table's best PER."""
    import torch

    from trainable.checkpoint import load, load_model
    from trainable.data.batches import Loader
    from trainable.data.dataset import open_dataset
    from trainable.evaluation import evaluate

    study = study_folder(finished[0], "whole")
    trials = pq.read_table(study / "trials.parquet").to_pylist()
    best = min(trials, key=lambda t: t["best_per"])
    model = load_model(load(study / best["checkpoint"]))
    loader = Loader(open_dataset(tiny_data).val, torch.device("cpu"))
    found = evaluate(model, loader, "target_mean", torch.autocast("cpu", enabled=False))
    assert found.per == best["best_per"]


@pytest.mark.parametrize(("epochs", "every"), [(2, "auto"), (13, "3 epochs")])
def test_a_killed_driver_resumes_exactly(finished, tmp_path, tiny_data, real_space, tuner, epochs, every):
    """SIGKILL on the driver, then `tuner resume`: the same trials, stops and PERs, bit for bit, and nothing twice.

    Whether a checkpoint is written at every epoch or epochs have to be repeated.
    """
    arguments = ("search", real_space, "--data", tiny_data, "--study", "killed", "--concurrent", 1)
    arguments += ("--checkpoint-every", every)
    process = tuner.start(*arguments, cwd=tmp_path, start_new_session=True)
    study = study_folder(tmp_path, "killed")
    tuner.wait_for_epochs(process, study / "events.jsonl", epochs)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    acknowledged = [e for e in read_events(study / "events.jsonl")[0] if e["event"] == "epoch"]
    done = tuner.run("resume", "killed", "--concurrent", 1, cwd=tmp_path)
    assert done.status == 0, done.err
    assert tuner.decisions(study) == tuner.decisions(study_folder(finished[0], "whole"))
    epochs_table = pq.read_table(study / "epochs.parquet").to_pylist()
    keys = [(e["trial"], e["epoch"]) for e in epochs_table]
    assert len(set(keys)) == len(keys)
    assert {(e["trial"], e["epoch"]) for e in acknowledged} <= set(keys)


def test_a_population_over_rates_killed_and_resumed_is_the_one_that_was_not(tmp_path, tiny_data, real_space, tuner):
    """pbt on Ray: heirs go on from a donor's checkpoint with another learning rate, exactly so after a SIGKILL.

    The log says from whom and at which epoch; the epochs of an heir come after the donor's; no state of an ended trial
    is left.
    """
    rule = "pbt population=3 quantile=0.34 interval=2 resample=0"
    common = ("search", real_space, "--data", tiny_data, "--stopping", rule, "--trials", 6, "--concurrent", 1)
    common += ("--searcher", "random")
    whole = tuner.run(*common, "--study", "whole", cwd=tmp_path)
    assert whole.status == 0, whole.err
    process = tuner.start(*common, "--study", "killed", cwd=tmp_path, start_new_session=True)
    study = study_folder(tmp_path, "killed")
    tuner.wait_for_epochs(process, study / "events.jsonl", 9)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    done = tuner.run("resume", "killed", "--concurrent", 1, cwd=tmp_path)
    assert done.status == 0, done.err
    assert tuner.decisions(study) == tuner.decisions(study_folder(tmp_path, "whole"))
    trials = {t["trial"]: t for t in pq.read_table(study / "trials.parquet").to_pylist()}
    heirs = [t for t in trials.values() if t["from_trial"] is not None]
    assert heirs
    epochs = pq.read_table(study / "epochs.parquet").to_pylist()
    for heir in heirs:
        donor = trials[heir["from_trial"]]
        factor = heir["schedule_peak_lr"] / donor["schedule_peak_lr"]
        assert min(abs(factor - 0.8), abs(factor - 1.2)) < 1e-9 or heir["schedule_peak_lr"] in (1e-4, 5e-2)
        assert min(e["epoch"] for e in epochs if e["trial"] == heir["trial"]) == heir["from_trial_epoch"] + 1
    assert not list(study.rglob("last.pt"))


def most_at_once(log):
    """The largest number of attempts that ran at the same time."""
    running, most = set(), 0
    for event in read_events(log)[0]:
        if event["event"] == "trial_started":
            running.add(event["trial"])
        elif event["event"] == "trial_ended":
            running.discard(event["trial"])
        most = max(most, len(running))
    return most


def test_more_at_once_then_ctrl_c_keeps_everything(tmp_path, tiny_data, real_space, tuner, cli, wait, end):
    """`tuner set` while one trial runs: Ray starts a second beside it. Then one Ctrl-C: exit 130, the table, running
    trials interrupted in the tables, the command that goes on.
    """
    arguments = ("search", real_space, "--data", tiny_data, "--study", "c", "--concurrent", 1, "--cpus", 2)
    process = tuner.start(*arguments, "--trials", 60, cwd=tmp_path)
    study = study_folder(tmp_path, "c")
    log = study / "events.jsonl"
    tuner.wait_for_epochs(process, log, 3)
    assert most_at_once(log) == 1
    asked = cli("set", "c", "concurrent=2", "--wait", 300, cwd=tmp_path)
    assert asked.out.startswith("c: 2 trials at once from now on"), asked
    wait(lambda: most_at_once(log) == 2, lambda: log.stat().st_size)
    process.send_signal(signal.SIGINT)
    done = end(process, tmp_path)
    assert done.status == 130, done.err
    assert "tuner resume c" in done.out
    assert "Traceback" not in done.err
    trials = pq.read_table(study / "trials.parquet").to_pylist()
    assert "interrupted" in {t["status"] for t in trials}
    assert "running" not in {t["status"] for t in trials}
    events = [e for e in read_events(study / "events.jsonl")[0] if e["event"] == "epoch"]
    assert pq.read_table(study / "epochs.parquet").num_rows == len(events)


def test_a_killed_worker_is_replaced_and_its_trial_goes_on(finished, tmp_path, tiny_data, real_space, tuner, end):
    """SIGKILL on a trial's process: the trial goes on under attempt 2, and the study ends as it would have."""
    arguments = ("search", real_space, "--data", tiny_data, "--study", "w", "--concurrent", 1)
    process = tuner.start(*arguments, cwd=tmp_path)
    study = study_folder(tmp_path, "w")
    tuner.wait_for_epochs(process, study / "events.jsonl", 2)
    pid = [e for e in read_events(study / "events.jsonl")[0] if e["event"] == "epoch"][-1]["pid"]
    os.kill(pid, signal.SIGKILL)
    done = end(process, tmp_path)
    assert done.status == 0, done.err
    assert "to be tried again" in done.err
    assert tuner.decisions(study)[0] == tuner.decisions(study_folder(finished[0], "whole"))[0]
    trials = pq.read_table(study / "trials.parquet").to_pylist()
    assert {t["status"] for t in trials} <= {"completed", "stopped"}


def test_a_trial_that_cannot_be_trained_is_a_row_and_the_search_goes_on(tmp_path, tiny_data, real_space, tuner):
    """Trials whose kernel is longer than the utterances fail with the reason in the table; diverged ones are marked."""
    text = real_space.read_text().replace("  averaging.kind", "  model.kernel: {choice: [8, 500]}\n  averaging.kind")
    text = text.replace("budget: {trials: 6}", "budget: {trials: 5}").replace(
        "kind: tpe, startup_trials: 3", "kind: random"
    )
    (tmp_path / "real.yaml").write_text((real_space.parent / "real.yaml").read_text())
    path = tmp_path / "kernels.yaml"
    path.write_text(text)
    done = tuner.run("search", path, "--data", tiny_data, "--study", "k", cwd=tmp_path)
    assert done.status == 0, done.err
    trials = pq.read_table(study_folder(tmp_path, "k") / "trials.parquet").to_pylist()
    failed = [t for t in trials if t["model_kernel"] == 500]
    assert failed
    assert all(t["status"] == "failed" and "kernel" in t["error"] for t in failed)
    assert all(t["status"] in ("completed", "stopped") for t in trials if t["model_kernel"] == 8)


def test_a_wall_time_budget_ends_the_search(tmp_path, tiny_data, real_space, tuner):
    """When the hours are used up the search ends with status 0 and says how to go on."""
    done = tuner.run(
        "search", real_space, "--data", tiny_data, "--study", "t", "--trials", 500, "--hours", 5 / 3600, cwd=tmp_path
    )
    assert done.status == 0, done.err
    assert "the time limit is reached" in done.out
    trials = pq.read_table(study_folder(tmp_path, "t") / "trials.parquet").to_pylist()
    assert 0 < len(trials) < 500


def test_a_search_that_cannot_propose_ends_in_one_line(tmp_path, tiny_data, real_space, tuner):
    """A constraint that hardly any draw keeps ends the search with one line and status 2 before a study is made."""
    text = real_space.read_text().replace("start_points: [real.yaml]", "constraints: ['schedule.peak_lr < 0.0001005']")
    (tmp_path / "real.yaml").write_text((real_space.parent / "real.yaml").read_text())
    (tmp_path / "narrow.yaml").write_text(text)
    done = tuner.run("search", "narrow.yaml", "--data", tiny_data, "--study", "n", "--trials", 30, cwd=tmp_path)
    assert done.status == 2, done.err
    errors = [line for line in done.err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "none of 200 draws met the constraint" in errors[0] and "relax it or widen the ranges" in errors[0]
    assert "Traceback" not in done.err
    assert not (tmp_path / "results").exists()
