"""`tuner note` and `tuner tag`: what people say of studies and trials, kept in the log."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

import click

from results.output import visible
from results.store.paths import find_studies, where_option
from results.trials import find_trial
from search_spaces import InputError
from search_spaces.wording import show
from tuner.backend import by_hand
from tuner.commands.options import results_option

LONGEST = 2000
"""Characters of a note."""
_TAG = re.compile(r"[^\W_][\w.+-]{0,39}")


@click.command(epilog='Example: tuner note an4 "the first with the new electrodes"; tuner note an4/7 "odd start"')
@click.argument("what", metavar="STUDY[/TRIAL]")
@click.argument("text")
@results_option
def note(what: str, text: str, results_dir: Path) -> None:
    """Write a note on a study or a trial into its log; a search may be running.

    The tables have it (column notes), and 'tuner show', 'tuner studies' and the report show it. A note is never
    removed; a further one is added.
    """
    said = " ".join(text.split())
    if not said or len(said) > LONGEST:
        raise InputError(f"the note has {len(said)} characters; give 1 to {LONGEST}")
    folder, of = _subject(what, results_dir)
    _tell(by_hand.mark(folder, of, note=said), what, "noted", results_dir)


@click.command(epilog="Example: tuner tag an4 paper; tuner tag an4/7 odd --remove")
@click.argument("what", metavar="STUDY[/TRIAL]")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--remove", is_flag=True, help="Take these tags off instead.")
@results_option
def tag(what: str, names: tuple[str, ...], remove: bool, results_dir: Path) -> None:
    """Put tags on a study or a trial, or take them off; a search may be running.

    A tag has up to 40 letters, digits and . _ + -. The tables have them (column tags): tuner best --where "tags like
    '%odd%'".
    """
    _check_names(names)
    folder, of = _subject(what, results_dir)
    wanted = list(dict.fromkeys(names))
    outcome = by_hand.mark(folder, of, add=[] if remove else wanted, remove=wanted if remove else [])
    _tell(outcome, what, "untagged" if remove else "tagged", results_dir)


def _check_names(names: Sequence[str]) -> None:
    wrong = [name for name in names if not _TAG.fullmatch(name)]
    if wrong:
        raise InputError(
            f"tag {show(name)}: is not allowed; give up to 40 letters, digits and . _ + -, a letter or digit first"
            for name in wrong
        )


def _subject(what: str, results_dir: Path) -> tuple[Path, int | None]:
    """(folder, trial) of STUDY or STUDY/TRIAL. Raises InputError, with the nearest name, for what there is not."""
    study, slash, trial = what.partition("/")
    folder = find_studies(results_dir, [study])[0]
    if not slash:
        return folder, None
    found = find_trial(results_dir, study, trial)
    return folder, found.number


def _tell(outcome: str, what: str, done: str, results_dir: Path) -> None:
    where = where_option(results_dir)
    if outcome == "asked":
        click.echo(f"{visible(what)}: the search that runs it has not answered yet, and will write it")
        raise click.exceptions.Exit(1)
    look = f"tuner show {quote(what)}" if "/" in what else "tuner studies"
    click.echo(f"{visible(what)} is {done}; see: {look}{where}")
