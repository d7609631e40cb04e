"""`tuner spaces import`: W&B sweeps, Hydra's Optuna sweeper and Optuna's studies become spaces that can be searched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import InputError, Space
from search_spaces.foreign.importing import Imported, import_space, read_sweep, write_import
from search_spaces.foreign.names import path_of

SWEEP = {
    "program": "train.py",
    "method": "bayes",
    "metric": {"goal": "minimize", "name": "val/loss"},
    "parameters": {
        "lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 3e-2},
        "batch_size": {"distribution": "q_log_uniform_values", "min": 8, "max": 128, "q": 8},
        "hidden_size": {"values": [128, 256, 512, 100000]},
        "dropout": {"distribution": "normal", "mu": 0.4, "sigma": 0.2},
        "optimizer": {"values": ["AdamW", "sgd", "lion"]},
        "momentum": {"min": 0.8, "max": 0.99},
        "weight_decay": {"distribution": "log_uniform", "min": -12, "max": -4},
        "attention_heads": {"values": [2, 4]},
        "augmentation": {"parameters": {"noise_std": {"min": 0.0, "max": 1.0}, "time_masks": {"min": 0, "max": 10}}},
        "label_smoothing": {"distribution": "beta", "a": 2, "b": 5},
        "epochs": {"value": 30},
        "bidirectional": {"value": True},
        "seed": {"values": [1, 2, 3]},
    },
    "early_terminate": {"type": "hyperband", "min_iter": 3, "eta": 3},
    "run_cap": 40,
}


def imported(folder: Path, data: Any, name: str = "sweep.yaml", **more: Any) -> tuple[Imported, Space]:
    path = folder / name
    path.write_text(yaml.safe_dump(data) if path.suffix == ".yaml" else json.dumps(data), encoding="utf-8")
    given = {"base": "small", "given": {}, **more}
    found = import_space(path, **given)
    return found, write_import(found, folder / "out.yaml", force=True)


def words(space: Space) -> dict[str, str]:
    """Path -> the values, as `tuner spaces show` has them, of what is sampled."""
    return {d.path: d.words() for d in space.dimensions if d.sampled}


def test_a_wandb_sweep_becomes_a_space(tmp_path: Path) -> None:
    """Ranges, steps, distributions, nested names and conditions; searcher, rule, objective and budget."""
    found, space = imported(tmp_path, SWEEP)
    assert words(space) == {
        "schedule.peak_lr": "0.0001..0.03",
        "training.batch_size": "8..128 in steps of 8",
        "model.hidden": "128, 256, 512",
        "model.dropout": "normal 0.4 +- 0.2 within 0..0.999",
        "optimizer.kind": "adamw, sgd",
        "optimizer.momentum": "0.8..0.99",
        "optimizer.weight_decay": "6.14421235333e-06..0.0183156388887",
        "augmentation.white_noise": "0..1",
        "augmentation.time_masks": "0..10",
    }
    kinds = {d.path: d.kind for d in space.dimensions}
    assert kinds["schedule.peak_lr"] == kinds["optimizer.weight_decay"] == "log_uniform"
    assert kinds["training.batch_size"] == "log_int"
    assert next(d.when for d in space.dimensions if d.path == "optimizer.momentum") == {"optimizer.kind": ("sgd",)}
    assert space.fixed == {"model.bidirectional": True}
    assert (space.searcher.kind, space.stopping.kind, space.objective) == ("gp", "asha", "best_val_loss")
    assert space.budget.trials == 40
    left = {line.name: "; ".join(line.remarks) for line in found.lines if line.entry is None}
    assert set(left) == {"attention_heads", "label_smoothing", "seed"}
    assert "distribution beta has no counterpart" in left["label_smoothing"]
    assert "--map attention_heads=SECTION.KEY" in left["attention_heads"]
    assert any(remark.startswith("epochs = 30 is left out") for remark in found.remarks)
    for name in left:
        assert f"#   {name} (" in (tmp_path / "out.yaml").read_text()


@pytest.mark.parametrize(
    ("entry", "kind", "text"),
    [
        ({"min": 0.0, "max": 0.5}, "uniform", "0..0.5"),
        ({"distribution": "q_uniform", "min": 0.05, "max": 0.5, "q": 0.1}, "uniform", "0..0.5 in steps of 0.1"),
        ({"distribution": "inv_log_uniform_values", "min": 0.01, "max": 0.5}, "log_uniform", "0.01..0.5"),
        ({"distribution": "q_log_uniform_values", "min": 0.01, "max": 0.5, "q": 0.1}, "log_uniform",
         "0.1..0.5 in steps of 0.1"),
        ({"distribution": "q_normal", "mu": 0.3, "sigma": 0.05, "q": 0.1}, "normal",
         "normal 0.3 +- 0.05 within 0.1..0.5 in steps of 0.1"),
        ({"distribution": "categorical_w_probabilities", "values": [0.1, 0.2], "probabilities": [0.9, 0.1]}, "choice",
         "0.1, 0.2"),
    ],
)  # fmt: skip
def test_the_distributions_of_wandb(tmp_path: Path, entry: dict[str, Any], kind: str, text: str) -> None:
    """Each of W&B's that has a counterpart; what is lost is a remark."""
    found, space = imported(tmp_path, {"method": "random", "parameters": {"dropout": entry}})
    (dimension,) = [d for d in space.dimensions if d.sampled]
    assert (dimension.kind, dimension.words()) == (kind, text)
    assert space.searcher.kind == "random"
    if "probabilities" in entry:
        assert "the probabilities of its values have no counterpart" in found.lines[0].remarks[0]


