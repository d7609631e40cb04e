"""`tuner lineage`: the recorded runs made small, planned, trained and set beside their record."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import signal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.store.events import read_events
from search_spaces import InputError, RunConfig, load_run
from search_spaces.recorded import LINEAGE
from trainable.data.dataset import open_dataset
from trainable.data.feasible import check_trainable
from tuner.launch.new_study import planned_settings
from tuner.planned import lineage
from tuner.planned.lineage import chance, fit_windows, lineage_table, make_plan, spearman
from tuner.study.request import Request
from tuner.study.study import Study

SCALE = 0.0005
"""A run of 10,000 batches becomes one of 5."""


@pytest.fixture(scope="module")
def tiny(tiny_data):
    """The tiny data set, open."""
    return open_dataset(tiny_data)


@pytest.mark.parametrize("name", LINEAGE)
def test_every_recorded_run_trains(tiny, name):
    """Each of the 23, made small, trains to its end with its own techniques; the rate is that of its schedule."""
    import torch

    from trainable import train
    from trainable.schedules import lr_at

    torch.set_num_threads(1)
    (entry,) = make_plan(tiny, SCALE, [name])
    config, recorded = RunConfig.model_validate(entry["config"]), load_run(name).config
    assert config.schedule.kind == recorded.schedule.kind
    assert config.averaging.kind == recorded.averaging.kind
    assert config.augmentation == recorded.augmentation
    assert config.training.accumulation == recorded.training.accumulation
    reports = list(train(config, tiny))
    assert len(reports) == config.epochs and reports[-1].batch == config.training.batches
    for report in reports:
        assert not report.diverged and math.isfinite(report.train_loss) and math.isfinite(report.val_loss)
        assert report.lr == lr_at(config, report.batch - 1)


def test_fp16_where_the_cpu_lacks_it_is_one_line_or_fp32_with_a_note(tiny, monkeypatch):
    """As recorded, it is refused before any work; by default fp32 takes its place, and the plan says so."""
    from trainable import train
    from trainable.compute import torch_private

    monkeypatch.setattr(torch_private, "cpu_has", lambda precision: False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(lineage, "_cpu_has", lambda precision: precision == "fp32")
    (kept,) = make_plan(tiny, SCALE, ["gru_ctc_reg2"], "recorded")
    with pytest.raises(InputError) as error:
        train(RunConfig.model_validate(kept["config"]), tiny)
    assert len(error.value.problems) == 1 and "fp16 is not supported by this CPU" in str(error.value)
    (replaced,) = make_plan(tiny, SCALE, ["gru_ctc_reg2"])
    assert replaced["config"]["training"]["precision"] == "fp32"
    assert "fp32 for fp16" in replaced["notes"]


def test_precision_can_be_chosen_for_all(tiny, monkeypatch):
    """On a card each run keeps its own; fp32 and bf16 replace every other, and only what changed has a note."""
    monkeypatch.setattr(lineage, "_cpu_has", lambda precision: precision == "fp32")
    names = ["speechBaseline4", "gru_ctc_reg2", "gru_ctc_reg4"]

    def chosen(*arguments, **options):
        plan = make_plan(tiny, SCALE, names, *arguments, **options)
        return [entry["config"]["training"]["precision"] for entry in plan]

    assert chosen("auto", gpu=True) == chosen("recorded") == ["fp32", "fp16", "bf16"]
    assert chosen("auto") == chosen("fp32") == ["fp32"] * 3
    assert chosen("bf16") == ["bf16"] * 3


def test_a_plan_is_in_the_order_of_the_record_with_what_it_says(tiny):
    """All 23, parents first; each with its parent, changes, record and a configuration that this data can train."""
    plan = make_plan(tiny, SCALE)
    assert [entry["run"] for entry in plan] == list(LINEAGE)
    by_name = {entry["run"]: entry for entry in plan}
    assert by_name["run16_5"]["parent"] == "run16_4"
    assert by_name["run16_5"]["changed"]["schedule.peak_lr"] == [0.0014, 0.001]
    assert by_name["speechBaseline4"]["recorded"]["per"] == 0.2046
    assert json.loads(json.dumps(plan)) == plan
    for entry in plan:
        check_trainable(RunConfig.model_validate(entry["config"]), tiny)


def test_a_configuration_that_was_run_twice_gets_another_seed(tiny):
    """With the same seed the second would be the first again, to the last bit; the note says whose it is."""
    first, second = make_plan(tiny, SCALE, ["run8_recovery", "run10_recovery"])
    seeds = [entry["config"]["training"].pop("seed") for entry in (first, second)]
    assert first["config"] == second["config"] and seeds == [0, 1]
    assert "as run8_recovery, seed 1" in second["notes"]


def test_an_unknown_run_is_one_line_with_the_nearest_name(tiny):
    """Each of them."""
    with pytest.raises(InputError) as error:
        make_plan(tiny, SCALE, ["run16_55", "run16_5", "zzz"])
    assert error.value.problems == [
        "--only: run16_55 is not one of the recorded runs; did you mean run16_5?",
        "--only: zzz is not one of the recorded runs; 'tuner runs' lists them",
    ]


def test_windows_that_fit_stay(tiny):
    """No note, the same configuration."""
    schedule = {"kind": "constant", "peak_lr": 1e-3}
    config = RunConfig.model_validate({"model": {"kernel": 8, "stride": 2}, "schedule": schedule})
    assert fit_windows(config, tiny) == (config, [])


def test_windows_that_do_not_fit_become_the_largest_that_do(tiny):
    """No larger stride does, and no larger kernel with that stride; the note says what was changed."""
    config = load_run("run16_5").config
    fitted, notes = fit_windows(config, tiny)
    kernel, stride = fitted.model.kernel, fitted.model.stride
    assert notes == [f"kernel {kernel} for 32, stride {stride} for 4"]
    assert (kernel, stride) != (32, 4)

    def fits(kernel, stride):
        try:
            check_trainable(lineage._with(config, "model", kernel=kernel, stride=stride), tiny)
        except InputError:
            return False
        return True

    assert fits(kernel, stride)
    assert not any(fits(k, stride) for k in range(kernel + 1, 33))
    assert not any(fits(k, s) for k, s in itertools.product(range(1, 33), range(stride + 1, 5)))


def test_data_that_no_windows_fit_name_every_run(tiny):
    """Without validation utterances nothing helps; each reason is one line that says which runs it stops."""
    none = dataclasses.replace(tiny.val, start=np.zeros(0, np.int64))
    with pytest.raises(InputError) as error:
        make_plan(dataclasses.replace(tiny, val=none), SCALE, ["run16_3", "run16_4", "run16_5"])
    assert all(line.startswith("run16_3, run16_4 and 1 more: ") for line in error.value.problems)
    assert any("no validation utterances" in line for line in error.value.problems)


def test_spearman_by_hand():
    """Same order 1, reverse -1, one swap of four 0.8, ties at their mean rank; nothing where one is constant."""
    a = np.array([1.0, 2.0, 3.0, 4.0])
    assert spearman(a, a**3) == pytest.approx(1)
    assert spearman(a, -a) == pytest.approx(-1)
    assert spearman(a, np.array([1.0, 3.0, 2.0, 4.0])) == pytest.approx(0.8)
    assert spearman(np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(math.sqrt(3) / 2)
    assert spearman(a, np.ones(4)) is None


def test_chance_counts_the_orders():
    """Of the six orders of three values two are as far from chance as the right one, and all are as far as rho 0.5."""
    a = np.array([1.0, 2.0, 3.0])
    assert chance(a, a) == chance(a, -a) == pytest.approx(1 / 3)
    assert chance(a, np.array([1.0, 3.0, 2.0])) == 1


@given(st.lists(st.floats(0, 1), min_size=3, max_size=8), st.integers(0, 2**32 - 1))
def test_spearman_is_the_correlation_of_ranks(values, seed):
    """Against numpy's correlation of the ranks of an argsort, where there are no ties; between -1 and 1 always."""
    a = np.array(values)
    b = np.random.default_rng(seed).permutation(len(a)).astype(float)
    found = spearman(a, b)
    assert found is None or -1 - 1e-9 <= found <= 1 + 1e-9
    if len(set(values)) == len(values):
        assert found == pytest.approx(np.corrcoef(np.argsort(np.argsort(a)), b)[0, 1])


