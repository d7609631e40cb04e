"""A ladder of lengths: how a budget is divided, and the runs of each length."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import InputError, Space, flatten, load_space
from search_spaces.lengths.ladder import level_of, read_lengths, run_costs, run_counts, with_lengths
from search_spaces.lengths.scale import scaled_run
from search_spaces.space import LENGTH
from search_spaces.space_file import _RandomTrial
from search_spaces.stopping import NoStopping

SMALL = load_space("small")
LADDER = with_lengths(SMALL, (0.25, 0.5, 1, 2))


@given(
    st.lists(st.floats(0.05, 4), min_size=2, max_size=5, unique=True).map(sorted),
    st.sampled_from(["trials", "batches", "utterances"]),
    st.integers(0, 5000),
)
def test_a_budget_is_spent_and_not_exceeded(lengths, limit, more):
    """Each length has a run, a longer one never more of them than a shorter, and not one more fits the budget."""
    space = with_lengths(SMALL, lengths)
    costs = run_costs(space, limit)
    budget = sum(costs) + more
    counts = run_counts(space, {limit: budget})
    assert len(counts) == len(lengths) and min(counts) >= 1
    assert counts == sorted(counts, reverse=True)
    used = sum(n * cost for n, cost in zip(counts, costs, strict=True))
    assert used <= budget < used + costs[0]


def test_the_best_third_comes_further():
    """With room enough each length has about a third of the runs below it; what is over goes to the shortest."""
    assert run_counts(LADDER, {"batches": 60_000}) == [310, 98, 32, 10]
    assert run_counts(LADDER, {"batches": 1260}) == [1, 1, 1, 1]


def test_the_tightest_limit_counts():
    """Of several limits none is exceeded; hours do not divide, and alone they are refused."""
    both = run_counts(LADDER, {"trials": 16, "batches": 100_000, "hours": 1})
    assert sum(both) == 16
    with pytest.raises(InputError, match="give --batches, --utterances or --trials"):
        run_counts(LADDER, {"hours": 1.0})
    with pytest.raises(InputError, match=r"takes 1,260 batches, and the budget is 1,000; give a larger budget"):
        run_counts(LADDER, {"batches": 1000, "trials": 16})


def test_utterances_are_those_of_the_largest_batch():
    """Where batch sizes are searched, no run uses more than what is reckoned with."""
    wide = replace(SMALL.dimensions[0], name="b", path="training.batch_size", kind="choice", choices=(8, 64), when={})
    space = replace(LADDER, dimensions=(*LADDER.dimensions, wide))
    assert run_costs(space, "utterances") == [64 * batches for batches in run_costs(space, "batches")]


@given(st.integers(0, 2**32), st.sampled_from([0, 1, 2, 3]))
def test_a_run_of_a_length_is_the_scaled_run(seed, place):
    """New settings are for the shortest; at any length they give the scaled run, from which they are found again."""
    from random import Random

    params = LADDER.suggest(_RandomTrial(Random(seed)))
    assert params[LENGTH] == 0.25 and level_of(LADDER, params) == 0
    longer = LADDER.at_length(params, place)
    if LADDER.violations(longer):
        return
    config = LADDER.config(longer, 3)
    plain = {name: value for name, value in params.items() if name != LENGTH}
    assert config == scaled_run(SMALL.config(plain, 3), LADDER.lengths[place])
    found, notes = LADDER.params_of(config)
    assert found[LENGTH] == LADDER.lengths[place] and level_of(LADDER, found) == place
    assert [note for note in notes if "warmup" not in note and "decay" not in note] == []
    again = flatten(LADDER.config(found, 3))
    for path, value in flatten(config).items():
        assert again[path] == value or abs(again[path] - value) <= 1, path


def test_a_start_point_begins_at_the_shortest():
    """A run of the whole length is tried as short as all others first."""
    params, notes = LADDER.start_params("small")
    assert (params[LENGTH], notes) == (0.25, [])
    assert LADDER.config(params, 0).training.batches == 84


def test_a_ladder_is_stored_and_read_again():
    """With its lengths; a space without is stored as ever."""
    assert Space.from_dict(LADDER.as_dict()) == LADDER
    assert "lengths" not in SMALL.as_dict()
    assert isinstance(LADDER.stopping, NoStopping)


@pytest.mark.parametrize("lengths", ["1", "2,1", "0,1", "1,1", "1,nan", "0.5,200", "a,b", ""])
def test_wrong_lengths_are_one_line(lengths):
    """Fewer than two, not rising, out of range or no numbers: what is allowed, with an example."""
    with pytest.raises(ValueError, match=r"is not allowed; give"):
        read_lengths(lengths)


FILE = """
base: small
lengths: {}
dimensions:
  {}: {{choice: [100, 200]}}
{}
"""


@pytest.mark.parametrize(
    ("lengths", "path", "more", "line"),
    [
        ("[1]", "model.hidden", "", "lengths: [1] is not allowed; give two or more"),
        ("[0.5, 1]", "training.batches", "", "lengths: training.batches is a dimension"),
        ("[0.5, 1]", "model.hidden", "stopping: {kind: asha}", "stopping: asha cannot be used with lengths"),
    ],
)
def test_a_space_file_with_wrong_lengths_says_what_is_wrong(tmp_path, lengths, path, more, line):
    """One line, with the place in the file."""
    (tmp_path / "a.yaml").write_text(FILE.format(lengths, path, more))
    with pytest.raises(InputError, match=line.replace("[", r"\[").replace("]", r"\]")):
        load_space(tmp_path / "a.yaml")


def test_a_space_file_can_have_lengths(tmp_path):
    """`lengths` in the file are those of `--lengths`; each run is whole, so there is no stopping rule."""
    (tmp_path / "a.yaml").write_text(FILE.format("[0.5, 1]", "model.hidden", ""))
    space = load_space(tmp_path / "a.yaml")
    assert space.lengths == (0.5, 1.0) and isinstance(space.stopping, NoStopping)
