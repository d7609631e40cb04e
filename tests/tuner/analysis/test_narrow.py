"""`tuner spaces narrow`: the next space lies inside the old one, around what worked, and can be searched."""

import random

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tuner.analysis.narrow as narrowing
from search_spaces import InputError, load_space
from search_spaces.dimensions.dimension import Dimension
from search_spaces.lengths.scaled_space import scaled_space
from tests.tuner.conftest import settings_for
from tuner.study.settings import StudySettings
from tuner.study.study import Study


@pytest.fixture
def study(toy):
    """A study of 40 trials over the toy space, whose curves are best near a rate of 0.01, with averaging."""
    study = toy.create("toy", budget={"trials": 40, "hours": None})
    assert toy.drive(study)
    study.close()
    return toy


def by_path(space):
    return {dimension.path: dimension for dimension in space.dimensions}


class Draw:
    """An Optuna trial that draws at random."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def suggest_float(self, name, low, high, *, log=False):
        share = self.random.random()
        return low * (high / low) ** share if log else low + (high - low) * share

    def suggest_int(self, name, low, high, *, log=False):
        return self.random.randint(low, high)

    def suggest_categorical(self, name, choices):
        return self.random.choice(choices)


def test_the_new_space_lies_inside_the_old_one_around_the_best(study):
    """The file loads; each range is within the old one; the rate's is narrower and holds the best trial's rate."""
    out = study.folder / "next.yaml"
    space, changes, written = narrowing.write_space(study.folder, "toy", out, 0.25)
    assert written == [out]
    old, new = by_path(study.space), by_path(load_space(out))
    assert set(new) <= set(old)
    for path, dimension in new.items():
        if dimension.low is not None:
            assert old[path].low <= dimension.low < dimension.high <= old[path].high
        elif dimension.kind == "choice":
            assert set(dimension.choices) <= set(old[path].choices)
    rate = new["schedule.peak_lr"]
    assert rate.low <= 0.01 <= rate.high
    assert np.log(rate.high / rate.low) < 0.6 * np.log(100)
    assert {change.old.path for change in changes} == set(old)
    assert all(change.why for change in changes)
    # The best trial is the start point, and lies in the new space as it is.
    assert space.start_params(space.start_points[0])[1] == []


def test_a_scaled_study_is_narrowed_to_runs_of_the_same_length(toy):
    """The file has the scaled numbers, in its base run too, and its start point is the best trial as it was."""
    half = scaled_space(toy.space, 0.5)
    study = Study.create(toy.folder / "half", StudySettings.read(settings_for(half)), [])
    toy.drive(study)
    study.close()
    narrowing.write_space(toy.folder, "half", toy.folder / "next.yaml", 0.25)
    space = load_space(toy.folder / "next.yaml")
    params, notes = space.start_params(space.start_points[0])
    assert notes == []
    assert space.config(params, 0).training.batches == 9
    found, best = space.config(params, 0).averaging, study.state.leader.config.averaging
    assert (found.kind, found.decay) == ("ema", pytest.approx(best.decay, rel=1e-9))


def test_narrowing_twice_gives_the_same_file(study):
    """The proposal is a function of the study."""
    for name in ("a.yaml", "b.yaml"):
        narrowing.write_space(study.folder, "toy", study.folder / name, 0.25)
    assert (study.folder / "a.yaml").read_text() == (study.folder / "b.yaml").read_text()


def stub(monkeypatch, space, samples, score):
    monkeypatch.setattr(narrowing, "scored", lambda *_: (space, samples, np.array(score, dtype=float)))


def of_kind(space, kind, count):
    """Samples with one kind of schedule."""
    found, seed = [], 0
    while len(found) < count:
        seed += 1
        sample = space.suggest(Draw(seed))
        if sample["schedule.kind"] == kind:
            found.append(sample)
    return found


@pytest.mark.parametrize(("loser", "keeps_end_lr"), [("constant", True), ("one_cycle", False)])
def test_a_choice_that_never_worked_goes_with_what_depends_on_it(toy, monkeypatch, loser, keeps_end_lr):
    """30 of 60 trials had the kind and none came to the top: it goes, and end_lr, which only one_cycle has, with it."""
    winner = {"constant": "one_cycle", "one_cycle": "constant"}[loser]
    samples = of_kind(toy.space, winner, 30) + of_kind(toy.space, loser, 30)
    stub(monkeypatch, toy.space, samples, range(60))
    _, changes, _ = narrowing.narrow(toy.folder, "toy")
    left = {change.old.path: change.new for change in changes}
    assert left["schedule.kind"].choices == (winner,)
    assert (left["schedule.end_lr"] is not None) is keeps_end_lr
    why = next(change.why for change in changes if change.old.path == "schedule.kind")
    assert loser in why and "30 trials" in why


def test_a_choice_tried_seldom_stays(toy, monkeypatch):
    """2 of 40 trials are no evidence: chance alone leaves them out of the top half of the time."""
    samples = of_kind(toy.space, "one_cycle", 38) + of_kind(toy.space, "constant", 2)
    stub(monkeypatch, toy.space, samples, range(40))
    changes = {c.old.path: c for c in narrowing.narrow(toy.folder, "toy")[1]}
    assert changes["schedule.kind"].new == changes["schedule.kind"].old
    assert "too rarely" in changes["schedule.kind"].why


def test_a_setting_that_does_not_matter_keeps_most_of_its_range(toy, monkeypatch):
    """With scores that have nothing to do with the rate, its range keeps on average 80% of its logarithmic width."""
    shares = []
    for repeat in range(40):
        samples = [toy.space.suggest(Draw(1000 * repeat + number)) for number in range(40)]
        stub(monkeypatch, toy.space, samples, random.Random(repeat).sample(range(40), 40))
        rate = {c.old.path: c.new for c in narrowing.narrow(toy.folder, "toy")[1]}["schedule.peak_lr"]
        shares.append(np.log(rate.high / rate.low) / np.log(100))
    assert np.mean(shares) > 0.8


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), count=st.integers(12, 80), keep=st.floats(0.01, 0.5))
def test_whatever_worked_the_result_can_be_searched(toy, monkeypatch, tmp_path, seed, count, keep):
    """For any scores the file loads, its start point is the best trial, and what it samples the old space could."""
    with monkeypatch.context() as patch:
        samples = [toy.space.suggest(Draw(seed + number)) for number in range(count)]
        scores = random.Random(seed).sample(range(count), count)
        stub(patch, toy.space, samples, scores)
        log = {key: getattr(toy.space, key).model_dump(mode="json") for key in ("searcher", "stopping", "budget")}
        patch.setattr(narrowing, "read_log", lambda _: ({"study": "toy", **log}, []))
        space, _, _ = narrowing.write_space(toy.folder, "toy", tmp_path / "next.yaml", keep, force=True)
        best = toy.space.config(samples[scores.index(0)], 0)
        params, notes = space.start_params(space.start_points[0])
        assert notes == []
        for path in ("schedule.peak_lr", "averaging.kind"):
            section, key = path.split(".")
            assert getattr(getattr(space.config(params, 0), section), key) == pytest.approx(
                getattr(getattr(best, section), key)
            )
        for number in range(5):
            sampled = space.config(space.suggest(Draw(number)), 0)
            rate = by_path(toy.space)["schedule.peak_lr"]
            assert rate.low <= sampled.schedule.peak_lr <= rate.high


def test_whole_numbers_stay_whole_and_at_least_two(toy):
    """An int range narrowed to one value keeps its neighbour; its ends are whole numbers."""
    dimension = Dimension("n", "augmentation.time_masks", "int", 0, 20)
    new, _ = narrowing._narrow_range(dimension, [3, 3, 3, 3, 3])
    assert (type(new.low), type(new.high)) == (int, int)
    assert 0 <= new.low <= 3 <= new.high <= 20
    assert new.low < new.high < 20


def test_the_edge_is_remarked_where_there_is_more_beyond():
    """Values at the upper edge suggest searching beyond it; at 0 masks there is nothing beyond."""
    rate = Dimension("r", "schedule.peak_lr", "log_uniform", 1e-3, 1e-2)
    assert "upper edge" in narrowing._narrow_range(rate, [9e-3, 9.5e-3, 9.9e-3, 9e-3])[1]
    masks = Dimension("n", "augmentation.time_masks", "int", 0, 20)
    assert "edge" not in narrowing._narrow_range(masks, [0, 0, 1, 0])[1]


def test_a_base_run_that_changed_is_written_beside(study):
    """The study's own base run is kept, when the file of that name says something else today."""
    path = study.folder / "base.yaml"
    path.write_text(path.read_text().replace("hidden: 8", "hidden: 16"))
    space, _, written = narrowing.write_space(study.folder, "toy", study.folder / "next.yaml", 0.25)
    assert [p.name for p in written] == ["next.yaml", "next_base.yaml"]
    assert space.config_base == study.space.config_base


