"""Population Based Training: who is replaced, what goes on in its place, and that a log is all it needs."""

from __future__ import annotations

import itertools
import random
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.store import replay
from results.store.events import read_events
from search_spaces import InputError, load_space
from search_spaces.parsing.given import parse_settings
from search_spaces.stopping import PBTStopping, Stopping, rule_text
from tests.tuner.conftest import settings_for
from tuner.simulation.curves import _bank_of
from tuner.simulation.forecast import forecast
from tuner.simulation.rule_fit import check_fit
from tuner.simulation.virtual import draws
from tuner.study import objectives
from tuner.study.heirs import _changed
from tuner.study.rules.population import perturbable
from tuner.study.rules.stopping import read_rule
from tuner.study.settings import StudyBudget, StudySettings

PBT = {"kind": "pbt", "population": 4, "interval": 2}
BUDGET = {"trials": 10, "hours": None}
MANY = perturbable(load_space("schedule_averaging_augmentation"))


def keep_states(study):
    """Writes what a worker leaves at each epoch: a last.pt that says its epoch."""

    def worker(event):
        if event["event"] == "epoch":
            path = study.folder / "checkpoints" / str(event["trial"]) / "last.pt"
            path.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("archive/tuner/epoch", str(event["epoch"]))

    study.observers.append(worker)
    return study


def create(toy, name, rule=PBT, **changes):
    """A study over random draws whose workers leave checkpoints."""
    given = {"stopping": rule, "searcher": {"kind": "random"}, "seed": 1, "budget": BUDGET, **changes}
    return keep_states(toy.create(name, **given))


def events_of(toy, name):
    return read_events(toy.folder / name / "events.jsonl")[0]


def heirs_of(toy, name):
    """The first start of each trial that goes on from another's checkpoint."""
    return [e for e in events_of(toy, name) if e["event"] == "trial_started" and e["attempt"] == 1 and "replaces" in e]


def test_the_worst_at_an_epoch_is_replaced_by_a_trial_that_goes_on_from_the_best(toy):
    """Of four members the last at epoch 2 ends as stopped; a new trial has epochs from 3 on, and says from whom."""
    study = create(toy, "s")
    toy.drive(study)
    trials, heir = study.state.trials, heirs_of(toy, "s")[0]
    members = sorted(range(4), key=lambda n: trials[n].pers[2])
    assert (heir["from_trial"], heir["from_epoch"], heir["from_trial_epoch"]) == (members[0], 2, 2)
    assert (heir["replaces"], heir["trial"], heir["origin"]) == (members[-1], 4, "searched")
    replaced, child = trials[members[-1]], trials[4]
    assert (replaced.status, replaced.epoch) == ("stopped", 2)
    assert replaced.error == f"exploits trial {members[0]} at epoch 2"
    assert min(child.pers) == 3
    donor = trials[members[0]]
    assert child.config.schedule == donor.config.schedule
    assert child.config.training.model_copy(update={"seed": 0}) == donor.config.training.model_copy(update={"seed": 0})


