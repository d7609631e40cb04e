"""When a search ends: every limit, what running trials do then, and going on under a raised one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.store.events import read_events
from search_spaces import InputError
from search_spaces.plan import Budget
from tuner.launch.changes import raised_budget
from tuner.launch.closing import advice
from tuner.study import budgets
from tuner.study.settings import StudyBudget
from tuner.study.study import read_past

NO_STOPPING = {"kind": "none"}


def budget(**limits):
    return budgets.merged({"trials": 12, "hours": None}, limits)


def step(study, toy, job, epoch, **changes):
    return study.report(job.trial, job.attempt, {**toy.curve(job.config, epoch), "diverged": False, **changes})


def reason_of(study):
    """Ends the session as the Ray adapter does; the reason in the log."""
    study.interrupt(study.reached or "budget")
    return study.state.ended


def test_the_target_ends_a_search_and_the_running_trials_finish(toy):
    """At the target PER no trial is started any more; those that run go on to their end."""
    study = toy.create("s", budget=budget(target_per=0.5), stopping=NO_STOPPING)
    jobs = [study.ask(), study.ask()]
    step(study, toy, jobs[0], 1, per=0.5)
    assert study.reached == "target_per"
    assert study.ask() is None
    assert not study.done
    for job in jobs:
        for epoch in range(1, 10):
            if not (job is jobs[0] and epoch == 1):
                step(study, toy, job, epoch)
    assert study.done
    assert reason_of(study) == "target_per"
    assert [t.status for t in study.state.trials.values()] == ["completed", "completed"]


def test_then_stop_interrupts_what_runs(toy):
    """With `then: stop` the search is done at once, and what ran is kept for a resumed study."""
    study = toy.create("s", budget=budget(target_per=0.5, then="stop"), stopping=NO_STOPPING)
    jobs = [study.ask(), study.ask()]
    step(study, toy, jobs[0], 1, per=0.4)
    assert study.done
    assert study.ask() is None
    assert reason_of(study) == "target_per"
    assert {t.status for t in study.state.trials.values()} == {"interrupted"}


def test_a_resumed_study_that_hit_its_target_does_not_start_over(toy):
    """Resumed as it was it is done; with a lower target the interrupted trials go on, then new ones start."""
    limits = budget(target_per=0.4, then="stop")
    study = toy.create("s", budget=limits, stopping=NO_STOPPING)
    job = study.ask()
    step(study, toy, job, 1, per=0.4)
    reason_of(study)
    study.close()
    again = toy.resume("s")
    assert again.done
    assert again.ask() is None
    reason_of(again)
    again.close()
    raised = toy.resume("s", {"budget": [limits.as_dict(), {**limits.as_dict(), "target_per": 0.01}]})
    assert raised.reached is None
    job = raised.ask()
    assert (job.trial, job.attempt, job.epochs_logged) == (0, 2, 1)
    assert raised.ask().trial == 1


def test_no_improvement_counts_trials_that_did_not_lower_the_best(toy):
    """Trials that lower the best PER start the count anew; with N others in a row the search ends."""
    study = toy.create("s", budget=budget(no_improvement=2), stopping=NO_STOPPING, retries=1)
    for best, since in ((0.5, 0), (0.6, 1), (0.4, 0), (0.4, 1), (0.9, 2)):
        job = study.ask()
        for epoch in range(1, 10):
            step(study, toy, job, epoch, per=best if epoch == 5 else 0.95)
        assert study.state.spent.since_best == since
    assert study.done
    assert reason_of(study) == "no_improvement"
    assert len(study.state.trials) == 5


def test_a_running_trial_that_improves_lets_the_search_go_on(toy):
    """No improvement is looked at anew after each epoch: a running trial may still be the better one."""
    study = toy.create("s", budget=budget(no_improvement=1), stopping=NO_STOPPING)
    first, second, third = study.ask(), study.ask(), study.ask()
    step(study, toy, first, 1, per=0.5)
    study.fail(second.trial, 1, "RuntimeError: x", final=True)
    assert study.ask() is None
    step(study, toy, third, 1, per=0.4)
    assert study.reached is None
    assert study.ask().trial == 3


def test_gpu_hours_count_every_attempt(toy):
    """The seconds of a failed attempt stay counted, those within an attempt are counted once; the limit interrupts."""
    study = toy.create("s", budget=budget(gpu_hours=100 / 3600), stopping=NO_STOPPING, retries=1)
    job = study.ask()
    step(study, toy, job, 1, gpu_seconds=20.0)
    step(study, toy, job, 2, gpu_seconds=40.0)
    study.fail(job.trial, job.attempt, "RuntimeError: x")
    other, job = study.ask(), None
    assert other.attempt == 2
    step(study, toy, other, 3, gpu_seconds=30.0)
    assert study.state.spent.gpu_seconds == 70
    assert not study.done
    step(study, toy, other, 4, gpu_seconds=60.0)
    assert study.done
    assert reason_of(study) == "gpu_hours"
    study.close()
    assert toy.resume("s").state.spent.gpu_seconds == 100


def test_gpu_hours_may_let_running_trials_finish(toy):
    """With `then: finish` a spent limit only starts no more trials."""
    study = toy.create("s", budget=budget(gpu_hours=10 / 3600, then="finish"), stopping=NO_STOPPING)
    job = study.ask()
    for epoch in range(1, 10):
        assert not study.done
        step(study, toy, job, epoch, gpu_seconds=20.0 * epoch)
    assert study.done
    assert study.state.trials[0].status == "completed"
    assert len(study.state.trials) == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.9, 0.5, 0.3, None]), st.booleans()), max_size=30))
def test_what_is_spent_is_never_unspent(steps):
    """Whatever trials report in whatever order, GPU seconds never fall, nor does the best PER rise."""
    spent, clock = budgets.Spent(), {}
    before = (0.0, float("inf"))
    for trial, per, ends in steps:
        if trial not in clock:
            clock[trial] = 0.0
            spent.apply({"event": "trial_started", "trial": trial})
        clock[trial] += 1.0
        spent.apply({"event": "epoch", "trial": trial, "per": per, "gpu_seconds": clock[trial]})
        if ends:
            del clock[trial]
            spent.ended(trial)
        assert (spent.gpu_seconds, -spent.best_per) >= (before[0] + 1.0, -before[1])
        before = (spent.gpu_seconds, spent.best_per)
    assert spent.gpu_seconds == len(steps)


def test_gpu_hours_without_a_card_are_refused():
    """Asked for by option, or as the only end, they are one line; beside another end a space's are left out."""
    with pytest.raises(InputError, match=r"--gpu-hours 2: trials use no GPU here .*give --hours instead"):
        budgets.check(budget(gpu_hours=2), ["gpu_hours"], 0.0, "toy")
    with pytest.raises(InputError, match="toy: the search would never end"):
        budgets.check(budgets.merged({}, {"gpu_hours": 2}), [], 0.0, "toy")
    assert budgets.check(budget(gpu_hours=2), [], 0.0, "toy").gpu_hours is None
    assert budgets.check(budget(gpu_hours=2), ["gpu_hours"], 0.5, "toy").gpu_hours == 2


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ({"trials": 1}, r"--trials 1: of the study s, 2 have been started; give more"),
        ({"target_per": 0.45}, r"--target-per 0.45: the study s has reached 0.4000; give a lower PER"),
        ({"no_improvement": 1}, r"--no-improvement 1: of the study s, 1 trials have ended since"),
        ({"hours": 1e-9}, r"--hours 1e-09: of the study s, it has run .* hours; give more"),
    ],
)
def test_a_budget_that_is_used_up_already_is_one_line(toy, option, line):
    """Resuming with a limit that the study has passed says so before anything is started."""
    study = toy.create("s", budget=budget(), stopping=NO_STOPPING)
    step(study, toy, study.ask(), 1, per=0.4)
    study.fail(study.ask().trial, 1, "RuntimeError: x", final=True)
    study.close()
    with pytest.raises(InputError, match=line):
        raised_budget(read_past(toy.folder / "s").state, "s", study.settings.budget, option, 0.0)


