"""The area under the learning rate, and the rungs that are placed by it."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.config import RunConfig
from trainable.schedules import lr_at
from tuner.study.checkpoints import rungs_of
from tuner.study.rules.rates import planned_rates, recorded_rates
from tuner.study.rules.rungs import Grid, RungKey, grid_under, places, read_rule
from tuner.study.rules.stopping import Curve, History

AREA = read_rule({"kind": "asha", "at": "area", "grace": 0.25, "reduction": 2})
SCHEDULES = (
    {"kind": "constant", "peak_lr": 0.01},
    {"kind": "linear", "peak_lr": 0.01, "end_lr": 0.0},
    {"kind": "warmup_cosine", "peak_lr": 0.01, "end_lr": 1e-5, "warmup_batches": 60},
    {"kind": "one_cycle", "start_lr": 1e-6, "peak_lr": 0.01, "end_lr": 1e-6},
    {"kind": "multistep", "peak_lr": 0.01, "milestones": [0.5, 0.75], "gamma": 0.1},
    {"kind": "sgdr", "peak_lr": 0.01, "end_lr": 1e-5, "period_batches": 50, "warmup_batches": 20},
    {"kind": "linear", "peak_lr": 0.01, "end_lr": 1e-4, "horizon": 150},
)


def run(schedule, batches=400, per_epoch=1, **more):
    raw = {"schedule": schedule, "training": {"batches": batches, "batches_per_epoch": per_epoch, **more}}
    return RunConfig.model_validate(raw)


@given(schedule=st.sampled_from(SCHEDULES), share=st.floats(0.02, 0.98), batches=st.sampled_from([300, 400, 3000]))
@settings(deadline=None)
def test_the_batch_at_a_share_of_the_area_has_that_share_of_the_summed_rates(schedule, share, batches):
    """For every schedule, with a horizon of its own too: the sum of the rates up to there, over the sum of all."""
    config = run(schedule, batches)
    sums = list(itertools.accumulate(lr_at(config, batch) for batch in range(batches)))
    at = int(planned_rates(config).batch_at(share))
    before, after = sums[max(0, at - 2)] / sums[-1], sums[min(batches - 1, at + 1)] / sums[-1]
    assert before - 0.005 <= share <= after + 0.005  # within a batch, and the sampling of long runs


def test_at_a_constant_rate_the_area_is_the_batches():
    """Rungs by area are those by horizon there, and those of a warm-up come later."""
    constant, slow = run(SCHEDULES[0], per_epoch=10), run(SCHEDULES[3], per_epoch=10)
    at = {
        "constant": list(places(AREA, grid_under(AREA, constant))),
        "slow": list(places(AREA, grid_under(AREA, slow))),
    }
    assert at["constant"] == [10, 20]
    assert at["slow"][0] > 10
    assert places(AREA, grid_under(AREA, constant))[10] == RungKey(25, "area")
    assert str(RungKey(25, "area")) == "25 % of the area"


def test_accumulation_does_not_move_a_rung():
    """Schedules, epochs and rungs count optimizer steps, whatever a step is made of."""
    plain, accumulated = run(SCHEDULES[3], per_epoch=10), run(SCHEDULES[3], per_epoch=10, accumulation=4)
    assert rungs_of(AREA, plain, 0) == rungs_of(AREA, accumulated, 0)


def test_the_worker_and_the_rule_have_the_same_rungs():
    """A worker saves its state at the epochs at which the rule compares."""
    config = run(SCHEDULES[5], per_epoch=7)
    history = History(AREA)
    history.begin(Curve.of_run(3, config))
    seen = [epoch for epoch in range(1, config.epochs + 1) if history.key(3, epoch) is not None]
    assert tuple(seen) == rungs_of(AREA, config, 3)[0]
    assert seen


def test_a_curve_without_a_rate_falls_back_to_the_share_of_its_batches():
    """Imported curves may have neither a configuration nor recorded rates."""
    ends = tuple(range(10, 110, 10))
    history = History(AREA)
    history.begin(Curve.of_points(0, ends))
    assert [epoch for epoch in range(1, 11) if history.key(0, epoch)] == [3, 5]
    history.begin(Curve.of_points(1, ends, lr=[0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]))
    assert next(epoch for epoch in range(1, 11) if history.key(1, epoch)) == 6


def test_a_rate_of_zero_all_along_counts_batches():
    """There is no area then; nothing is divided by it."""
    assert recorded_rates([10, 20], [0.0, 0.0]).batch_at(0.5) == 10


def test_a_changed_rule_places_the_rungs_anew():
    """From the horizon to the area on the way: the curves get the new rule's rungs."""
    config = run(SCHEDULES[3], per_epoch=10)
    history = History({"kind": "asha", "at": "horizon"})
    history.begin(Curve.of_run(0, config))
    assert history.under(AREA).key(0, next(iter(places(AREA, grid_under(AREA, config))))) == RungKey(25, "area")
    assert Grid.of(config).marks is None
