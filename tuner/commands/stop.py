"""`tuner stop`: stop a search, or one of its trials, from any machine that can read its folder."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import click

from results.store.paths import study_folder, where_option
from tuner.backend import by_hand
from tuner.commands.options import FiniteRange, results_option


@click.command(epilog="Example: tuner stop an4; tuner stop an4 --trial 7")
@click.argument("study")
@click.option("--trial", type=click.IntRange(min=0), help="Stop only this trial; the search continues.")
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
    """Stop a running STUDY, or one of its trials; everything that was reported is kept.

    This does the same as Ctrl-C in the window of the search, and 'tuner resume' continues the study. The request is a
    file in the study's folder, so it works from another machine. With --trial, this trial ends as "stopped" at its next
    epoch. Exit status: 0 when it stopped, 1 if it had not stopped after --wait seconds.
    """
    outcome = by_hand.stop(study_folder(results_dir, study), trial, wait)
    where = where_option(results_dir)
    what = f"{study}" if trial is None else f"trial {trial}"
    if outcome == "waits":
        click.echo(
            f"no search is running; {what} will stop when the study is resumed: tuner resume {quote(study)}{where}"
        )
    elif outcome == "asked":
        click.echo(f"{what} was asked to stop and has not stopped yet; see: tuner status {quote(study)}{where}")
        raise click.exceptions.Exit(1)
    elif trial is None:
        click.echo(f"{what} has stopped; continue with: tuner resume {quote(study)}{where}")
    else:
        click.echo(f"{what} has stopped; for the others see: tuner status {quote(study)}{where}")
