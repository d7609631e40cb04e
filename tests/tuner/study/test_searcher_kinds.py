"""The kinds of searcher: each proposes again what it would have proposed, and finds what it should."""

import json
import math

import pytest

from search_spaces import InputError, load_space
from search_spaces.parsing.given import parse_settings
from search_spaces.searchers import SEARCHERS, Searcher
from tuner.study.searchers.samplers import apart
from tuner.study.searchers.searcher import OptunaSearcher

SETTINGS = {
    "tpe": "tpe startup_trials=4",
    "random": "random",
    "gp": "gp startup_trials=4",
    "cmaes": "cmaes startup_trials=4 population=4",
    "qmc": "qmc",
    "nsga2": "nsga2 population=4",
    "grid": "grid points=3",
}


def settings(kind):
    return parse_settings(SETTINGS[kind], Searcher, "searcher")


@pytest.fixture
def wide(space_file):
    """The toy space with more ranges, whole numbers and a constraint that two draws in five break."""
    text = space_file.read_text().replace(
        "start_points",
        "  model.hidden: {log_int: [4, 64]}\n  augmentation.white_noise: {uniform: [0, 1]}\n"
        "constraints: ['augmentation.white_noise + 0.01 * model.hidden <= 0.8']\nstart_points",
    )
    space_file.write_text(text)
    return load_space(space_file)


def value(params):
    """Best at a rate of 0.01, noise of 0.2, 32 wide, with averaging."""
    far = abs(math.log10(params["schedule.peak_lr"] / 0.01)) + 2 * abs(params["augmentation.white_noise"] - 0.2)
    return far + abs(math.log2(params["model.hidden"] / 32)) / 4 + 0.3 * (params["averaging.kind"] == "none")


def outcome(number, params):
    """(rungs, status, objective): a trial in five diverges or fails, a third of the rest is stopped."""
    if number % 10 == 3:
        return [], "diverged", None
    if number % 10 == 8:
        return [], "failed", None
    per = value(params)
    if number % 3 == 1:
        return [(1, per + 1)], "stopped", None
    return [(1, per + 1), (3, per + 0.5)], "completed", per


def tell(searcher, number, params):
    rungs, status, objective = outcome(number, params)
    for epoch, per in rungs:
        searcher.rung(number, epoch, per)
    searcher.ended(number, status, objective)


def replay(space, kind, log):
    searcher = OptunaSearcher(space, settings(kind), 5)
    for what, number, params in log:
        if what == "start":
            searcher.started(number, params)
        else:
            tell(searcher, number, params)
    return searcher


@pytest.mark.parametrize("kind", SEARCHERS)
def test_a_replayed_searcher_proposes_what_the_live_one_does(wide, kind):
    """Made anew from the log at any place, with four trials running, it proposes exactly what the live one does."""
    trials, every = (9, 3) if kind == "gp" else (60, 3)
    live, log, running = OptunaSearcher(wide, settings(kind), 5), [], []
    start = OptunaSearcher(wide, {"kind": "random"}, 0).propose(0)
    for number in range(trials):
        again = replay(wide, kind, log) if number % every == 2 else None
        params = start if number == 0 else live.propose(number)
        if again is not None:
            assert again.propose(number) == params
        live.started(number, params)
        log.append(("start", number, params))
        running.append((number, params))
        if len(running) > 3:
            # Not the oldest first: trials end in another order than they began.
            ended = running.pop(number % 4)
            tell(live, *ended)
            log.append(("end", *ended))


@pytest.mark.parametrize("kind", SEARCHERS)
def test_a_killed_study_goes_on_as_if_it_had_not_been(toy, kind):
    """The log of a study that was killed and resumed has the same trials and decisions as that of one that was not."""
    budget = {"trials": 12, "hours": None}
    whole = toy.create("whole", searcher=settings(kind), budget=budget)
    toy.drive(whole)
    killed = toy.create("killed", searcher=settings(kind), budget=budget)
    finished = toy.drive(killed, events=31)
    killed.close()
    assert not finished
    toy.drive(toy.resume("killed"))
    assert toy.decisions("killed") == toy.decisions("whole")


ODD = """
  augmentation.white_noise: {log_uniform: [1.0e-3, 1], or: 0}
  training.clip: {uniform: [0.5, 2], q: 0.5, or: null, share: 0.3}
  model.hidden: {int: [4, 64], q: 4}
  model.dropout: {normal: [0.4, 0.1], within: [0, 0.8]}
  augmentation.constant_offset: {log_normal: [-2, 0.5]}
  optimizer.eps: {log_uniform: [0.01, 0.1], q: 0.01}
  augmentation.speckle: {choice: {from: 0, to: 0.2, step: 0.1}}
"""


