"""Studies under each stopping rule: pause and promote, kills and resumes, a rule that is changed on the way."""

from __future__ import annotations

import random

import pytest

from results.store import replay
from results.store.events import read_events
from search_spaces.stopping import rule_text
from tuner.study.rules.stopping import read_rule
from tuner.study.state import StudyState

PROMOTE = {"kind": "asha", "grace": 1, "reduction": 2, "promote": True}
ONE_EPOCH = {"kind": "one_epoch", "keep": 2}
RULES = [
    PROMOTE,
    {**PROMOTE, "at": "horizon", "grace": 0.2, "reduction": 2, "among": "annealed", "protect": 1},
    ONE_EPOCH,
    {"kind": "hyperband", "brackets": 2},
    {"kind": "median", "min_curves": 2},
    {"kind": "asha", "patience": 2, "min_curves": 3, "metric": "per_raw"},
]
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule_text(read_rule(rule).model_dump()))


def create(toy, name, rule, **changes):
    """A study over random draws: what the searcher does is not the point here."""
    settings = {"stopping": rule, "searcher": {"kind": "random"}, "seed": 1, **changes}
    return toy.create(name, **settings)


def events_of(toy, name):
    return read_events(toy.folder / name / "events.jsonl")[0]


@each_rule
def test_killed_anywhere_and_resumed_equals_never_killed(toy, rule):
    """With one trial at a time, any number of kills leaves decisions, promotions and final states as they would be."""
    toy.drive(create(toy, "whole", rule))
    expected = toy.decisions("whole")
    assert set(expected[2].values()) <= {"completed", "stopped", "diverged"}
    assert "stopped" in expected[2].values()
    for seed in range(3):
        chance = random.Random(seed)
        study = create(toy, f"killed-{seed}", rule)
        while not toy.drive(study, events=chance.randint(1, 12)):
            study.close()
            study = toy.resume(f"killed-{seed}")
        assert toy.decisions(f"killed-{seed}") == expected


@each_rule
def test_replay_gives_the_same_history_with_three_workers(toy, rule):
    """What a rule sees is the same live and from the log, at every event."""
    study = create(toy, "s", rule)
    toy.drive(study, workers=3, events=35)
    state = StudyState(searching=False)
    for event in events_of(toy, "s"):
        state.apply(event)
    live = study.state.history
    assert state.history.rungs == live.rungs
    assert state.history.paused == live.paused
    assert {n: (c.best, c.fails, c.points) for n, c in state.history.curves.items()} == {
        n: (c.best, c.fails, c.points) for n, c in live.curves.items()
    }
    assert {n: t.status for n, t in state.trials.items()} == {n: t.status for n, t in study.state.trials.items()}


def test_a_paused_trial_keeps_its_checkpoint_and_goes_on_as_a_new_attempt(toy):
    """A pause is in the log before the worker is let go; the promoted trial goes on from its last epoch."""
    study = create(toy, "s", PROMOTE)
    there, promoted = [], []

    def worker(event):
        last = toy.folder / "s" / "checkpoints" / str(event.get("trial")) / "last.pt"
        if event["event"] == "epoch":
            last.parent.mkdir(parents=True, exist_ok=True)
            last.touch()
        elif event["event"] == "trial_started" and event["attempt"] > 1:
            promoted.append(event["trial"])
            there.append(last.exists())

    study.observers.append(worker)
    toy.drive(study)
    assert promoted
    assert all(there)
    assert not list((toy.folder / "s").glob("checkpoints/*/last.pt"))
    own = [e for e in events_of(toy, "s") if e.get("trial") == promoted[0]]
    pause = next(e for e in own if e["event"] == "epoch" and e["decision"] == "pause")
    end, again = own[own.index(pause) + 1 : own.index(pause) + 3]
    assert (end["event"], end["status"], pause["status"]) == ("trial_ended", "paused", "paused")
    assert (again["event"], again["attempt"], again["from_epoch"]) == ("trial_started", 2, pause["epoch"])