HYDRA = """
defaults:
  - override hydra/sweeper: optuna
  - override hydra/sweeper/sampler: tpe
model: {hidden_size: 256}
hydra:
  sweeper:
    _target_: hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper
    sampler:
      _target_: optuna.samplers.TPESampler
      seed: 123
      n_startup_trials: 8
      multivariate: true
    direction: minimize
    n_trials: 25
    n_jobs: 2
    params:
      optimizer.lr: tag(log, interval(0.0001, 0.03))
      model.hidden_size: choice(128, 256, 512)
      model.num_layers: range(2, 5)
      model.dropout: interval(0.1, 0.5)
      data.batch_size: tag(log, int(interval(8, 128)))
      augmentation.white_noise: range(0.0, 1.0, step=0.25)
      trainer.precision: bf16, fp32
      model.act: choice(relu, 'gelu,tanh')
      model.bidirectional: true
"""


def test_a_section_of_hydra_s_optuna_sweeper_becomes_a_space(tmp_path: Path) -> None:
    """Overrides as on Hydra's command line: tags, casts, ranges with their end, lists, and quotes with commas."""
    (tmp_path / "config.yaml").write_text(HYDRA, encoding="utf-8")
    found = import_space(tmp_path / "config.yaml", "small", {})
    space = write_import(found, tmp_path / "out.yaml")
    assert words(space) == {
        "schedule.peak_lr": "0.0001..0.03",
        "model.hidden": "128, 256, 512",
        "model.layers": "2..5",
        "model.dropout": "0.1..0.5",
        "training.batch_size": "8..128",
        "augmentation.white_noise": "0..1 in steps of 0.25",
        "training.precision": "bf16, fp32",
    }
    assert space.searcher.model_dump(exclude_unset=True) == {"kind": "tpe", "startup_trials": 8}
    assert space.budget.trials == 25
    assert space.fixed == {"model.bidirectional": True}
    act = next(line for line in found.lines if line.name == "model.act")
    assert act.entry is None
    said = " ".join(found.remarks)
    assert "--seed 123" in said and "--concurrent" in said and "multivariate" in said


def test_the_older_form_of_the_sweeper_is_read_too(tmp_path: Path) -> None:
    """`search_space` with types, as before Hydra 1.2."""
    old = {
        "sampler": {"_target_": "optuna.samplers.CmaEsSampler", "popsize": 8},
        "direction": "maximize",
        "search_space": {
            "lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
            "hidden": {"type": "int", "low": 64, "high": 250, "step": 64},
            "optimizer": {"type": "categorical", "choices": ["adam", "sgd"]},
        },
    }
    found, space = imported(tmp_path, {"hydra": {"sweeper": old}})
    assert words(space) == {
        "schedule.peak_lr": "0.0001..0.01",
        "model.hidden": "64..192 in steps of 64",
        "optimizer.kind": "adam, sgd",
    }
    assert space.searcher.model_dump()["population"] == 8
    assert "direction maximize: here an objective is minimised" in found.remarks


