"""`tuner changelog`: the history of a study as a page, written from its tables."""

from __future__ import annotations

from pathlib import Path

import click

from results.changelog.page import changelog as page_of
from results.changelog.page import write_page
from results.store.telling import tell
from tuner.commands.options import out_option, results_option


@click.command(epilog="Example: tuner changelog an4 --out changelog.md")
@click.argument("study")
@out_option("Write the page (Markdown) to this file.")
@results_option
def changelog(study: str, out: Path | None, results_dir: Path) -> None:
    """Write the history of STUDY as text: its phases, what each trial changed, and what the change did.

    The page also lists what a changelog kept by hand would miss, such as repeated configurations.
    """
    page = page_of(results_dir, study)
    tell(page.problems)
    if out is None:
        click.echo(page.text, nl=False)
    else:
        write_page(out, page.text)
        click.echo(f"wrote {out}: {page.trials} trials, {page.findings} findings")
