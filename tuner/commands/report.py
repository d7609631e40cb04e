"""`tuner report`: one HTML file about studies, or the same page from a local web server."""

from __future__ import annotations

from pathlib import Path

import click

from results.report import write
from tuner.analysis.report import make_page, make_server
from tuner.commands.options import out_option, refuse_taken, results_option


@click.command(
    epilog="""\b
Examples:
  tuner report an4
  tuner report first second --out both.html
  tuner report an4 --serve
"""
)
@click.argument("studies", nargs=-1, required=True)
@out_option("File to write [default: report.html].")
@click.option(
    "--serve", is_flag=True, help="Serve the page on this machine instead, and update it while a search runs."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8777, show_default=True, help="Port; 0 for any free one."
)
@click.option(
    "--errors/--no-errors",
    default=None,
    help="Decode the validation split with the best checkpoint, to show its errors by phoneme and by day. "
    "[default: where the checkpoint is small, so that it takes seconds]",
)
@results_option
def report(
    studies: tuple[str, ...], out: Path | None, serve: bool, port: int, errors: bool | None, results_dir: Path
) -> None:
    """Write one HTML page about STUDIES; it opens offline, in any browser.

    It shows the answer first: the best configuration, how sure that is, and the best PER so far. Then learning curves
    with rungs and stops, the importance of settings, the errors of the best by phoneme and day, the schedules, the
    workers, failures, the search space and the software versions.
    """
    names = list(dict.fromkeys(studies))
    if serve:
        with make_server(results_dir, names, port, errors) as server:
            click.echo(f"http://127.0.0.1:{server.server_port}/ shows {', '.join(names)}; press Ctrl-C to end")
            server.serve_forever()
        return
    if out is None:
        refuse_taken(out := Path("report.html"))
    size = write(out, make_page(results_dir, names, errors=errors))
    click.echo(f"wrote {out} ({size / 1e6:.1f} MB); open it in a browser")
