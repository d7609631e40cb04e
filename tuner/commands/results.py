"""`tuner best` and `tuner query`: ask the tables."""

from __future__ import annotations

from pathlib import Path

import click

from tuner.commands.options import format_option, results_option


@click.command(epilog="Example: tuner best an4 --top 5 --format markdown")
@click.argument("studies", nargs=-1)
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="Rows.")
@format_option
@results_option
def best(studies: tuple[str, ...], top: int, form: str, results_dir: Path) -> None:
    """Show the best configurations of STUDIES (of all studies if none is named)."""
    from results.best import best as best_of

    click.echo(best_of(results_dir, list(studies) or None, top=top).render(form))


@click.command(
    epilog="""\b
Examples:
  tuner query "select schedule_kind, min(best_per), count(*) from trials group by 1 order by 2"
  tuner query "select trial, epoch, per from epochs where study = 'an4' order by 1, 2" --format csv
"""
)
@click.argument("sql", required=False)
@click.option("--schema", is_flag=True, help="List the tables' columns with unit and meaning.")
@format_option
@results_option
def query(sql: str | None, schema: bool, form: str, results_dir: Path) -> None:
    """Run SQL (DuckDB's, read-only) over the tables studies, trials and epochs of every study."""
    from results.output import render
    from results.query import query as run_query
    from results.query import schema_rows

    if schema:
        click.echo(render(schema_rows(), form))
        return
    if not sql:
        raise click.UsageError('give a query, such as tuner query "select * from trials", or --schema')
    click.echo(render(run_query(results_dir, sql), form))


COMMANDS = (best, query)
