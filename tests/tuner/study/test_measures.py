"""Objectives that are no PER: any measure of an epoch, in the search, its rungs, its tables and its reports."""

import json
import math

import pytest

from results.best import best
from results.report import load, render
from results.store.columns import COLUMNS
from results.store.tables import compact
from search_spaces import InputError, load_space
from search_spaces.measures import _OTHERS, MEASURES, objective_of
from search_spaces.parsing.given import parse_settings
from search_spaces.stopping import DEFAULT_STOPPING, ASHAStopping, Stopping
from tests.tuner.conftest import SPACE, curve
from tuner.analysis.importance import importance
from tuner.launch.changes import space_changes
from tuner.simulation.curves import check_rule, read_curves
from tuner.study import objectives
from tuner.study.searchers.warm_start import gather

RULE = {"kind": "asha", "grace": 2, "reduction": 2, "metric": "val_loss"}
VAL_LOSS = {
    "objective": "best_val_loss",
    "stopping": RULE,
    "searcher": {"kind": "tpe", "startup_trials": 4},
    "budget": {"trials": 14, "hours": None},
}


def row_of(config, epoch):
    """The toy's curve, with a loss that is lowest at the lowest rate, where the PER is not, and rises at the end."""
    row = curve(config, epoch)
    loss = 1 + abs(math.log10(config.schedule.peak_lr / 1e-3)) + abs(epoch - 6) / 20
    return {**row, "val_loss": None if row["diverged"] else loss}


def drive(study, events=None):
    count = 0
    while not study.done:
        job = study.ask()
        for epoch in range(job.epochs_logged + 1, job.config.epochs + 1):
            count += 1
            if study.report(job.trial, job.attempt, row_of(job.config, epoch)) != "continue":
                break
            if events is not None and count >= events:
                return False
    return True


@pytest.fixture
def studied(toy):
    """A finished study of the lowest validation loss, with tables."""
    study = toy.create("v", **VAL_LOSS)
    assert drive(study)
    study.close()
    compact(toy.folder / "v")
    return toy, study


def test_every_number_of_an_epoch_is_an_objective_or_says_why_not():
    """A column that is added to the epochs table belongs to one of the two lists."""
    keys = {"study", "trial", "attempt", "epoch", "batch", "rung"}
    numbers = {c.name for c in COLUMNS["epochs"] if c.type.startswith(("float", "int"))} - keys
    assert numbers == {*MEASURES, *_OTHERS}
    assert objective_of("val_loss") == objective_of("best_val_loss") == "best_val_loss"
    assert objective_of("last_per_raw") == "last_per_raw"
    assert objective_of("lr") is objective_of("best_lr") is objective_of("middle_per") is None


def test_the_searcher_gets_the_lowest_loss_of_each_trial(studied):
    """COMPLETE with the lowest loss over the epochs, stopped trials with that at each rung; the PER plays no part."""
    _, study = studied
    trials = study.state.trials
    completed = sorted(min(row_of(t.config, e)["val_loss"] for e in range(1, 10)) for t in trials.values()
                       if t.status == "completed")  # fmt: skip
    known = study.state.searcher.trials
    assert sorted(t.value for t in known if t.state.name == "COMPLETE") == pytest.approx(completed)
    assert completed
    for trial in trials.values():
        for epoch, value in trial.rungs.items():
            assert value == pytest.approx(row_of(trial.config, epoch)["val_loss"])
    stopped = [t for t in trials.values() if t.status == "stopped"]
    assert stopped, "no rung compared the loss"
    rates = [t.config.schedule.peak_lr for t in trials.values()]
    assert sum(rate < 3e-3 for rate in rates[8:]) > 3, "the searcher went elsewhere"


def test_killed_and_resumed_it_goes_on_as_if_it_had_not_been(toy):
    """The value of a trial that was interrupted is that over all its epochs, also those before the kill."""
    whole = toy.create("whole", **VAL_LOSS)
    drive(whole)
    for events in (23, 47):
        killed = toy.create(f"killed{events}", **VAL_LOSS)
        assert not drive(killed, events)
        killed.close()
        resumed = toy.resume(f"killed{events}")
        drive(resumed)
        assert toy.decisions(f"killed{events}") == toy.decisions("whole")
        for number, trial in whole.state.trials.items():
            assert resumed.state.trials[number].objective("best_val_loss") == trial.objective("best_val_loss")


def test_no_improvement_is_that_of_the_objective(toy):
    """Trials whose loss does not improve count, even while their PER does."""
    study = toy.create("n", **{**VAL_LOSS, "budget": {"trials": 50, "no_improvement": 3, "hours": None}})
    drive(study)
    lowest, since = math.inf, 0
    for trial in study.state.trials.values():
        value = trial.objective("best_val_loss")
        if value is not None and value < lowest:
            lowest, since = value, 0
        else:
            since += 1
    assert since == study.state.spent.since_best == 3