@pytest.mark.parametrize("kind", [kind for kind in SEARCHERS if kind != "grid"])
def test_steps_normals_and_alternatives_are_proposed_again_from_the_log(space_file, kind):
    """Through JSON, as the log holds them, they lead every searcher to the same proposals, all of them in the space."""
    space_file.write_text(space_file.read_text().replace("start_points", f"{ODD.strip(chr(10))}\nstart_points"))
    space = load_space(space_file)
    live, log = OptunaSearcher(space, settings(kind), 5), []
    for number in range(8 if kind == "gp" else 24):
        params = live.propose(number)
        assert json.loads(json.dumps(params)) == params
        again, notes = space.params_of(space.config(params, 0))
        assert notes == [] and list(again) == list(params)
        assert all(a == pytest.approx(b, rel=1e-9) if isinstance(a, float) else a == b for a, b in
                   zip(again.values(), params.values(), strict=True))  # fmt: skip
        assert params["model.hidden"] % 4 == 0
        assert params["training.clip"] in (0.5, 1.0, 1.5, 2.0, None)
        assert round(params["optimizer.eps"] * 100, 9).is_integer()
        live.started(number, params)
        live.ended(number, "completed", params["augmentation.white_noise"] + params["model.dropout"])
        log.append(json.loads(json.dumps(params)))
    again = OptunaSearcher(space, settings(kind), 5)
    for number, params in enumerate(log):
        again.started(number, params)
        again.ended(number, "completed", params["augmentation.white_noise"] + params["model.dropout"])
    for number in range(len(log), len(log) + 3):
        assert again.propose(number) == live.propose(number)


@pytest.fixture
def grid(space_file):
    """A space of two rates, with or without averaging of two decays, and a start point that is one of them."""
    head = space_file.read_text().split("dimensions:")[0]
    space_file.write_text(
        head
        + "dimensions:\n  schedule.peak_lr: {log_uniform: [1.0e-3, 1.0e-1]}\n"
        + "  averaging.kind: {choice: [none, ema]}\n"
        + "  averaging.decay: {choice: [0.9, 0.99], when: {averaging.kind: ema}}\n"
        + "start_points: [base.yaml schedule.peak_lr=0.01]\nsearcher: {kind: grid, points: 3}\n"
    )
    return load_space(space_file)


def test_a_grid_has_every_combination_once(grid):
    """Three rates times (none, two decays) are nine points; the budget is the whole grid and the start point."""
    assert grid.budget.trials == 10
    searcher, seen = OptunaSearcher(grid, grid.searcher, 1), []
    for number in range(9):
        assert searcher.left() == 9 - number
        seen.append(searcher.propose(number))
        searcher.started(number, seen[-1])
    rates = [(p["schedule.peak_lr"], p["averaging.kind"], p.get("averaging.decay")) for p in seen]
    assert set(rates) == {(r, *a) for r in (1e-3, 1e-2, 1e-1) for a in (("none", None), ("ema", 0.9), ("ema", 0.99))}
    with pytest.raises(InputError, match="all 9 points of toy have been tried"):
        searcher.propose(9)
    assert [p["schedule.peak_lr"] for p in seen] != sorted(p["schedule.peak_lr"] for p in seen), "not shuffled"
    plain = OptunaSearcher(grid, {"kind": "grid", "points": 3, "shuffle": False}, 1)
    assert plain.propose(0) == {"schedule.peak_lr": 1e-3, "averaging.kind": "none"}


def test_a_study_of_a_grid_ends_with_it(grid, toy):
    """The start point, which is on the grid, is not tried twice; nine trials are all, whatever the budget says."""
    study = toy.create("g", budget={"trials": 50, "hours": None})
    assert toy.drive(study, workers=2)
    tried = [tuple(sorted(trial.params.items())) for trial in study.state.trials.values()]
    assert len(tried) == len(set(tried)) == 9
    assert study.done and study.trials_left == 0


def test_a_range_without_points_is_no_grid(space_file):
    """The line names the dimension and the three ways out."""
    space_file.write_text(space_file.read_text().replace("{kind: tpe, startup_trials: 4}", "{kind: grid}"))
    with pytest.raises(InputError, match=r"schedule.peak_lr of toy is a range without steps .* give points"):
        load_space(space_file)


