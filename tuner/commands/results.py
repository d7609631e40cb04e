"""`tuner best`: the best configurations."""

from __future__ import annotations

from pathlib import Path

import click

from results.best import Best
from results.best import best as best_of
from results.confirmed import confirmed
from results.pareto import front
from results.store.telling import tell
from tuner.commands.options import format_option, results_option


@click.command(
    epilog="""\b
Examples:
  tuner best an4 --top 5 --format markdown
  tuner best --where "schedule_kind = 'one_cycle' and epochs >= 8" --by last_per
  tuner best an4 --by val_loss
  tuner best an4 --group-by schedule_kind,averaging_kind
  tuner best an4 --pareto best_per,gpu_seconds --columns "schedule_*,model_hidden"
"""
)
@click.argument("studies", nargs=-1)
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="Rows.")
@click.option("--where", help="Only trials that meet this SQL condition on the trials table.")
@click.option(
    "--by",
    help="Column to rank by, or a measure of the epochs such as val_loss; lowest first; 'NAME desc': highest first "
    "[default: best_per, or the study's own objective; after 'tuner confirm' the mean over new seeds].",
)
@click.option("--group-by", help="Show the best trial for each value of this column, or of several: a,b.")
@click.option(
    "--pareto",
    is_flag=False,
    flag_value="",
    metavar="[COLUMNS]",
    help="Show the Pareto front of these columns, such as best_per,train_seconds [without a value: the study's own "
    "objectives; then --pareto must be the last word].",
)
@click.option(
    "--columns", help="Configuration columns to show, such as schedule_*,model_hidden [default: those that vary]."
)
@format_option
@results_option
def best(
    studies: tuple[str, ...],
    top: int,
    where: str | None,
    by: str | None,
    group_by: str | None,
    pareto: str | None,
    columns: str | None,
    form: str,
    results_dir: Path,
) -> None:
    """Show the best configurations of STUDIES (default: all studies), and which of them are a tie."""
    if pareto is not None and group_by:
        raise click.UsageError("give --pareto or --group-by, not both")
    shown = [name.strip() for name in columns.split(",") if name.strip()] if columns is not None else None
    if pareto == "" and by:
        raise click.UsageError("give --by, or --pareto without columns, not both")
    found: Best | None
    if pareto == "":
        found = front(results_dir, list(studies) or None, top=top, where=where, columns=shown)
    else:
        plain = bool(by or where or group_by or pareto or not studies)
        found = None if plain else confirmed(results_dir, studies, top, shown)
    found = found or best_of(
        results_dir,
        list(studies) or None,
        top=top,
        where=where,
        by=by,
        group_by=group_by,
        pareto=pareto,
        columns=shown,
    )
    tell(found.problems)
    click.echo(found.render(form), nl=False)
