"""`tuner plan`: what a search will cost, before it is run."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from search_spaces import InputError, RunConfig, Space, load_space
from search_spaces.lengths.ladder import with_lengths
from search_spaces.lengths.scaled_space import scaled_space
from search_spaces.model_size import state_bytes
from search_spaces.stopping import Stopping
from trainable.data.dataset import open_dataset
from trainable.data.feasible import check_trainable
from trainable.data.intact import open_intact
from tuner.backend import packing
from tuner.commands.options import (
    FiniteRange,
    budget_options,
    format_option,
    lengths_option,
    results_option,
    scale_option,
)
from tuner.launch import sharing
from tuner.launch.new_study import chosen, trial_resources
from tuner.simulation import hardware
from tuner.simulation.forecast import forecast
from tuner.simulation.ladder_forecast import ladder_forecast
from tuner.simulation.rule_fit import check_fit
from tuner.simulation.virtual import draws
from tuner.study import budgets
from tuner.study.request import Request
from tuner.study.settings import StudyResources, StudySettings

DRAWN = 128
"""Configurations drawn from the space, over which its lengths are averaged."""


@click.command(
    epilog="""\b
Examples:
  tuner plan small --data data/an4
  tuner plan schedule_averaging_augmentation --gpus-per-trial 0.25 --concurrent 8 --seconds-per-batch 0.11
  tuner plan schedule_averaging_augmentation --scale 0.02 --batches 5000 --seconds-per-batch 0.11
  tuner plan mixed_horizons --stopping "asha at=horizon grace=0.25" --seconds-per-batch 0.05 --hours 2
