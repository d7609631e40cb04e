"""What `tuner.search` and `tuner.resume` take is what the commands take; what the commands refuse they refuse."""

from __future__ import annotations

import inspect
from pathlib import Path

import click
import pytest

import tuner
from tuner.commands import search as commands
from tuner.front.searching import _options

GIVEN = {
    "data": ("data/tiny", ["--data", "data/tiny"]),
    "study": ("first", ["--study", "first"]),
    "resume": (True, ["--resume"]),
    "seed": (3, ["--seed", "3"]),
    "lengths": ([0.25, 1], ["--lengths", "0.25,1"]),
    "scale": (0.02, ["--scale", "0.02"]),
    "searcher": ("gp startup_trials=20", ["--searcher", "gp startup_trials=20"]),
    "stopping": ("none", ["--stopping", "none"]),
    "start": (["small", "an4/3"], ["--start", "small", "--start", "an4/3"]),
    "warm_start": ("an4", ["--warm-start", "an4"]),
    "objectives": (["best_per", "train_seconds"], ["--objectives", "best_per,train_seconds"]),
    "space": ("small", ["--space", "small"]),
    "trials": (16, ["--trials", "16"]),
    "hours": (0.5, ["--hours", "0.5"]),
    "gpu_hours": (2, ["--gpu-hours", "2"]),
    "batches": (500, ["--batches", "500"]),
    "utterances": (9000, ["--utterances", "9000"]),
    "target_per": (0.2, ["--target-per", "0.2"]),
    "no_improvement": (8, ["--no-improvement", "8"]),
    "then": ("finish", ["--then", "finish"]),
    "cpus": (2, ["--cpus", "2"]),
    "cpus_per_trial": (1.5, ["--cpus-per-trial", "1.5"]),
    "gpus_per_trial": ("auto", ["--gpus-per-trial", "auto"]),
    "concurrent": (1, ["--concurrent", "1"]),
    "trial_resource": ({"accelerator_type:H200": 0.001}, ["--trial-resource", "accelerator_type:H200=0.001"]),
    "address": ("auto", ["--address", "auto"]),
    "stage_data": (True, ["--stage-data"]),
    "retries": (0, ["--retries", "0"]),
    "hung_after": (0, ["--hung-after", "0"]),
    "give_up_after": (12.5, ["--give-up-after", "12.5"]),
    "checkpoint_every": ("10 minutes", ["--checkpoint-every", "10 minutes"]),
    "best_weights": ("half", ["--best-weights", "half"]),
    "checkpoint_budget": ("2GB", ["--checkpoint-budget", "2GB"]),
    "log": (("tensorboard", "mlflow"), ["--log", "tensorboard", "--log", "mlflow"]),
    "notify": ("-command", ["--notify=-command"]),
    "notify_on": (["end", "best"], ["--notify-on", "end,best"]),
    "storage": ("sqlite:///x.db", ["--storage", "sqlite:///x.db"]),
    "force_unlock": (True, ["--force-unlock"]),
    "results": (Path("elsewhere"), ["--results", "elsewhere"]),
}
"""Option -> a value in Python, and the same on a command line."""


def options_of(command: click.Command) -> list[str]:
    """The names of a command's options, as Python writes them."""
    return sorted(p.opts[0][2:].replace("-", "_") for p in command.params if isinstance(p, click.Option))


@pytest.mark.parametrize("name", ["search", "resume"])
def test_each_option_of_the_command_is_an_argument(name):
    """The arguments are the command's options, no more and no fewer, and none has a default of its own."""
    command, function = getattr(commands, name), getattr(tuner, name)
    parameters = list(inspect.signature(function).parameters.values())
    named = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert sorted(named) == options_of(command)
    assert {value for key, value in named.items() if key != "data"} == {None, False}
    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == [command.params[0].name]


@pytest.mark.parametrize(
    ("name", "option"),
    [(name, option) for name in ("search", "resume") for option in options_of(getattr(commands, name))],
)
def test_an_argument_is_read_as_the_option_is(name, option):
    """A value given in Python becomes what the same option on the command line becomes."""
    command = getattr(commands, name)
    value, words = GIVEN[option]
    data = {} if option == "data" else {"data": "data/tiny"}
    there = ["--data", "data/tiny"] if data else []
    read = _options(command, name, "what", {**data, option: value})
    assert read == command.make_context(name, [*there, *words, "what"]).params


@pytest.mark.parametrize("name", ["search", "resume"])
def test_what_is_not_given_is_the_options_default(name):
    """None and False are the command's own defaults."""
    command = getattr(commands, name)
    nothing = dict.fromkeys(options_of(command)) | {"data": "data/tiny"}
    assert _options(command, name, "what", nothing) == command.make_context(name, ["--data=data/tiny", "what"]).params


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            {"trails": 3},
            "tuner.search: there is no option 'trails'; did you mean trials? help(tuner.search) lists them",
        ),
        ({"unknown": 3}, "tuner.search: there is no option 'unknown'; help(tuner.search) lists them"),
        ({"trials": 0}, "tuner.search: trials: 0 is not in the range x>=1"),
        ({"trials": True}, "tuner.search: trials: 'True' is not a valid integer range"),
        ({"hours": float("nan")}, "tuner.search: hours: nan is not a finite number"),
        ({"then": "end"}, "tuner.search: then: 'end' is not one of 'finish', 'stop'"),
        ({"resume": "yes"}, "tuner.search: resume: 'yes' is not allowed; give True or False"),
        ({"trial_resource": {"GPU": 1}}, "tuner.search: trial_resource: 'GPU=1' is not allowed; give NAME=AMOUNT"),
        ({"gpus_per_trial": -1}, "tuner.search: gpus_per_trial: '-1' is not allowed; give a number from 0 on"),
        ({"checkpoint_budget": "much"}, "tuner.search: checkpoint_budget: "),
        ({"searcher": "tpee"}, "searcher"),
        ({"study": "../x"}, "study '../x': is not allowed as a name"),
    ],
)
def test_a_bad_argument_is_one_line(given, line, tiny_data, space_file, tmp_path):
    """A wrong name gets the nearest one, a wrong value what is allowed; nothing is started."""
    with pytest.raises(tuner.InputError) as error:
        tuner.search(space_file, data=tiny_data, results=tmp_path / "results", **given)
    assert len(error.value.problems) == 1
    assert line in error.value.problems[0]
    assert not (tmp_path / "results").exists()


def test_a_name_that_is_taken_and_one_that_is_none_are_one_line(toy, tiny_data):
    """A second search under one name is refused, as is going on with a study that there is not."""
    toy.create("toy")
    with pytest.raises(tuner.InputError, match="the study 'toy' exists; continue it with"):
        tuner.search(toy.space, data=tiny_data, study="toy", results=toy.folder)
    with pytest.raises(tuner.InputError, match="there is no study 'tyo'; did you mean toy"):
        tuner.resume("tyo", results=toy.folder)
    with pytest.raises(tuner.InputError, match="nowhere: data folder does not exist"):
        tuner.resume(tuner.open("toy", results=toy.folder))  # found where it was opened, by the data it ran on
    with pytest.raises(tuner.InputError, match="there is no space of this name"):
        tuner.search("smal", data=tiny_data, results=toy.folder)


def test_what_a_study_keeps_is_refused_when_it_goes_on(toy, tiny_data):
    """Objectives are those the study began with, also through `resume=True`."""
    toy.create("toy")
    with pytest.raises(tuner.InputError, match="objectives and warm start cannot change"):
        tuner.search(
            toy.space, data=tiny_data, study="toy", results=toy.folder, resume=True, objectives="best_per,parameters"
        )