def test_the_population_advances_together_with_one_worker_and_with_four(toy):
    """The least advanced goes on first: with one worker no epoch comes before all of the interval before it."""
    for workers in (1, 4):
        study = create(toy, f"s{workers}")
        toy.drive(study, workers=workers)
        epochs = [e["epoch"] for e in events_of(toy, f"s{workers}") if e["event"] == "epoch"]
        intervals = [(epoch + 1) // 2 for epoch in epochs]
        if workers == 1:
            assert intervals == sorted(intervals)
        assert max(b - a for a, b in itertools.pairwise(intervals)) <= 1
        assert not study.state.paused
        assert {t.status for t in study.state.trials.values()} <= {"completed", "stopped", "diverged"}


def test_every_member_runs_to_its_end_once_the_trials_are_used_up(toy):
    """Trials that go on from another count; with none left nobody is replaced, and all that is there is completed."""
    study = create(toy, "s", budget={"trials": 5, "hours": None})
    toy.drive(study)
    trials = study.state.trials
    assert sorted(trials) == [0, 1, 2, 3, 4]
    assert len(heirs_of(toy, "s")) == 1
    assert [t.status for t in trials.values()].count("stopped") == 1
    alone = create(toy, "alone", budget={"trials": 4, "hours": None})
    toy.drive(alone)
    assert all(t.status in ("completed", "diverged") for t in alone.state.trials.values())


def test_without_a_donor_s_checkpoint_nobody_is_replaced(toy):
    """A donor whose state is not on the disk cannot be gone on from: the worst keep their own."""
    study = toy.create("s", stopping=PBT, searcher={"kind": "random"}, budget=BUDGET, seed=1)
    toy.drive(study)
    assert sorted(study.state.trials) == [0, 1, 2, 3]
    assert all(t.status in ("completed", "diverged") for t in study.state.trials.values())


def test_killed_anywhere_and_resumed_equals_never_killed(toy):
    """With one trial at a time, kills leave the same trials, settings, donors and ends."""
    toy.drive(create(toy, "whole"))
    expected = toy.decisions("whole")
    sources = [(e["trial"], e["from_trial"], e["replaces"], e["seed"]) for e in heirs_of(toy, "whole")]
    assert len(sources) >= 3
    for seed in range(3):
        chance = random.Random(seed)
        study = create(toy, name := f"killed-{seed}")
        while not toy.drive(study, events=chance.randint(1, 9)):
            study.close()
            study = keep_states(toy.resume(name))
        assert toy.decisions(name) == expected
        assert [(e["trial"], e["from_trial"], e["replaces"], e["seed"]) for e in heirs_of(toy, name)] == sources


def killed_while_replacing(toy, before_the_end=False):
    """A study "s" whose driver dies at the first event by which one trial replaces another: the end of the one, or the
    start of the other.
    """
    study = create(toy, "s")
    append = study._log.append

    def dying(kind, **fields):
        if kind == "trial_ended" and "exploits" in fields and before_the_end:
            raise KeyboardInterrupt
        if kind == "trial_started" and "replaces" in fields:
            raise KeyboardInterrupt
        return append(kind, **fields)

    study._log.append = dying
    with pytest.raises(KeyboardInterrupt):
        toy.drive(study)
    return study


@pytest.mark.parametrize("where", ["before the end of the replaced trial", "before the start of the new one"])
def test_a_driver_that_dies_while_a_trial_is_replaced_goes_on_where_it_was(toy, where):
    """The checkpoint is copied first, then the end is written, then the start: a kill between any two is redone."""
    toy.drive(create(toy, "whole"))
    expected = toy.decisions("whole")
    study = killed_while_replacing(toy, before_the_end=where.startswith("before the end"))
    assert (toy.folder / "s" / "checkpoints" / "4" / "last.pt").exists()
    study.close()
    again = keep_states(toy.resume("s"))
    toy.drive(again)
    assert toy.decisions("s") == expected


def test_a_limit_ends_a_search_in_which_a_trial_was_to_go_on(toy):
    """A driver died between the end of the replaced trial and the start of the new one, and the budget that it is
    resumed with is used up: the new one is not started, and the search is over although nothing was stopped.
    """
    killed_while_replacing(toy).close()
    reached = {**BUDGET, "target_per": 0.99, "then": "finish"}
    again = toy.resume("s", {"budget": [BUDGET, reached]})
    assert again.state.heir is not None
    assert again.reached == "target_per"
    assert again.done and again.ask() is None
    again.close()
    further = keep_states(toy.resume("s", {"budget": [reached, BUDGET]}))
    assert not further.done
    assert further.ask().trial == 4


def test_a_copy_that_was_not_used_is_not_another_trial_s_beginning(toy):
    """A checkpoint that a dead driver left under the next number is gone before another trial gets the number."""
    study = create(toy, "s")
    assert study.ask().trial == 0
    study.close()
    left = toy.folder / "s" / "checkpoints" / "1" / "last.pt"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"another's")
    again = toy.resume("s")
    assert [again.ask().trial for _ in range(2)] == [0, 1]
    assert not left.exists()