def planned(tiny, tiny_data, folder, names):
    """A lineage study of these runs, begun; no workers."""
    request = Request(results_dir=folder, data=tiny_data)
    plan = make_plan(tiny, SCALE, names)
    settings = planned_settings(plan, "lineage", request, tiny, lineage={"scale": SCALE}, origin_note="scale")
    return Study.create(folder / "lineage", settings, [])


def report_all(study, per_of):
    """Plays the worker: every trial reports `per_of(run)` at every epoch."""
    while (job := study.ask()) is not None:
        name = study.settings.plan[job.trial]["run"]
        for epoch in range(1, job.config.epochs + 1):
            row = {
                "epoch": epoch, "batch": epoch, "per": per_of(name), "val_loss": 1.0, "blank_share": 0.5,
                "cpu_seconds": 1.0, "gpu_seconds": 0.0,
            }  # fmt: skip
            study.report(job.trial, job.attempt, row)


COMPARED = {
    "speechBaseline4": 0.2046,
    "run11_plateau_break": 0.2830,
    "run15_warmup_cosine_safe": 0.2636,
    "run16_greedy_ema_warmcos": 0.2095,
    "run16_3": 0.2084,
    "run16_4": 0.2078,
}
"""The runs with a greedy PER that is their training's, and that PER."""