@pytest.mark.parametrize("kind", ["cmaes", "nsga2"])
def test_a_model_finds_better_points_than_random_search(wide, kind):
    """Told completed trials one after another, the last proposals are better than random ones."""

    def last(kind, seed, trials):
        searcher, values = OptunaSearcher(wide, settings(kind), seed), []
        for number in range(trials):
            params = searcher.propose(number)
            searcher.started(number, params)
            searcher.ended(number, "completed", value(params))
            values.append(value(params))
        return sum(values[-10:]) / 10

    found = sum(last(kind, seed, 80) for seed in range(3))
    random = sum(last("random", seed, 80) for seed in range(3))
    assert found < 0.75 * random, (found, random)


def test_sobol_points_fill_every_dimension_evenly(wide):
    """Of 32 unconstrained points, every quarter of a range has its eight, conditional dimensions included."""
    import dataclasses

    free = dataclasses.replace(wide, constraints=())
    searcher = OptunaSearcher(free, {"kind": "qmc"}, 0)
    points = [searcher.propose(number) for number in range(32)]
    quarters = [int(4 * math.log10(p["schedule.peak_lr"] / 1e-3) / 2) for p in points]
    assert [quarters.count(quarter) for quarter in range(4)] == [8] * 4
    assert [p["averaging.kind"] for p in points].count("ema") == 16


@pytest.mark.parametrize("kind", SEARCHERS)
def test_a_space_of_choices_alone_can_be_searched(space_file, kind):
    """Searchers of numbers fall back where there are none: every choice comes up, and nothing breaks."""
    head = space_file.read_text().split("dimensions:")[0]
    space_file.write_text(
        head
        + "dimensions:\n  averaging.kind: {choice: [none, ema]}\n  schedule.kind: {choice: [one_cycle, constant]}\n"
    )
    searcher, seen = OptunaSearcher(load_space(space_file), settings(kind), 1), set()
    for number in range(20):
        if searcher.left() == 0:
            break
        params = searcher.propose(number)
        searcher.started(number, params)
        searcher.ended(number, "completed", 0.5 + 0.1 * (params["averaging.kind"] == "ema"))
        seen.add(tuple(params.values()))
    assert len(seen) >= 3


def test_what_a_model_leaves_out_is_named(wide):
    """CMA-ES leaves out the conditional dimensions and the choices; the others nothing."""
    conditional = ["schedule.end_lr/schedule.peak_lr", "1-averaging.decay"]
    assert sorted(apart(wide, "cmaes")) == sorted([*conditional, "schedule.kind", "averaging.kind"])
    assert not any(apart(wide, kind) for kind in ("tpe", "gp", "random", "qmc", "nsga2", "grid"))


def test_stopped_and_diverged_trials_steer_a_gaussian_process_away(wide):
    """Where every trial at a high rate was stopped, a Gaussian process proposes low rates."""
    searcher, random = OptunaSearcher(wide, settings("gp"), 0), OptunaSearcher(wide, {"kind": "random"}, 3)
    for number in range(20):
        params = random.propose(number)
        searcher.started(number, params)
        high = params["schedule.peak_lr"] > 0.01
        searcher.ended(
            number, "stopped" if high else "completed", None if high else 0.3 + 0.1 * params["augmentation.white_noise"]
        )
    rates = [searcher.propose(number)["schedule.peak_lr"] for number in range(20, 22)]
    assert all(rate < 0.015 for rate in rates), rates


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "gpp",
            "--searcher: kind: gpp is not allowed; did you mean gp? give tpe, random, gp, cmaes, qmc, nsga2 or grid",
        ),
        ("gp starup_trials=3", "did you mean startup_trials?"),
        ("gp startup_trials=0.5", "--searcher: startup_trials: 0.5 is not allowed; give a whole number of 1 or more"),
        ("gp 20", "--searcher: '20' is not allowed; give a kind, then key=value"),
        ("cmaes sigma=nan", "--searcher: sigma: nan is not allowed; give a number above 0 and at most 1"),
        ("gp most='", "--searcher gp most=': cannot be read"),
        ("", '--searcher: kind: "" is not allowed'),
    ],
)
def test_bad_settings_are_one_line(text, line):
    """A searcher that there is not, a setting it does not have, a value it does not take: what is allowed instead."""
    with pytest.raises(InputError) as error:
        parse_settings(text, Searcher, "searcher")
    assert len(error.value.problems) == 1
    assert line in str(error.value)