@pytest.mark.parametrize("seed", range(3))
def test_with_workers_at_their_own_speed_the_population_keeps_its_size(toy, seed):
    """Whoever is ready first: never more members than the population, one heir for each that was replaced, and the
    trials within the budget; a donor that has run on is taken where it has come to.
    """
    study, running, chance = create(toy, "s"), [], random.Random(seed)
    while not study.done:
        while len(running) < 3 and (job := study.ask()) is not None:
            running.append([job, job.epochs_logged])
        members = [t for t in study.state.trials.values() if not t.final]
        assert len(members) <= 4
        entry = chance.choice(running)
        entry[1] += 1
        if study.report(entry[0].trial, entry[0].attempt, toy.curve(entry[0].config, entry[1])) == "stop":
            running.remove(entry)
    heirs = heirs_of(toy, "s")
    replaced = [e["trial"] for e in events_of(toy, "s") if e["event"] == "trial_ended" and "exploits" in e]
    assert [e["replaces"] for e in heirs] == replaced
    assert len(study.state.trials) == 4 + len(heirs) <= 10
    assert all(min(study.state.trials[e["trial"]].pers) == e["from_trial_epoch"] + 1 for e in heirs)
    assert not study.state.paused


def test_a_retried_trial_goes_on_from_what_it_inherited(toy):
    """One that fails before its first own epoch is asked for again at the donor's epoch, not at the beginning."""
    study = create(toy, "s", retries=1)
    while not (job := study.ask()).inherited:
        epoch = job.epochs_logged + 1
        while study.report(job.trial, job.attempt, toy.curve(job.config, epoch)) == "continue":
            epoch += 1
    study.fail(job.trial, job.attempt, "out of luck")
    again = study.ask()
    assert (again.trial, again.attempt, again.epochs_logged, again.inherited) == (job.trial, 2, 2, 2)


def test_the_tables_say_from_whom_a_trial_went_on(toy):
    """from_trial, from_trial_epoch and replaces are columns of the trials table, null where a trial began anew."""
    study = create(toy, "s")
    toy.drive(study)
    rows = replay.build(events_of(toy, "s"), running=False)["trials"].to_pylist()
    heirs = {e["trial"]: (e["from_trial"], e["from_trial_epoch"], e["replaces"]) for e in heirs_of(toy, "s")}
    told = {row["trial"]: (row["from_trial"], row["from_trial_epoch"], row["replaces"]) for row in rows}
    assert told == {number: heirs.get(number, (None, None, None)) for number in study.state.trials}


def test_the_searcher_is_told_of_every_trial_and_asked_for_the_population_alone(toy):
    """A trial that goes on from another counts with its parameters like any other."""
    study = create(toy, "s")
    toy.drive(study)
    known = [trial for trial in study.state.searcher.trials if trial.state.name in ("COMPLETE", "PRUNED")]
    assert len(known) == len(study.state.trials) > 4
    heir = heirs_of(toy, "s")[0]
    assert any(trial.params == heir["params"] for trial in known)


def test_only_what_a_run_can_change_on_the_way_is_perturbed(toy):
    """Neither the shape of a schedule, models nor kinds, nor what is relative to them or decides what else there is."""
    assert [d.path for d in perturbable(toy.space)] == ["schedule.peak_lr", "schedule.end_lr", "averaging.decay"]
    assert [d.path for d in perturbable(toy.space, rates=False)] == ["averaging.decay"]
    for space in (load_space("schedule_averaging_augmentation"), load_space("mixed_horizons")):
        for rates in (True, False):
            paths = {d.path for d in perturbable(space, rates)}
            assert paths
            shape = {p for p in paths if p.startswith(("schedule.", "model.", "data.")) or p.endswith(".kind")}
            assert shape <= ({"schedule.peak_lr", "schedule.end_lr", "schedule.start_lr"} if rates else set())


def test_settings_of_the_day_layers_keep_their_group(tmp_path):
    """Their rates change like the others, unless they may be null; whether they have a group never changes."""
    day = {d.path for d in perturbable(load_space("published_recipes")) if ".day_" in d.path}
    assert day == {"schedule.day_peak_lr", "schedule.day_end_lr"}
    text = (
        "base: small\ndimensions:\n  schedule.peak_lr: {log_uniform: [1e-3, 1e-2]}\n"
        "  schedule.day_peak_lr: {log_uniform: [1e-3, 1e-2], or: null}\n"
        "  optimizer.day_eps: {log_uniform: [1e-3, 0.1]}\n"
    )
    (tmp_path / "s.yaml").write_text(text)
    assert [d.path for d in perturbable(load_space(tmp_path / "s.yaml"))] == ["schedule.peak_lr"]


