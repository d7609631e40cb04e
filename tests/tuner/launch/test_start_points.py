"""Where a search may begin: runs, earlier trials, a study's best."""

import pytest

from results.trials import read_log
from search_spaces import InputError
from search_spaces.lengths.scaled_space import scaled_space
from tests.tuner.conftest import settings_for
from tuner.launch.checks import start_points, study_scale
from tuner.study.settings import StudySettings
from tuner.study.study import Study


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


def test_a_start_point_is_as_long_as_the_runs_of_a_scaled_space(toy):
    """A run that `--start` names is scaled with the space; a trial of an unscaled study too, one as short is not."""
    half = scaled_space(toy.space, 0.5)
    whole = toy.create("whole", start_points=[])
    toy.drive(whole)
    whole.close()
    short = Study.create(toy.folder / "short", StudySettings.read(settings_for(half, start_points=[])), [])
    toy.drive(short)
    short.close()
    for study, scale in (("whole", 0.5), ("short", 1.0)):
        trials = {"whole": whole, "short": short}[study].state.trials
        number = next(n for n, trial in trials.items() if trial.config.averaging.kind == "ema")
        params = start_points(half, toy.folder, [f"{study}/{number}"])[0][-1]
        window = 1 / (1 - trials[number].config.averaging.decay)
        assert 1 / params["1-averaging.decay"] == pytest.approx(max(scale * window, 2))
    (toy.folder / "ema.yaml").write_text("from: base.yaml\naveraging: {kind: ema, decay: 0.95}\n")
    params = start_points(half, toy.folder, [str(toy.folder / "ema.yaml")])[0][-1]
    assert params["1-averaging.decay"] == pytest.approx(0.1)


def test_a_study_of_scaled_runs_goes_on_with_the_same_scale(toy, call):
    """Its scale is in its log; another space for it says at which scale, and a study alone cannot get another one."""
    half = scaled_space(toy.space, 0.5)
    study = Study.create(toy.folder / "short", StudySettings.read(settings_for(half)), [])
    toy.drive(study, 2)
    study.close()
    assert study_scale(read_log(toy.folder / "short")[0]) == 0.5
    resume = ("resume", "short", "--results", toy.folder, "--data", "nowhere")
    assert "give that again for toy, or --scale 1" in call(*resume, "--space", toy.space.path)[2]
    assert "cannot get another length" in call(*resume, "--scale", 0.25)[2]
    status, _, said = call(*resume, "--space", toy.space.path, "--scale", 0.5)
    assert (status, "nowhere" in said) == (2, True)  # the scale is taken; the data are looked for next
