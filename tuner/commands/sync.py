"""`tuner sync`: a study and its copy in an object store, brought to the same state."""

from __future__ import annotations

from pathlib import Path

import click

from results.store.remote import sync as bring
from tuner.commands.options import results_option


@click.command(epilog="Example: tuner sync an4 --results s3://lab/studies")
@click.argument("study")
@results_option
def sync(study: str, results_dir: Path) -> None:
    """Bring STUDY and its copy in a store to the same state, checkpoints included.

    A search with --results s3://... mirrors itself, and other commands bring its log and tables here. This brings the
    checkpoints too (for evaluate, export), and sends what a killed driver could not.
    """
    read, put = bring(results_dir / study)
    click.echo(f"{study}: {read} objects brought, {put} sent; it is in {results_dir / study}")
    click.echo(f"next: tuner best {study} --results {results_dir}")
