"""Steps, normal distributions and "0 or a range" in all that comes after a search, over one study that has them all."""

import json
from types import SimpleNamespace

import numpy as np
import optuna
import pytest

from results.report.facts import load
from results.report.searched import parallel, settings, slices
from results.store.events import read_events
from results.store.tables import compact
from search_spaces import Dimension, load_space
from search_spaces.stopping import PBTStopping
from tests.tuner.conftest import SPACE, curve, settings_for
from tuner.analysis import narrow as narrowing
from tuner.analysis.importance import importance
from tuner.analysis.partial import partial
from tuner.callbacks.mirror import OptunaMirror
from tuner.simulation.curves import read_curves
from tuner.simulation.points import TablePoints
from tuner.study.heirs import _changed
from tuner.study.searchers.warm_start import gather
from tuner.study.settings import StudySettings
from tuner.study.study import Study
from tuner.testing.toy import write_space

ODD = """
  augmentation.white_noise: {log_uniform: [1.0e-3, 1], or: 0}
  training.clip: {log_uniform: [0.5, 8], or: null}
  model.hidden: {int: [8, 64], q: 8}
  model.dropout: {normal: [0.4, 0.1], within: [0, 0.8]}
  augmentation.constant_offset: {log_normal: [-2, 0.5]}
  optimizer.eps: {log_uniform: [0.01, 0.1], q: 0.01}
start_points"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A finished study of 48 trials over the toy space with further dimensions; best without noise."""
    tmp_path = tmp_path_factory.mktemp("odd")
    space_file = write_space(tmp_path)
    space_file.write_text(SPACE.replace("\nstart_points", ODD))
    space = load_space(space_file)
    given = {"searcher": {"kind": "random"}, "stopping": {"kind": "none"}, "budget": {"trials": 48, "hours": None}}
    study = Study.create(tmp_path / "odd", StudySettings.read(settings_for(space, **given)), [])
    while not study.done:
        job = study.ask()
        for epoch in range(1, job.config.epochs + 1):
            row = curve(job.config, epoch)
            row["per"] += 0.3 * (job.config.augmentation.white_noise > 0)
            if study.report(job.trial, job.attempt, row) != "continue":
                break
    study.close()
    compact(tmp_path / "odd")
    return SimpleNamespace(space=space, study=study, folder=tmp_path)


def test_importance_finds_the_one_that_matters(odd):
    """Every sampled dimension has a row; the noise, whose 0 is best, is above chance and first among the new ones."""
    rows = importance(odd.folder, "odd")
    assert {row["dimension"] for row in rows} == {d.name for d in odd.space.dimensions if d.sampled}
    noise = next(row for row in rows if row["path"] == "augmentation.white_noise")
    assert noise["trials"] > 40
    assert noise["ped_anova"] > noise["chance"]


def test_the_narrowed_space_keeps_what_worked_and_its_kind(odd):
    """It loads; steps stay on their steps; a distribution keeps its mean; the range of the noise, never best, goes."""
    space, changes, _ = narrowing.write_space(odd.folder, "odd", odd.folder / "next.yaml", 0.125)
    old, new = ({d.path: d for d in each.dimensions} for each in (odd.space, space))
    assert new["augmentation.white_noise"].kind == "value"
    assert new["augmentation.white_noise"].choices == (0,)
    assert "none in the top" in next(c.why for c in changes if c.old.path == "augmentation.white_noise")
    hidden, eps, dropout = new["model.hidden"], new["optimizer.eps"], new["model.dropout"]
    assert hidden.q == 8 and hidden.low % 8 == hidden.high % 8 == 0
    assert eps.q == 0.01 and eps.step_count <= old["optimizer.eps"].step_count
    assert (dropout.mean, dropout.sd, dropout.kind) == (0.4, 0.1, "normal")
    assert 0 <= dropout.low < dropout.high <= 0.8
    assert space.start_params(space.start_points[0])[1] == []


