"""Runs and spaces made shorter or longer: what is a length in batches is scaled, and nothing else."""

from __future__ import annotations

import functools
import textwrap
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from search_spaces import Dimension, InputError, RunConfig, Space, flatten, load_run, load_space, run_names
from search_spaces.lengths.scale import COUNTS, DECAYS, scaled_run
from search_spaces.lengths.scaled_space import changes, scaled_dimension, scaled_space
from search_spaces.parsing.sections import nested
from search_spaces.parsing.yaml_file import shipped_names
from search_spaces.space_file import SPACES, _RandomTrial
from tuner.simulation.virtual import draws

SHIPPED = sorted(shipped_names(SPACES))
RUNS = {name: load_run(name).config for name in run_names()}


@functools.cache
def shipped(name: str) -> Space:
    """A space that comes with the program, read once."""
    return load_space(name)


@st.composite
def runs(draw) -> RunConfig:
    """A run of 20 to 60 batches, of any schedule, whose places all lie on whole batches."""
    horizon = draw(st.integers(20, 60))
    batches = draw(st.integers(horizon, 70))
    kinds = ("constant", "linear", "warmup_cosine", "warmup_linear", "one_cycle", "multistep", "sgdr")
    schedule = {
        "kind": draw(st.sampled_from(kinds)),
        "peak_lr": 0.01,
        "horizon": draw(st.sampled_from([None, horizon])),
    }
    total = schedule["horizon"] or batches
    place = st.integers(1, total - 1)
    if schedule["kind"] not in ("constant", "multistep"):
        schedule["end_lr"] = 1e-4
    if schedule["kind"].startswith("warmup"):
        schedule |= {"warmup_batches": draw(place), "drop_at": draw(place) / total}
        schedule["warmup_shape"] = draw(st.sampled_from(["linear", "cosine"]))
    if schedule["kind"] == "one_cycle":
        schedule |= {"start_lr": 0.001, "peak_fraction": draw(place) / total}
    if schedule["kind"] == "multistep":
        schedule["milestones"] = [each / total for each in sorted(draw(st.sets(place, min_size=1, max_size=3)))]
    if schedule["kind"] == "sgdr":
        schedule |= {"period_batches": draw(place), "warmup_batches": draw(st.integers(0, 5)), "peak_decay": 0.8}
        schedule["period_multiplier"] = draw(st.sampled_from([1, 2]))
    averaging = draw(st.sampled_from([{"kind": "none"}, {"kind": "swa", "start_batch": batches // 2, "lr": 0.003}]))
    training = {"batches": batches, "batches_per_epoch": 10}
    return RunConfig.model_validate({"schedule": schedule, "averaging": averaging, "training": training})


@given(runs(), st.integers(1, 7))
def test_the_learning_rate_at_a_share_of_the_run_stays(config, times):
    """At every share of its batches the scaled run has the rate that the whole one has there, for every schedule."""
    schedules = pytest.importorskip("trainable.schedules")
    longer = scaled_run(config, times)
    assert longer.training.batches == times * config.training.batches
    for batch in range(config.training.batches):
        assert schedules.lr_at(longer, times * batch) == pytest.approx(schedules.lr_at(config, batch), rel=1e-9)


@given(runs(), st.integers(1, 7))
def test_longer_and_shorter_again_is_the_same_run(config, times):
    """Scaling by a whole number and back changes nothing but, where it is rounded, the batches of an epoch."""
    again = scaled_run(scaled_run(config, times), 1 / times)
    per_epoch = config.training.batches_per_epoch
    assert abs(again.training.batches_per_epoch - per_epoch) <= 1
    training = again.training.model_copy(update={"batches_per_epoch": per_epoch})
    assert again.model_copy(update={"training": training}) == config


@given(st.sampled_from(sorted(RUNS)), st.floats(1e-3, 50))
def test_only_lengths_change(name, scale):
    """Model, data, rates and augmentation of every shipped run stay; the window of an average stays in proportion."""
    before, after = flatten(RUNS[name]), flatten(scaled_run(RUNS[name], scale))
    assert {path for path in before if before[path] != after[path]} <= {*COUNTS, *DECAYS}
    assert abs(after["training.batches"] - scale * before["training.batches"]) <= 0.5 or after["training.batches"] == 1
    if "averaging.decay" in before:
        window = 1 / (1 - after["averaging.decay"])
        assert window == pytest.approx(max(scale / (1 - before["averaging.decay"]), 2), rel=1e-3)


@given(st.floats(1.01, 50))
def test_several_decays_are_scaled_one_by_one(times):
    """A list of decays is scaled as each of its numbers is; of those that become the same one is left."""
    from search_spaces.lengths.scale import scaled_decay, scaled_value

    decays = (0.99, 0.999, 0.9995)
    found = scaled_value("averaging.decays", decays, 1 / times)
    assert found == tuple(dict.fromkeys(scaled_decay(d, 1 / times) for d in decays))
    averaging = {"kind": "ema", "decays": decays}
    config = RunConfig.model_validate({"schedule": {"kind": "constant", "peak_lr": 0.01}, "averaging": averaging})
    assert scaled_run(config, 1 / times).averaging.decays == found
    assert scaled_run(config, 1e-3).averaging.decays == (0.5,)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), 101.0, float("inf")])
def test_a_scale_out_of_range_is_one_line(scale):
    """The value and what is allowed, for a run and for a space."""
    for make in (lambda: scaled_run(RUNS["small"], scale), lambda: scaled_space(shipped("small"), scale)):
        with pytest.raises(InputError, match="above 0 and at most 100"):
            make()


@pytest.mark.parametrize("name", SHIPPED)
def test_at_scale_one_a_space_is_itself(name):
    """Nothing is rewritten, so an old study's space is compared with itself."""
    assert scaled_space(shipped(name), 1) is shipped(name)


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("scale", [0.1, 0.37, 2.5])
def test_a_scaled_space_holds_the_scaled_runs(name, scale):
    """Each configuration of a space, scaled, is a configuration of the scaled space, to a batch of rounding."""
    space = shipped(name)
    scaled = scaled_space(space, scale)
    for config in draws(space, 20):
        short = scaled_run(config, scale)
        params, notes = scaled.params_of(short)
        found, wanted = flatten(scaled.config(params, 0)), flatten(short)
        assert not [note for note in notes if "outside" in note and "averaging" not in note], notes
        assert found.keys() == wanted.keys()
        for path, value in wanted.items():
            close = 1 if path in COUNTS else 1e-9
            assert found[path] == value or abs(found[path] - value) <= close, path


@pytest.mark.parametrize("name", SHIPPED)
def test_a_scaled_space_is_stored_and_read_again(name):
    """With its scale, so that a study knows it; an unscaled space is stored as ever."""
    scaled = scaled_space(shipped(name), 0.25)
    assert Space.from_dict(scaled.as_dict()) == scaled
    assert scaled.scale == 0.25
    assert scaled_space(scaled, 0.5).scale == 0.125
    assert "scale" not in shipped(name).as_dict()


def test_start_points_are_scaled_too():
    """A run that a search begins with is as much shorter as the space: its warm-up and average keep their share."""
    space = shipped("schedule_averaging_augmentation")
    scaled = scaled_space(space, 0.1)
    for before, after in zip(space.start_points, scaled.start_points, strict=True):
        whole, short = (each.config(each.start_params(text)[0], 0) for each, text in ((space, before), (scaled, after)))
        assert flatten(short) == {**flatten(scaled_run(whole, 0.1)), "training.seed": 0}


def space_of(tmp_path, text: str) -> Space:
    path = tmp_path / "mine.yaml"
    path.write_text(textwrap.dedent(text))
    return load_space(path)


LENGTHS = """
    base: small
    fixed: {training.batches: 1000, training.batches_per_epoch: 50}
    dimensions:
      schedule.kind: {choice: [warmup_cosine, sgdr]}
      schedule.warmup_batches: {int: [0, 400], q: 100, when: {schedule.kind: warmup_cosine}}
      schedule.period_batches: {choice: [100, 104, 300], when: {schedule.kind: sgdr}}
      schedule.end_lr: {log_uniform: [1e-3, 0.3], of: schedule.peak_lr}
      averaging.kind: {choice: [none, ema, swa]}
      averaging.start_batch: {normal: [500, 100], within: [300, 900], when: {averaging.kind: swa}}
    constraints: [schedule.warmup_batches <= 350, schedule.warmup_batches < training.batches]
    stopping: {kind: asha, grace: 4, reduction: 2}
    budget: {batches: 50000, trials: 30}
"""


def test_absolute_lengths_are_scaled_everywhere(tmp_path):
    """Ranges with steps, choices, normal distributions, constraints, a rule in epochs and a budget of batches."""
    scaled = scaled_space(space_of(tmp_path, LENGTHS), 0.04)
    by_path = {dimension.path: dimension for dimension in scaled.dimensions}
    assert scaled.fixed == {"training.batches": 40, "training.batches_per_epoch": 10}
    assert (by_path["schedule.warmup_batches"].ends, by_path["schedule.warmup_batches"].q) == ((0, 16), 4)
    assert by_path["schedule.period_batches"].choices == (4, 12)
    start = by_path["averaging.start_batch"]
    assert (start.ends, start.mean, start.sd, start.q) == ((12, 36), 20, 4, 1)
    assert by_path["schedule.end_lr"] == next(d for d in space_of(tmp_path, LENGTHS).dimensions if d.of)
    assert scaled.constraints[1] == "schedule.warmup_batches < training.batches"
    settings = {"schedule.kind": "warmup_cosine", "averaging.kind": "none", "schedule.end_lr/schedule.peak_lr": 0.1}
    assert scaled.violations({**settings, "schedule.warmup_batches": 16})
    assert not scaled.violations({**settings, "schedule.warmup_batches": 12})
    assert scaled.stopping.grace == 1
    assert (scaled.budget.batches, scaled.budget.trials) == (2000, 30)


def test_a_default_that_is_written_nowhere_is_scaled(tmp_path):
    """The EMA's own decay is a length too: where a space chooses ema without one, scaled runs have a shorter one."""
    scaled = scaled_space(space_of(tmp_path, LENGTHS), 0.04)
    params = {"schedule.kind": "warmup_cosine", "schedule.warmup_batches": 4, "schedule.end_lr/schedule.peak_lr": 0.1}
    assert scaled.config({**params, "averaging.kind": "ema"}, 0).averaging.decay == pytest.approx(1 - 0.001 / 0.04)
    assert scaled.config({**params, "averaging.kind": "none"}, 0).averaging.kind == "none"
    fixed = LENGTHS.replace("fixed: {", "fixed: {averaging.kind: ema, ").replace(
        "      averaging.kind: {choice: [none, ema, swa]}\n"
        "      averaging.start_batch: {normal: [500, 100], within: [300, 900], when: {averaging.kind: swa}}\n", ""
    )  # fmt: skip
    scaled = scaled_space(space_of(tmp_path, fixed), 0.04)
    assert scaled.config(params, 0).averaging.decay == pytest.approx(1 - 0.001 / 0.04)


def test_a_range_that_rounding_closes_is_a_constant_and_told(tmp_path):
    """With nothing left to choose it is no dimension of the search, and a note says so."""
    space = space_of(
        tmp_path,
        """
        base: small
        fixed: {schedule.kind: warmup_cosine}
        dimensions:
          schedule.warmup_batches: {int: [0, 10]}
          schedule.peak_lr: {log_uniform: [1e-3, 1e-2]}
        """,
    )
    scaled = scaled_space(space, 0.04)
    assert [d.path for d in scaled.dimensions if d.sampled] == ["schedule.peak_lr"]
    assert any("schedule.warmup_batches: 0..10 is 0 at this scale" in line for line in changes(space, scaled))
    assert scaled.config({"schedule.peak_lr": 2e-3}, 0).schedule.warmup_batches == 0


@given(st.integers(0, 10**6), st.floats(0.01, 20))
def test_an_average_keeps_its_order_and_its_window(seed, scale):
    """A draw from a scaled range of 1 - decay is the draw from the whole range, with the window in proportion."""
    dimension = Dimension("1-averaging.decay", "averaging.decay", "log_uniform", 1e-4, 1e-2, complement=True)
    scaled = scaled_dimension(dimension, scale)
    assume(scaled.sampled)
    sample = dimension.suggest(_RandomTrial(Random(seed)))
    assert scaled.low <= min(sample / scale, 0.5) * (1 + 1e-9)
    assert min(sample / scale, 0.5) <= scaled.high * (1 + 1e-9)


def test_a_space_too_short_for_its_settings_is_refused():
    """Where rounding leaves a setting without a batch, the line names the scale and the setting."""
    with pytest.raises(InputError, match=r"at --scale 0.02: mixed_horizons: .*period_batches"):
        scaled_space(shipped("mixed_horizons"), 0.02)


def test_nested_settings_come_back():
    """`flatten` and `nested` are inverse, lists included, which scaling rests on."""
    for config in RUNS.values():
        assert RunConfig.model_validate(nested(flatten(config))) == config


def test_decays_that_become_the_same_are_one() -> None:
    """In a run so short that several would forget half at each batch, one of them is left: decays rise strictly."""
    config = RunConfig.model_validate(
        {"schedule": {"kind": "constant", "peak_lr": 0.1}, "averaging": {"kind": "ema", "decays": [0.9, 0.95, 0.999]}}
    )
    assert scaled_run(config, 0.02).averaging.decays == (0.5, 0.95)
