"""`tuner watch` and `tuner status`: a study, seen from any shell or machine that can read its folder."""

from __future__ import annotations

import json
from pathlib import Path

import click

from results.store.paths import study_folder
from tuner.callbacks.watch import Watched, describe, summary
from tuner.callbacks.watch import watch as follow
from tuner.commands.options import results_option


@click.command(epilog="Example: tuner watch an4")
@click.argument("study")
@click.option("--once", is_flag=True, help="Show the state once and exit.")
@results_option
def watch(study: str, once: bool, results_dir: Path) -> None:
    """Follow a running STUDY until it ends, from any shell or machine.

    Only the study's folder is read. Ctrl-C stops following; the search continues. Exit status: 0 when the study ended,
    1 if its driver died.
    """
    from rich.console import Console

    watched = Watched(study_folder(results_dir, study))
    if once:
        watched.look()
        click.echo(describe(watched))
        return
    try:
        status = follow(watched, Console())
    except KeyboardInterrupt:
        status = 130
    raise click.exceptions.Exit(status)


@click.command(epilog="Example: tuner status an4 --format json")
@click.argument("study")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Output for people, or for programs.",
)
@results_option
def status(study: str, form: str, results_dir: Path) -> None:
    """Show the state of STUDY: whether it is running, trials, best PER, rungs."""
    watched = Watched(study_folder(results_dir, study))
    watched.look()
    click.echo(json.dumps(summary(watched), indent=1) if form == "json" else describe(watched))
