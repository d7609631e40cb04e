"""`tuner stop`: end a search, or one of its trials, from any machine that sees its folder."""

from __future__ import annotations

from pathlib import Path

import click

from results.store.paths import RESULTS
from tuner.backend import by_hand
from tuner.commands.options import FiniteRange, results_option


@click.command(epilog="Example: tuner stop an4; tuner stop an4 --trial 7")
@click.argument("study")
@click.option("--trial", type=click.IntRange(min=0), help="Stop this trial only; the search goes on.")
@click.option(
    "--wait",
    type=FiniteRange(min=0),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait until it has stopped.",
)
@results_option
def stop(study: str, trial: int | None, wait: float, results_dir: Path) -> None:
    """Stop STUDY as Ctrl-C in its own window does: everything reported is kept, and 'tuner resume' goes on exactly.

    The request is a file in the study's folder, so it works from another machine. With --trial, that trial ends as
    "stopped" with its next epoch. Exit status: 0 when it stopped, 1 if it had not after --wait seconds.
    """
    outcome = by_hand.stop(results_dir / study, trial, wait)
    where = "" if results_dir == RESULTS else f" --results {results_dir}"
    what = f"{study}" if trial is None else f"trial {trial}"
    if outcome == "waits":
        click.echo(f"no search is running; {what} ends when it is resumed: tuner resume {study}{where}")
    elif outcome == "asked":
        click.echo(f"{what} was asked to stop and has not yet; look with: tuner status {study}{where}")
        raise click.exceptions.Exit(1)
    elif trial is None:
        click.echo(f"{what} has stopped; go on with: tuner resume {study}{where}")
    else:
        click.echo(f"{what} has stopped; see the others with: tuner status {study}{where}")