def objective(trial: optuna.Trial) -> float:
    """A study of a learning rate, steps, whole numbers and choices, one of them only in some trials."""
    rate = trial.suggest_float("lr", 1e-4, 1e-2, log=True)
    trial.suggest_float("dropout", 0.0, 0.5, step=0.1)
    trial.suggest_int("n_units", 32, 256, step=32)
    trial.suggest_int("warmup_steps", 1, 100, log=True)
    if trial.suggest_categorical("optimizer", ["adam", "sgd"]) == "sgd":
        trial.suggest_float("momentum", 0.8, 0.99)
    trial.suggest_int("beam", 1, 9)
    return rate


OPTUNA = {
    "schedule.peak_lr": "0.0001..0.01",
    "model.dropout": "0..0.5 in steps of 0.1",
    "model.hidden": "32..256 in steps of 32",
    "optimizer.kind": "adam, sgd",
    "optimizer.momentum": "0.8..0.99",
}


@pytest.mark.parametrize("kind", ["sqlite", "journal", "json"])
def test_an_optuna_study_becomes_a_space(tmp_path: Path, kind: str) -> None:
    """From its database, its journal, or its distributions as JSON, all written by Optuna itself; and read-only."""
    path = tmp_path / {"sqlite": "study.db", "journal": "study.log", "json": "study.json"}[kind]
    if kind == "journal":
        file = optuna.storages.journal.JournalFileBackend(str(path))
        storage: Any = optuna.storages.JournalStorage(file)
    else:
        storage = f"sqlite:///{path}" if kind == "sqlite" else None
    study = optuna.create_study(storage=storage, study_name="gru", sampler=optuna.samplers.RandomSampler(seed=1))
    study.optimize(objective, n_trials=12)
    if kind == "json":
        known: dict[str, Any] = {}
        for trial in study.trials:
            known |= trial.distributions
        path.write_text(json.dumps({n: optuna.distributions.distribution_to_json(d) for n, d in known.items()}))
    before = path.read_bytes()
    found = import_space(path, "small", {})
    space = write_import(found, tmp_path / "out.yaml")
    assert words(space) == OPTUNA
    assert next(d.when for d in space.dimensions if d.path == "optimizer.momentum") == {"optimizer.kind": ("sgd",)}
    left = {line.name: line.remarks[-1] for line in found.lines if line.entry is None}
    assert set(left) == {"warmup_steps", "beam"}
    assert "schedule.kind is one_cycle here, which does not have warmup_batches" in left["warmup_steps"]
    assert path.read_bytes() == before


def test_a_storage_of_several_studies_needs_a_name(tmp_path: Path) -> None:
    """The line lists them; a wrong name gets the nearest."""
    for name in ("first", "second"):
        study = optuna.create_study(storage=f"sqlite:///{tmp_path}/s.db", study_name=name)
        study.optimize(lambda trial: trial.suggest_float("dropout", 0, 0.5), n_trials=1)
    with pytest.raises(InputError, match="has several studies, first, second; name one by --study"):
        read_sweep(tmp_path / "s.db")
    with pytest.raises(InputError, match="has no study secnd; did you mean second"):
        read_sweep(tmp_path / "s.db", "secnd")
    assert read_sweep(tmp_path / "s.db", "second").parameters[0].name == "dropout"