def test_rates_change_from_donor_to_heir_and_the_schedule_s_shape_does_not(toy):
    """The peak of every heir is the donor's times shrink or grow, or drawn anew; horizon and kind are the donor's."""
    study = create(toy, "s", {**PBT, "rates": True, "resample": 0.0})
    toy.drive(study)
    heirs = heirs_of(toy, "s")
    assert len(heirs) > 2
    for event in heirs:
        donor = study.state.trials[event["from_trial"]].config
        mine, theirs = event["config"]["schedule"], donor.schedule
        assert mine["kind"] == theirs.kind and mine["horizon"] == theirs.horizon
        factor = mine["peak_lr"] / theirs.peak_lr
        at_an_end = mine["peak_lr"] in (1e-3, 1e-1)
        assert at_an_end or factor == pytest.approx(0.8) or factor == pytest.approx(1.2)


def test_a_log_from_before_rates_could_change_goes_on_without(toy):
    """A rule without the key means what it meant; `tuner spaces rules pbt` shows the new default."""
    assert not read_rule(PBT).rates
    assert parse_settings("pbt", Stopping, "stopping")["rates"] is True
    study = create(toy, "s", PBT)
    toy.drive(study)
    for event in heirs_of(toy, "s"):
        assert event["config"]["schedule"] == toy_schedule(study, event["from_trial"])


def toy_schedule(study, trial):
    return study.state.trials[trial].config.schedule.model_dump(mode="json")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.25, 1.0]))
def test_a_perturbed_setting_stays_in_its_range(seed, resample):
    """Whatever is drawn, a setting is one of its choices or within its range, and whole where it is whole."""
    rng, rule = np.random.default_rng(seed), PBTStopping(resample=resample)
    for dimension in MANY:
        sample = _changed(dimension, dimension.middle(), rule, rng)
        assert dimension.nearest(sample) == sample
        assert type(sample) is type(dimension.middle()) or dimension.kind == "choice"


@pytest.mark.parametrize(
    ("text", "budget", "line"),
    [
        ("pbt population=13", {"trials": 12}, "population: 13 is not allowed with 12 trials; give 12 or less"),
        ("pbt interval=9", {"trials": 12}, "interval: 9 is not allowed; the longest runs of toy have 9 epochs"),
        ("pbt population=2", {"trials": 12}, "quantile: 0.25 is not allowed with a population of 2"),
    ],
)
def test_settings_under_which_nobody_could_be_replaced_are_one_line(toy, text, budget, line):
    """What could never do anything is refused before anything is spent."""
    with pytest.raises(InputError) as raised:
        check_fit(parse_settings(text, Stopping, "stopping"), toy.space, StudyBudget(**budget), "--stopping")
    assert len(raised.value.problems) == 1
    assert line in str(raised.value)


def test_a_space_in_which_nothing_can_change_is_one_line(toy, space_file):
    """A space of schedules alone has nothing to explore where rates stay; else it has their rates."""
    lines = [line for line in space_file.read_text().splitlines() if "averaging" not in line]
    space_file.write_text("\n".join(lines))
    with pytest.raises(InputError, match="has no dimension that can change during a run; add one such as"):
        check_fit({"kind": "pbt", "rates": False}, load_space(space_file), StudyBudget(**BUDGET), "--stopping")
    check_fit({"kind": "pbt", "rates": True}, load_space(space_file), StudyBudget(**BUDGET), "--stopping")


def test_several_objectives_are_refused_in_one_line(toy):
    """A trial that goes on from another has only a part of what its weights cost."""
    objectives.check_rule(StudySettings(stopping={"kind": "pbt"}, objective="best_per", costs=[]))
    with pytest.raises(InputError, match="stopping pbt: can have only one objective"):
        objectives.check_rule(StudySettings(stopping={"kind": "pbt"}, objective="best_per", costs=["train_seconds"]))


def test_what_a_search_costs_is_that_of_the_population(toy):
    """Whoever replaces whom, four members of 18 batches take 72."""
    found = forecast(draws(toy.space, 8), StudySettings.read(settings_for(toy.space, stopping=PBT, budget=BUDGET)), 2)
    assert found.batches == (72, 72)
    assert found.trials == 4


