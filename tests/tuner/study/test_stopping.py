"""Early stopping rules as pure functions of a history."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.config import RunConfig
from search_spaces.stopping import STOPPING_KINDS, rule_text
from tuner.study.rules.stopping import (
    Curve,
    Grid,
    History,
    Point,
    Rung,
    RungKey,
    decide,
    places,
    promotable,
    read_rule,
    value_of,
)

ASHA = {"kind": "asha", "grace": 1, "reduction": 3, "max_rungs": None}


def epochs_of(rule, epochs):
    """The rungs of a trial of `epochs` epochs of 10 batches."""
    return sorted(places(read_rule(rule), Grid(10 * epochs, 10, 10 * epochs)))


def point(epoch, per, val_loss=1.0, **more):
    """An epoch of 10 batches."""
    return Point(epoch, 10 * epoch, per, val_loss, per, **more)


def history(rule, curves=(), epochs=27):
    """A history in which trials 0, 1, ... had these (epoch, value) points, each recorded as its rule decided."""
    made = History(rule)
    for trial, pers in enumerate(curves):
        begin(made, trial, epochs)
        for epoch, per in enumerate(pers, 1):
            report(made, trial, point(epoch, *per) if isinstance(per, tuple) else point(epoch, per))
    return made


def begin(made, trial, epochs=27, horizon=None):
    """A trial starts."""
    made.begin(Curve(trial, Grid(10 * epochs, 10, horizon or 10 * epochs)))


def report(made, trial, at):
    """An epoch is decided on and recorded, as a study does it."""
    decision = decide(made, trial, at)
    word = "stop" if decision.stop else "pause" if decision.pause else "continue"
    made.record(trial, at, word, compared=decision.rung is not None, passed=decision.passed)
    return decision


def newcomer(made, at, epochs=27):
    """What a trial is told that comes to its first epoch with `at`."""
    begin(made, 1000, epochs)
    return decide(made, 1000, at)


def test_rungs_are_powers_of_the_reduction_before_the_last_epoch():
    """A trial is compared at grace x reduction^k, never at its last epoch, where nothing is left to save."""
    assert epochs_of(ASHA, 27) == [1, 3, 9]
    assert epochs_of({**ASHA, "grace": 2}, 28) == [2, 6, 18]
    assert epochs_of({**ASHA, "max_rungs": 2}, 27) == [1, 3]
    assert epochs_of({**ASHA, "reduction": 1.5, "grace": 4}, 14) == [4, 6, 9]
    assert epochs_of({"kind": "none"}, 27) == []


@pytest.mark.parametrize("epochs", [1])
def test_a_trial_of_one_epoch_has_no_rung(epochs):
    """There is nothing to stop in a trial that is over after its first epoch."""
    for kind in STOPPING_KINDS:
        assert epochs_of({"kind": kind}, epochs) == []


def test_rungs_at_fractions_of_the_horizon_are_where_each_trial_has_done_that_share():
    """A run of 100 batches is compared after 25 of them, one of 800 after 200; never at a run's last epoch."""
    rule = read_rule({"kind": "asha", "at": "horizon", "grace": 0.25, "reduction": 2})
    assert places(rule, Grid(100, 25, 100)) == {1: RungKey(25, "percent"), 2: RungKey(50, "percent")}
    assert places(rule, Grid(800, 25, 800)) == {8: RungKey(25, "percent"), 16: RungKey(50, "percent")}
    assert places(rule, Grid(400, 25, 800)) == {8: RungKey(25, "percent")}  # the run ends where its half would be
    coarse = places(read_rule({"kind": "asha", "at": "horizon", "grace": 0.1, "reduction": 2}), Grid(100, 40, 100))
    assert coarse == {1: RungKey(40, "percent"), 2: RungKey(80, "percent")}


def test_ties_in_per_are_broken_by_validation_loss():
    """While CTC emits only blanks every PER is 1.0; the rule still stops those whose loss is higher."""
    made = history(ASHA, [[(1.0, 3.0 + trial / 10)] for trial in range(9)])
    assert newcomer(made, point(1, 1.0, 5.0)).stop
    assert not newcomer(made, point(1, 1.0, 2.0)).stop


def test_not_a_number_is_the_worst_value():
    """None, NaN and infinity rank below every number."""
    assert value_of(None, 1.0) > value_of(5.0, 1.0)
    assert value_of(math.nan, 1.0) == value_of(math.inf, 1.0)
    assert newcomer(history(ASHA, [[0.9]]), point(1, math.nan, math.nan)).stop


def test_an_epoch_between_rungs_stops_nobody():
    """A trial is only compared at rungs, however bad it is."""
    decision = newcomer(history(ASHA, [[0.1]]), point(2, 1.0, 9.0))
    assert (decision.stop, decision.rung, decision.passed) == (False, None, None)


