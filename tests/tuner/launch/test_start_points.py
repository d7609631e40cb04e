"""Where a search may begin: runs, earlier trials, a study's best."""

import pytest

from search_spaces import InputError
from tuner.launch.checks import start_points


def same(left, right):
    """Equal but for the last digits of a number."""
    numbers = [key for key, value in left.items() if isinstance(value, float)]
    return (
        left.keys() == right.keys()
        and all(left[key] == right[key] for key in left if key not in numbers)
        and all(left[key] == pytest.approx(right[key], rel=1e-9) for key in numbers)
    )


def test_a_search_can_begin_with_the_best_trials_of_a_study(toy):
    """`--start STUDY` gives its three best trials after the space's own start points, without repeating one."""
    study = toy.create("s")
    toy.drive(study)
    study.close()
    params, _ = start_points(toy.space, toy.folder, ["s"])
    ranked = sorted(study.state.trials.values(), key=lambda t: (t.best or (9.0, 0))[0])
    expected = [study.state.trials[0].params] + [t.params for t in ranked[:3]]
    assert same(params[0], expected[0])
    assert len(params) == len({str(p) for p in expected})
    for got in params[1:]:
        assert any(same(got, t.params) for t in ranked[:3])


def test_a_search_can_begin_with_one_trial_or_a_run(toy):
    """STUDY/TRIAL and a run's name are start points; what the space cannot hold is moved and noted."""
    study = toy.create("s")
    toy.drive(study)
    study.close()
    params, notes = start_points(toy.space, toy.folder, ["s/4", "run16_5"])
    assert same(params[1], study.state.trials[4].params)
    assert params[2]["averaging.kind"] == "ema"
    assert any(
        note.startswith("start point run16_5: schedule.kind: warmup_cosine is not in this space") for note in notes
    )


def test_an_unknown_start_is_one_line(toy):
    """A start that is neither run, trial nor study names what is near."""
    with pytest.raises(InputError, match="run16_5"):
        start_points(toy.space, toy.folder, ["run16_55"])
