"""The private names of Optuna are where `tuner/study/searchers/optuna_private.py` looks for them, and do what it says.

After an upgrade of Optuna, a test here fails with the name that has moved and what it was used for.
"""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from tuner.study.searchers import optuna_private

THIS = f"Optuna {optuna.__version__}"


def samplers():
    """The samplers that make notes on a draw."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield optuna.samplers.TPESampler(multivariate=True, group=True, constant_liar=True, n_startup_trials=1, seed=0)
    yield optuna.samplers.GPSampler(n_startup_trials=1, seed=0)


def drawn(sampler):
    """A study with two ended trials and one draw of the sampler."""
    study = optuna.create_study(sampler=sampler)
    for value in (0.2, 0.8):
        study.add_trial(create_trial(value=value, params={"x": value}, distributions={"x": FloatDistribution(0, 1)}))
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    return study, trial


def notes(trial):
    """The notes of a sampler on a draw that still say something."""
    kept = trial.storage.get_trial_system_attrs(trial._trial_id)
    return [key for key, value in kept.items() if "relative_params" in key and value]


def reports() -> bool:
    """Whether a trial can be made from a study and an id, as by `Trial(study, id)`."""
    study, trial = drawn(optuna.samplers.RandomSampler(seed=0))
    try:
        optuna_private.report(study, study.get_trials(deepcopy=False)[trial.number], 0.5, 3)
    except (TypeError, AttributeError):
        return False
    return study.get_trials()[trial.number].intermediate_values == {3: 0.5}


@pytest.fixture
def objects():
    """Where the names of `NAMES` begin."""
    study, trial = drawn(optuna.samplers.RandomSampler(seed=0))
    return {
        "FrozenTrial": study.get_trials()[0],
        "Study": study,
        "Trial": trial,
        "Trial(study, id)": reports(),
        "relative_params": all(notes(drawn(sampler)[1]) for sampler in samplers()),
        "NSGAIISampler": optuna.samplers.NSGAIISampler,
    }


@pytest.mark.parametrize("name", optuna_private.NAMES)
def test_optuna_still_has(name, objects, gone):
    """Each name that the documentation of Optuna does not promise; the failure says what no longer works."""
    assert gone(THIS, {name: optuna_private.NAMES[name]}, objects) == []


def test_what_is_gone_is_one_line(objects, gone):
    """The line that an upgrade gives: which name, and what it was used for."""
    name = "NSGAIISampler._get_generation_key"
    objects["NSGAIISampler"] = SimpleNamespace()
    (line,) = gone("Optuna 9", {name: optuna_private.NAMES[name]}, objects)
    assert line == f"Optuna 9: {name} is gone; used to give the trials of a warm start the first generation"


@pytest.mark.parametrize("sampler", list(samplers()), ids=["tpe", "gp"])
def test_a_draw_is_forgotten(sampler):
    """A sampler's notes on its draw are gone; the trial still has its parameters and runs."""
    study, trial = drawn(sampler)
    assert notes(trial)
    optuna_private.forget_draw(trial)
    assert not notes(trial)
    kept = study.get_trials()[trial.number]
    assert kept.state == TrialState.RUNNING and kept.params == trial.params


def test_a_running_trial_can_have_another_value():
    """The parameter that it drew is replaced, in the study too."""
    study, trial = drawn(optuna.samplers.RandomSampler(seed=0))
    optuna_private.set_param(trial, "x", 0.25, trial.distributions["x"])
    assert study.get_trials()[trial.number].params == {"x": 0.25}


def test_the_first_generation_is_optunas_own():
    """A trial with these attributes belongs to generation 0."""
    sampler = optuna.samplers.NSGAIISampler(population_size=4, seed=0)
    study = optuna.create_study(sampler=sampler)
    trial = create_trial(value=1.0, system_attrs=optuna_private.first_generation(sampler))
    study.add_trial(trial)
    assert sampler.get_population(study, 0) == study.get_trials()


def test_the_id_is_the_storages(tmp_path):
    """In a database with two studies a trial's number is not its id; what is written by the id reaches the trial."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'a.db'}")
    optuna.create_study(storage=storage, study_name="a").ask()
    study = optuna.create_study(storage=storage, study_name="b")
    study.ask()
    (trial,) = study.get_trials()
    assert optuna_private.id_of(trial) != trial.number
    storage.set_trial_user_attr(optuna_private.id_of(trial), "run", "x")
    assert study.get_trials()[0].user_attrs == {"run": "x"}
    storage.engine.dispose()