"""
)
@click.argument("space")
@click.option(
    "--data", "data_dir", type=click.Path(path_type=Path), help="Packed data folder, to measure the time of a batch."
)
@click.option(
    "--seconds-per-batch",
    type=FiniteRange(min=0, min_open=True),
    help="Seconds per batch of one trial, including evaluations [default: measured with --data, else unknown].",
)
@scale_option("Runs F times as long, as of 'tuner search'")
@lengths_option
@click.option("--stopping", metavar="KIND", help="Stopping rule, with settings if needed [default: from the space].")
@budget_options
@click.option("--hours", type=FiniteRange(min=0, min_open=True), help="Wall time in hours.")
@click.option("--cpus-per-trial", type=FiniteRange(min=0, min_open=True), help="CPU cores for each trial. [default: 1]")
@click.option(
    "--gpus-per-trial",
    type=FiniteRange(min=0),
    help="GPUs for each trial; 0.25 lets four share one [default: 1 if there is a GPU].",
)
@click.option("--concurrent", type=click.IntRange(min=1), help="Trials at once [default: as many as fit here].")
@results_option
@format_option
def plan(
    space: str,
    data_dir: Path | None,
    results_dir: Path,
    seconds_per_batch: float | None,
    scale: float | None,
    lengths: tuple[float, ...] | None,
    stopping: str | None,
    form: str,
    **given: Any,
) -> None:
    """Show what a search of SPACE will cost: trials at each rung, batches, hours, and when it will end.

    With --data the time of a batch is measured first, with as many trials at once as the search would run here; on a
    machine with a card also how many trials share it, which the search then takes from the results folder. Nothing else
    is trained. Where the trials of a space differ in length, the mean over random configurations is used. The
    ranks of the trials are random: which trials are stopped depends on the searcher, but hardly how many.
    """
    loaded = scaled_space(load_space(space), scale or 1)
    loaded = loaded if lengths is None else with_lengths(loaded, lengths)
    request = Request(results_dir=results_dir, data=data_dir or Path(), **given)
    if data_dir is not None and sharing.wanted(loaded, request):
        request = replace(request, gpus_per_trial=_shared(loaded, request))
    resources = trial_resources(request)
    limits = budgets.given(request)
    budget = budgets.merged(loaded.budget.model_dump(), limits)
    rule = chosen("stopping", Stopping, loaded.stopping, stopping)
    check_fit(rule, loaded, budget, "--stopping" if stopping else f"{loaded.name}: stopping")
    settings = StudySettings.read(
        {
            "stopping": rule,
            "budget": budgets.check(budget, limits, resources.gpus_per_trial, loaded.name),
            "resources": resources,
        }
    )
    concurrent = given["concurrent"] or fitting(resources)
    concurrent = min(concurrent, settings.budget.trials or concurrent)
    configs = [loaded.config(loaded.start_params(name)[0], 0) for name in loaded.start_points]
    configs += draws(loaded, DRAWN)
    state = None
    if data_dir is not None:
        found_here = measured(loaded, configs[0], data_dir, resources, concurrent)
        seconds_per_batch = seconds_per_batch or found_here
        data = open_dataset(data_dir)
        sizes = [state_bytes(config, data.n_features, data.n_classes, len(data.days)) for config in configs]
        state = sum(sizes) / len(sizes)
    if loaded.lengths:
        found = ladder_forecast(loaded, settings, concurrent, seconds_per_batch)
    else:
        found = forecast(configs, settings, concurrent, seconds_per_batch=seconds_per_batch, state=state)
    click.echo(found.render(form), nl=False)
    if form == "table":
        if seconds_per_batch is None:
            for line in hardware.hours(configs[0], found.batches):
                click.echo(line)
            click.echo("the time here is unknown: give --data FOLDER to measure a batch, or --seconds-per-batch")
        options = {
            "scale": scale,
            "lengths": lengths and ",".join(map("{:g}".format, lengths)),
            "stopping": stopping,
            **limits,
            **{key: given[key] for key in _RESOURCES},
        }
        click.echo(f"\nnext: {_search(space, data_dir, options)}")


_RESOURCES = ("cpus_per_trial", "gpus_per_trial", "concurrent")


def _search(space: str, data_dir: Path | None, options: dict[str, Any]) -> str:
    """The command that runs what was planned."""
    words: list[Any] = ["tuner", "search", space, "--data", data_dir or "FOLDER"]
    for key, value in options.items():
        if value is not None:
            words += ["--" + key.replace("_", "-"), f"{value:g}" if isinstance(value, float) else value]
    return shlex.join(map(str, words))


def fitting(resources: StudyResources) -> int:
    """Trials at once on this machine. Raises InputError where a trial needs GPUs that it does not have."""
    fits = int(len(os.sched_getaffinity(0)) / resources.cpus_per_trial)
    if resources.gpus_per_trial:
        cards = len(list(Path("/dev").glob("nvidia[0-9]*")))
        fits = min(fits, int(cards / resources.gpus_per_trial + 1e-9))
    if not fits:
        raise InputError(
            "no such trial fits on this machine; give --concurrent, the number of trials at once where it will run"
        )
    return fits


def measured(space: Space, config: RunConfig, data_dir: Path, resources: StudyResources, concurrent: int) -> float:
    """Seconds per batch of the space's first configuration, evaluations included, with as many at once as will run.

    On a GPU: as many as share one.
    """
    dataset = open_intact(data_dir)
    check_trainable(config, dataset)
    share, cores = resources.gpus_per_trial, len(os.sched_getaffinity(0))
    count = max(1, int(1 / share + 1e-9)) if share else max(1, int(cores / resources.cpus_per_trial))
    count = min(count, concurrent)
    print(f"measuring {packing.BATCHES} batches, {count} at once ...", file=sys.stderr)
    found = packing.measure(config, data_dir, [count], cpus=resources.cpus_per_trial)[0]
    assert found.trials_per_hour is not None  # noqa: S101  what does not train was refused
    seconds = 3600 * count / found.trials_per_hour / config.training.batches
    print(f"measured: {seconds:.3g} s per batch of {_name(space)}, including evaluations", file=sys.stderr)
    return seconds


def _shared(space: Space, request: Request) -> float:
    """The share of a card that a trial would have, measured or remembered, as a search has it."""
    dataset = open_intact(request.data)
    config = sharing.largest(space, [space.start_params(name)[0] for name in space.start_points], dataset)
    check_trainable(config, dataset)
    return sharing.measured_share(config, request, dataset.fingerprint)[0]


def _name(space: Space) -> str:
    names: Sequence[str] = space.start_points
    return names[0] if names else f"a draw from {space.name}"
