"""`tuner sync`: synchronize a study with its copy in an object store."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import click

from results.store.paths import study_folder, where_option
from results.store.remote import sync as bring
from tuner.commands.options import results_option


@click.command(epilog="Example: tuner sync an4 --results s3://lab/studies")
@click.argument("study")
@results_option
def sync(study: str, results_dir: Path) -> None:
    """Synchronize STUDY with its copy in an object store, including checkpoints.

    A search with --results s3://... uploads its own results, and every command downloads the log and the tables. This
    command also downloads the checkpoints (for evaluate and export), and uploads what a killed driver did not.
    """
    read, put = bring(study_folder(results_dir, study))
    click.echo(f"{study}: {read} objects downloaded, {put} uploaded; the study is in {results_dir / study}")
    click.echo(f"next: tuner best {quote(study)}{where_option(results_dir)}")