def test_distributions_of_older_versions_are_read(tmp_path: Path) -> None:
    """Optuna 2 named its distributions otherwise."""
    old = {
        "lr": {"name": "LogUniformDistribution", "attributes": {"low": 1e-4, "high": 1e-2}},
        "dropout": {"name": "DiscreteUniformDistribution", "attributes": {"low": 0, "high": 0.55, "q": 0.1}},
        "layers": {"name": "IntUniformDistribution", "attributes": {"low": 1, "high": 4, "step": 1}},
    }
    _, space = imported(tmp_path, {"distributions": old}, "old.json")
    assert words(space) == {
        "schedule.peak_lr": "0.0001..0.01",
        "model.dropout": "0..0.5 in steps of 0.1",
        "model.layers": "1..4",
    }


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("schedule.peak_lr", "schedule.peak_lr"),
        ("schedule_peak_lr", "schedule.peak_lr"),
        ("optimizer.args.learning_rate", "schedule.peak_lr"),
        ("+trainer.gradient_clip_val", "training.clip"),
        ("nUnits", "model.hidden"),
        ("whiteNoiseSD", "augmentation.white_noise"),
        ("batchSize", "training.batch_size"),
        ("l2_decay", "optimizer.weight_decay"),
        ("model.dropout", "model.dropout"),
        ("RandomSeed", None),
        ("attention_heads", None),
    ],
)
def test_names_that_people_write_are_known(name: str, path: str | None) -> None:
    """By the whole name, its last words, or what others call the same setting."""
    assert path_of(name, {})[0] == path
    assert path_of(name, {name: "model.kernel"})[0] == "model.kernel"


@pytest.mark.parametrize(
    ("data", "name", "line"),
    [
        ({"a": 1}, "x.yaml", "is no search that is known here; give a W&B sweep"),
        (
            {"parameters": {"heads": {"values": [1, 2]}}},
            "x.yaml",
            "nothing of it can be searched here (heads: no",
        ),
        ({"parameters": {}}, "x.yaml", "nothing of it can be searched here (it has no parameters)"),
        ([1], "x.json", "is no search that is known here"),
    ],
)
def test_what_is_no_search_is_one_line(tmp_path: Path, data: Any, name: str, line: str) -> None:
    """It says what can be given."""
    with pytest.raises(InputError) as error:
        imported(tmp_path, data, name)
    assert len(error.value.problems) == 1
    assert line in str(error.value)


def test_wrong_options_are_one_line(tmp_path: Path) -> None:
    """A path that does not exist, a parameter that the sweep does not have, a run that there is not."""
    with pytest.raises(InputError, match=r"--map lr=schedule.peek_lr: there is no such setting; did you mean"):
        imported(tmp_path, SWEEP, given={"lr": "schedule.peek_lr"})
    with pytest.raises(InputError, match=r"--map rate: .* has no such parameter; it has attention_heads"):
        imported(tmp_path, SWEEP, given={"rate": "schedule.peak_lr"})
    with pytest.raises(InputError, match="there is no run of this name"):
        imported(tmp_path, SWEEP, base="smal")
    (tmp_path / "broken.db").write_bytes(b"SQLite format 3\x00" + b"x" * 200)
    with pytest.raises(InputError, match="is no storage of an Optuna study"):
        import_space(tmp_path / "broken.db", "small", {})


NUMBER = st.one_of(st.integers(-5, 300), st.floats(-10, 1e3, allow_nan=False), st.none(), st.just("x"))
PARAMETER = st.fixed_dictionaries(
    {},
    optional={
        "distribution": st.sampled_from(["uniform", "q_uniform", "log_uniform", "q_log_uniform_values", "normal",
                                         "q_log_normal", "int_uniform", "inv_log_uniform", "constant", "beta", 3]),
        "min": NUMBER, "max": NUMBER, "mu": NUMBER, "sigma": NUMBER, "q": NUMBER,
        "values": st.lists(NUMBER, max_size=4),
    },
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["lr", "dropout", "hidden", "batch_size", "clip", "heads"]), PARAMETER, max_size=4)
)
def test_whatever_a_sweep_says_it_is_a_space_or_a_line(
    tmp_path_factory: pytest.TempPathFactory, parameters: dict[str, Any]
) -> None:
    """Wrong and odd numbers are remarks, or a plain error; what is written can be searched."""
    folder = tmp_path_factory.mktemp("s")
    try:
        found, space = imported(folder, {"method": "random", "parameters": parameters})
    except InputError:
        return
    assert {line.name for line in found.lines} >= parameters.keys()
    assert all(line.entry is not None or line.remarks for line in found.lines)
    assert space.dimensions