def test_the_settings_of_the_study_go_on(toy, cli):
    """A stopping rule and a budget that were chosen on the command line are those of the next space."""
    study = toy.create("toy", stopping={"kind": "none"}, budget={"trials": 14, "hours": 2.0})
    assert toy.drive(study)
    study.close()
    out = toy.folder / "next.yaml"
    done = cli("spaces", "narrow", "toy", "--results", toy.folder, "--out", out, "--keep", 0.5)
    assert done.status == 0, done.err
    written = yaml.safe_load(out.read_text())
    assert written["stopping"] == {"kind": "none"}
    assert written["budget"] == {"trials": 14, "hours": 2.0}
    assert "why" in done.out and f"tuner search {out}" in done.out


def test_bad_input_is_one_line_and_writes_nothing(toy, cli):
    """Too few trials, no trials at all, a file that exists, another ending: one line each."""
    study = toy.create("few", budget={"trials": 3, "hours": None})
    empty = toy.create("empty")
    assert toy.drive(study)
    study.close()
    empty.close()
    before = sorted(toy.folder.iterdir())
    taken = toy.folder / "taken.yaml"
    taken.write_text("mine")
    out = toy.folder / "x.yaml"
    for arguments, word in (
        (["few", "--out", out], "3 trials"),
        (["empty", "--out", out], "no trial"),
        (["few", "--out", taken], "--force"),
        (["few", "--out", toy.folder / "x.txt"], ".yaml"),
        (["few", "--out", toy.folder / "no" / "x.yaml"], "folder"),
    ):
        done = cli("spaces", "narrow", *arguments, "--results", toy.folder)
        assert done.status == 2
        assert len(done.err.splitlines()) == 1
        assert word in done.err
    assert sorted(toy.folder.iterdir()) == sorted([*before, taken])
    assert taken.read_text() == "mine"


def test_a_study_without_a_space_cannot_be_narrowed(toy, cli):
    """Recorded runs were not drawn from a space."""
    assert cli("results", "add-recorded", "--results", toy.folder).status == 0
    done = cli("spaces", "narrow", "recorded", "--results", toy.folder, "--out", toy.folder / "x.yaml")
    assert done.status == 2
    assert "space" in done.err
    with pytest.raises(InputError):
        narrowing.narrow(toy.folder, "recorded")
