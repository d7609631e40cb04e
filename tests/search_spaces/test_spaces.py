"""Spaces: conditions, relative values, start points, storage, and the lines a wrong file gets."""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, get_args

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import InputError, RunConfig, Space, flatten, load_run, load_space, space_names
from search_spaces.parsing.yaml_file import find_file, read_yaml
from search_spaces.recorded import shrink
from search_spaces.searchers import Searcher
from search_spaces.space import TrialLike
from search_spaces.space_file import SPACES
from search_spaces.stopping import Stopping


class Fixed:
    """A trial that answers from a dictionary, and with the low end or the first choice otherwise."""

    def __init__(self, answers: dict[str, Any] | None = None) -> None:
        self.answers = answers or {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return self.answers.get(name, low)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return self.answers.get(name, low)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self.answers.get(name, choices[0])


class Drawn:
    """A trial that answers from hypothesis."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return self.data.draw(st.floats(low, high), label=name)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return self.data.draw(st.integers(low, high), label=name)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self.data.draw(st.sampled_from(list(choices)), label=name)


def make(folder: Path, dimensions: str, rest: str = "") -> Space:
    path = folder / "s.yaml"
    path.write_text(f"base: small\n{rest}\ndimensions:\n{dimensions}\n", encoding="utf-8")
    return load_space(path)


def problems(folder: Path, dimensions: str, rest: str = "") -> list[str]:
    with pytest.raises(InputError) as caught:
        make(folder, dimensions, rest)
    return [line.replace(f"{folder}/", "") for line in caught.value.problems]


@functools.cache
def space_of(name: str) -> Space:
    """A space that comes with the program, read once."""
    return load_space(name)


def test_the_shipped_spaces() -> None:
    """The six spaces load, and the quickstart is a search of minutes."""
    shipped = {"quickstart", "small", "mixed_horizons", "schedule_averaging_augmentation", "published_recipes"}
    assert set(space_names()) == {*shipped, "lineage_scaled"}
    scaled = shrink(load_run("speechBaseline4", ["training.precision=fp32"]).config, 0.02, 896)
    first = space_of("lineage_scaled").config(space_of("lineage_scaled").start_params("speechBaseline4")[0], 0)
    assert (first.model, first.training.batch_size) == (scaled.model, scaled.training.batch_size)
    assert [d.words() for d in space_of("lineage_scaled").dimensions] == [
        d.words() for d in space_of("schedule_averaging_augmentation").dimensions
    ]
    assert 12 <= (space_of("quickstart").budget.trials or 0) <= 24
    full = space_of("schedule_averaging_augmentation")
    assert full.fixed["training.batches"] >= 10_000
    searched = {dimension.path for dimension in full.dimensions if dimension.sampled}
    assert {
        "schedule.kind",
        "schedule.peak_lr",
        "optimizer.eps",
        "augmentation.time_masks",
    } <= searched


def test_shipped_searches_track_averages_and_do_not_draw_them() -> None:
    """No default search draws the kind or the decay; several decays and the raw weights compete in each trial."""
    for name in ("quickstart", "small", "schedule_averaging_augmentation"):
        space = space_of(name)
        assert not {"averaging.kind", "averaging.decay"} & {dimension.path for dimension in space.dimensions}
        averaging = space.config(space.suggest(Fixed()), 0).averaging
        assert averaging.kind == "ema" and len(averaging.decays or ()) >= 4
        for point in space.start_points:
            assert not any("averaging.kind none" in note for note in space.start_params(point)[1])


def test_a_decay_in_a_space_replaces_the_decays_of_its_base(tmp_path: Path) -> None:
    """Over a base that tracks several averages, a decay can still be searched, and is then the only one."""
    base = tmp_path / "several.yaml"
    base.write_text("from: quickstart\naveraging: {kind: ema, decays: [0.8, 0.9]}\n")
    file = tmp_path / "s.yaml"
    file.write_text("base: several.yaml\ndimensions:\n  averaging.decay: {choice: [0.97, 0.99]}\n")
    space = load_space(file)
    averaging = space.config({"averaging.decay": 0.97}, 0).averaging
    assert (averaging.decay, averaging.decays) == (0.97, None)
    assert space.config_base["averaging"]["decays"] == [0.8, 0.9]


def test_everything_that_published_recipes_set_has_a_place_in_a_space() -> None:
    """`published_recipes` searches each such setting, and its start point, the '25 reference, has its own values."""
    space = space_of("published_recipes")
    searched = {dimension.path for dimension in space.dimensions if dimension.sampled}
    assert searched >= {
        "data.days_per_batch", "data.features", "model.day_dropout", "model.residual", "model.learned_start",
        "model.head_layers", "model.head_kind", "model.head_norm", "model.head_activation", "model.head_dropout",
        "optimizer.day_eps", "optimizer.day_weight_decay", "schedule.day_peak_lr", "schedule.day_end_lr",
        "schedule.drop_at", "schedule.drop_factor", "schedule.warmup_shape", "augmentation.speckle_features",
        "augmentation.speckle_frames", "augmentation.gain_noise", "augmentation.random_walk",
    }  # fmt: skip
    params, notes = space.start_params("baseline_t15")
    config, reference = space.config(params, 10), load_run("baseline_t15").config
    assert (config.model, config.data, config.augmentation) == (reference.model, reference.data, reference.augmentation)
    assert (config.optimizer, config.schedule) == (reference.optimizer, reference.schedule)
    assert notes == ["not searched here, so the value of the space is used: training.batches 120000 -> 20000"]


@pytest.mark.parametrize("name", space_names())
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_is_drawn_is_a_run_or_breaks_a_constraint(name: str, data: st.DataObject) -> None:
    """Any samples make a valid configuration with the seed asked for, or there is a line that says why not."""
    space = space_of(name)
    params = space.suggest(Drawn(data))
    lines = space.violations(params)
    if not lines:
        config = space.config(params, seed=5)
        assert isinstance(config, RunConfig)
        assert config.training.seed == 5
    else:
        assert {line.split(":")[0] for line in lines} <= set(space.constraints)


@pytest.mark.parametrize("name", space_names())
def test_a_stored_space_is_the_same_space(name: str) -> None:
    """Through JSON and back it is equal and draws the same, without its file."""
    stored = json.loads(json.dumps(space_of(name).as_dict()))
    again = Space.from_dict({**stored, "path": "gone.yaml"})
    assert Space.from_dict(stored) == space_of(name)
    params = again.suggest(Fixed())
    assert again.config(params, 1) == space_of(name).config(params, 1)
    with pytest.raises(InputError, match="start a new search from its file"):
        Space.from_dict({**stored, "dimensions": [{"name": "x"}]})


@pytest.mark.parametrize("name", space_names())
def test_start_points_are_in_their_space(name: str) -> None:
    """Each start point of a shipped space is accepted by the space, breaks nothing and lies inside every range."""
    space = space_of(name)
    for point in space.start_points:
        params, _ = space.start_params(point)
        of = {dimension.name: dimension for dimension in space.dimensions}
        asked = {name: value if of[name].native else of[name].to_unit(value) for name, value in params.items()}
        assert space.suggest(Fixed(asked)) == pytest.approx(params)
        assert space.violations(params) == []
        for dimension in space.dimensions:
            if dimension.name not in params or dimension.is_alternative(params[dimension.name]):
                continue
            if dimension.low is not None and dimension.high is not None:
                assert dimension.low <= params[dimension.name] <= dimension.high


def test_optuna_drives_a_space() -> None:
    """Optuna's own trial can be asked, also for start points, and knows the parameters by our names."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = space_of("schedule_averaging_augmentation")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    start, _ = space.start_params("speechBaseline4")
    study.enqueue_trial(start)
    for expected in (start, None, None):
        trial = study.ask()
        asked: TrialLike = trial
        params = space.suggest(asked)
        assert params == trial.params
        assert expected is None or params == expected


def test_only_the_chosen_kind_is_asked_for(tmp_path: Path) -> None:
    """A conditional dimension is sampled under its condition only, whatever the order in the file."""
    space = make(
        tmp_path,
        "  schedule.warmup_batches: {int: [1, 9], when: {schedule.kind: warmup_cosine}}\n"
        "  schedule.kind: {choice: [one_cycle, warmup_cosine, constant]}\n",
    )
    assert space.suggest(Fixed()) == {"schedule.kind": "one_cycle"}
    params = space.suggest(Fixed({"schedule.kind": "warmup_cosine"}))
    assert params == {"schedule.kind": "warmup_cosine", "schedule.warmup_batches": 1}
    config = space.config(params, 0)
    assert flatten(config)["schedule.warmup_batches"] == 1
    assert flatten(config)["schedule.peak_lr"] == 3e-3


def test_nested_conditions(tmp_path: Path) -> None:
    """Under an inactive dimension a condition sees the base's value, or nothing where the kind has no such key."""
    space = make(
        tmp_path,
        "  averaging.kind: {choice: [none, ema]}\n"
        "  averaging.warmup: {choice: [true, false], when: {averaging.kind: ema}}\n"
        "  model.dropout: {uniform: [0.1, 0.2], when: {averaging.warmup: true}}\n"
        "  training.clip: {choice: [1, 2], when: {model.dropout: 0.3}}\n",
    )
    assert list(space.suggest(Fixed())) == ["averaging.kind", "training.clip"]
    assert list(space.suggest(Fixed({"averaging.kind": "ema"}))) == [
        "averaging.kind", "averaging.warmup", "model.dropout",
    ]  # fmt: skip


def test_alternatives_have_names_of_their_own(tmp_path: Path) -> None:
    """One path with two ranges is two parameters, one asked for at a time; a constant is asked for never."""
    space = make(
        tmp_path,
        "  optimizer.kind: {choice: [adam, adamw, sgd]}\n"
        "  optimizer.eps: [{log_uniform: [.03, .3], when: {optimizer.kind: adam}},"
        " {value: 1e-7, when: {optimizer.kind: adamw}}]\n"
        "  schedule.peak_lr:\n"
        "    - {log_uniform: [5e-3, 5e-2], when: {optimizer.kind: adam}}\n"
        "    - {log_uniform: [1e-3, 3e-3], when: {optimizer.kind: [adamw, sgd]}}\n",
    )
    assert [dimension.name for dimension in space.dimensions] == [
        "optimizer.kind",
        "optimizer.eps[optimizer.kind=adam]",
        "optimizer.eps[optimizer.kind=adamw]",
        "schedule.peak_lr[optimizer.kind=adam]",
        "schedule.peak_lr[optimizer.kind=adamw|sgd]",
    ]
    params = space.suggest(Fixed({"optimizer.kind": "adamw"}))
    assert params == {"optimizer.kind": "adamw", "schedule.peak_lr[optimizer.kind=adamw|sgd]": 1e-3}
    assert space.config(params, 0).optimizer.eps == 1e-7
    sgd = space.config(space.suggest(Fixed({"optimizer.kind": "sgd"})), 0)
    assert "optimizer.eps" not in flatten(sgd)


def test_relative_and_complement_values(tmp_path: Path) -> None:
    """A relative sample is multiplied by the other value and rounded where it must be; a complement is 1 - sample."""
    space = make(
        tmp_path,
        "  schedule.end_lr: {log_uniform: [1e-2, 1e-1], of: schedule.peak_lr}\n"
        "  schedule.peak_lr: {log_uniform: [1e-3, 1e-2]}\n"
        "  schedule.horizon: {uniform: [0.9, 1], of: training.batches}\n"
        "  averaging.decay: {log_uniform: [1e-3, 1e-1], complement: true}\n",
        "fixed: {training.batches: 333, averaging.kind: ema}",
    )
    params = {
        "schedule.peak_lr": 0.004, "schedule.end_lr/schedule.peak_lr": 0.05,
        "schedule.horizon/training.batches": 0.95, "1-averaging.decay": 0.002,
    }  # fmt: skip
    flat = flatten(space.config(params, 0))
    assert flat["schedule.end_lr"] == pytest.approx(0.0002)
    assert flat["schedule.horizon"] == 316
    assert flat["averaging.decay"] == 0.998
    assert space.suggest(Fixed(params)) == params


def test_missing_and_surplus_samples(tmp_path: Path) -> None:
    """Samples must be those of the active dimensions, no fewer and no more."""
    space = make(tmp_path, "  model.dropout: {uniform: [0, 0.5]}\n")
    with pytest.raises(InputError, match=r"s: model.dropout: has no value; give one, 0..0.5"):
        space.config({}, 0)
    with pytest.raises(InputError, match=r"s: model.x: is not an active dimension here; remove it"):
        space.violations({"model.dropout": 0.1, "model.x": 1})


def test_start_points_outside_the_space_move_and_are_noted(tmp_path: Path) -> None:
    """A number goes to the nearest edge, a missing choice becomes the base's, and what is not searched is listed."""
    space = make(
        tmp_path,
        "  schedule.peak_lr: {log_uniform: [1e-3, 1e-2]}\n"
        "  schedule.kind: {choice: [warmup_cosine, one_cycle]}\n"
        "  schedule.peak_fraction: {uniform: [0.4, 0.5], when: {schedule.kind: one_cycle}}\n"
        "  training.clip: {choice: [1, 4]}\n",
        "start_points: [small]",
    )
    params, notes = space.start_params("speechBaseline4")
    assert params == {
        "schedule.kind": "one_cycle", "schedule.peak_lr": 0.01, "schedule.peak_fraction": 0.4, "training.clip": 4,
    }  # fmt: skip
    assert "schedule.kind: constant is not in this space; one_cycle is used" in notes
    assert "schedule.peak_lr: 0.02 is outside schedule.peak_lr 0.001..0.01; moved to 0.01, the nearest edge" in notes
    assert "schedule.peak_fraction: the run has no value; 0.4 is used" in notes
    assert "training.clip: null is not in this space; 4 is used" in notes
    assert "model.hidden 1024 -> 128" in notes[-1]
    moved, notes = space.start_params("small training.clip=3")
    assert moved["training.clip"] == 4
    assert notes[-1] == "training.clip: 3 is outside training.clip 1, 4; moved to 4, the nearest choice"


def test_a_start_point_comes_back_as_it_was() -> None:
    """A run inside the space, expressed in it and made a configuration again, is the same run, with its averages."""
    space = space_of("small")
    params, notes = space.start_params(
        "small schedule.kind=warmup_cosine schedule.warmup_batches=20 schedule.start_lr=0"
    )
    expected = load_run(
        "small",
        ["schedule.kind=warmup_cosine", "schedule.warmup_batches=20", "schedule.start_lr=0", "averaging.kind=ema",
         "averaging.decays=[0.75, 0.9, 0.95, 0.97]"],
    )  # fmt: skip
    assert notes == []
    assert {
        k: pytest.approx(v) if isinstance(v, float) else v for k, v in flatten(space.config(params, 0)).items()
    } == (flatten(expected.config))


def test_start_points_that_break_a_constraint_say_so() -> None:
    """The constraint is among the notes."""
    _, notes = space_of("small").start_params("small augmentation.time_masks=20 augmentation.time_mask_width=0.1")
    assert notes == [
        "augmentation.time_masks * augmentation.time_mask_width <= 1.6: does not hold, 2 <= 1.6 is false",
    ]


BAD = [
    ("model.hiden: {int: [1, 2]}", "dimensions.model.hiden: there is no such setting; did you mean model.hidden?"),
    ("peak_lr: {int: [1, 2]}", "dimensions.peak_lr: there is no such setting; did you mean schedule.peak_lr?"),
    ("model.hidden: {inte: [1, 2]}", "dimensions.model.hidden.inte: unknown key; did you mean int? the keys are: "),
    ("model.hidden: 3", "dimensions.model.hidden: 3 is not allowed; give one of choice, uniform"),
    ("model.hidden: {when: {model.layers: 2}}", "dimensions.model.hidden: has 0 of choice, uniform, "),
    ("model.hidden: {int: [1, 2], value: 3}", "dimensions.model.hidden: has 2 of choice, uniform, "),
    ("model.hidden: {int: [9, 2]}",
     "dimensions.model.hidden.int: [9, 2] is not allowed; low 9 is not less than high 2; "),
    ("model.hidden: {int: [1.5, 2]}", "dimensions.model.hidden.int: [1.5, 2] is not allowed; give two whole numbers"),
    ("model.hidden: {int: [a, 2]}", "dimensions.model.hidden.int: [a, 2] is not allowed; give [low, high], two "),
    ("model.hidden: {uniform: [1, 2]}", "dimensions.model.hidden.uniform: model.hidden takes whole numbers; use int"),
    ("model.dropout: {log_uniform: [0, .5]}", "dimensions.model.dropout.log_uniform: [0, 0.5] is not allowed; a log "),
    ("model.dropout: {uniform: [0, 1]}", "dimensions.model.dropout.uniform: 1 is not allowed; give a number of 0 or m"),
    ("model.dropout: {uniform: [0, .inf]}", "dimensions.model.dropout.uniform: [0, inf] is not allowed; give [low, hi"),
    ("model.layers: {choice: [1, 99]}", "dimensions.model.layers.choice: 99 is not allowed; give a whole number from "),
    ("model.layers: {choice: []}", "dimensions.model.layers.choice: [] is not allowed; give a list of values"),
    ("model.layers: {choice: [1, 1.0]}", "dimensions.model.layers.choice: [1, 1] is not allowed; a value occurs tw"),
    ("schedule.kind: {choice: [one_cycle, cosine]}", "dimensions.schedule.kind.choice: cosine is not allowed; "),
    ("schedule.warmup_batches: {int: [0, 9]}",
     "dimensions.schedule.warmup_batches: schedule.kind one_cycle does not have warmup_batches, warmup_cosine, "
     "warmup_linear or sgdr does; add `when: {schedule.kind: [warmup_cosine, warmup_linear, sgdr]}`"),
    ("model.dropout: {uniform: [0, .5], when: {schedule.kind: constant}}",
     "dimensions.model.dropout.when.schedule.kind: can never have the value constant; here it is one_cycle"),
    ("model.dropout: {uniform: [0, .5], when: {averaging.decay: 0.9}}",
     "dimensions.model.dropout.when.averaging.decay: can never have the value 0.9; "
     "no configuration of this space has it"),
    ("model.dropout: {uniform: [0, .5], when: {model.layer: 2}}",
     "dimensions.model.dropout.when.model.layer: there is no such setting; did you mean model.layers?"),
    ("model.dropout: {uniform: [0, .5], when: {model.dropout: 0.3}}",
     "dimensions.model.dropout.when.model.dropout: is the dimension itself; a condition must be on another path"),
    ("model.dropout: [{uniform: [0, .5], when: {model.layers: 2}}, {value: .1}]",
     "dimensions.model.dropout: alternatives model.dropout[model.layers=2] and model.dropout can be active together; "),
    ("model.dropout: {uniform: [0, .5], of: schedule.kind}",
     "dimensions.model.dropout.of: schedule.kind is not allowed; model.dropout and the path it is relative to must "),
    ("model.dropout: {uniform: [0, .5], of: model.layers, complement: true}",
     "dimensions.model.dropout.complement: can only be used with uniform or log_uniform, and not with `of`"),
    ("model.dropout: {value: [], of: model.layers}",
     "dimensions.model.dropout.of: can only be used with uniform, log_uniform, a normal, and a choice or value of num"),
    ("model.dropout: {uniform: [0, .5], when: {model.hidden: 64.5}}\n  model.hidden: {int: [32, 128]}",
     "dimensions.model.dropout.when.model.hidden: can never have the value 64.5; here it is 32..128"),
    ("model.dropout: {uniform: [0, .5], when: {model.hidden: many}}\n  model.hidden: {int: [32, 128]}",
     "dimensions.model.dropout.when.model.hidden: can never have the value many; here it is 32..128"),
    ("model.dropout: {uniform: [0, .5], when: {model.hidden: true}}\n  model.hidden: {int: [1, 128]}",
     "dimensions.model.dropout.when.model.hidden: can never have the value true; here it is 1..128"),
    ("model.dropout: {uniform: [0, .5], when: {model.hidden: 129}}\n  model.hidden: {int: [32, 128]}",
     "dimensions.model.dropout.when.model.hidden: can never have the value 129; here it is 32..128"),
    ("model.dropout: [{uniform: [.5, 0], when: {model.layers: 2}}, {value: .1, when: {model.layers: 1}}]",
     "dimensions.model.dropout, alternative 1.uniform: [0.5, 0] is not allowed; low 0.5 is not less than high 0; "),
    ("training.seed: {int: [0, 9]}", "dimensions.training.seed: is set by the search for each trial; remove it"),
    ("model.dropout: {uniform: [0, .5], of: augmentation.speckle}\n  augmentation.speckle: {uniform: [0, 1], of: "
     "model.dropout}", "dimensions: augmentation.speckle or model.dropout depend on each other in a circle; "),
    ("schedule.peak_lr: {log_uniform: [1e-6, 1e-3]}", "dimensions: schedule.start_lr: 0.00012 is above sched"),
    ("schedule.kind: {choice: [sgdr, one_cycle]}", "dimensions: schedule.period_batches: is missing; sgdr needs it; "),
]  # fmt: skip


@pytest.mark.parametrize(("dimension", "line"), BAD)
def test_a_wrong_dimension(tmp_path: Path, dimension: str, line: str) -> None:
    """Each mistake gets a line with the file, the place and what to do."""
    lines = problems(tmp_path, f"  {dimension}")
    assert any(given.startswith(f"s.yaml: {line}") for given in lines), lines


def test_a_circle_is_named_in_order(tmp_path: Path) -> None:
    """The same line at every run, whatever the order in the file."""
    names = [f"augmentation.{key}" for key in ("white_noise", "speckle", "gain_noise", "input_dropout", "random_walk")]
    circle = zip(names, [*names[1:], names[0]], strict=True)
    lines = problems(tmp_path, "".join(f"  {a}: {{uniform: [0, 0.5], of: {b}}}\n" for a, b in circle))
    *first, last = sorted(names)
    assert lines == [
        f"s.yaml: dimensions: {', '.join(first)} or {last} depend on each other in a circle; remove a `when` or `of`"
    ]


@pytest.mark.parametrize("entry", ["choice: {from: 1, to: 4, step: 2}", "choice: []", "int: [9, 2]", "int: [1, a]"])
def test_what_depends_on_a_wrong_dimension_is_not_called_wrong_too(tmp_path: Path, entry: str) -> None:
    """Its values are not known: a condition on one of them has no line of its own."""
    dimensions = f"  model.layers: {{{entry}}}\n  model.dropout: {{uniform: [0, 0.5], when: {{model.layers: 7}}}}\n"
    lines = problems(tmp_path, dimensions)
    assert [line.partition(".layers.")[0] for line in lines] == ["s.yaml: dimensions.model"]


@pytest.mark.parametrize(
    ("rest", "line"),
    [
        ("purpse: x", "purpse: unknown key (value x); did you mean purpose? "),
        ("fixed: {training.batches: 0}", "fixed.training.batches: 0 is not allowed; give a whole number of 1 or more"),
        (
            "fixed: {training.batchs: 9}",
            "fixed.training.batchs: there is no such setting; did you mean training.batches",
        ),
        ("fixed: {model.dropout: 0}", "fixed.model.dropout: 0 is also a dimension; remove one of the two"),
        ("fixed: {training.seed: 0}", "fixed.training.seed: is set by the search for each trial; remove it"),
        (
            "fixed: {schedule.gamma: .1}",
            "fixed.schedule.gamma: schedule.kind one_cycle does not have it, multistep does;",
        ),
        ("constraints: [model.dropout < a.b]", "constraints: model.dropout < a.b: a.b: there is no such setting; "),
        ("constraints: [schedule.kind < 1]", "constraints: schedule.kind < 1: schedule.kind: is not a number; "),
        ("constraints: [model.dropout < ]", "constraints: model.dropout <: expected a path or a number at the end"),
        ("constraints: [model.dropout > 0.5]", "constraints: none of 300 random configurations meets all of them; "),
        (
            "start_points: [smal]",
            "start_points: smal: there is no run of this name and no such file; did you mean small",
        ),
        ("start_points: [small model.layers=99]", "start_points: --set model.layers=99: model.layers: 99 is not allow"),
        ("objective: perr", "objective: perr is not allowed; give best_per, last_per, train_seconds, gpu_seconds or"),
        (
            "searcher: {kind: tpee}",
            "searcher.kind: tpee is not allowed; did you mean tpe? give tpe, random, gp, cmaes, qmc, nsga2 or grid",
        ),
        (
            "searcher: {kind: random, startup_trials: 3}",
            "searcher.startup_trials: unknown key (value 3); the keys of ra",
        ),
        ("stopping: {kind: asha, grace: 0}", "stopping.grace: 0 is not allowed; give a whole number of 1 or more"),
        ("stopping: {kind: asha, reducton: 4}", "stopping.reducton: unknown key (value 4); did you mean reduction? "),
        ("budget: {trials: 0}", "budget.trials: 0 is not allowed; give a whole number of 1 or more or null"),
        (
            "budget: {}",
            "budget: the search would never end; give trials, hours, gpu_hours, batches, utterances or no_improvement",
        ),
    ],
)
def test_a_wrong_setting_of_a_space(tmp_path: Path, rest: str, line: str) -> None:
    """Everything else of a space file is checked as well."""
    lines = problems(tmp_path, "  model.dropout: {uniform: [0, 0.5]}", rest)
    assert any(given.startswith(f"s.yaml: {line}") for given in lines), lines


def test_all_problems_of_a_space_at_once(tmp_path: Path) -> None:
    """Mistakes in different parts of a file, and in different parts of one dimension, are shown together."""
    lines = problems(
        tmp_path,
        "  model.dropout: {uniform: [2, 1], when: {schedule.kind: constnt}}\n  model.hiden: {int: [1, 2]}",
        "objective: perr\nfixed: {model.layers: 0}\nconstraints: [a]\nstart_points: [smal]",
    )
    assert len(lines) == 7, lines


def test_an_unknown_space_or_base(tmp_path: Path) -> None:
    """A misspelt space or base run names its nearest neighbour."""
    with pytest.raises(InputError, match=r"smll: there is no space of this name .* did you mean small"):
        load_space("smll")
    (tmp_path / "s.yaml").write_text("base: smll\ndimensions: {model.layers: {int: [1, 2]}}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"s.yaml: base: smll: there is no run of this name .* did you mean small"):
        load_space(tmp_path / "s.yaml")


def test_a_wrong_base_hides_no_other_error(tmp_path: Path) -> None:
    """What is wrong without regard to the base is told with it: keys, kinds of dimensions, paths, constraints."""
    text = """
dimensions:
  schedule.peak_lr: {log_unform: [1e-3, 2e-2]}
  modl.hidden: {int: [4, 8]}
constraints: ["model.hiden < 3"]
budget: {trils: 4}
"""
    for base, told in (("base: smll", "there is no run of this name"), ("", "is missing"), ("base: ''", "base")):
        (tmp_path / "s.yaml").write_text(base + text, encoding="utf-8")
        with pytest.raises(InputError) as caught:
            load_space(tmp_path / "s.yaml")
        lines = caught.value.problems
        assert len(lines) == 5, lines
        assert any("base" in line and told in line for line in lines)
        for word in ("log_unform", "modl", "model.hiden", "trils"):
            assert sum(word in line for line in lines) == 1, lines


def leaves(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every node below the top of a nested document."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [way for key, item in items for way in [(*path, key), *leaves(item, (*path, key))]]


FULL = str(find_file("space", SPACES, "schedule_averaging_augmentation"))
DOCUMENTS = [read_yaml(Path(FULL), "space"), read_yaml(load_run("run18_long_sgdr_swa").path, "run")]
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 10**6), st.floats(),
    st.sampled_from(["", "x", "kind", "sgdr", "a.b", "-"]),
    st.sampled_from([
        [], {}, [[]], [{}], {"kind": []}, {"uniform": [0, 1]}, {"value": [1]}, {"choice": ["a", None]}, [1, 2],
        {"choice": [1], "when": {"schedule.kind": [["a"]]}}, {"schedule.kind": [[]]}, {"x": {"value": 1}},
    ]),
)  # fmt: skip


@pytest.mark.parametrize("document", DOCUMENTS, ids=["space", "run"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_spoilt_file_is_read_or_refused(document: dict[str, Any], data: st.DataObject) -> None:
    """Whatever stands anywhere in a file, it loads or gets lines of its own, never a traceback."""
    spoilt = json.loads(json.dumps(document))
    *way, last = data.draw(st.sampled_from(leaves(spoilt)), label="where")
    node = spoilt
    for key in way:
        node = node[key]
    node[last] = data.draw(JUNK, label="what")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "s.yaml")
        path.write_text(json.dumps(spoilt), encoding="utf-8")
        try:
            (load_space if "dimensions" in document else load_run)(path)
        except InputError as error:
            assert error.problems
            assert all(line.strip() and "\n" not in line for line in error.problems)


@pytest.mark.parametrize(("section", "union"), [("stopping", Stopping), ("searcher", Searcher)])
def test_a_spoilt_setting_of_any_kind_is_read_or_refused(tmp_path: Path, section: str, union: Any) -> None:
    """Each setting of each stopping rule and searcher, with a value of each type: never a traceback."""
    path = tmp_path / "s.yaml"
    for model in get_args(get_args(union)[0]):
        kind = model.model_fields["kind"].default
        for name in sorted(set(model.model_fields) - {"kind"}):
            for value in ([], {}, [[]], {"kind": []}, None, True, "x", "", -1, 0.5, float("nan"), 10**30):
                spoilt = {"dimensions": {"model.layers": {"int": [1, 2]}}, section: {"kind": kind, name: value}}
                path.write_text(json.dumps(spoilt), encoding="utf-8")
                with contextlib.suppress(InputError):
                    load_space(path)


def test_a_space_beside_its_base(tmp_path: Path) -> None:
    """A base given as a path is found beside the space file."""
    (tmp_path / "mine.yaml").write_text("from: small\nmodel: {hidden: 9}\n", encoding="utf-8")
    (tmp_path / "s.yaml").write_text("base: mine.yaml\ndimensions: {model.layers: {int: [1, 2]}}\n", encoding="utf-8")
    assert load_space(tmp_path / "s.yaml").config({"model.layers": 1}, 0).model.hidden == 9


def test_the_room_imports_neither_torch_nor_ray_nor_optuna() -> None:
    """Reading every shipped file needs pydantic and yaml only."""
    code = (
        "import sys, search_spaces as s\n"
        "[s.load_space(n) for n in s.space_names()], [s.load_run(n) for n in s.run_names()]\n"
        "print(sorted({'torch', 'ray', 'optuna', 'numpy', 'trainable', 'results', 'tuner'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[]"


def test_a_condition_on_a_relative_value_takes_any_number(tmp_path: Path) -> None:
    """What end rate comes out depends on the peak, so any number may be met; a text cannot be."""
    rates = "  schedule.peak_lr: {log_uniform: [1.0e-3, 1.0e-1]}\n"
    rates += "  schedule.end_lr: {uniform: [0.1, 0.5], of: schedule.peak_lr}\n"
    depends = "  training.clip: {uniform: [1, 5], when: {schedule.end_lr: %s}}\n"
    assert len(make(tmp_path, rates + depends % "0.01").dimensions) == 3
    assert "training.clip.when" in "\n".join(problems(tmp_path, rates + depends % "low"))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            "{type: float, low: 1.0e-3, high: 1.0e-2, log: true}",
            "as in Optuna; here it is {log_uniform: [0.001, 0.01]}",
        ),
        ("{type: float, low: 0.1, high: 0.5, step: 0.1}", "here it is {uniform: [0.1, 0.5], q: 0.1}"),
        ("{low: 2, high: 8}", "here it is {int: [2, 8]}"),
        ("{type: categorical, choices: [a, b]}", "here it is {choice: [a, b]}"),
        ("{distribution: log_uniform_values, min: 1.0e-3, max: 1.0e-2}", "as in a W&B sweep; here it is {log_uniform:"),
        ("{values: [1, 2]}", "here it is {choice: [1, 2]}"),
        ("{min: 0.1, max: 1}", "here it is {uniform: [0.1, 1]}"),
        ("{distribution: normal, mu: 0, sigma: 1}", "docs/spaces.md show the form here"),
    ],
)
def test_the_form_of_another_program_gets_its_line_in_this_one(tmp_path: Path, entry: str, said: str) -> None:
    """One line, with what to write; and the command that reads a whole sweep."""
    (line,) = problems(tmp_path, f"  schedule.peak_lr: {entry}")
    assert line.startswith("s.yaml: dimensions.schedule.peak_lr: is written as in ")
    assert said in line and "tuner spaces import FILE" in line
