"""Studies under each stopping rule: pause and promote, kills and resumes, a rule that is changed on the way."""

from __future__ import annotations

import random

import pytest

from results.store import replay
from results.store.events import read_events
from search_spaces import InputError
from search_spaces.stopping import rule_text
from tuner.commands.options import parse_rule
from tuner.study.compact import KeptConfig
from tuner.study.rules.stopping import read_rule
from tuner.study.state import StudyState

PROMOTE = {"kind": "asha", "grace": 1, "reduction": 2, "promote": True}
DRAIN = {**PROMOTE, "drain": True, "at": "area", "grace": 0.2, "metric": "either"}
RULES = [
    PROMOTE,
    {**PROMOTE, "at": "horizon", "grace": 0.2, "reduction": 2, "among": "annealed", "protect": 1},
    DRAIN,
    {**DRAIN, "metric": "val_loss", "max_paused": 2},
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
    assert ("stopped" in expected[2].values()) == (rule != DRAIN)
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


# Freeze and thaw


def test_a_drain_stops_nobody_and_runs_the_paused_one_at_a_time_best_first(toy):
    """With a number of trials alone every trial comes to its end, the new ones first, then the paused in order."""
    study = create(toy, "s", {**DRAIN, "metric": "per"})
    begun = []

    def watch(event):
        if event["event"] == "trial_started" and event["attempt"] > 1:
            state = study.state
            begun.append((event["trial"], state.next_number, len(state.running), state.trials[event["trial"]].best))

    study.observers.append(watch)
    toy.drive(study, workers=3)
    assert all(trial.status in ("completed", "diverged") for trial in study.state.trials.values())
    assert study.state.next_number == 12
    thawed = [entry for entry in begun if entry[1] == 12]
    assert len(thawed) >= 3
    assert thawed[-1][2] == 1
    assert study.done


@pytest.mark.parametrize(("workers", "most"), [(1, 1), (2, 1), (3, 1), (4, 2), (6, 3)])
def test_a_drain_keeps_half_of_the_workers_busy(toy, workers, most):
    """On all of them the best would not come first; on one a cluster would stand still."""
    study = create(toy, "s", {**DRAIN, "reduction": 6}, budget={"trials": 12})
    toy.drive(study, workers=workers)
    running, seen, new = set(), [], 0
    for event in events_of(toy, "s"):
        if event["event"] == "trial_started":
            running.add(event["trial"])
            new = max(new, event["trial"] + 1)
            seen += [len(running)] if new == 12 and event["attempt"] > 1 else []
        elif event["event"] == "trial_ended" or event.get("decision") == "pause":
            running.discard(event["trial"])
    assert max(seen[workers:]) == most


def test_a_drain_with_a_share_ends_there_and_stops_the_rest(toy):
    """No paused trial is thawed once that share of the batches of whole runs is trained; what passes by rank goes on,
    and those that still wait are stopped. With a limit of cost its rest is used up instead.
    """
    spent = {}
    for drain in (False, 0.5, 0.7, 1.0):
        rule = {**DRAIN, "metric": "per", "reduction": 6, "drain": drain}
        study = create(toy, f"s{drain}", rule)
        toy.drive(study)
        whole = study.state.spent.whole
        assert whole == sum(t.config.training.batches for t in study.state.trials.values())
        spent[drain] = study.state.spent.batches / whole
        assert study.done and not study.state.paused
        assert {t.status for t in study.state.trials.values()} <= {"completed", "stopped", "diverged"}
    assert spent[False] < 0.5 <= spent[0.5] < 0.7 <= spent[0.7] < spent[1.0]
    batches = round(0.9 * whole)
    limited = create(toy, "limited", rule | {"drain": 0.5, "finish": 0.5}, budget={"trials": 12, "batches": batches})
    toy.drive(limited)
    assert limited.state.spent.batches >= batches


def test_the_best_of_the_paused_thaws_first(toy):
    """Of the trials that wait at one rung, the one with the lowest PER passes first as the reduction is relaxed."""
    study = create(toy, "s", {**DRAIN, "metric": "per", "reduction": 6})
    waiting = None
    while waiting is None:
        job = study.ask()
        if job.attempt > 1 and not study.trials_left and not study.state.running[1:]:
            waiting = {trial.number: trial.best for trial in study.state.paused} | {
                job.trial: study.state.trials[job.trial].best
            }
            break
        epoch = job.epochs_logged
        while study.report(job.trial, job.attempt, toy.curve(job.config, epoch := epoch + 1)) == "continue":
            pass
    here = {
        n: best for n, best in waiting.items() if study.state.trials[n].epoch == study.state.trials[job.trial].epoch
    }
    assert min(here, key=here.get) == job.trial


@pytest.mark.parametrize("limit", ["hours", "batches", "utterances", "gpu_hours"])
def test_a_limit_keeps_a_share_for_finishing(toy, limit):
    """With endless trials and a limit of cost, no new trial starts in its last quarter while some are paused, so that
    the search does not end with nobody at the end; without `finish` it does here.
    """
    ended = {}
    for finish in (0.5, 0.0):
        now = [0.0]
        amount = {"hours": 1.0, "batches": 2 * 60, "utterances": 2 * 60 * 8, "gpu_hours": 60 / 3600}[limit]
        rule = {**DRAIN, "metric": "per", "grace": 0.1, "reduction": 40, "finish": finish}
        name = f"s{finish}"
        study = toy.create(
            name,
            clock=lambda now=now: now[0],
            stopping=rule,
            searcher={"kind": "random"},
            budget={"trials": None, limit: amount},
            resources={"cpus_per_trial": 1, "gpus_per_trial": 1.0, "concurrent": None},
        )
        while not study.done:
            job = study.ask()
            epoch, used = job.epochs_logged, 0.0
            while not study.leaves:
                epoch, used = epoch + 1, used + 1.0
                now[0] += 60.0
                row = {**toy.curve(job.config, epoch), "gpu_seconds": used}
                if study.report(job.trial, job.attempt, row) == "stop":
                    break
        assert study.reached == {"hours": "wall_time"}.get(limit, limit)
        study.interrupt(study.reached)
        ended[finish] = sum(trial.status == "completed" for trial in study.state.trials.values())
        assert any(trial.status == "paused" for trial in study.state.trials.values())  # who waits may go on later
        study.close()
    assert ended[0.5] >= 2
    assert ended[0.0] < ended[0.5]


@pytest.mark.parametrize(
    ("limit", "amount", "most"),
    [("hours", 8 / 60, 4), ("gpu_hours", 32 / 3600, 4), ("batches", 2 * 32, 2), ("utterances", 2 * 32 * 8, 2)],
)
def test_what_is_kept_of_a_limit_of_time_is_used_by_all_workers(toy, limit, amount, most):
    """Four workers continue paused trials in the second half of the limit: all at once where their time runs out, else
    two of them, so that the best come first.
    """
    now = 0.0
    rule = {**DRAIN, "metric": "per", "grace": 0.1, "reduction": 40, "finish": 0.5}
    resources = {"cpus_per_trial": 1, "gpus_per_trial": 1.0, "concurrent": None}
    study = create(toy, "s", rule, clock=lambda: now, budget={"trials": None, limit: amount}, resources=resources)
    running, seen = [], []
    while not study.leaves:
        while len(running) < 4 and (job := study.ask()) is not None:
            running.append([job, job.epochs_logged, 0.0])
        if not study.trials_left and all(job.attempt > 1 for job, *_ in running):
            seen.append(len(running))
        now += 60.0
        for entry in list(running):
            entry[1:] = entry[1] + 1, entry[2] + 1.0
            row = {**toy.curve(entry[0].config, entry[1]), "gpu_seconds": entry[2]}
            if study.report(entry[0].trial, entry[0].attempt, row) == "stop":
                running.remove(entry)
    assert set(seen) == {most}


def test_a_raised_limit_goes_on_with_the_paused(toy):
    """After a search that a limit of batches ended, a larger one continues it; nothing that waited is lost."""
    study = create(toy, "s", DRAIN, budget={"trials": 12, "batches": 60})
    toy.drive(study)
    assert study.reached == "batches"
    study.interrupt("batches")
    waiting = {trial.number for trial in study.state.paused}
    assert waiting
    study.close()
    limits = [{"trials": 12, "batches": 60}, {"trials": 12, "batches": None}]
    again = toy.resume("s", {"budget": limits})
    assert {trial.number for trial in again.state.paused} == waiting
    toy.drive(again)
    assert all(trial.status in ("completed", "diverged") for trial in again.state.trials.values())


def test_no_more_are_paused_than_there_is_room_for(toy):
    """Beyond `max_paused` the worst of those at the lowest rung is stopped, and its row says why."""
    study = create(toy, "s", {**DRAIN, "metric": "per", "max_paused": 2})
    most = []
    study.observers.append(lambda event: most.append(len(study.state.paused)))
    toy.drive(study, workers=2)
    stopped = [trial for trial in study.state.trials.values() if trial.status == "stopped"]
    assert stopped
    assert all("more than max_paused=2 trials are paused" in trial.error for trial in stopped)
    assert max(most) <= 3  # the one that has just been paused, until the worst is stopped


def test_who_fails_by_per_but_not_by_loss_passes(toy):
    """metric either: the best by one of the two goes on; alone, the other one would have stopped it."""
    rule = {"kind": "asha", "grace": 1, "reduction": 3, "metric": "either"}
    study = create(toy, "s", rule)
    jobs = [study.ask() for _ in range(4)]
    rows = [(0.5, 3.0), (0.6, 2.0), (0.7, 4.0), (0.9, 1.0)]
    said = [
        study.report(job.trial, 1, {**toy.curve(job.config, 1), "per": per, "val_loss": loss, "diverged": False})
        for job, (per, loss) in zip(jobs, rows, strict=True)
    ]
    assert said == ["continue", "continue", "stop", "continue"]
    reason = study.state.trials[2].last_row["reason"]
    assert reason.startswith("rank 3 of 3 by PER and rank 3 of 3 by validation loss at epoch 1")


def test_losses_of_different_reductions_are_not_compared(toy):
    """A loss per utterance is some ten times a loss per phoneme: it neither stops nor saves the others."""
    study = create(toy, "s", {"kind": "asha", "grace": 1, "reduction": 3, "metric": "val_loss"})
    jobs = [study.ask() for _ in range(4)]
    for job, reduction in zip(jobs, ("target_mean", "utterance_mean", "utterance_mean", "target_mean"), strict=True):
        config = job.config.model_copy(
            update={"training": job.config.training.model_copy(update={"ctc_reduction": reduction})}
        )
        study.state.history.curves[job.trial].kept = KeptConfig(config)
    losses = (1.0, 30.0, 20.0, 2.0)
    said = [
        study.report(job.trial, 1, {**toy.curve(job.config, 1), "val_loss": loss, "diverged": False})
        for job, loss in zip(jobs, losses, strict=True)
    ]
    assert said == ["continue", "continue", "continue", "stop"]


@pytest.mark.parametrize("rule", ["asha drain=true", "asha max_paused=3"])
def test_what_needs_pauses_says_so(rule):
    """drain and max_paused without promote are one line."""
    with pytest.raises(InputError, match="give promote: true too"):
        parse_rule(rule)


PAUSING = {**DRAIN, "drain": 0.9, "reduction": 3}


def starts(toy, name):
    """(number, attempt, trials that had come to their ends before) of every start, in order."""
    found, completed = [], 0
    for event in events_of(toy, name):
        completed += event["event"] == "trial_ended" and event["status"] == "completed"
        if event["event"] == "trial_started":
            found.append((event["trial"], event["attempt"], completed))
    return found


def new_ones(toy, name, ends, rule=PAUSING, kind="tpe", startup=4, **changes):
    """Number -> how many had come to their ends when that trial began for the first time."""
    searcher = {"kind": kind, "startup_trials": startup, "ends": ends}
    study = create(toy, name, rule, searcher=searcher, budget={"trials": 12, "hours": None}, **changes)
    toy.drive(study, workers=2)
    return {number: completed for number, attempt, completed in starts(toy, name) if attempt == 1}


@pytest.mark.parametrize("kind", ["tpe", "gp"])
def test_a_model_sees_ends_before_it_proposes_more(toy, kind):
    """After the first trials, paused ones come to their ends before a new one starts, until as many have as asked."""
    without = new_ones(toy, "without", 0, kind=kind)
    with_three = new_ones(toy, "three", 3, kind=kind)
    assert len(without) == len(with_three) == 12
    assert without[4] == 0
    # Two workers: the one that is free when the third is on its way has nothing else to do.
    assert with_three[3] == 0 and with_three[5] >= 2 and with_three[7] >= 3


def test_the_first_trial_does_not_come_to_its_end_alone(toy):
    """With a design of one trial, as a small budget has it, as many start as a rung compares before one goes on."""
    begun = new_ones(toy, "few", 3, startup=1)
    assert begun[1] == begun[2] == 0
    assert [number for number, attempt, _ in starts(toy, "few")][:3] == [0, 1, 2]


def test_where_nobody_is_paused_new_trials_start(toy):
    """A rule that never pauses, and a budget of batches that is used up, keep no trial from starting."""
    never = new_ones(toy, "never", 8, rule={"kind": "none"})
    assert len(never) == 12
    little = new_ones(toy, "little", 8, rule={**PAUSING, "drain": 0.05})
    assert len(little) == 12 and little[11] < 8


def test_ends_do_not_change_with_a_kill(toy):
    """Killed anywhere and resumed, the same trials continue first."""
    changes = {"searcher": {"kind": "tpe", "startup_trials": 4, "ends": 3}, "budget": {"trials": 10, "hours": None}}
    rule = {**PAUSING, "drain": 1.0}  # the batches of an epoch that is repeated count in a share
    toy.drive(create(toy, "whole", rule, **changes))
    study = create(toy, "killed", rule, **changes)
    chance = random.Random(4)
    while not toy.drive(study, events=chance.randint(1, 12)):
        study.close()
        study = toy.resume("killed")
    assert toy.decisions("killed") == toy.decisions("whole")
