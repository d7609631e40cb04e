"""`tuner search` and `tuner resume`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from results.store.paths import find_studies, free_name, study_folder
from results.trials import read_log
from search_spaces import InputError, Space, load_space
from search_spaces.lengths.ladder import with_lengths
from search_spaces.lengths.scaled_space import changes, scaled_space
from tuner.campaign.record import is_campaign
from tuner.commands.campaign import go_on as go_on_with
from tuner.commands.options import (
    budget_options,
    checkpoint_options,
    data_option,
    lengths_option,
    observer_options,
    resource_options,
    results_option,
    scale_option,
)
from tuner.commands.sections import Sectioned
from tuner.launch.checks import study_scale
from tuner.launch.search import data_of
from tuner.launch.search import resume as go_on
from tuner.launch.search import search as begin
from tuner.study.request import Request


def _plan_options(function: Any) -> Any:
    """--searcher, --stopping, --start, --force-unlock: how a space is searched."""
    options = (
        click.option(
            "--searcher",
            metavar="KIND",
            help="tpe, gp, cmaes, qmc, random, nsga2 or grid, with settings if needed: 'gp startup_trials=20' "
            "[default: from the space; on resume: unchanged].",
        ),
        click.option(
            "--stopping",
            metavar="KIND",
            help="Stopping rule: asha, median, pbt or none, with settings if "
            "needed: 'asha at=horizon grace=0.25' (see 'tuner spaces rules') [default: from the space; on resume: "
            "unchanged].",
        ),
        click.option(
            "--start",
            multiple=True,
            metavar="WHAT",
            help="Try this first: a run, STUDY/TRIAL, or STUDY for its three best trials; can be given several times.",
        ),
        click.option(
            "--force-unlock",
            is_flag=True,
            help="Remove the lock of a driver that has died.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command(
    cls=Sectioned,
    epilog="""\b
Examples:
  tuner search small --data data/an4 --trials 16 --study an4
  tuner search small --data data/an4 --stopping "asha promote=true at=horizon grace=0.25"
  tuner search small --data data/an4 --searcher "gp startup_trials=20" --warm-start an4 --storage sqlite:///an4.db
  tuner search small --data data/an4 --searcher "grid points=3" --trials 200
  tuner search schedule_averaging_augmentation --data data/an4 --scale 0.02 --batches 5000
  tuner search small --data data/an4 --lengths 0.25,0.5,1,2 --batches 3000
  tuner search small --data data/an4 --objectives val_loss
  tuner search small --data data/an4 --searcher nsga2 --objectives best_per,train_seconds --stopping none

