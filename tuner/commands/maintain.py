"""`tuner results check|compact|merge|clean|delete`: look after the results folder, also while searches run."""

from __future__ import annotations

from pathlib import Path

import click

from results.store.lock import is_held
from results.store.maintain import check as problems_of
from results.store.maintain import delete as remove
from results.store.maintain import merge as bring_in
from results.store.paths import StudyPaths, check_name, find_studies
from results.store.tables import compact as write_tables
from search_spaces import InputError
from search_spaces.checkpoints import size_text
from tuner.commands.options import Parsed, results_option
from tuner.commands.recorded import results_group
from tuner.study.upkeep import clean as tidy


@results_group.command(epilog="Example: tuner results check an4")
@click.argument("studies", nargs=-1)
@results_option
def check(studies: tuple[str, ...], results_dir: Path) -> None:
    """Read every file of STUDIES (all of them if none is named) and say what is damaged.

    Logs, tables (checksums are verified, and that they say what the log says) and checkpoints. Exit status 1 if
    anything is wrong.
    """
    folders = find_studies(results_dir, list(studies) or None)
    problems = problems_of(results_dir, [folder.name for folder in folders])
    for problem in problems:
        click.echo(problem)
    click.echo(
        f"{_count(len(folders), 'study', 'studies')} checked: {_count(len(problems), 'problem') if problems else 'ok'}"
    )
    raise click.exceptions.Exit(1 if problems else 0)


@results_group.command(epilog="Example: tuner results compact an4")
@click.argument("studies", nargs=-1)
@results_option
def compact(studies: tuple[str, ...], results_dir: Path) -> None:
    """Write the Parquet tables of STUDIES (all of them if none is named) again from their logs.

    A search does this itself when it ends; do it for other programs that are to read a search that is running or whose
    driver was killed.
    """
    for folder in find_studies(results_dir, list(studies) or None):
        paths = StudyPaths(folder)
        if not paths.log.is_file():
            click.echo(f"{folder.name}: has tables and no log; left as it is")
            continue
        for problem in write_tables(folder):
            click.echo(f"note: {problem}", err=True)
        size = sum(path.stat().st_size for path in paths.tables.values())
        log = paths.log.stat().st_size
        click.echo(f"{folder.name}: {size_text(size)} of tables from {size_text(log)} of log")


@results_group.command(epilog="Example: tuner results merge /mnt/cluster/results/studies/an4 --name an4-cluster")
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--name", help="Name of the study here [default: the folder's].")
@results_option
def merge(sources: tuple[Path, ...], name: str | None, results_dir: Path) -> None:
    """Bring study folders SOURCES, copied from other machines, into the results folder.

    A study that is here already is brought up to date if the other one went further, left alone if not, and refused
    if the two differ.
    """
    if name is not None:
        check_name(name)
        if len(sources) > 1:
            raise click.UsageError("--name names one study; give one source")
    for source in sources:
        for line in bring_in(results_dir, source, name):
            click.echo(line)


@results_group.command(epilog="Example: tuner results delete an4-test --yes")
@click.argument("studies", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@results_option
def delete(studies: tuple[str, ...], yes: bool, results_dir: Path) -> None:
    """Delete STUDIES with their checkpoints, for good. A study whose search is running is refused."""
    folders = find_studies(results_dir, studies)
    if live := [folder.name for folder in folders if is_held(folder)]:
        raise InputError(
            [f"{name}: a search is running this study; stop it first; nothing was deleted" for name in live]
        )
    for folder in folders:
        files = [path for path in folder.rglob("*") if path.is_file()]
        size = size_text(sum(path.stat().st_size for path in files))
        if not yes and not click.confirm(f"delete {folder} ({_count(len(files), 'file')}, {size}) for good?", err=True):
            click.echo(f"{folder.name}: kept")
            continue
        remove(results_dir, folder.name)
        click.echo(f"{folder.name}: deleted ({size})")


@results_group.command(epilog="Example: tuner results clean an4 --checkpoint-budget 20GB")
@click.argument("studies", nargs=-1)
@click.option(
    "--checkpoint-budget",
    metavar="SIZE",
    type=Parsed("size", "parse_size"),
    help="Room for the checkpoints of each study, such as 20GB [default: the study's own, if it has one].",
)
@results_option
def clean(studies: tuple[str, ...], checkpoint_budget: int | None, results_dir: Path) -> None:
    """Remove checkpoints that nobody needs from STUDIES (all of them if none is named) and say what they take.

    States of trials that have ended and files of killed writers go. Beyond the budget, so do second-last states and
    the best weights of the worst trials that have ended; never those of the five best, nor what a trial needs to go on.
    """
    for folder in find_studies(results_dir, list(studies) or None):
        if not StudyPaths(folder).log.is_file() or is_held(folder):
            why = "a search is running it, and keeps it tidy" if is_held(folder) else "has tables and no log"
            click.echo(f"{folder.name}: left as it is: {why}")
            continue
        freed, left = tidy(folder, checkpoint_budget)
        click.echo(f"{folder.name}: {size_text(left)} of checkpoints, {size_text(freed)} removed")
        if checkpoint_budget and left > checkpoint_budget:
            click.echo(
                f"note: {folder.name}: the rest is needed by trials that may go on and by the five best: "
                "give more, or 'tuner results delete' it",
                err=True,
            )


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