def test_the_reason_says_what_was_compared():
    """A stopped trial's reason names its rank, the number compared and the rung."""
    made = history(ASHA)
    for trial in range(5):
        begin(made, trial)
        made.record(trial, point(3, 0.1 * trial), compared=True, passed=True)
    decision = newcomer(made, point(3, 0.35))
    assert decision.stop
    assert decision.rung == 3
    assert decision.reason == "rank 5 of 6 at epoch 3; 2 continued"


values = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 10)), min_size=1, max_size=60)


@given(values, st.sampled_from([1.5, 2, 3, 5]))
def test_the_best_so_far_always_goes_on(reported, reduction):
    """Whoever leads a rung when it reports is never stopped there."""
    made = History({**ASHA, "reduction": reduction})
    for trial, value in enumerate(reported):
        begin(made, trial)
        decision = report(made, trial, point(1, *value))
        if value <= min(reported[: trial + 1]):
            assert not decision.stop


@given(values, st.integers(2, 5))
def test_a_late_trial_goes_on_exactly_if_it_is_in_the_top_share(reported, reduction):
    """With n values recorded, the next one goes on if at most floor((n + 1) / reduction) - 1 are better."""
    made = history({**ASHA, "reduction": reduction}, [[value] for value in reported[:-1]])
    better = sum(other < reported[-1] for other in reported[:-1])
    expected_stop = better >= max(1, len(reported) // reduction)
    assert newcomer(made, point(1, *reported[-1])).stop == expected_stop


@given(values)
def test_a_repeated_epoch_does_not_change_a_rung(reported):
    """A resumed trial that reports a rung again is compared with the same values, its own old one included."""
    made = history(ASHA, [[value] for value in reported])
    before = {key: rung.values for key, rung in made.rungs.items()}
    for trial in range(len(reported)):
        made.record(trial, point(1, 9.0, 9.0), compared=True, passed=False)
    assert {key: rung.values for key, rung in made.rungs.items()} == before


RULES = [
    *({"kind": kind} for kind in STOPPING_KINDS),
    {"kind": "asha", "at": "horizon", "grace": 0.1, "reduction": 2, "among": "horizon"},
    {"kind": "asha", "among": "annealed", "reduction": 1.5, "patience": 2},
    {"kind": "asha", "promote": True, "protect": 2, "metric": "per_raw"},
    {"kind": "asha", "min_curves": 4},
    {"kind": "median", "at": "horizon", "among": "horizon", "min_curves": 2},
]
names = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule_text(read_rule(rule).model_dump()))
pers = st.floats(0, 1, width=16)
studies = st.lists(st.tuples(st.sampled_from([4, 8, 16]), st.lists(pers, min_size=3, max_size=3)), max_size=12)


def drawn(rule, curves):
    """A history of trials of different lengths, and every (decision, curve, point) made on the way, in turns."""
    made, told = History(rule), []
    for trial, (epochs, _) in enumerate(curves):
        begin(made, trial, epochs)
    open_trials = set(range(len(curves)))
    for epoch in (1, 2, 3):
        for trial in sorted(open_trials):
            per = curves[trial][1][epoch - 1]
            decision = report(made, trial, point(epoch, per))
            told.append((trial, epoch, decision))
            if decision.stop or decision.pause:
                open_trials.remove(trial)
    return made, told


@names
@given(curves=studies, last=st.tuples(pers, pers))
def test_a_better_value_is_never_stopped_where_a_worse_one_goes_on(rule, curves, last):
    """Of two values that a trial might come with, the lower one has at least as good a fate."""
    made, _ = drawn(rule, curves)
    begin(made, 1000, 8)
    low, high = (decide(made, 1000, point(1, per)) for per in (min(last), max(last)))
    assert not (low.stop or low.pause) or high.stop or high.pause


@names
@given(curves=studies)
def test_no_rule_stops_the_best_trial_so_far(rule, curves):
    """A trial whose value is the lowest that the study has seen is not stopped."""
    _, told = drawn(rule, curves)
    best = math.inf
    for trial, epoch, decision in told:
        per = curves[trial][1][epoch - 1]
        assert not (decision.stop and per <= best)
        best = min(best, per)


@given(studies, st.integers(1, 5), st.sampled_from(["all", "horizon", "annealed"]))
def test_nobody_fails_where_too_few_have_come(curves, few, among):
    """With min_curves n the first n - 1 trials at a rung pass, whatever they report."""
    _, told = drawn({"kind": "asha", "min_curves": few, "among": among}, curves)
    first = [decision for _, epoch, decision in told if epoch == 1][: few - 1]
    assert all(decision.passed for decision in first)


