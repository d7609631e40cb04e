"""`tuner search` and `tuner resume`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tuner.commands.options import data_option, results_option


def _budget_and_resources(function: Any) -> Any:
    options = (
        click.option("--trials", type=click.IntRange(min=1), help="Trials in all [default: the space's budget]."),
        click.option(
            "--hours", type=click.FloatRange(min=0, min_open=True), help="Wall time in hours, all sessions together."
        ),
        click.option("--cpus-per-trial", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True),
        click.option(
            "--gpus-per-trial",
            type=click.FloatRange(min=0),
            default=0.0,
            show_default=True,
            help="Cards, or the share of a card, for each trial; 0.25 puts four on one.",
        ),
        click.option("--concurrent", type=click.IntRange(min=1), help="Trials at once [default: as many as fit]."),
        click.option("--cpus", type=click.IntRange(min=1), help="Cores the local Ray may use [default: all]."),
        click.option(
            "--retries",
            type=click.IntRange(min=0),
            default=1,
            show_default=True,
            help="Further attempts at a trial that failed.",
        ),
        click.option("--address", help="Join the Ray cluster at HOST:PORT, or auto [default: a local Ray]."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command(
    epilog="Example: tuner search small --data data/an4 --trials 16 --study an4. "
    "Ctrl-C stops it and keeps everything; 'tuner resume an4' goes on."
)
@click.argument("space")
@data_option
@click.option("--study", help="Name of the study [default: the space's name, numbered].")
@click.option("--resume", "resume_", is_flag=True, help="Go on with the study if it exists.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the search.")
@click.option("--searcher", type=click.Choice(["tpe", "random"]), help="Searcher [default: the space's].")
@click.option("--stopping", type=click.Choice(["asha", "none"]), help="Stopping rule [default: the space's].")
@_budget_and_resources
@results_option
def search(space: str, data_dir: Path, study: str | None, resume_: bool, results_dir: Path, **given: Any) -> None:
    """Search SPACE: a shipped space ('tuner spaces' lists them) or a file."""
    from search_spaces import load_space
    from tuner.launch import Request, free_name
    from tuner.launch import resume as go_on
    from tuner.launch import search as begin

    loaded = load_space(space)
    name = free_name(results_dir, loaded.name) if study is None else study
    request = Request(results_dir=results_dir, data=data_dir, **given)
    again = resume_ and (results_dir / name).exists()
    raise click.exceptions.Exit(go_on(name, request) if again else begin(loaded, name, request))


@click.command(epilog="Example: tuner resume an4 --trials 32")
@click.argument("study")
@click.option("--data", "data_dir", type=click.Path(path_type=Path), help="Data folder [default: where it was].")
@_budget_and_resources
@results_option
def resume(study: str, data_dir: Path | None, results_dir: Path, **given: Any) -> None:
    """Go on with STUDY from its log: same trials, same rungs, same searcher."""
    from tuner.launch import Request, data_of
    from tuner.launch import resume as go_on

    data_dir = data_dir or data_of(results_dir, study)
    raise click.exceptions.Exit(go_on(study, Request(results_dir=results_dir, data=data_dir, **given)))


COMMANDS = (search, resume)
