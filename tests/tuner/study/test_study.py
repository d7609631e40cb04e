"""A study as a function of its log."""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from results.store.events import read_events
from results.store.lines import lines_of
from search_spaces import InputError
from tuner.study.state import StudyState


def test_a_study_runs_to_its_budget(toy):
    """Every trial of the budget ends in a final state, and the start point comes first."""
    study = toy.create("s")
    assert toy.drive(study)
    states = study.state.trials
    assert len(states) == 12
    assert states[0].origin == "start_point"
    assert states[0].config.schedule.peak_lr == pytest.approx(3e-3)
    assert {t.status for t in states.values()} <= {"completed", "stopped", "diverged"}
    assert any(t.status == "stopped" for t in states.values())
    assert all(t.epoch == 9 for t in states.values() if t.status == "completed")


def test_a_decision_is_in_the_log_before_it_is_carried_out(toy):
    """When `report` says stop, the log already holds the epoch, the decision and the trial's end."""
    study = toy.create("s")
    while not any(t.status == "stopped" for t in study.state.trials.values()):
        toy.drive(study, events=1)
        for trial in study.state.running:
            study.fail(trial.number, trial.attempt, "let go", final=True)
    events, _ = read_events(toy.folder / "s" / "events.jsonl")
    stopped = next(e for e in events if e["event"] == "trial_ended" and e["status"] == "stopped")
    before = events[events.index(stopped) - 1]
    assert before["event"] == "epoch"
    assert before["decision"] == "stop"
    assert before["rung"] == before["epoch"]


def test_the_last_decision_on_a_trial_says_how_it_ended(toy):
    """Every epoch before lets it continue; the last one stops it, whether it is complete, stopped or diverged."""
    study = toy.create("s", searcher={"kind": "random"}, stopping={"kind": "asha", "grace": 4, "reduction": 2}, seed=1)
    toy.drive(study, workers=2)
    decisions, ends = {}, {}
    for event in read_events(toy.folder / "s" / "events.jsonl")[0]:
        if event["event"] == "epoch":
            decisions.setdefault(event["trial"], []).append((event["decision"], event["status"]))
        elif event["event"] == "trial_ended":
            ends[event["trial"]] = event["status"]
    assert set(ends.values()) == {"completed", "stopped", "diverged"}
    assert {n: said[-1] for n, said in decisions.items()} == {n: ("stop", status) for n, status in ends.items()}
    assert {each for said in decisions.values() for each in said[:-1]} == {("continue", None)}


@pytest.fixture(scope="module")
def uninterrupted():
    return {}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 15), min_size=1, max_size=6))
def test_killed_anywhere_and_resumed_equals_never_killed(toy, uninterrupted, kills):
    """With one trial at a time, any number of kills leaves proposals, decisions and final states as they would be."""
    if "decisions" not in uninterrupted:
        toy.drive(toy.create("whole"))
        uninterrupted["decisions"] = toy.decisions("whole")
    name = "killed-" + "-".join(map(str, kills))
    if (toy.folder / name).exists():
        return
    study = toy.create(name)
    for epochs in kills:
        if toy.drive(study, events=epochs):
            break
        study.close()
        study = toy.resume(name)
    toy.drive(study)
    assert toy.decisions(name) == uninterrupted["decisions"]


def test_replay_gives_the_same_state_with_two_workers(toy):
    """Arrival order matters with several workers; the log has it, so a replay has the same rungs and the same Optuna
    study.
    """
    study = toy.create("s")
    toy.drive(study, workers=2, events=40)
    again = toy.resume("s")
    for trial in study.state.running:
        again.state.trials[trial.number].status = "running"
    assert again.state.history.rungs == study.state.history.rungs
    assert {n: t.status for n, t in again.state.trials.items()} == {n: t.status for n, t in study.state.trials.items()}

    def known(of):
        return [(t.state, t.params, t.intermediate_values) for t in of.state.searcher.trials if t.state.name != "FAIL"]

    assert known(again) == known(study)