@given(studies, st.integers(1, 4))
def test_the_best_of_the_study_are_protected(curves, k):
    """With protect k a trial that is among the k lowest PERs of the study so far is not stopped."""
    _, told = drawn({"kind": "asha", "protect": k, "reduction": 5}, curves)
    lowest = {}
    for trial, epoch, decision in told:
        lowest[trial] = min(lowest.get(trial, math.inf), curves[trial][1][epoch - 1])
        if decision.stop:
            assert sum(per < lowest[trial] for per in lowest.values()) >= k


def test_a_patient_rule_stops_at_the_second_rung_failed_in_a_row():
    """patience 2: a bad trial passes its first rung with a warning; one that does well in between starts afresh."""
    rule = {"kind": "asha", "reduction": 2, "patience": 2}
    made = history(rule, [[0.1] * 8, [0.9]])
    assert made.curves[1].fails == 1
    assert not report(made, 1, point(2, 0.05)).stop  # the best at epoch 2
    decision = report(made, 1, point(4, 0.9))
    assert (decision.stop, decision.passed) == (False, False)
    assert decision.reason.endswith("1 of 2 rungs in a row")
    assert report(made, 1, point(8, 0.9)).stop


def test_trials_are_compared_with_those_of_their_own_horizon():
    """A slow starter with a long schedule is stopped beside short ones that have annealed, not among its like."""
    for among, stopped in (("all", True), ("horizon", False)):
        made = History({"kind": "asha", "among": among})
        for trial in range(6):
            begin(made, trial, epochs=10)
            report(made, trial, point(1, 0.3 + trial / 100))
        begin(made, 6, epochs=80)
        assert report(made, 6, point(1, 0.8)).stop == stopped
        begin(made, 7, epochs=80)
        assert report(made, 7, point(1, 0.85)).stop  # a better one of its own horizon has come


def one_cycle(batches):
    """A run with a schedule that rises for 30 % of its batches and falls to nearly nothing."""
    return RunConfig.model_validate(
        {
            "schedule": {"kind": "one_cycle", "peak_lr": 0.02, "start_lr": 0.001, "end_lr": 0.0001},
            "training": {"batches": batches, "batches_per_epoch": 25},
        }
    )


def test_a_curve_knows_how_far_its_rate_has_come_down():
    """Nothing annealed up to the peak, all but the end rate at the end; the integral is the sum of the rates."""
    from trainable.schedules import lr_curve

    curve = Curve.of_run(0, one_cycle(800))
    assert curve.annealed(0) == curve.annealed(100) == 0
    assert 0.3 < curve.annealed(500) < 0.6
    assert curve.annealed(800) == pytest.approx(1 - 0.0001 / 0.02, abs=1e-3)
    rates = lr_curve(one_cycle(800))
    assert curve.rate_integral(400) == pytest.approx(rates[:400].sum(), rel=0.01)
    constant = RunConfig.model_validate({"schedule": {"kind": "constant", "peak_lr": 0.1}})
    assert Curve.of_run(0, constant).annealed(5000) == 0


def test_a_curve_without_a_configuration_goes_by_its_rates_or_its_horizon():
    """A recorded curve with rates anneals as they fall; with only a horizon, by the share of it that is done."""
    rated = Curve.of_points(0, [10, 20, 40], horizon=80, lr=[0.1, 0.1, 0.025])
    assert (rated.annealed(20), rated.annealed(40)) == (0, pytest.approx(0.75))
    assert rated.rate_integral(10) == pytest.approx(1.0)
    plain = Curve.of_points(1, [10, 20, 40], horizon=80)
    assert plain.annealed(20) == 0.25
    assert math.isnan(plain.rate_integral(20))
    assert (plain.grid.epoch_at(15), plain.grid.epoch_at(20), plain.grid.epoch_at(41)) == (2, 2, 4)


def test_the_median_rule_compares_the_best_with_running_averages():
    """A trial is stopped when its best is worse than the median of the others' averages up to that epoch."""
    made = history({"kind": "median", "min_curves": 4}, [[0.6, 0.4], [0.6, 0.5], [0.9, 0.9]])
    assert made.rungs[RungKey(2)].values[0][0] == pytest.approx(0.5)
    begin(made, 3)
    report(made, 3, point(1, 0.8))
    assert not decide(made, 3, point(2, 0.55)).stop  # the averages are 0.5, 0.55 and 0.9
    decision = decide(made, 3, point(2, 0.56))
    assert decision.stop
    assert decision.reason == "its best is worse than the running means of 2 of 3 others at epoch 2"


def test_the_median_itself_is_good_enough():
    """Between two others, with one of them better, a trial is not worse than their median; behind both it is."""
    made = history({"kind": "median", "min_curves": 1}, [[0.4], [0.6]])
    assert newcomer(made, point(1, 0.5)).passed
    assert newcomer(made, point(1, 0.7)).stop


