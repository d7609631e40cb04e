"""`tuner export`: a trial's configuration, weights or decoder, or the tables, for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from tuner.analysis.export import best_trial, export_tables, export_trial
from tuner.commands.options import out_option, results_option


@click.command(
    epilog="""\b
Examples:
  tuner export an4 --best config --out an4-best.yaml
  tuner export an4 --best bundle --out an4-decoder
  tuner export an4 --trial 3 --best onnx --out an4-3.onnx
  tuner export --tables an4 --format duckdb --out an4.duckdb
"""
)
@click.argument("studies", nargs=-1)
@click.option("--trial", help="Trial to export [default: the one with the lowest best_per].")
@click.option(
    "--best",
    "kind",
    type=click.Choice(["config", "checkpoint", "onnx", "torchscript", "bundle"]),
    help="What to write of the trial's best epoch: a run file, the checkpoint, the decoder, or all in a folder.",
)
@click.option(
    "--tables", is_flag=True, help="Write the tables studies, trials and epochs of STUDIES [default: of all studies]."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["duckdb", "csv", "parquet"]),
    default="duckdb",
    show_default=True,
    help="How --tables writes them: one DuckDB file, or a folder of three files.",
)
@out_option("File or folder to write.", required=True, folder=True, with_force=True)
@results_option
def export(
    studies: tuple[str, ...],
    trial: str | None,
    kind: str | None,
    tables: bool,
    form: str,
    out: Path,
    force: bool,
    results_dir: Path,
) -> None:
    """Write a trained decoder, or the tables of STUDIES, for other programs.

    A bundle is a folder (or a .zip) with the configuration, the weights, the decoder as TorchScript, its facts and a
    model card; it loads with torch alone: torch.jit.load("decoder.ts").
    """
    if tables == bool(kind):
        raise click.UsageError("give either --best KIND (for a trial) or --tables")
    if tables:
        if trial is not None:
            raise click.UsageError("--trial goes with --best, not with --tables")
        said = export_tables(results_dir, list(studies) or None, form, out, force)
        click.echo(f"wrote {out}: {said}")
        return
    if len(studies) != 1:
        raise click.UsageError(f"give one study, not {len(studies)}; 'tuner best' lists them")
    found = best_trial(results_dir, studies[0], trial)
    said = export_trial(found, kind or "", out, force)
    click.echo(f"wrote {out}: {kind} of {found.name}; {said}")