def test_best_ranks_by_the_objective_and_says_so(studied, cli):
    """By default, by `--by val_loss`, and by its last value; `--by best_per` ranks another trial first."""
    toy, study = studied
    trials = study.state.trials
    lowest = min(trials, key=lambda n: trials[n].objective("best_val_loss") or math.inf)
    found = best(toy.folder, ["v"])
    rows = found.table.to_pylist()
    assert rows[0]["trial"] == lowest
    assert rows[0]["best_val_loss"] == pytest.approx(trials[lowest].objective("best_val_loss"))
    assert [r["best_val_loss"] for r in rows] == sorted(r["best_val_loss"] for r in rows)
    assert "ranked by best_val_loss, the objective" in found.notes[0]
    by_per = best(toy.folder, ["v"], by="best_per").table.to_pylist()
    assert by_per[0]["trial"] == min(trials, key=lambda n: trials[n].best or (math.inf, 0))
    last = best(toy.folder, ["v"], by="last_val_loss").table.to_pylist()
    assert last[0]["last_val_loss"] == pytest.approx(trials[last[0]["trial"]].last_row.get("val_loss") or last[0]
                                                     ["last_val_loss"])  # fmt: skip
    done = cli("best", "v", "--by", "val_loss", "--format", "json", "--results", toy.folder)
    assert json.loads(done.out)[0]["trial"] == lowest
    assert "best_val_loss" not in cli("best", "v", "--by", "best_per", "--results", toy.folder).out


def test_a_measure_that_nobody_has_is_one_line(studied, cli):
    """`tuner best --by probe_per` without probes; a name that is no column; a rule over curves without the column."""
    toy, _ = studied
    done = cli("best", "v", "--by", "probe_per", "--results", toy.folder)
    assert done.status == 2
    assert "by: best_probe_per: no epoch of these studies has a probe_per" in done.err
    assert "there is no column 'val_los'" in cli("best", "v", "--by", "val_los", "--results", toy.folder).err
    bank = read_curves("v", toy.folder)
    check_rule(bank, RULE)
    with pytest.raises(InputError, match="compares probe_per, which was not recorded"):
        check_rule(bank, {**RULE, "metric": "probe_per"})


def test_the_report_the_importance_and_a_warm_start_go_by_it(studied):
    """The card and the axes name it; the rate, which decides the loss, matters most; earlier trials come with it."""
    toy, study = studied
    (facts,) = load(toy.folder, ["v"])
    page = render([facts], best(toy.folder, ["v"]), {})
    score = min(t.objective("best_val_loss") or math.inf for t in study.state.trials.values())
    assert facts.score(facts.ranked[0]) == pytest.approx(score)
    assert "Best val_loss" in page and "Settings against val_loss" in page
    assert importance(toy.folder, "v")[0]["path"] == "schedule.peak_lr"
    told, _ = gather(toy.space, toy.folder, ["v"], study.settings)
    values = {trial["trial"]: trial["values"] for trial in told if trial["values"]}
    assert values
    for number, (value,) in values.items():
        assert value == pytest.approx(study.state.trials[number].objective("best_val_loss"))


def test_the_rule_compares_the_objective_unless_it_says_otherwise():
    """`metric` follows the objective where nobody gave one; a rule without a metric stays as it is."""
    asha = parse_settings("asha", Stopping, "stopping")
    assert objectives.compared(asha, set(), "best_val_loss")["metric"] == "val_loss"
    assert objectives.compared(asha, {"metric"}, "best_val_loss")["metric"] == "per"
    assert objectives.compared(asha, set(), "last_per")["metric"] == "per"
    none = parse_settings("none", Stopping, "stopping")
    assert objectives.compared(none, set(), "best_val_loss") == none


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("val_los", "val_los is not allowed; give best_per, last_per, train_seconds"),
        ("best_lr", "lr is set by the schedule and no result; give per, val_loss or another measure"),
        ("samples_per_second", "samples_per_second grows as it gets better, and an objective is minimised; give sec"),
        ("val_loss,per_raw", "best_per or last_per first (or another measure"),
    ],
)
def test_an_objective_that_cannot_be_is_one_line(toy, given, line):
    """Before anything is spent: what it is, and what to give instead."""
    with pytest.raises(InputError) as error:
        objectives.chosen(toy.space, given, "tpe", 0.0)
    assert len(error.value.problems) == 1
    assert line in str(error.value)


def test_the_default_rule_compares_what_the_objective_is_made_of():
    """PER or validation loss for a PER; the objective's own measure for another, since nobody gave a metric."""
    rule, given = DEFAULT_STOPPING.model_dump(), DEFAULT_STOPPING.model_fields_set
    assert ASHAStopping.model_validate(rule) == DEFAULT_STOPPING
    assert objectives.compared(rule, given, "best_per")["metric"] == "either"
    assert objectives.compared(rule, given, "best_val_loss")["metric"] == "val_loss"
    assert objectives.compared(rule, given, "best_train_loss")["metric"] == "train_loss"
    assert objectives.compared(rule, {*given, "metric"}, "best_train_loss")["metric"] == "either"


def test_a_measure_of_probes_is_refused(toy, space_file):
    """It would be null in every epoch, since none are made: known before anything is spent."""
    settings = toy.create("p", **{**VAL_LOSS, "objective": "best_probe_per"}).settings
    with pytest.raises(InputError, match="probe_per: cooldown probes are no longer made; give per"):
        objectives.check_rule(settings)
    space_file.write_text(SPACE.replace("objective: best_per", "objective: val_loss"))
    assert load_space(space_file).objective == "best_val_loss"
    space_file.write_text(SPACE.replace("reduction: 3}", "reduction: 3, metric: val_lss}"))
    with pytest.raises(InputError, match="val_lss is not allowed; give a measure of an epoch; did you mean val_loss"):
        load_space(space_file)


def test_a_resume_does_not_bring_another_measure(toy, space_file):
    """The log has the values, the driver's memory has not: a line says what to do."""
    study = toy.create("v", **VAL_LOSS)
    space_file.write_text(SPACE.replace("1.0e-3, 1.0e-1", "1.0e-3, 1.0e-2"))
    with pytest.raises(InputError, match="objective: best_per is not allowed on resume, the study minimises best_val"):
        space_changes(study.settings, [], load_space(space_file), [])
