"""The extrapolating rule: forecasts of a curve's end that know the schedule, and stopping by the chance of the top."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.config import RunConfig
from tuner.study.rules import extrapolation
from tuner.study.rules.extrapolation import (
    LENGTH,
    LINEAR,
    NOISE,
    PRIOR_CURVES,
    SHARED,
    WAY,
    CurveForecast,
    LearningCurve,
    chance_of_top,
    forecasts,
    outlook,
)
from tuner.study.rules.stopping import Curve, History, Point, decide

STEP = 25
SCHEDULES = (
    {"kind": "constant"},
    {"kind": "linear"},
    {"kind": "one_cycle"},
    {"kind": "warmup_cosine", "warmup_batches": 10},
)


def config(number):
    """Run `number` of a made-up search: four schedules, horizons of 4 to 32 epochs, peak rates that differ fourfold."""
    schedule = dict(SCHEDULES[number % 4])
    peak = 0.01 * 2 ** (2 * (number * 0.618 % 1) - 1)
    if schedule["kind"] != "constant":
        schedule["end_lr"] = 0.01 * peak
    if schedule["kind"] in ("one_cycle", "warmup_cosine"):
        schedule["start_lr"] = 0.1 * peak
    batches = (100, 200, 400, 800)[(number * 7 // 3) % 4]
    return RunConfig.model_validate(
        {"schedule": {**schedule, "peak_lr": peak}, "training": {"batches": batches, "batches_per_epoch": STEP}}
    )


def made_up(number, settings):
    """Points of a run: log PER falls with the area under the rate, and once more as the rate comes down."""
    curve, random = Curve.of_run(number, settings), np.random.default_rng(number)
    ability = 1 + 0.25 * random.standard_normal()
    points = []
    for epoch in range(1, curve.epochs + 1):
        batch = curve.grid.batch(epoch)
        fall = 0.5 * math.log1p(2 * curve.rate_integral(batch)) + 0.5 * curve.annealed(batch) ** 2
        per = 0.95 * math.exp(-ability * fall + 0.01 * random.standard_normal())
        points.append(Point(epoch, batch, per, 40 * per, per))
    return curve, points


RUNS = [made_up(number, config(number)) for number in range(40)]
RULE = {"kind": "extrapolation", "grace_fraction": 0.0}
"""Looks from the first epoch on: the made-up runs have no slow starts."""


def recorded(numbers, rule=RULE):
    """A history of whole made-up runs."""
    made = History(rule)
    for number in numbers:
        curve, points = RUNS[number]
        made.begin(Curve.of_run(number, curve.config))
        for point in points:
            made.record(number, point, "stop" if point.epoch == curve.epochs else "continue")
    return made


def after(made, number, epoch):
    """A history in which run `number` has had its epochs before `epoch`, and the point it has there."""
    curve, points = RUNS[number]
    made.begin(Curve.of_run(number, curve.config))
    for point in points[: epoch - 1]:
        made.record(number, point)
    return points[epoch - 1]


def lowest(number):
    """The lowest PER of a whole made-up run."""
    return min(point.per for point in RUNS[number][1])


def test_forecasts_rank_runs_by_their_ends_where_their_pers_do_not():
    """After one epoch PER says nothing of the end, since schedules differ; the forecasts order the runs rightly."""
    from scipy.stats import spearmanr

    known, asked = range(20), range(20, 40)
    said, pers = [], []
    for number in asked:
        made = recorded(known)
        point = after(made, number, 1)
        said.append(outlook(made, made.curves[number], point, 1).own.per(0.5))
        pers.append(point.per)
    ends = [lowest(number) for number in asked]
    assert spearmanr(said, ends)[0] > 0.75
    assert spearmanr(pers, ends)[0] < 0.4


def learning_curve(curve, points, ended):
    """A made-up run as the model takes it."""
    batch = np.array([float(point.batch) for point in points])
    end = curve.grid.batches
    return LearningCurve(
        trial=curve.trial,
        batch=batch,
        per=np.array([point.per for point in points]),
        val_loss=np.array([point.val_loss for point in points]),
        annealed=np.array([curve.annealed(at) for at in batch]),
        integral=np.array([curve.rate_integral(at) for at in batch]),
        end=end,
        end_annealed=curve.annealed(end),
        end_integral=curve.rate_integral(end),
        ended=ended,
    )


def transitions(curves, wanted):
    """Trial, inputs and fall in log PER of every transition, and the inputs of the way to the end of `wanted`."""
    pairs = [(curve, i, j) for curve in curves for i, j in curve.transitions()]
    inputs = np.array([curve.inputs(i, j) for curve, i, j in pairs] + [wanted.inputs(len(wanted.batch) - 1, None)])
    trials = np.array([curve.trial for curve, _, _ in pairs] + [wanted.trial])
    return trials, inputs, np.array([curve.fall(i, j) for curve, i, j in pairs])


def covariance(trials, raw):
    """Of all transitions, the one asked for last: a smooth part, a trend, what those of a curve share, and noise."""
    inputs = (raw - raw[:-1].mean(0)) / (raw[:-1].std(0) + 1e-6)
    squares = ((inputs[:, None] - inputs[None]) ** 2).sum(2)
    smooth = np.exp(-squares / 2 / LENGTH**2) + LINEAR * (1 + inputs @ inputs.T)
    shared = SHARED * (trials[:, None] == trials[None]) * np.outer(raw[:, 3], raw[:, 3])
    return smooth + shared + NOISE * np.eye(len(raw)), squares[-1, :-1]


def conditioned(matrix, targets, known, asked):
    """Mean and variances of `asked` given `known`, of a Gaussian with this covariance."""
    cross, inner = matrix[np.ix_(asked, known)], matrix[np.ix_(known, known)]
    spread = matrix[np.ix_(asked, asked)] - cross @ np.linalg.solve(inner, cross.T)
    return cross @ np.linalg.solve(inner, targets[known]), np.diag(spread)


@pytest.mark.parametrize("own_points", [1, 3])
def test_a_forecast_is_what_a_gaussian_process_says_by_the_textbook(own_points):
    """Written out with plain linear algebra: the middle; the variance, stretched by how far off curves were that were
    left out, weighted by likeness, each curve once; and as many degrees of freedom as there are curves alike, and 3.
    """
    curves = []
    for number in range(6):
        curve, points = RUNS[number]
        curves.append(learning_curve(curve, points if number < 5 else points[:own_points], ended=number < 5))
    told = forecasts(curves, [5])[5]
    trials, raw, falls = transitions(curves, curves[5])
    matrix, squares = covariance(trials, raw)
    mean, sd = falls.mean(), falls.std() + 1e-6
    targets, rows = (falls - mean) / sd, np.arange(len(falls))
    (middle,), (variance,) = conditioned(matrix, targets, rows, np.array([len(falls)]))
    missed, weight = 0.0, 0.0
    near = np.exp(-squares / 2 / LENGTH**2 - ((raw[-1, 3] - raw[:-1, 3]) / WAY) ** 2 / 2)
    for number in np.unique(trials[:-1]):
        own = rows[trials[:-1] == number]
        guess, spread = conditioned(matrix, targets, rows[trials[:-1] != number], own)
        missed += np.mean(near[own] * (targets[own] - guess) ** 2 / spread)
        weight += np.mean(near[own])
    assert told.middle == pytest.approx(mean + sd * middle + math.log(curves[5].per[-1]))
    stretch = (missed + PRIOR_CURVES) / (weight + PRIOR_CURVES)
    assert told.spread == pytest.approx(sd * math.sqrt(variance * stretch))
    assert told.freedom == pytest.approx(3 + weight)
    assert told.reached == min(curves[5].per)


@pytest.mark.parametrize("epoch", [1, 3])
def test_four_in_five_ends_are_in_the_intervals_of_80_percent(epoch):
    """The uncertainty is true of curves that the model was not shown."""
    inside = 0
    for number in range(20, 40):
        made = recorded(range(20))
        point = after(made, number, epoch)
        own = outlook(made, made.curves[number], point, 1).own
        inside += own.per(0.1) <= lowest(number) <= own.per(0.9)
    assert 12 <= inside <= 20


def test_the_same_per_means_more_in_a_run_that_has_not_annealed():
    """Of two runs with the same points so far, the one that has its cosine ahead is predicted to end lower."""
    said = {}
    for kind in ("constant", "linear"):
        schedule = {"kind": kind, "peak_lr": 0.01} | ({"end_lr": 1e-4} if kind == "linear" else {})
        made = recorded(range(30))
        run = {"schedule": schedule, "training": {"batches": 400, "batches_per_epoch": STEP}}
        made.begin(Curve.of_run(99, RunConfig.model_validate(run)))
        said[kind] = outlook(made, made.curves[99], Point(1, STEP, 0.6, 24.0, 0.6), 1).own.per(0.5)
    assert said["linear"] < 0.9 * said["constant"]


def test_a_hopeless_run_is_stopped_and_is_told_why():
    """A short run far above the best stops at its first epoch; the reason has the chance, the forecast and the mark."""
    made = recorded(range(20))
    short = {
        "schedule": {"kind": "constant", "peak_lr": 0.005},
        "training": {"batches": 100, "batches_per_epoch": STEP},
    }
    made.begin(Curve.of_run(99, RunConfig.model_validate(short)))
    decision = decide(made, 99, Point(1, STEP, 0.9, 36.0, 0.9))
    assert decision.stop
    assert decision.rung == 1
    best = min(lowest(number) for number in range(20))
    assert decision.reason.startswith("chance 0.")
    assert "of becoming the best: predicted PER 0." in decision.reason
    assert decision.reason.endswith(f"at batch 100, best {best:.3f}")


def test_the_reason_names_the_place_that_was_to_be_reached():
    """With top: 3 the comparison is with the third best."""
    made = recorded(range(20))
    point = after(made, 30, 1)
    said = str(outlook(made, made.curves[30], point, 3))
    third = sorted(lowest(number) for number in range(20))[2]
    assert "of entering the top 3" in said
    assert said.endswith(f"third best {third:.3f}")


def test_nobody_is_stopped_while_few_curves_have_come_to_their_end():
    """With min_curves 5 and four finished runs the worst goes on; the fifth finished run makes the difference."""
    for finished, stopped in ((4, False), (5, True)):
        made = recorded(range(finished), {**RULE, "min_curves": 5, "chance": 0.3})
        made.begin(Curve.of_run(99, RUNS[0][0].config))
        assert decide(made, 99, Point(1, STEP, 0.95, 38.0, 0.95)).stop == stopped


def test_nobody_is_stopped_before_the_grace_or_between_two_looks():
    """grace 2 and every 3: looks at epochs 2, 5, 8, ... only."""
    made = recorded(range(20), {**RULE, "grace": 2, "every": 3, "chance": 0.3})
    made.begin(Curve.of_run(99, config(3)))
    looks = [epoch for epoch in range(1, 10) if decide(made, 99, Point(epoch, STEP * epoch, 1.0, 40.0)).rung == epoch]
    assert looks == [2, 5, 8]


def test_nobody_is_stopped_before_a_fraction_of_its_own_horizon():
    """With the default fraction the first look at a run is where a quarter of its epochs are over."""
    made = recorded(range(20), {"kind": "extrapolation", "chance": 0.3})
    curve = Curve.of_run(99, config(3))
    made.begin(curve)
    looks = [e for e in range(1, curve.epochs) if decide(made, 99, Point(e, STEP * e, 1.0, 40.0)).rung == e]
    assert looks[0] == -(-curve.epochs // 4) and looks == list(range(looks[0], curve.epochs))


def test_the_best_so_far_is_never_stopped():
    """The run with the lowest PER of the study goes on, even if others that run are sure to end lower."""
    made = recorded(range(5), {**RULE, "chance": 0.49})
    leader = min(lowest(number) for number in range(5))
    made.begin(Curve.of_run(99, RUNS[0][0].config))
    assert not decide(made, 99, Point(1, STEP, leader - 0.001, 40.0)).stop


def test_in_the_blank_phase_the_validation_loss_tells():
    """While every PER is 1.0 the run with the lower loss has the better forecast."""
    made, random = History(RULE), np.random.default_rng(0)
    for number in range(12):
        loss = 60 + 5 * number
        made.begin(Curve.of_run(number, config(1)))
        for epoch in range(1, made.curves[number].epochs + 1):
            per = 1.0 if epoch < 3 else min(1.0, loss / 120 * math.exp(-0.3 * (epoch - 3)) + 0.001 * random.random())
            end = epoch == made.curves[number].epochs
            made.record(number, Point(epoch, STEP * epoch, per, loss * 0.9**epoch), "stop" if end else "continue")
    for number, loss in ((98, 60.0), (99, 115.0)):
        made.begin(Curve.of_run(number, config(1)))
        made.record(number, Point(1, STEP, 1.0, loss * 0.9))
    low, high = (
        outlook(made, made.curves[number], Point(2, 2 * STEP, 1.0, loss * 0.81), 1).own
        for number, loss in ((98, 60.0), (99, 115.0))
    )
    assert low.per(0.5) < 0.9 * high.per(0.5)


def test_epochs_that_are_not_a_number_are_left_out():
    """A PER that is not a number teaches nothing, stops nobody by itself and does not spoil other forecasts."""
    clean, spoilt = recorded(range(10)), recorded(range(10))
    for number, epochs in ((50, 3), (51, 0)):
        spoilt.begin(Curve.of_run(number, config(2)))
        for epoch in range(1, epochs + 1):
            spoilt.record(number, Point(epoch, STEP * epoch, math.nan, math.nan), "stop" if epoch == 3 else "continue")
    for number in (clean, spoilt):
        number.begin(Curve.of_run(99, config(2)))
    point = Point(1, STEP, 0.8, None)
    assert outlook(clean, clean.curves[99], point, 1) == outlook(spoilt, spoilt.curves[99], point, 1)
    assert not decide(spoilt, 99, Point(1, STEP, math.nan, math.nan)).stop


def test_curves_without_a_schedule_are_forecast_too():
    """Recorded curves of which only batches and PERs are known can be judged; a bad one is stopped."""
    made = History({**RULE, "chance": 0.1})
    for number in range(10):
        made.begin(Curve.of_points(number, [10, 20, 30, 40, 50, 60, 70, 80]))
        for epoch in range(1, 9):
            per = (0.5 + 0.02 * number) / epoch**0.5
            made.record(number, Point(epoch, 10 * epoch, per), "stop" if epoch == 8 else "continue")
    made.begin(Curve.of_points(99, [10, 20, 30, 40, 50, 60, 70, 80]))
    assert decide(made, 99, Point(1, 10, 0.95)).stop


def test_whole_runs_still_teach_among_very_many_that_were_stopped_early():
    """Hundreds of runs stopped at their third epoch do not crowd out what the finished ones say of the end."""
    made = recorded(range(16))
    for number in range(100, 500):
        curve, points = made_up(number, config(number))
        made.begin(Curve.of_run(number, curve.config))
        for at in points[:3]:
            made.record(number, at, "stop" if at.epoch == 3 else "continue")
    missed = []
    for number in range(28, 40):
        point = after(made, number, 2)
        own = outlook(made, made.curves[number], point, 1).own
        missed.append(math.log(own.per(0.5) / lowest(number)))
        made.end(number, stopped=True)
    assert np.sqrt(np.mean(np.square(missed))) < 0.3


def test_decisions_do_not_depend_on_the_order_in_which_the_log_was_read_or_on_what_was_asked_before():
    """The same curves give the same forecast to the last digit, in a fresh history and in one that has decided much."""
    asked = recorded(range(12))
    after(asked, 30, 4)
    for epoch in range(4, 8):
        outlook(asked, asked.curves[30], RUNS[30][1][epoch - 1], 1)
    fresh = recorded(range(12))
    after(fresh, 30, 4)
    assert outlook(asked, asked.curves[30], RUNS[30][1][3], 2) == outlook(fresh, fresh.curves[30], RUNS[30][1][3], 2)


def test_a_killed_search_decides_as_one_that_was_never_killed(toy):
    """Killed after any epoch and resumed, the rule stops the same trials at the same epochs for the same reasons."""
    rule = {**RULE, "min_curves": 2, "chance": 0.2}
    budget = {"trials": 10, "hours": None}
    whole = toy.create("whole", stopping=rule, budget=budget)
    toy.drive(whole)
    whole.close()
    study, name = toy.create("killed", stopping=rule, budget=budget), "killed"
    while not toy.drive(study, events=13):
        study.close()
        study = toy.resume(name)
    study.close()
    assert toy.decisions("killed") == toy.decisions("whole")
    assert "stopped" in toy.decisions("whole")[2].values()


forecast = st.builds(
    CurveForecast,
    middle=st.floats(-4, 0),
    spread=st.floats(0.01, 1),
    freedom=st.floats(3, 50),
    reached=st.floats(0.05, 1),
)


@given(forecast, st.lists(st.floats(0, 1), max_size=6), st.lists(forecast, max_size=5))
def test_the_chance_grows_with_the_places_and_is_certain_where_there_are_enough(own, reached, rivals):
    """To be among the top k is at least as likely as among the top k - 1, and sure if there are no more than k."""
    chances = [chance_of_top(k, own, reached, rivals) for k in range(1, len(reached) + len(rivals) + 2)]
    assert all(low <= high + 1e-9 for low, high in pairwise(chances))
    assert chances[0] >= -1e-9
    assert chances[-1] == pytest.approx(1)


@given(forecast, st.floats(0.01, 1), st.lists(st.floats(0, 1), min_size=1, max_size=6), st.lists(forecast, max_size=5))
def test_a_better_forecast_never_has_the_smaller_chance(own, shift, reached, rivals):
    """Of two forecasts that differ only in their middle, the lower one is at least as likely to enter the top."""
    better = CurveForecast(own.middle - shift, own.spread, own.freedom, own.reached)
    assert chance_of_top(1, better, reached, rivals) >= chance_of_top(1, own, reached, rivals) - 1e-9


def test_the_chance_counts_how_many_others_end_below():
    """Against one finished trial at its own middle the chance is a half; against two equals that run, a third."""
    own = CurveForecast(middle=math.log(0.3), spread=0.1, freedom=30, reached=1.0)
    assert chance_of_top(1, own, [0.3], []) == pytest.approx(0.5, abs=0.01)
    assert chance_of_top(1, own, [], [own, own]) == pytest.approx(1 / 3, abs=0.01)
    assert chance_of_top(2, own, [], [own, own]) == pytest.approx(2 / 3, abs=0.01)


def learned(trial=0, batch=(25, 50, 75, 100), ended=False, end=100):
    """A curve with made-up values of its own at each point."""
    n = len(batch)
    return LearningCurve(
        trial=trial,
        batch=np.array(batch, float),
        per=0.8 * 0.7 ** np.arange(n),
        val_loss=30 * 0.8 ** np.arange(n),
        integral=np.cumsum(np.linspace(0.1, 0.4, n)),
        annealed=np.linspace(0, 0.6, n),
        end=end,
        end_annealed=0.9,
        end_integral=2.0,
        ended=ended,
    )


def test_the_inputs_of_the_model_are_what_they_say():
    """PER, loss, its slope since half as many epochs, how much longer in batches and in area, annealed now and then."""
    curve = learned()
    (per, loss, slope, longer, wider, now, then) = curve.inputs(3, None)
    assert per == pytest.approx(math.log(0.8 * 0.7**3))
    assert loss == pytest.approx(math.log(30 * 0.8**3))
    assert slope == pytest.approx((math.log(30 * 0.8**3) - math.log(30 * 0.8)) / math.log(100 / 50))
    assert (longer, now, then) == pytest.approx((0.0, 0.6, 0.9))
    assert wider == pytest.approx(math.log(2.0 / 1.0))
    assert curve.inputs(0, None)[2] == 0.0
    near = learned(batch=(100, 101, 102, 103))  # the slope of a short step is not blown up
    assert near.inputs(1, 3)[2] == pytest.approx(math.log(0.8) / 0.3)
    assert curve.inputs(1, 3)[3:5] == pytest.approx([math.log(2.0), math.log(1.0 / 0.3)])
    assert learned(end=60).inputs(3, None)[3] == 0.0  # a run that went on beyond its plan: nothing is left, not less


def test_a_curve_is_whole_when_it_ended_where_it_was_to_end():
    """Not while it runs, nor when it was stopped before."""
    assert learned(ended=True).whole
    assert not learned(ended=False).whole
    assert not learned(ended=True, end=101).whole


def test_of_many_transitions_an_even_part_is_kept(monkeypatch):
    """At most `MOST_TRANSITIONS`, those of whole curves up to their share, the first and the last of each kind."""
    seen = []

    def fit(inputs, falls, curves, width):
        seen.append((np.frombuffer(inputs).reshape(-1, width), np.frombuffer(curves, dtype=np.int64)))
        raise KeyboardInterrupt

    monkeypatch.setattr(extrapolation, "MOST_TRANSITIONS", 20)
    monkeypatch.setattr(extrapolation, "_fit", fit)
    whole = [learned(trial, ended=True) for trial in range(10)]
    cut = [learned(trial, ended=True, end=200) for trial in range(10, 20)]
    with pytest.raises(KeyboardInterrupt):
        forecasts([*whole, *cut], [19])
    inputs, curves = seen[0]
    assert len(inputs) == 20
    first = curves[curves < 10]
    assert len(first) == round(extrapolation.WHOLE_SHARE * 20)
    assert (first[0], first[-1], curves[len(first)], curves[-1]) == (0, 9, 10, 19)


def test_an_even_part_goes_from_the_first_to_the_last():
    """Both ends are in it, the places between are equally far apart, and few enough are kept whole."""
    assert extrapolation._evenly(list(range(101)), 11) == list(range(0, 101, 10))
    assert extrapolation._evenly(list(range(3)), 3) == [0, 1, 2]
