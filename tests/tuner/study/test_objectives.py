"""Searches for several objectives: what the searcher is told, what is refused, and the front."""

import json

import optuna
import pytest

from results.pareto import front
from results.store.events import read_events
from results.store.tables import compact
from search_spaces import InputError, load_run, load_space
from search_spaces.model_size import parameters
from search_spaces.parsing.given import parse_settings
from search_spaces.searchers import Searcher
from tuner.callbacks.mirror import OptunaMirror
from tuner.study import objectives

DATA = {"path": "nowhere", "name": "none", "fingerprint": "0", "features": 16, "classes": 41, "days": 2}
SEVERAL = {"costs": ["train_seconds", "parameters"], "stopping": {"kind": "none"}, "data": DATA}


@pytest.mark.parametrize("kind", ["nsga2 population=4", "tpe startup_trials=4", "qmc"])
def test_a_search_for_several_objectives_resumes_exactly(toy, kind):
    """Killed and resumed, it proposes what it would have; the searcher has a vector for each completed trial."""
    settings = {**SEVERAL, "searcher": parse_settings(kind, Searcher, "searcher")}
    whole = toy.create("whole", **settings)
    toy.drive(whole)
    killed = toy.create("killed", **settings)
    toy.drive(killed, events=50)
    killed.close()
    toy.drive(toy.resume("killed"))
    assert toy.decisions("killed") == toy.decisions("whole")
    told = [trial.values for trial in whole.state.searcher.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    trials = [trial for trial in whole.state.trials.values() if trial.status == "completed"]
    assert told == [[t.best[0], 9.0, parameters(t.config, 16, 41, 2)] for t in trials]
    assert len(told) > 5


def test_the_front_is_of_trials_that_ended_and_no_other_beats(space_file, request):
    """`best --pareto` of the study's own objectives: no completed trial is better in all of them."""
    width = "dimensions:\n  model.hidden: {choice: [4, 8, 16]}"
    space_file.write_text(space_file.read_text().replace("dimensions:", width))
    toy = request.getfixturevalue("toy")
    study = toy.create("s", **{**SEVERAL, "stopping": toy.space.stopping.model_dump(mode="json")})
    toy.drive(study)
    study.interrupt("budget")
    study.close()
    compact(toy.folder / "s")
    found = front(toy.folder, ["s"])
    ended = [t for t in study.state.trials.values() if t.status == "completed"]
    points = {t.number: tuple(objectives.values(t, study.settings)) for t in ended}

    def beaten(point):
        return any(
            other != point and all(a <= b for a, b in zip(other, point, strict=True)) for other in points.values()
        )

    best = {number for number, point in points.items() if not beaten(point)}
    rows = found.table.to_pylist()
    assert {row["trial"] for row in rows} == best
    assert len(ended) < len(study.state.trials)
    for row in rows:
        assert (row["best_per"], row["train_seconds"], row["parameters"]) == points[row["trial"]]


def test_a_study_of_one_objective_has_no_front_of_its_own(toy, cli):
    """Without columns `--pareto` needs a study of several objectives; the line says what to give."""
    study = toy.create("s")
    toy.drive(study)
    study.close()
    done = cli("best", "s", "--pareto", "--results", toy.folder)
    assert done.status == 2
    assert "error: --pareto: s: has one objective, best_per; name the columns, such as --pareto best_per" in done.err
    named = cli("best", "s", "--pareto", "best_per,train_seconds", "--format", "json", "--results", toy.folder)
    assert json.loads(named.out)


@pytest.mark.parametrize(
    ("given", "searcher", "line"),
    [
        ("best_per,gpu_second", "nsga2", "--objectives: gpu_second is not allowed; give best_per, last_per, train_sec"),
        ("train_seconds,best_per", "nsga2", "best_per or last_per first"),
        ("best_per,last_per", "nsga2", "best_per or last_per first"),
        ("best_per,parameters,parameters", "tpe", "is not allowed; give best_per or last_per first"),
        ("", "nsga2", "--objectives:"),
        ("best_per,gpu_seconds", "nsga2", "gpu_seconds is always 0, as trials use no GPU here; give train_seconds"),
        ("best_per,parameters", "cmaes", "searcher cmaes: takes only one objective; give nsga2"),
    ],
)
def test_objectives_that_cannot_be_are_one_line(toy, given, searcher, line):
    """Unknown and repeated ones, no PER first, a cost that is always 0, a searcher of one objective."""
    with pytest.raises(InputError) as error:
        objectives.chosen(toy.space, given, searcher, 0.0)
    assert len(error.value.problems) == 1
    assert line in str(error.value)


def test_a_space_file_may_name_objectives(space_file):
    """`objectives` in a space file: the PER and the costs; what is wrong with them is one line."""
    text = space_file.read_text()
    space_file.write_text(text.replace("objective: best_per", "objectives: [last_per, parameters]"))
    space = load_space(space_file)
    assert objectives.chosen(space, None, "tpe", 0.0) == {"objective": "last_per", "costs": ["parameters"]}
    assert type(space).from_dict(space.as_dict()) == space
    space_file.write_text(text.replace("objective: best_per", "objectives: [parameters]"))
    with pytest.raises(InputError, match="objectives: parameters is not allowed; give best_per or last_per first"):
        load_space(space_file)
    space_file.write_text(text + "objectives: [best_per, parameters]\n")
    with pytest.raises(InputError, match="is given together with objectives; remove one of the two"):
        load_space(space_file)


def test_optuna_sees_the_objectives_by_name(toy):
    """The copy for optuna-dashboard has a direction, a name and a value for each objective."""
    toy.drive(toy.create("s", **SEVERAL))
    study = OptunaMirror(optuna.storages.InMemoryStorage(), read_events(toy.folder / "s" / "events.jsonl")[0]).study
    assert study.metric_names == ["best_per", "train_seconds", "parameters"]
    assert all(
        len(trial.values) == 3 for trial in study.get_trials() if trial.state == optuna.trial.TrialState.COMPLETE
    )
    assert study.best_trials


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["model.bidirectional=false", "model.layers=1"],
        ["model.layer_norm=true", "model.layers=3", "model.hidden=7"],
        ["model.day_layers=false", "model.bidirectional=true", "model.kernel=5"],
    ],
)
def test_the_formula_counts_the_decoders_weights(space_file, overrides):
    """The number of weights by formula is that of the decoder that torch makes."""
    from trainable.model import Decoder

    config = load_run(space_file.parent / "base.yaml", overrides).config
    weights = sum(weight.numel() for weight in Decoder(config, 6, 41, 3).parameters())
    assert parameters(config, 6, 41, 3) == weights
