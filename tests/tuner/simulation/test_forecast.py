"""What a search will cost, before anything is spent."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import InputError, load_space
from search_spaces.config import RunConfig, to_dict
from tuner.simulation.forecast import forecast, in_short
from tuner.simulation.virtual import draws, virtual_search
from tuner.study import budgets
from tuner.study.settings import StudySettings


def config(toy, epochs=9):
    """The toy base run, two batches an epoch, made `epochs` long."""
    sections = to_dict(toy.space.config(toy.space.start_params(toy.space.start_points[0])[0], 0))
    sections["training"]["batches"] = 2 * epochs
    return RunConfig.model_validate(sections)


def plan(rule, trials=24, gpus=0.0, **limits):
    return StudySettings.read(
        {
            "stopping": {"kind": rule} if isinstance(rule, str) else rule,
            "budget": budgets.merged({"trials": trials}, limits),
            "resources": {"cpus_per_trial": 1.0, "gpus_per_trial": gpus, "concurrent": None},
        }
    )


def rows(found):
    return {row["place"]: row for row in json.loads(found.render("json"))}


def test_without_stopping_everybody_runs_to_the_end(toy):
    """All batches, all trials, and the time of the longest queue."""
    found = forecast([config(toy)], plan("none", 5), 2, seconds_per_batch=1.0)
    assert rows(found)["the end"] == {
        "place": "the end",
        "trials": 5,
        "go_on": None,
        "batches": 90,
        "core_hours": 0.025,
    }
    assert found.batches == (90, 90) and found.full == 90
    assert found.seconds == (54, 54)  # three after one another, of 18 batches each


def test_halving_lets_as_many_pass_as_it_does_on_average(toy):
    """Of n that come one by one, the i-th passes with probability max(1, floor(i / reduction)) / i."""
    found = forecast([config(toy)], plan({"kind": "asha", "reduction": 3}, 24), 1, repeats=20)
    expected = sum(max(1, i // 3) / i for i in range(1, 25))
    first = rows(found)["epoch 1"]
    assert first["trials"] == 24
    assert first["go_on"] == pytest.approx(expected, rel=0.15)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 4),
    st.integers(1, 3),
    st.integers(1, 12),
    st.integers(1, 4),
    st.booleans(),
)
def test_batches_and_trials_add_up(reduction, grace, trials, workers, promote):
    """The rows sum to the total, who goes on from a rung came there, and nobody runs more than whole runs take."""
    rule = {"kind": "asha", "reduction": reduction, "grace": grace, "promote": promote}
    base = load_space("quickstart")
    run = base.config(base.start_params("quickstart")[0], 0)
    found = virtual_search([run], plan(rule, trials), workers, seed=trials)
    assert found.trials == trials
    assert sum(found.batches_to.values()) == found.batches
    assert found.batches <= found.full == trials * run.training.batches
    assert all(found.went_on.get(key, 0) <= came for key, came in found.came.items())
    assert 1 <= found.ended <= trials


def test_lengths_that_differ_are_averaged(toy):
    """Short and long runs count with their own batches and come only to the rungs that they have."""
    short, long = config(toy, 3), config(toy, 9)
    found = forecast([short, long], plan("none", 10), 2)
    assert found.full == 5 * 6 + 5 * 18
    halved = rows(forecast([short, long], plan({"kind": "asha", "reduction": 3, "min_curves": 99}, 10), 1))
    assert [halved[place]["trials"] for place in ("epoch 1", "epoch 3", "the end")] == [10, 5, 10]


def test_rungs_at_fractions_of_the_horizon_have_one_row(toy):
    """Trials of different lengths meet at the same share of theirs."""
    found = rows(forecast([config(toy, 8), config(toy, 16)], plan({"kind": "asha", "at": "horizon"}, 12), 2))
    assert found["25 % of the horizon"]["trials"] == 12
    assert list(found)[-2:] == ["the end", "in all"]


@pytest.mark.parametrize(
    ("rule", "spared", "first"),
    [
        ({"kind": "median"}, 4, 1),  # until five have come to an epoch
        ({"kind": "median", "min_curves": 1}, 0, 1),
        ({"kind": "median", "min_curves": 1, "grace": 3}, 0, 3),
    ],
)
def test_a_rule_that_needs_curves_gets_bounds(toy, rule, spared, first):
    """What it stops nobody knows yet: nobody, or everybody as early as its guards allow."""
    found = forecast([config(toy)], plan(rule, 10), 1)
    assert found.batches == (spared * 18 + (10 - spared) * 2 * first, 10 * 18)
    assert found.ended == (spared, 10)
    assert any("these are bounds" in note for note in found.notes)


def test_the_room_of_paused_trials_is_told_and_bounded(toy):
    """At most as many as `max_paused` and the one that takes its place; in bytes where those of a state are known."""
    rule = {"kind": "asha", "promote": True, "drain": True}

    def room(state=None, **more):
        notes = forecast([config(toy)], plan({**rule, **more}, 12), 2, state=state).notes
        return next((note for note in notes if "paused at once" in note), None)

    most = int(room().split()[2])
    assert 2 < most < 12 and "about" not in room()
    assert f"up to {most} trials are paused at once; their states are on the disk, about {most}" in room(1e6)
    assert "up to 3 trials" in room(max_paused=3)
    assert room(promote=False, drain=False) is None


def test_a_budget_of_gpu_hours_says_how_many_trials_it_holds(toy):
    """At a share of half a card, 18 batches of 100 s cost 0.25 GPU-hours; 1 GPU-hour holds four of them."""
    found = forecast([config(toy)], plan("none", 50, gpus=0.5, gpu_hours=1.0), 1, seconds_per_batch=100.0)
    assert found.trials == 4
    assert rows(found)["in all"]["gpu_hours"] == 1
    assert "the budget of 1 GPU-hours ends it" in found.notes
    hours = forecast([config(toy)], plan("none", None, hours=1.25), 2, seconds_per_batch=100.0)
    assert hours.ended == (4, 4)


@pytest.mark.parametrize(
    ("budget", "seconds", "line"),
    [
        ({"hours": 0.4}, 100.0, "--hours 0.4: is not enough for one trial, which takes 0.5; give more"),
        ({"gpu_hours": 0.2, "gpus": 0.5}, 100.0, "--gpu-hours 0.2: is not enough for one trial, which takes 0.25"),
        ({"hours": 2.0, "trials": None}, None, "a budget of 2 hours needs the time of a batch"),
    ],
)
def test_a_budget_that_no_trial_fits_into_is_one_line(toy, budget, seconds, line):
    """Known before anything is spent, with what one trial takes."""
    with pytest.raises(InputError, match=line):
        forecast([config(toy)], plan("none", **{"trials": 5, **budget}), 1, seconds_per_batch=seconds)


def test_draws_keep_the_constraints_of_the_space():
    """Every draw is a configuration of the space, and the same seed gives the same ones."""
    space = load_space("mixed_horizons")
    drawn = draws(space, 40)
    assert {each.training.batches for each in drawn} == {100, 200, 400, 800}
    assert all(not space.broken_constraints(to_dict(each)) for each in drawn)
    assert drawn == draws(space, 40)


def test_a_search_says_its_plan_in_one_line(toy):
    """Given where ranks decide and trials are counted; nothing is said where there is nothing to stop."""
    stored = {"space": toy.space.as_dict()}
    line = in_short(plan({"kind": "asha"}, 12).changed(stored), 2)
    assert line is not None and line.startswith("about 12 trials, ") and line.endswith("of 216 batches")
    assert in_short(plan("none", 12).changed(stored), 2) is None
    assert in_short(plan({"kind": "asha"}, None, hours=2.0).changed(stored), 2) is None


def test_the_command_prints_a_table_and_the_next_command(cli, space_file):
    """`tuner plan` on a space: rungs, total, and the search that was planned, with its options."""
    done = cli("plan", space_file, "--trials", 9, "--stopping", "asha", "--seconds-per-batch", 2, "--concurrent", 3)
    assert done.status == 0, done.err
    assert "epoch 1" in done.out and "in all" in done.out and "of wall time with 3 at once" in done.out
    assert f"next: tuner search {space_file} --data FOLDER --stopping asha --trials 9 --concurrent 3" in done.out
    found = json.loads(cli("plan", space_file, "--format", "json").out)
    assert found[0]["trials"] == 12
    assert "core_hours" not in found[0]


def test_a_scaled_space_is_planned_as_it_will_run(cli, space_file):
    """`--scale`: as many trials of runs as much shorter, and the next command has it."""
    done = cli("plan", space_file, "--stopping", "none", "--scale", 0.5)
    assert "100% of the 108 batches that 12 whole runs take" in done.out
    assert f"next: tuner search {space_file} --data FOLDER --scale 0.5 --stopping none" in done.out
    assert "is not in the range" in cli("plan", space_file, "--scale", 0).err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--gpu-hours", 2, "--gpus-per-trial", 0), "--gpu-hours 2: trials use no GPU here"),
        (("--hours", 1e-4, "--seconds-per-batch", 1), "--hours 0.0001: is not enough for one trial"),
        (("--cpus-per-trial", 4096), "no such trial fits on this machine; give --concurrent"),
        (("--stopping", "ashaa"), "ashaa"),
        (("--data", "nowhere"), "nowhere"),
    ],
)
def test_bad_input_is_one_line(cli, space_file, arguments, line):
    """What is wrong, and what to give."""
    done = cli("plan", space_file, *arguments)
    assert done.status == 2
    errors = done.err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("error: ") and line in errors[0]


def test_a_batch_is_measured_on_the_data(cli, real_space, tiny_data):
    """With --data the hours come from batches that were trained."""
    done = cli("plan", real_space, "--data", tiny_data, "--concurrent", 1, "--format", "json")
    assert done.status == 0, done.err
    assert "real.yaml, including evaluations" in done.err
    assert json.loads(done.out)[-1]["core_hours"] > 0


def test_a_trial_that_goes_on_after_a_pause_is_counted_once():
    """A limit in batches ends a simulated search where it would end a real one, with the paused drained."""
    rule = {"kind": "asha", "at": "area", "metric": "either", "reduction": 4, "promote": True, "drain": True}
    configs = draws(load_space("small"), 40)
    for seed in range(3):
        found = virtual_search(configs, plan(rule, None, batches=3000), 4, seed=seed)
        assert 3000 <= found.batches < 3000 + 4 * max(each.training.batches_per_epoch for each in configs)


def test_the_plan_says_how_far_searches_lie_apart(toy):
    """Most searches take as many batches as its range says; a search that cannot differ has none."""
    rule = {"kind": "asha", "reduction": 3}
    configs = [config(toy, 3), config(toy, 30)]
    found = forecast(configs, plan(rule, 24), 2, repeats=20)
    (low, high) = found.spread
    took = [virtual_search(configs, plan(rule, 24), 2, seed=seed).batches for seed in range(20)]
    assert sum(low <= each <= high for each in took) >= 16 and low < found.batches[0] < high
    assert f"in 8 of 10 searches {low:,.0f} to {high:,.0f} batches" in found.render("table")
    assert "in 8 of 10" not in forecast([config(toy)], plan("none", 5), 2).render("table")