def test_a_stop_that_was_logged_without_its_end_is_carried_out_on_resume(toy):
    """A driver killed between a stop and the trial's end does not let the trial train on."""
    study = toy.create("s")
    toy.drive(study)
    log = toy.folder / "s" / "events.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if '"trial_ended"' in line and '"stopped"' in line)
    log.write_text("".join(lines[:at]))
    again = toy.resume("s")
    cut = [t for t in again.state.trials.values() if t.status == "stopped"]
    assert len(cut) == 1
    assert not again.state.running
    toy.drive(again)
    assert toy.decisions("s")[2].keys() == set(range(12))


def test_a_diverged_trial_is_stopped_at_once_and_ranks_last(toy):
    """Not a number ends a trial as diverged; Optuna holds its point below every other one."""
    study = toy.create("s", searcher={"kind": "random"}, stopping={"kind": "none"}, seed=1)
    toy.drive(study)
    diverged = [t for t in study.state.trials.values() if t.status == "diverged"]
    assert diverged
    assert all(t.epoch == 3 and t.error for t in diverged)
    worst = [t for t in study.state.searcher.trials if t.state.name == "PRUNED" and not t.intermediate_values]
    assert len(worst) == len(diverged)
    assert {t.params["schedule.peak_lr"] for t in worst} == {t.params["schedule.peak_lr"] for t in diverged}


def test_optuna_is_told_the_truth(toy):
    """Completed trials are COMPLETE with their best PER; stopped ones PRUNED with the value of every rung they
    reached.
    """
    study = toy.create("s")
    toy.drive(study)
    told = {t.params["schedule.peak_lr"]: t for t in study.state.searcher.trials}
    for trial in study.state.trials.values():
        seen = told[trial.params["schedule.peak_lr"]]
        if trial.status == "completed":
            assert seen.state.name == "COMPLETE"
            assert seen.value == trial.best[0]
            assert list(seen.intermediate_values) == [1, 3]
        elif trial.status == "stopped":
            assert seen.state.name == "PRUNED"
            assert seen.intermediate_values == {e: trial.pers[e] for e in (1, 3) if e <= trial.epoch}


def test_a_failed_attempt_is_tried_again_as_often_as_allowed(toy):
    """With retries 1 a trial that dies goes on under attempt 2; when that dies too it is failed, with its error."""
    study = toy.create("s", retries=1)
    job = study.ask()
    study.report(job.trial, job.attempt, _row(job))
    study.fail(job.trial, job.attempt, "RuntimeError: first")
    again = study.ask()
    assert (again.trial, again.attempt, again.epochs_logged) == (job.trial, 2, 1)
    study.fail(again.trial, again.attempt, "RuntimeError: second")
    trial = study.state.trials[job.trial]
    assert (trial.status, trial.error) == ("failed", "RuntimeError: second")
    assert study.ask().trial == 1


def test_an_epoch_reported_again_keeps_its_decision(toy):
    """After a resume from an older checkpoint, repeated epochs are written under the new attempt and compared with
    nobody.
    """
    study = toy.create("s")
    job = study.ask()
    for epoch in (1, 2):
        study.report(job.trial, job.attempt, _row(job, epoch))
    again = toy.resume("s")
    rungs = {key: rung.values for key, rung in again.state.history.rungs.items()}
    job = again.ask()
    assert again.report(job.trial, job.attempt, _row(job, 1)) == "continue"
    assert {key: rung.values for key, rung in again.state.history.rungs.items()} == rungs