def test_a_raised_budget_keeps_the_other_limits(toy):
    """What is not named stays as it was, and an old study's missing limits are no change."""
    old = StudyBudget(trials=12, hours=None)
    toy.create("s", budget=old).close()
    state = read_past(toy.folder / "s").state
    assert raised_budget(state, "s", old, {}, 0.0) == old
    assert raised_budget(state, "s", old, {"no_improvement": 5}, 0.0) == old.changed({"no_improvement": 5})


def test_the_end_says_which_limit_and_what_next(toy):
    """The last lines name the limit, what was reached, and the command that goes on."""
    study = toy.create("s", budget=budget(target_per=0.5, then="stop"), stopping=NO_STOPPING)
    step(study, toy, study.ask(), 1, per=0.4)
    (line,) = advice(study, reason_of(study), "")
    assert line.startswith(
        "the target is reached: PER 0.4000, wanted 0.5. Continue with: tuner resume s --target-per P"
    )
    assert "1 interrupted trial will continue" in line
    assert advice(study, "budget", "") == []


def test_a_budget_under_one_trial_says_what_one_takes(toy):
    """Where no trial could end, the last line has what a whole one would take."""
    study = toy.create(
        "s",
        budget=budget(gpu_hours=1e-3),
        stopping=NO_STOPPING,
        resources={"cpus_per_trial": 1, "gpus_per_trial": 0.5, "concurrent": None},
    )
    step(study, toy, study.ask(), 1, seconds=720.0, gpu_seconds=360.0)
    lines = advice(study, reason_of(study), "")
    assert lines[0].startswith("0.1 of 0.001 GPU-hours are used. Continue with: tuner resume s --gpu-hours H")
    assert lines[1] == (
        "0.001 GPU-hours are not enough for one trial: trial 0 reached epoch 1 of 9; the whole trial takes about 0.9"
    )


