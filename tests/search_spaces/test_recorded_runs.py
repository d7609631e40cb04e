"""The recorded runs made small."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import InputError, RunConfig, flatten, load_run, run_names
from search_spaces.recorded import BATCHES_PER_PASS, LEAST_BATCH, LINEAGE, shrink

CONFIGS = {name: load_run(name).config for name in LINEAGE}
LENGTHS = {
    "training.batches",
    "training.batches_per_epoch",
    "training.batch_size",
    "schedule.horizon",
    "schedule.warmup_batches",
    "schedule.period_batches",
    "averaging.decay",
    "averaging.start_batch",
    "averaging.every_batches",
    "model.hidden",
    "model.layers",
}


def test_the_lineage_is_the_23_recorded_runs_parents_first() -> None:
    """Each is a shipped run, none is missing but the program's own, and a run comes after the one it is from."""
    assert len(LINEAGE) == len(set(LINEAGE)) == 23
    assert set(run_names()) - set(LINEAGE) == {"small", "quickstart", "baseline_t15", "baseline_t12_masked"}
    for place, name in enumerate(LINEAGE):
        parent = load_run(name).parent
        assert parent is None or parent in LINEAGE[:place]


@pytest.mark.parametrize("name", LINEAGE)
def test_scale_one_changes_nothing(name: str) -> None:
    """As recorded, to the last digit; with a large data set the batch size stays too."""
    assert shrink(CONFIGS[name], 1.0) == CONFIGS[name]
    assert shrink(CONFIGS[name], 1.0, 100_000) == CONFIGS[name]


@given(st.sampled_from(LINEAGE), st.floats(1e-4, 1))
def test_a_small_run_keeps_its_shape(name: str, scale: float) -> None:
    """Rates, noise and masks stay; warm-up, periods, averages and the end keep their share of the run."""
    config, small = CONFIGS[name], shrink(CONFIGS[name], scale)
    before, after = flatten(config), flatten(small)
    assert {path: value for path, value in before.items() if path not in LENGTHS} == {
        path: value for path, value in after.items() if path not in LENGTHS
    }
    assert RunConfig.model_validate(small.model_dump()) == small
    for path in ("training.batches", "schedule.warmup_batches", "schedule.period_batches", "averaging.start_batch"):
        if path in before:
            assert abs(after[path] - scale * before[path]) <= 1
    if "averaging.decay" in before:
        window = 1 / (1 - after["averaging.decay"])
        assert window == pytest.approx(max(scale / (1 - before["averaging.decay"]), 2))
    assert after["model.hidden"] <= before["model.hidden"]
    assert min(2, before["model.layers"]) <= after["model.layers"] <= before["model.layers"]


@given(st.sampled_from(LINEAGE), st.integers(1, 20_000))
def test_small_data_get_small_batches(name: str, utterances: int) -> None:
    """A pass keeps its number of batches, unless a batch would get too small; accumulation stays."""
    training, old = shrink(CONFIGS[name], 0.05, utterances).training, CONFIGS[name].training
    batch = training.batch_size * training.accumulation
    assert training.accumulation == old.accumulation
    assert batch <= LEAST_BATCH or batch * BATCHES_PER_PASS <= utterances
    assert batch == old.batch_size * old.accumulation or 2 * batch * BATCHES_PER_PASS > utterances


@pytest.mark.parametrize("scale", [0.0, -1.0, 1.5, float("nan")])
def test_a_scale_out_of_range_is_one_line(scale: float) -> None:
    """The value and what is allowed."""
    with pytest.raises(InputError, match="above 0 and at most 1"):
        shrink(CONFIGS["run16_5"], scale)