def test_recorded_curves_leave_out_who_began_in_the_middle(toy):
    """A curve whose first epochs are another trial's is no run to try rules on."""
    toy.drive(create(toy, "s"))
    heirs = {str(e["trial"]) for e in heirs_of(toy, "s")}
    names = {run.label for run in _bank_of("s", events_of(toy, "s")).runs}
    assert heirs and names and not names & heirs


def test_its_words_give_the_rule_again():
    """What is announced, and shown by status, can be given to --stopping."""
    rule = parse_settings("pbt population=6 interval=3 shrink=0.7", Stopping, "stopping")
    assert rule_text(rule) == "pbt population=6 interval=3 shrink=0.7"
    assert read_rule(rule).population == 6


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_data, real_space):
    """A study of two members that train, and of the one trial that goes on in the place of the worse: it, and rows."""
    from trainable.data.dataset import open_dataset
    from tuner.backend.worker import run_trial
    from tuner.study.study import Study

    folder, dataset, space = tmp_path_factory.mktemp("real") / "s", open_dataset(tiny_data), load_space(real_space)
    rule = {"kind": "pbt", "population": 2, "quantile": 0.5, "interval": 6}
    changes = {"stopping": rule, "budget": {"trials": 3, "hours": None}, "searcher": {"kind": "random"}}
    study, rows = Study.create(folder, StudySettings.read(settings_for(space, **changes)), []), {}
    while (job := study.ask()) is not None:
        place = folder / "checkpoints" / str(job.trial)
        kept = {"rungs": job.rungs, "pauses": job.pauses, "every": "rungs"}
        attempt = run_trial(
            job.config, dataset, place, epochs_logged=job.epochs_logged, checkpoints=kept, inherited=job.inherited
        )
        for row in attempt:
            rows[job.trial, row["epoch"]] = row
            if study.report(job.trial, job.attempt, row) == "stop":
                break
        attempt.close()
    return study, rows


def test_a_new_member_goes_on_with_the_donor_s_weights(trained):
    """Its first epoch is the one after the donor's, and as good as the donor's next one; not that of fresh weights."""
    study, rows = trained
    heir = study.state.trials[2]
    donor = heir.started_with["from_trial"]
    assert sorted(heir.pers) == [7, 8, 9]
    assert heir.config.augmentation != study.state.trials[donor].config.augmentation
    begun, before, fresh = rows[2, 7]["val_loss"], rows[donor, 6]["val_loss"], rows[donor, 1]["val_loss"]
    assert abs(begun - before) < 0.5 * (fresh - before)
    assert rows[2, 7]["batch"] == 28


def test_a_new_member_s_best_weights_are_its_own(trained):
    """What is kept as its best is from one of its own epochs, even where the donor was better before."""
    from trainable.checkpoint import load

    study, _ = trained
    best = load(study.folder / "checkpoints" / "2" / "best.pt")["best"]
    per, epoch = study.state.trials[2].best
    assert (best["per"], best["epoch"]) == (per, epoch)
    assert epoch > 6


def test_a_member_that_went_on_from_another_is_told_apart(toy, cli):
    """show, best, a saved run and confirm say that its first epochs were another trial's."""
    from tuner.planned.confirm import note_on_heirs

    study = create(toy, "s")
    toy.drive(study)
    study.interrupt("budget")
    study.close()
    donor, epoch = (heirs_of(toy, "s")[0][key] for key in ("from_trial", "from_trial_epoch"))
    shown = cli("show", "s/4", "--results", toy.folder).out
    assert f"its first {epoch} epochs are those of trial {donor}, with the settings of that trial" in shown
    assert f"trial s/4: {study.state.trials[4].status} after {study.state.trials[4].epoch} of 9 epochs" in shown
    assert f"from trial {donor}, epoch {epoch}" in cli("best", "s", "--top", 20, "--results", toy.folder).out
    assert (note_on_heirs(toy.folder, "s", [(donor, {}), (4, {})]) or "").startswith("s/4 continued other trials;")
    assert note_on_heirs(toy.folder, "s", [(donor, {})]) is None