def test_a_budget_is_written_for_people():
    """Limits that are set, in words; nothing for the others."""
    assert budgets.text(StudyBudget(trials=24, hours=None)) == "24 trials"
    full = StudyBudget(trials=1, hours=2, gpu_hours=0.5, target_per=0.2, no_improvement=3, then="stop")
    assert budgets.text(full) == (
        "1 trial or 2 hours or 0.5 GPU-hours or target PER 0.2 or no improvement for 3 trials, then stop"
    )


def test_a_space_may_name_every_limit():
    """A target alone is no end: a search may never reach it."""
    with pytest.raises(ValueError, match="the search would never end"):
        Budget(target_per=0.2)
    assert Budget(no_improvement=10).trials is None


def test_bad_options_are_one_line(cli, toy, space_file, tiny_data):
    """--gpu-hours where trials get no card is refused before anything is made."""
    results = toy.folder / "studies"
    arguments = ("search", space_file, "--data", tiny_data, "--results", results, "--gpus-per-trial", 0)
    done = cli(*arguments, "--gpu-hours", 1)
    assert done.status == 2
    assert done.err.startswith("error: --gpu-hours 1: trials use no GPU here")
    assert done.err.count("\n") == 1
    assert not results.exists()
    assert cli(*arguments, "--target-per", 1.5).status == 2


def test_the_tables_have_the_limits(toy):
    """The studies table has each limit and the reason; a study that reached its target is completed."""
    from results.store.tables import load_tables

    study = toy.create("s", budget=budget(target_per=0.5, no_improvement=4, then="stop"), stopping=NO_STOPPING)
    step(study, toy, study.ask(), 1, per=0.4)
    reason_of(study)
    study.close()
    (row,) = load_tables(toy.folder, ["s"], ("studies",))[0]["studies"].to_pylist()
    assert (row["status"], row["reason"]) == ("completed", "target_per")
    assert (row["budget_target_per"], row["budget_no_improvement"], row["budget_then"]) == (0.5, 4, "stop")
    assert row["budget_gpu_hours"] is None
    assert read_events(toy.folder / "s" / "events.jsonl")[0][-1]["reason"] == "target_per"


def test_batches_and_utterances_count_what_was_trained(toy):
    """Repeated epochs of a second attempt count again, the probe of an older log counts too, and an attempt begins
    where it says.
    """
    study = toy.create("s", budget=budget(batches=16), stopping=NO_STOPPING, retries=1)
    job = study.ask()
    step(study, toy, job, 1)
    step(study, toy, job, 2, probe_batches=3)
    assert (study.state.spent.batches, study.state.spent.utterances) == (7, 7 * 8)
    study.fail(job.trial, job.attempt, "RuntimeError: x")
    job = study.ask()  # there is no checkpoint: it begins anew
    step(study, toy, job, 1)
    step(study, toy, job, 2)
    step(study, toy, job, 3)
    assert study.state.spent.batches == 13
    assert not study.done
    step(study, toy, job, 4)
    assert not study.done
    step(study, toy, job, 5)
    assert study.done
    assert reason_of(study) == "batches"
    assert advice(study, "batches", "")[0].startswith(
        "17 of 16 batches are trained. Continue with: tuner resume s --batches N (1 interrupted trial will continue)"
    )