@pytest.mark.parametrize(("sign", "expected"), [(1, 1.0), (-1, -1.0)])
def test_the_table_compares_what_can_be_compared(tiny, tiny_data, tmp_path, sign, expected):
    """All 23 in the table; the order is compared over the six whose record is a greedy PER of that training."""
    study = planned(tiny, tiny_data, tmp_path, [])
    report_all(study, lambda name: 0.5 + sign * COMPARED.get(name, 0.3))
    study.interrupt("budget")
    study.close()
    table = lineage_table(tmp_path, "lineage")
    assert (table.spearman, table.pairs) == (pytest.approx(expected), 6)
    rows = json.loads(table.render("json"))
    assert [row["run"] for row in rows] == list(LINEAGE)
    by_name = {row["run"]: row for row in rows}
    assert by_name["run16_2"]["recorded_per"] == 0.9111
    assert by_name["run16_5"]["changed"] == "peak_lr 0.001, end_lr 1e-07, batches 20000"
    assert by_name["run16_5"]["recorded_per"] is None
    assert "decoder not recorded" in by_name["gru_ctc_reg1"]["notes"]
    text = table.render("table")
    assert "left out of the comparison, because the recorded PER is not that of the training: run16_2" in text
    assert "Spearman" in text and "seed s.d." in text


def test_the_table_of_an_unfinished_study_says_what_waits(tiny, tiny_data, tmp_path):
    """Runs that have not begun are in the table; too few pairs are said, not computed."""
    study = planned(tiny, tiny_data, tmp_path, ["speechBaseline4", "run16_3"])
    assert study.ask() is not None
    study.interrupt("interrupted")
    study.close()
    table = lineage_table(tmp_path, "lineage")
    assert [row["status"] for row in json.loads(table.render("json"))] == ["interrupted", "waiting"]
    assert "interrupted" in table.render("table") and "waiting" in table.render("table")
    assert table.spearman is None and "too few to compare" in table.render("table")


def test_a_decoder_that_says_nothing_is_marked(tiny, tiny_data, tmp_path):
    """Only blanks in its last epoch."""
    study = planned(tiny, tiny_data, tmp_path, ["run16_3"])
    job = study.ask()
    study.report(job.trial, job.attempt, {"epoch": 1, "batch": 1, "per": 1.0, "val_loss": 3.0, "blank_share": 1.0})
    study.interrupt("interrupted")
    study.close()
    (row,) = json.loads(lineage_table(tmp_path, "lineage").render("json"))
    assert "outputs only blanks" in row["notes"]


@pytest.mark.ray
def test_three_runs_on_ray_stopped_and_resumed(tiny_data, tmp_path, tuner, cli, end):
    """Ctrl-C in the middle, --resume, and the table has all three to their end; nothing ran twice, none was stopped."""
    names = ("speechBaseline4", "run15_warmup_cosine_safe", "run18_long_sgdr_swa")
    arguments = ("lineage", "--scale", 0.004, "--results", tmp_path)
    begun = tuner.start(*arguments, "--data", tiny_data, "--only", ",".join(names), "--concurrent", 1, cwd=tmp_path)
    log = tmp_path / "lineage" / "events.jsonl"
    tuner.wait_for_epochs(begun, log, 4)
    begun.send_signal(signal.SIGINT)
    stopped = end(begun, tmp_path)
    assert stopped.status == 130, stopped.err
    assert "tuner resume lineage" in stopped.out and "run18_long_sgdr_swa" in stopped.out

    again = cli(*arguments, "--data", tiny_data, cwd=tmp_path)
    assert again.status == 2 and "continue it with --resume" in again.err
    other = cli("lineage", "--resume", "--scale", 0.1, "--results", tmp_path, cwd=tmp_path)
    assert other.status == 2 and "--scale 0.1: the study 'lineage' was begun with 0.004" in other.err
    wrong = cli("resume", "lineage", "--results", tmp_path, "--trials", 7, cwd=tmp_path)
    assert wrong.status == 2 and "a fixed list of 3 runs" in wrong.err

    done = tuner.run(*arguments, "--resume", "--concurrent", 2, cwd=tmp_path)
    assert done.status == 0, done.err
    table = cli("lineage", "--table", "--results", tmp_path, "--format", "json", cwd=tmp_path)
    rows = json.loads(table.out)
    assert [row["run"] for row in rows] == list(names)
    assert [row["status"] for row in rows] == ["completed"] * 3
    assert [row["batches"] for row in rows] == [40, 40, 118]
    assert all(0 < row["per"] <= 2 for row in rows)
    epochs = [(e["trial"], e["epoch"]) for e in read_events(log)[0] if e["event"] == "epoch"]
    assert len(epochs) == len(set(epochs))


def test_bad_options_are_one_line(tiny_data, tmp_path, cli):
    """A study that is no lineage, an unknown run, no data."""
    for arguments, line in (
        (("--table", "--study", "none"), "there is no such study"),
        (("--data", tiny_data, "--only", "run9"), "--only: run9 is not one of the recorded runs"),
        (("--data", tmp_path / "none"), "does not exist"),
        ((), "give --data"),
        (("--data", tiny_data, "--scale", 0), "--scale"),
    ):
        done = cli("lineage", *arguments, "--results", tmp_path / "r", cwd=tmp_path)
        assert done.status == 2 and line in done.err and "Traceback" not in done.err
        assert not (tmp_path / "r").exists()
