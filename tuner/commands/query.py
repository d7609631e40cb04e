"""`tuner query`: SQL over the tables, to the screen or to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from results.limits import SECONDS, default_memory, fenced
from results.output import FILE_FORMATS, Sheet, render, write
from results.query import query as run_query
from results.query import too_long, too_much
from results.schema import schema_rows
from results.store.paths import find_studies
from results.store.telling import tell
from search_spaces import InputError
from tuner.commands.options import FiniteRange, Parsed, out_option, results_option


@click.command(
    epilog="""\b
Examples:
  tuner query "select schedule_kind, min(best_per), count(*) from trials group by 1 order by 2"
  tuner query "select trial, epoch, per from epochs where study = 'an4' order by 1, 2" --format csv
  tuner query "select status, count(*), sum(cpu_seconds) / 3600 as cpu_hours from trials group by 1"
  tuner query "select epoch, median(per), min(per) from epochs group by 1 order by 1" --format markdown
  tuner query "select t.study, t.trial, e.epoch, e.per, e.per_raw from trials t join epochs e
               using (study, trial) where t.best_epoch = e.epoch order by e.per limit 5"
  tuner query "select * from trials" --out trials.parquet
  tuner query --schema
"""
)
@click.argument("sql", required=False)
@click.option("--schema", is_flag=True, help="List every column with its type, unit and meaning; no SQL is needed.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FILE_FORMATS),
    help="Format of the rows [default: table, or by the file name of --out]. Parquet needs --out.",
)
@out_option("Write to this file. If writing fails, no partial file is left.")
@click.option(
    "--timeout",
    type=FiniteRange(min=0, min_open=True),
    default=SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long the query may take.",
)
@click.option(
    "--memory",
    type=Parsed("size", "parse_size"),
    metavar="SIZE",
    help="Memory that the query may take, such as 8GB [default: half of the machine's, 4 GiB at most].",
)
@results_option
def query(
    sql: str | None,
    schema: bool,
    form: str | None,
    out: Path | None,
    timeout: float,
    memory: int | None,
    results_dir: Path,
) -> None:
    """Run SQL (DuckDB's, read-only) over the tables studies, trials and epochs of every study.

    A running search is included up to its last event. docs/tables.md shows how to open the same tables with pandas,
    polars or DuckDB.
    """
    if schema == bool(sql):
        raise click.UsageError('give a query, such as tuner query "select * from trials", or --schema')
    if form == "parquet" and out is None:
        raise click.UsageError("--format parquet needs --out FILE")
    problems: list[str] = []
    memory = memory or default_memory()
    with fenced(timeout, memory, too_long("query", timeout), too_much("query", memory)):
        found: Any = (
            _schema(results_dir)
            if sql is None
            else run_query(results_dir, sql, problems=problems, timeout=timeout, memory=memory)
        )
        text = render(found, form or "table") if out is None else ""
        if out is not None:
            write(found, out, form)
    tell(problems)
    if out is None:
        click.echo(text, nl=False)
        return
    click.echo(f"wrote {out}: {len(found.rows) if sql is None else found.num_rows} rows", err=True)


def _schema(results_dir: Path) -> Any:
    try:
        find_studies(results_dir)
    except InputError:  # the columns are the same before the first search
        return Sheet.of(schema_rows())
    return Sheet.of(schema_rows(results_dir))