def test_a_repeated_epoch_is_not_decided_again(toy):
    """A trial passed its rung; better ones came since; repeating the epoch after a kill does not stop it, and the log
    says what was decided the first time.
    """
    study = toy.create("s", budget={"trials": 4, "hours": None})
    for per in (0.9, 0.5, 0.4, 0.3):
        job = study.ask()
        assert study.report(job.trial, job.attempt, {**_row(job), "per": per}) == "continue"
    study.close()
    again = toy.resume("s")
    job = again.ask()
    assert (job.trial, job.attempt) == (0, 2)
    assert again.report(0, 2, {**_row(job), "per": 0.9}) == "continue"
    last = read_events(toy.folder / "s" / "events.jsonl")[0][-1]
    assert (last["event"], last["decision"], last["rung"], last["passed"]) == ("epoch", "continue", 1, True)


def test_the_time_budget_counts_all_sessions(toy):
    """The wall-time budget is spent by earlier sessions too, and a clock that is set back does not refill it."""
    study = toy.create("s", budget={"trials": None, "hours": 1.0})
    assert 3590 < study.seconds_left <= 3600
    log = toy.folder / "s" / "events.jsonl"
    toy.drive(study, events=1)
    study.close()
    events, _ = read_events(log)
    events[-1]["elapsed"] += 1800
    events[-1]["time"] -= 7200  # the clock was set back
    log.write_bytes(b"".join(lines_of(events)))
    assert 1790 < toy.resume("s").seconds_left <= 1801


def test_a_log_without_settings_is_refused(toy):
    """A folder whose log does not begin with a study is one clear line."""
    (toy.folder / "s").mkdir()
    (toy.folder / "s" / "events.jsonl").write_text("")
    with pytest.raises(InputError, match="does not begin with the study's settings"):
        toy.resume("s")


def _row(job, epoch=1):
    return {
        "epoch": epoch,
        "batch": 2 * epoch,
        "per": 0.5,
        "per_raw": 0.5,
        "per_utterance_mean": 0.5,
        "val_loss": 1.0,
        "train_loss": 1.0,
        "lr": 1e-3,
        "schedule_fraction": 0.1,
        "grad_norm": 1.0,
        "blank_share": 0.5,
        "infeasible": 0,
        "seconds": 1.0,
        "samples_per_second": 1.0,
        "peak_memory_mb": 1.0,
        "diverged": False,
        "cpu_seconds": 1.0,
        "gpu_seconds": 0.0,
    }


def test_the_time_left_is_the_hours_less_what_every_session_took(toy):
    """Of an hour: the seconds of the session that runs now, by its own clock, and of those before, by the log."""
    now = [100.0]
    study = toy.create("s", clock=lambda: now[0], budget={"trials": None, "hours": 1.0})
    assert study.seconds_left == 3600
    now[0] += 600
    assert study.seconds_left == 3000
    study.state.driver_seconds = 500.0
    assert study.seconds_left == 2500