Ctrl-C stops the search and keeps everything; 'tuner resume an4' continues it. For large models: --checkpoint-every
'10 minutes' --best-weights half --checkpoint-budget 200GB.
""",
)
@click.argument("space")
@data_option
@click.option("--study", help="Name of the study [default: the space's name and a number].")
@click.option("--resume", "resume_", is_flag=True, help="Continue the study if it exists.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the search.")
@scale_option("Search with runs F times as long: every length in batches in proportion, ranges too (docs/spaces.md)")
@lengths_option
@_plan_options
@click.option(
    "--warm-start",
    multiple=True,
    metavar="STUDY",
    help="Give the searcher the trials of an earlier study that lie in this space; can be given several times. auto = "
    "of every earlier search of the same space and data; none = of none [default: auto with the searcher tpe].",
)
@click.option(
    "--objectives",
    metavar="MEASURE,COST",
    help="Minimize another measure of an epoch than best_per: last_per, or val_loss, per_raw and the like (the lowest "
    "over the epochs; last_val_loss: of the last). After it, any of train_seconds, gpu_seconds, parameters: minimize "
    "several numbers [default: from the space].",
)
@budget_options
@resource_options
@checkpoint_options
@observer_options
@results_option
def search(
    space: str,
    data_dir: Path,
    study: str | None,
    resume_: bool,
    scale: float | None,
    lengths: tuple[float, ...] | None,
    results_dir: Path,
    **given: Any,
) -> None:
    """Search SPACE, a name from 'tuner spaces' or a space file; this starts a study."""
    raise click.exceptions.Exit(start(space, data_dir, study, resume_, results_dir, scale, lengths, **given)[1])


def start(
    space: str | Space,
    data_dir: Path,
    study: str | None,
    resume_: bool,
    results_dir: Path,
    scale: float | None = None,
    lengths: tuple[float, ...] | None = None,
    **given: Any,
) -> tuple[str, int]:
    """Run a new study, or go on with it where `resume_` says so; returns its name and the exit status."""
    loaded = space if isinstance(space, Space) else load_space(space)
    loaded = loaded if lengths is None else with_lengths(loaded, lengths)
    name = free_name(results_dir, loaded.name) if study is None else study
    request = Request(results_dir=results_dir, data=data_dir, **given)
    if not (resume_ and study_folder(results_dir, name).exists()):
        scaled = scaled_space(loaded, scale or 1)
        for line in changes(loaded, scaled):
            click.echo(f"note: {line}", err=True)
        return name, begin(scaled, name, request)
    loaded = _as_long(loaded, scale, results_dir, name)
    if given["objectives"] or given["warm_start"]:
        raise InputError("objectives and warm start cannot change on resume; leave --objectives and --warm-start out")
    return name, go_on(name, request, loaded)


def _as_long(space: Space, scale: float | None, results_dir: Path, study: str) -> Space:
    """The space of a study that goes on, scaled, and with the study's lengths.

    Raises InputError where the study's was scaled and nothing is said now, and for other lengths.
    """
    settings = read_log(find_studies(results_dir, [study])[0])[0]
    begun = study_scale(settings)
    if begun != 1 and scale is None:
        raise InputError(
            f"{study}: its space was scaled by --scale {begun:g}; give that again for {space.name}, or --scale 1 if "
            f"{space.name} is written for such runs"
        )
    had = tuple(((settings.get("space") or {}).get("lengths")) or ())
    if space.lengths and space.lengths != had:
        raise InputError(f"{study}: the lengths of its runs cannot change ({list(had) or 'one'}); leave --lengths out")
    return scaled_space(with_lengths(space, had) if had else space, scale or 1)


@click.command(
    cls=Sectioned,
    epilog="""\b
Examples:
  tuner resume an4 --trials 32
  tuner resume an4 --space narrower.yaml --stopping none --trials 48
""",
)
@click.argument("study")
@click.option("--space", help="Search this space from now on: a name or a file [default: unchanged].")
@scale_option("With --space: its runs F times as long, as of 'tuner search'")
@_plan_options
@click.option("--data", "data_dir", type=click.Path(path_type=Path), help="Data folder [default: unchanged].")
@budget_options
@resource_options
@checkpoint_options
@observer_options
@results_option
def resume(
    study: str, space: str | None, scale: float | None, data_dir: Path | None, results_dir: Path, **given: Any
) -> None:
    """Continue STUDY, or a campaign, from where its log ends: same trials, same rungs, same searcher.

    The space, searcher, stopping rule, budget and resources can change. A change applies from now on; the trials so far
    are kept.
    """
    if not study_folder(results_dir, study).exists() and is_campaign(results_dir, study):
        raise click.exceptions.Exit(_campaign(study, data_dir, results_dir, space=space, scale=scale, **given))
    raise click.exceptions.Exit(restart(study, space, data_dir, results_dir, scale, **given))


def _campaign(name: str, data_dir: Path | None, results_dir: Path, force_unlock: bool, **given: Any) -> int:
    """Go on with a campaign. Raises InputError for options, which it has from its beginning."""
    if wrong := [f"--{key.replace('_', '-')}" for key, value in given.items() if value not in (None, (), False)]:
        raise InputError(f"{', '.join(wrong)}: {name} is a campaign, which goes on as it was asked for; leave it out")
    return go_on_with(results_dir, name, data_dir, force_unlock)


def restart(
    study: str,
    space: str | Space | None,
    data_dir: Path | None,
    results_dir: Path,
    scale: float | None = None,
    **given: Any,
) -> int:
    """Go on with a study; returns the exit status."""
    loaded = load_space(space) if isinstance(space, str) else space
    if loaded is not None:
        loaded = _as_long(loaded, scale, results_dir, study)
    elif scale is not None:
        raise InputError(f"--scale {scale:g}: the runs of a study cannot get another length; give --space with it")
    request = Request(results_dir=results_dir, data=data_dir or data_of(results_dir, study), **given)
    return go_on(study, request, loaded)