def test_a_paused_trial_is_promoted_when_enough_others_are_worse():
    """Pause and promote: the second best of a rung waits until six have come, and then goes on; ties by arrival."""
    made = history({"kind": "asha", "promote": True}, [[0.1], [0.2], [0.3], [0.4], [0.2]])
    assert sorted(made.paused) == [1, 2, 3, 4]
    assert promotable(made, 0) is None
    begin(made, 5)
    assert report(made, 5, point(1, 0.9)).pause
    assert promotable(made, 0) == 1
    made.unpause(1)
    assert promotable(made, 0) == 4  # as good as trial 1
    made.unpause(4)
    assert promotable(made, 0) is None


def test_with_a_drain_nobody_passes_a_rung_before_others_have_come():
    """The first trial is paused, good or poor; the best of three goes on when the third has come, and once only.

    When nothing new is left they go on, best first. Without a drain the first passes: nothing would let it go on.
    """
    rule = {"kind": "asha", "reduction": 3, "promote": True}
    assert newcomer(history(rule, []), point(1, 0.9)).passed
    made = history({**rule, "drain": True}, [[0.5]])
    assert sorted(made.paused) == [0] and promotable(made, 5) is None
    begin(made, 1)
    second = report(made, 1, point(1, 0.2))
    assert second.pause and promotable(made, 4) is None
    assert second.reason == "rank 1 of 2 at epoch 1; nobody goes on before more have come"
    assert promotable(made, 0, thaw=True) == 1
    begin(made, 2)
    assert report(made, 2, point(1, 0.9)).pause and promotable(made, 3) == 1
    made.unpause(1)
    assert promotable(made, 3) is None and promotable(made, 0, thaw=True) == 0


def test_a_rung_keeps_its_standings_as_if_counted_anew():
    """The weights that a rung keeps up to date are those that a count over all its rows would give."""
    rung = Rung(0.5)
    rows = [(trial, (0.1 * (trial * 7 % 10), 1.0), trial % 3 * 0.4) for trial in range(40)]
    for trial, value, position in rows:
        rung.add(trial, value, position)
    for trial, value, position in rows:
        weights = {t: math.exp(-(((p - position) / 0.5) ** 2) / 2) for t, _, p in rows if t != trial}
        better = sum(weights[t] for t, other, _ in rows if t != trial and other < value)
        held, row = rung._held, rung.rows[trial]
        assert (held.better[row], held.others[row]) == (pytest.approx(better), pytest.approx(sum(weights.values())))


def test_a_rung_counts_who_came_and_who_waits():
    """Each trial once, with its first value; those of which only the number is known count as having come."""
    rung = Rung()
    assert (len(rung), rung.paused, rung.stopped, rung.values) == (0, 0, 0, {})
    for trial in range(20):
        rung.add(trial, (0.1 * trial, 1.0), paused=trial < 5)
    rung.add(3, (9.0, 9.0))
    rung.set_paused(0, False)
    assert (len(rung), rung.paused) == (20, 4)
    assert rung.values == {trial: (0.1 * trial, 1.0) for trial in range(20)}
    rung.earlier = 7
    assert len(rung) == 27


def test_a_median_compares_at_every_epoch_or_every_twentieth_of_the_whole():
    """From its grace on, before the last epoch: shares of the horizon or the area are 5 % apart."""
    assert epochs_of({"kind": "median", "grace": 3}, 7) == [3, 4, 5, 6]
    for at, unit in (("horizon", "percent"), ("area", "area")):
        found = places(read_rule({"kind": "median", "at": at, "grace": 0.8}), Grid(1000, 10, 1000))
        assert found == {epoch: RungKey(epoch, unit) for epoch in (80, 85, 90, 95)}


def test_a_rule_in_words_names_what_is_not_its_default():
    """The words are what --stopping takes."""
    assert rule_text(read_rule({"kind": "asha"}).model_dump()) == "asha"
    assert rule_text({"kind": "none"}) == "none"
    rule = read_rule({"kind": "asha", "promote": True, "at": "horizon", "grace": 0.5})
    assert rule_text(rule.model_dump()) == "asha at=horizon grace=0.5 promote=true"
    assert rule_text(read_rule({"kind": "median", "at": "horizon"}).model_dump()) == "median at=horizon"


def test_an_epoch_beyond_the_run_is_one_more_than_it_has():
    """The first epoch at or after a batch: inside, at an end, after the last."""
    grid = Grid(100, 40, 100)
    assert [grid.epoch_at(batch) for batch in (1, 40, 40.5, 80, 100, 101)] == [1, 1, 2, 2, 3, 4]