def test_what_the_driver_slept_is_no_time_of_the_search(toy, monkeypatch):
    """Neither in the hours that are left nor in the log's `elapsed`, from which later sessions know what was used."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    study = toy.create("s", clock=lambda: now[0], budget={"trials": None, "hours": 1.0})
    now[0] += 600
    study.slept(500.0)
    assert study.seconds_left == 3500
    study.mark(None, "back again", [], [])
    assert read_events(toy.folder / "s" / "events.jsonl")[0][-1]["elapsed"] == 100


@pytest.mark.parametrize(("at", "grace", "known"), [("epochs", 1, {1, 2, 4, 8}), ("horizon", 0.2, {20, 40, 80})])
def test_the_searcher_is_told_of_rungs_by_epoch_or_percent(toy, at, grace, known):
    """Runs of different lengths are then compared where they are as far; it has what the rule compared, once."""
    rule = {"kind": "asha", "at": at, "grace": grace, "reduction": 2}
    study = toy.create("s", searcher={"kind": "random"}, stopping=rule, seed=1)
    toy.drive(study)
    trials = study.state.trials
    assert set().union(*(trial.rungs for trial in trials.values())) == known
    for told in study.state.searcher.trials:
        assert told.intermediate_values.keys() <= known
    values = [told.intermediate_values for told in study.state.searcher.trials]
    assert all(dict(trial.rungs) in values for trial in trials.values())


def test_how_many_run_at_once_is_in_the_log_and_holds_on_resume(toy):
    """A number that was changed while the search ran is that of the study from then on; the rest stays."""
    resources = {"cpus_per_trial": 2, "gpus_per_trial": 0.5, "concurrent": None}
    study = toy.create("s", resources=resources)
    study.run_at_once(3, 2, by="me@here")
    assert study.settings.resources.as_dict() == {**study.settings.resources.as_dict(), **resources, "concurrent": 3}
    study.close()
    event = read_events(toy.folder / "s" / "events.jsonl")[0][-1]
    assert (event["event"], event["at_once"], event["by"]) == ("study_changed", 2, "me@here")
    before, after = event["changed"]["resources"]
    assert {key: pair for key in after if (pair := (before[key], after[key])) and pair[0] != pair[1]} == {
        "concurrent": (None, 3)
    }
    assert toy.resume("s").settings.resources == study.settings.resources


def test_a_state_before_its_first_event_has_not_begun_and_counts_what_comes(toy):
    """What `watch` looks at: whether there are settings yet, and how many epochs there were."""
    assert not StudyState(searching=False).begun
    study = toy.create("s")
    assert study.state.begun
    toy.drive(study, events=5)
    assert study.state.epochs == 5


def test_a_trial_that_ends_twice_is_one_that_ended(toy):
    """A log put together by hand may start an ended trial again: it is then not among those that have ended."""
    study = toy.create("s", stopping={"kind": "none"})
    toy.drive(study, events=9)
    events = list(read_events(toy.folder / "s" / "events.jsonl")[0])
    assert study.state.ended_trials == 1
    state = StudyState(searching=False)
    start = next(event for event in events if event["event"] == "trial_started")
    end = next(event for event in events if event["event"] == "trial_ended")
    for event in (*events, end):
        state.apply(event)
    assert state.ended_trials == 1
    state.apply({**start, "attempt": 2})
    assert state.ended_trials == 0


def dies(study, error="ValueError: no card", kind="error", final=True):
    """Start the next trial and let it die."""
    job = study.ask()
    study.fail(job.trial, job.attempt, error, final=final, kind=kind)


def test_a_cause_that_hits_every_trial_alike_ends_the_search_after_two(toy):
    """Nobody has trained an epoch and two were given up for the same error: no third one is burned."""
    study = toy.create("alike", budget={"trials": 40, "hours": None})
    dies(study)
    assert study.common_cause is None and not study.done
    dies(study)
    assert study.common_cause == "ValueError: no card"
    assert study.done and study.ask() is None


def test_those_that_run_meanwhile_may_still_show_that_it_works(toy):
    """An epoch of a trial that runs beside the dying ones says that the cause was theirs."""
    study = toy.create("beside", budget={"trials": 40, "hours": None})
    job = study.ask()
    dies(study)
    dies(study)
    assert study.ask() is None and not study.done
    study.report(job.trial, job.attempt, _row(job))
    assert study.common_cause is None and study.ask() is not None


@pytest.mark.parametrize(
    ("first", "second", "kind", "final"),
    [
        ("ValueError: a", "ValueError: b", "error", True),
        ("the node that it ran on was lost", "the node that it ran on was lost", "node", True),
        ("MemoryError", "MemoryError", "memory", True),
        ("ValueError: a", "ValueError: a", "error", False),
    ],
)
def test_faults_that_say_nothing_of_the_next_trial_end_no_search(toy, first, second, kind, final):
    """Different errors, lost nodes, full memory, and attempts that are made again."""
    study = toy.create("own", budget={"trials": 40, "hours": None}, retries=5)
    dies(study, first, kind, final)
    dies(study, second, kind, final)
    assert study.common_cause is None and study.ask() is not None
