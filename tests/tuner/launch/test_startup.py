"""The trials before the searcher's model are no more than a third of what the budget buys, and that is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search_spaces import Space, load_space
from search_spaces.lengths.scaled_space import scaled_space
from trainable.data.dataset import open_dataset
from tuner.launch.new_study import new_settings, notes_on
from tuner.study.request import Request


def settings(space: Path | Space, data: Path, searcher: str, **limits: Any) -> Any:
    """The settings of a new study with these limits."""
    found = load_space(space) if isinstance(space, Path) else space
    return new_settings(found, "s", Request(data.parent, data, searcher=searcher, **limits), open_dataset(data))


@pytest.mark.parametrize("kind", ["tpe", "gp", "cmaes"])
def test_startup_shrinks_with_the_budget(real_space: Path, tiny_data: Path, kind: str) -> None:
    """Of 9 trials 3 come before the model, of 2 one; where the budget is large it is as set, and nothing is said."""

    def made(trials: int) -> Any:
        return settings(real_space, tiny_data, f"{kind} startup_trials=10", trials=trials)

    few, least, many = made(9), made(2), made(60)
    assert [each.searcher.startup_trials for each in (few, least, many)] == [3, 1, 10]
    (line,) = (note for note in notes_on(few) if "the budget buys" in note)
    assert line.startswith("the budget buys about 9 whole runs, so the first 3 trials, a third, come before the model")
    assert not any("the budget buys" in note for note in notes_on(many))


@pytest.mark.parametrize("scale", [1, 0.5])
def test_a_limit_in_batches_counts_in_whole_runs(real_space: Path, tiny_data: Path, scale: float) -> None:
    """Nine times the batches of a run buy nine whole runs, in utterances as well, also of a space that is scaled."""
    space = scaled_space(load_space(real_space), scale)
    training = space.config(space.start_params(space.start_points[0])[0], 0).training
    batches = 9 * training.batches
    by_batches = settings(space, tiny_data, "tpe", trials=1000, batches=batches)
    utterances = batches * training.batch_size * training.accumulation
    by_utterances = settings(space, tiny_data, "tpe", trials=1000, utterances=utterances)
    assert by_batches.searcher.startup_trials == by_utterances.searcher.startup_trials == 3


def test_a_searcher_without_such_trials_is_left_alone(real_space: Path, tiny_data: Path) -> None:
    """Random search has no model, and nothing is said about one."""
    made = settings(real_space, tiny_data, "random", trials=3)
    assert made.searcher.as_dict() == {"kind": "random"}
    assert not any("the budget buys" in note for note in notes_on(made))
