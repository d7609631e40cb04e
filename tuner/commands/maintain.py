"""`tuner results check|repair|compact|merge|clean|delete`: look after the results folder, also while searches run."""

from __future__ import annotations

from pathlib import Path

import click

from results.store import sealed
from results.store.lock import is_held
from results.store.maintain import check as problems_of
from results.store.maintain import delete as remove
from results.store.maintain import merge as bring_in
from results.store.paths import StudyPaths, check_name, find_studies, refuse_links_out
from results.store.repair import repair as make_whole
from results.store.tables import compact as write_tables
from results.store.telling import said, tell
from search_spaces import InputError
from search_spaces.checkpoints import size_text
from tuner.commands.options import Parsed, results_option
from tuner.commands.recorded import results_group
from tuner.study.salvage import salvaged
from tuner.study.upkeep import clean as tidy


@results_group.command(epilog="Example: tuner results check an4")
@click.argument("studies", nargs=-1)
@results_option
def check(studies: tuple[str, ...], results_dir: Path) -> None:
    """Check every file of STUDIES (default: all studies) for damage.

    Logs, checkpoints and tables are read; checksums are verified, and the tables are compared with the log. Exit status
    1 if anything is damaged.
    """
    folders = find_studies(results_dir, list(studies) or None)
    problems = problems_of(results_dir, [folder.name for folder in folders])
    said(problems)
    for problem in problems:
        click.echo(problem)
    click.echo(
        f"{_count(len(folders), 'study', 'studies')} checked: {_count(len(problems), 'problem') if problems else 'ok'}"
    )
    raise click.exceptions.Exit(1 if problems else 0)


@results_group.command(epilog="Example: tuner results repair an4")
@click.argument("studies", nargs=-1, required=True)
@results_option
def repair(studies: tuple[str, ...], results_dir: Path) -> None:
    """Make the log and the tables of STUDIES whole again, each from what the other files still have.

    The log from the tables, the tables from the log, and what both have lost from the checkpoints, which hold a copy of
    their trial's settings and last result. Every file that is replaced stays beside as NAME.damaged-1. What cannot be
    rebuilt is said. Exit status 1 if there is any.
    """
    lost = False
    for folder in find_studies(results_dir, studies):
        found = make_whole(folder, salvaged)
        for line in found.done:
            click.echo(f"{folder.name}: {line}")
        for line in found.lost:
            click.echo(f"{folder.name}: cannot be rebuilt: {line}")
        lost |= bool(found.lost)
    raise click.exceptions.Exit(1 if lost else 0)


@results_group.command(epilog="Example: tuner results compact an4")
@click.argument("studies", nargs=-1)
@results_option
def compact(studies: tuple[str, ...], results_dir: Path) -> None:
    """Write the Parquet tables of STUDIES (default: all studies) again from their logs.

    A search does this when it ends. Do it by hand when another program should read the tables of a search that is still
    running or that was killed.
    """
    refused: list[str] = []
    for folder in find_studies(results_dir, list(studies) or None):
        paths = StudyPaths(folder)
        if not paths.log.is_file():
            click.echo(f"{folder.name}: has tables and no log; not changed")
            continue
        refuse_links_out(folder)
        try:
            tell(write_tables(folder))
            if not is_held(folder):  # what a driver that was killed has left
                sealed.remove(folder)
        except InputError as error:
            refused += error.problems
            continue
        size = sum(path.stat().st_size for path in paths.tables.values())
        log = paths.log.stat().st_size
        click.echo(f"{folder.name}: {size_text(size)} of tables from {size_text(log)} of log")
    if refused:
        raise InputError(refused)


@results_group.command(epilog="Example: tuner results merge /mnt/cluster/results/studies/an4 --name an4-cluster")
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--name", help="Name of the study here [default: the folder's].")
@results_option
def merge(sources: tuple[Path, ...], name: str | None, results_dir: Path) -> None:
    """Merge study folders SOURCES, copied from other machines, into the results folder.

    A study that exists here already is updated if SOURCE has more events, not changed if it has fewer, and refused if
    the two have different events.
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
    """Delete STUDIES with their checkpoints. This cannot be undone. A study that is being searched is refused.

    Symbolic links are removed, never what they point to.
    """
    folders = find_studies(results_dir, studies)
    if live := [folder.name for folder in folders if is_held(folder)]:
        raise InputError(
            [f"{name}: a search is running this study; stop it first; nothing was deleted" for name in live]
        )
    for folder in folders:
        if folder.is_symlink():
            target = folder.resolve()
            remove(results_dir, folder.name)
            click.echo(f"{folder.name}: was a link to {target}; the link is gone, what it points to is kept")
            continue
        files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        size = size_text(sum(path.stat().st_size for path in files))
        if not yes and not click.confirm(
            f"delete {folder} ({_count(len(files), 'file')}, {size})? This cannot be undone", err=True
        ):
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
    """Clean STUDIES (default: all studies): remove checkpoints that are no longer needed.

    These are the training states of trials that have ended, and partly written files. If the rest is larger than the
    checkpoint budget, older states and the best weights of the worst ended trials are removed too. The weights of the
    five best trials, and what a trial needs to continue, are always kept.
    """
    for folder in find_studies(results_dir, list(studies) or None):
        if not StudyPaths(folder).log.is_file() or is_held(folder):
            why = "a search is running and cleans it itself" if is_held(folder) else "has tables and no log"
            click.echo(f"{folder.name}: not changed: {why}")
            continue
        freed, left = tidy(folder, checkpoint_budget)
        click.echo(f"{folder.name}: {size_text(left)} of checkpoints, {size_text(freed)} removed")
        if checkpoint_budget and left > checkpoint_budget:
            click.echo(
                f"note: {folder.name}: the rest is needed by trials that may continue and by the five best; "
                "give a larger budget",
                err=True,
            )


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
