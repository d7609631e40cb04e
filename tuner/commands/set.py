"""`tuner set`: change a search while it runs."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import click

from results.store.paths import find_studies, where_option
from search_spaces import InputError
from search_spaces.wording import did_you_mean, show
from tuner.backend import by_hand
from tuner.commands.options import FiniteRange, results_option

KEYS = ("concurrent",)
"""What can be changed while a search runs."""


@click.command("set", epilog="Example: tuner set an4 concurrent=8")
@click.argument("study")
@click.argument("changes", metavar="KEY=VALUE...", nargs=-1, required=True)
@click.option(
    "--wait",
    type=FiniteRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the search's answer.",
)
@results_option
def set_command(study: str, changes: tuple[str, ...], wait: float, results_dir: Path) -> None:
    """Change a running search: concurrent=N runs N trials at once from now on, as far as they fit.

    With more, further trials start at once; with fewer, none is stopped: as trials end, no new one starts until N are
    left. The change is in the log, and a resume keeps it. Everything else changes on resume: 'tuner resume --help'.
    """
    concurrent = _concurrent(changes)
    folder = find_studies(results_dir, [study])[0]
    at_once = by_hand.run_at_once(folder, concurrent, wait)
    where = where_option(results_dir)
    if at_once is None:
        click.echo(f"{study} was asked and has not answered yet; see: tuner status {quote(study)}{where}")
        raise click.exceptions.Exit(1)
    fits = "" if at_once == concurrent else f" ({concurrent} were asked for, and no more fit)"
    trials = "1 trial" if at_once == 1 else f"{at_once} trials"
    click.echo(f"{study}: {trials} at once from now on{fits}; see: tuner watch {quote(study)}{where}")


def _concurrent(changes: tuple[str, ...]) -> int:
    """The number that is asked for. Raises InputError, a line for each problem."""
    problems, found = [], 1
    for text in changes:
        key, _, value = text.partition("=")
        if key not in KEYS:
            hint = did_you_mean(key, KEYS)
            problems.append(f"{show(text)}: {hint}concurrent=N is what can be changed while a search runs")
        elif not (value.isascii() and value.isdigit() and 0 < int(value) < 10**6):
            problems.append(f"{show(text)}: is not allowed; give a whole number from 1 on, such as concurrent=8")
        else:
            found = int(value)
    if problems:
        raise InputError(problems)
    return found