def test_what_still_waits_at_the_end_of_the_budget_is_stopped(toy):
    """No trial is paused when the study is done: those that never qualified end as stopped, with their time counted
    once, and the searcher is told then and not before.
    """
    study = create(toy, "s", PROMOTE)
    toy.drive(study, events=12)
    waiting = [trial.number for trial in study.state.paused]
    assert waiting
    told = [t.state.name for t in study.state.searcher.trials]
    assert told.count("PRUNED") == sum(t.status in ("stopped", "diverged") for t in study.state.trials.values())
    study.close()
    study = toy.resume("s")
    toy.drive(study)
    assert study.done
    assert not study.state.paused
    assert not study.state.history.paused
    study.interrupt("budget")
    rows = replay.build(events_of(toy, "s"), running=False)["trials"].to_pylist()
    assert all(row["status"] in ("completed", "stopped", "diverged") for row in rows)
    assert {row["trial"]: row["cpu_seconds"] for row in rows} == {
        t.number: max(e["cpu_seconds"] for e in events_of(toy, "s") if e["event"] == "epoch" and e["trial"] == t.number)
        if t.attempt == 1
        else pytest.approx(sum(e["cpu_seconds"] for e in ends(toy, t.number)))
        for t in study.state.trials.values()
    }


def ends(toy, number):
    """The ends of a trial's attempts."""
    return [e for e in events_of(toy, "s") if e["event"] == "trial_ended" and e["trial"] == number]


def test_one_epoch_runs_exactly_the_best_of_all_to_the_end(toy):
    """keep 2 of twelve: the two lowest PERs at epoch 1 are completed, whatever the order in which trials came."""
    for workers in (1, 4):
        study = create(toy, f"s{workers}", ONE_EPOCH)
        toy.drive(study, workers=workers)
        first = sorted((t.pers[1], n) for n, t in study.state.trials.items())
        went_on = sorted(n for n, t in study.state.trials.items() if t.epoch > 1)
        assert went_on == sorted(n for _, n in first[:2])


def test_paused_trials_stay_when_the_time_is_up(toy):
    """A limit that can be raised leaves paused trials waiting; the tables say so, and a resumed study ends them."""
    study = create(toy, "s", PROMOTE, budget={"trials": 12, "hours": 1.0})
    toy.drive(study, events=12)
    study.interrupt("wall_time")
    waiting = {trial.number for trial in study.state.paused}
    rows = replay.build(events_of(toy, "s"), running=False)["trials"].to_pylist()
    assert {row["trial"] for row in rows if row["status"] == "paused"} == waiting
    study.close()
    again = toy.resume("s")
    assert {trial.number for trial in again.state.paused} == waiting
    toy.drive(again)
    assert not again.state.paused


def test_a_target_that_is_reached_starts_no_paused_trial(toy):
    """With a budget that ends at a target PER, nothing is promoted any more once it is reached."""
    study = create(toy, "s", PROMOTE, budget={"trials": 12, "hours": None, "target_per": 0.99})
    toy.drive(study, workers=3)
    assert all(t.attempt == 1 for t in study.state.trials.values())


def test_trials_paused_by_a_rule_go_on_under_one_that_does_not_pause(toy):
    """Pause and promote changed to none on the way: who waited goes on to the end, and a replay knows it."""
    study = create(toy, "s", PROMOTE)
    toy.drive(study, events=14)
    waiting = {trial.number for trial in study.state.paused}
    assert waiting
    study.close()
    again = toy.resume("s", {"stopping": [PROMOTE, {"kind": "none"}]})
    assert {trial.number for trial in again.state.waiting} >= waiting
    again.close()
    again = toy.resume("s")
    toy.drive(again)
    assert all(again.state.trials[n].status in ("completed", "diverged") for n in waiting)


def test_a_new_rule_compares_with_the_trials_of_before(toy):
    """none changed to asha on the way: the rungs hold what every trial so far had there."""
    study = create(toy, "s", {"kind": "none"})
    toy.drive(study, events=40)
    study.close()
    again = toy.resume("s", {"stopping": [{"kind": "none"}, {"kind": "asha"}]})
    held = {key.at: rung.values for key, rung in again.state.history.rungs.items()}
    for epoch in (1, 3):
        came = {n: t.pers[epoch] for n, t in again.state.trials.items() if t.pers.get(epoch) is not None}
        assert {n: per for n, (per, _) in held[epoch].items()} == pytest.approx(came)


def test_a_trial_that_waits_can_be_stopped_by_hand(toy):
    """A paused trial that somebody wants stopped ends at once."""
    study = create(toy, "s", PROMOTE)
    toy.drive(study, events=14)
    number = study.state.paused[0].number
    study.stop_by_hand(number, "1", "me@here")
    assert study.state.trials[number].status == "stopped"
    assert number not in study.state.history.paused