@pytest.mark.parametrize(
    ("top", "everywhere", "kind", "alternative"),
    [
        ([0.1, 0.2, 0.3, 0.4] * 2, 20, "log_uniform", ()),
        ([0.1, 0.2, 0.3, 0.4] * 2, 2, "log_uniform", (0,)),
        ([0.1, 0.2, 0.3, 0, 0.15], 20, "log_uniform", (0,)),
        ([0] * 8, 20, "value", ()),
        ([0] * 8, 38, "log_uniform", (0,)),
    ],
)
def test_a_range_or_a_value_is_dropped_only_beyond_chance(top, everywhere, kind, alternative):
    """What the best never had goes where it was tried often, and stays where it was tried too rarely."""
    dimension = Dimension("n", "augmentation.white_noise", "log_uniform", 1e-3, 1.0, alternative=(0,))
    tried = [0] * everywhere + [0.5] * (40 - everywhere)
    new, why = narrowing._narrow_either(dimension, tried, top, 0.05)
    assert (new.kind, new.alternative) == (kind, alternative), why
    assert dimension.low <= (new.low or 1e-3) and (new.high or 1.0) <= dimension.high


def test_partial_shows_the_value_beside_the_range_by_itself(odd):
    """The trials at 0 have a row of their own; the others are in logarithmic ranges; null is a value too."""
    rows = partial(odd.folder, "odd", "augmentation.white_noise")
    assert rows[0]["value"] == "0" and rows[0]["trials"] > 5
    lows = [row["low"] for row in rows[1:]]
    assert min(lows) >= 1e-3 and lows == sorted(lows)
    assert max(lows) / min(lows) > 10
    assert "null" in [row["value"] for row in partial(odd.folder, "odd", "training.clip")]


def test_the_report_draws_0_on_a_logarithmic_axis(odd):
    """0 stands to the left of the axis, under its own name, in the slices and in the parallel coordinates."""
    (facts,) = load(odd.folder, ["odd"])
    noise = next(s for s in settings(facts) if s.column == "augmentation_white_noise")
    assert (noise.log, noise.numeric, noise.apart) == (True, True, 0)
    panel = next(p for p in slices(facts) if noise.header in p.title)
    axis = panel.layout["xaxis"]
    assert axis["type"] == "log" and axis["ticktext"][0] == "0"
    assert min(panel.data[1]["x"]) == pytest.approx(axis["tickvals"][0])
    drawn = next(d for d in parallel(facts).data[0]["dimensions"] if d["label"].startswith(noise.header))
    assert drawn["ticktext"][0] == "0"
    assert min(drawn["values"]) == drawn["tickvals"][0] < min(drawn["tickvals"][1:])


def test_the_optuna_copy_has_the_values_themselves(odd):
    """Not coordinates: whoever looks at it sees the settings; a null beside numbers is left out."""
    events = read_events(odd.folder / "odd" / "events.jsonl")[0]
    mirror = OptunaMirror(optuna.storages.InMemoryStorage(), events)
    for frozen in mirror.study.get_trials():
        params = odd.study.state.trials[frozen.number].params
        assert frozen.params == {k: v for k, v in params.items() if v is not None}


def test_a_warm_start_takes_every_trial(odd):
    """Each lies in the space it came from, at the point that it had."""
    new = StudySettings.read({"objective": "best_per", "costs": [], "data": {"fingerprint": "0"}})
    told, _ = gather(odd.space, odd.folder, ["odd"], new)
    assert len(told) == 48
    for trial in told:
        params = odd.study.state.trials[trial["trial"]].params
        assert trial["params"].keys() == params.keys()
        numbers = {k: v for k, v in params.items() if isinstance(v, float)}
        assert {k: trial["params"][k] for k in numbers} == pytest.approx(numbers, rel=1e-8)


def test_a_proposal_is_nearest_to_the_run_that_had_it(odd):
    """`tuner simulate --searcher` uses the recorded run that is nearest to a proposal: a run's own point is itself."""
    points = TablePoints(read_curves("odd", odd.folder))
    for index, params in enumerate(points.params):
        assert points.nearest(params, set()) == index


@pytest.mark.parametrize("resample", [0.0, 1.0])
def test_a_population_s_step_stays_in_the_dimension(odd, resample):
    """A step from the value of `or` leads into the range or nowhere; a step on steps is one step at least."""
    rng, rule = np.random.default_rng(0), PBTStopping(resample=resample)
    moved = set()
    for dimension in odd.space.dimensions[-6:]:
        for sample in [dimension.middle(), dimension.from_unit(0.3), *dimension.alternative]:
            for _ in range(20):
                new = _changed(dimension, sample, rule, rng)
                assert json.loads(json.dumps(new)) == new
                assert dimension.is_alternative(new) or dimension.nearest(new) == new
                moved |= {dimension.name} if new != sample else set()
    assert moved == {dimension.name for dimension in odd.space.dimensions[-6:]}
