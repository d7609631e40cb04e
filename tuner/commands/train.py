"""`tuner train`: one run, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from results.trials import load_run_or_trial
from search_spaces.lengths.scale import scaled_run
from trainable import train as epochs_of
from trainable.data.dataset import with_features
from trainable.data.intact import open_intact
from tuner.commands.options import data_option, out_option, results_option, scale_option, set_option

COLUMNS = (
    # heading, field of the epoch's row, format
    ("epoch", "epoch", "d"),
    ("batch", "batch", "d"),
    ("PER", "per", ".4f"),
    ("raw PER", "per_raw", ".4f"),
    ("val loss", "val_loss", ".4f"),
    ("train loss", "train_loss", ".4f"),
    ("rate", "lr", ".2e"),
    ("grad norm", "grad_norm", ".2f"),
    ("blanks", "blank_share", ".2f"),
    ("samples/s", "samples_per_second", ".0f"),
    ("seconds", "seconds", ".1f"),
)


@click.command(
    epilog="""\b
Examples:
  tuner train small --data data/an4 --set schedule.peak_lr=3e-3 --out an4.pt
  tuner train run16_5 --data data/an4 --scale 0.02
  tuner train an4/9 --data data/an4 --set training.seed=1
"""
)
@click.argument("run")
@data_option
@scale_option("Train a run F times as long: batches, warm-up, periods and averages in proportion (docs/spaces.md)")
@set_option
@out_option("Write the best weights to this file.")
@click.option(
    "--best-weights",
    type=click.Choice(["full", "half"]),
    default="full",
    show_default=True,
    help="How --out saves the weights: full, or half (float16, half the size).",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads of torch.")
@results_option
def train(
    run: str,
    data_dir: Path,
    scale: float | None,
    overrides: tuple[str, ...],
    out: Path | None,
    best_weights: str,
    threads: int,
    results_dir: Path,
) -> None:
    """Train one configuration, outside any study, and print a line for each epoch.

    RUN is a name from 'tuner runs', a run file, or a trial STUDY/TRIAL. A trial gives the same PERs again on the same
    CPU.
    """
    config = scaled_run(load_run_or_trial(run, results_dir, overrides).config, scale or 1)
    import torch

    from trainable.checkpoint import for_evaluation, save
    from trainable.weights.start import start_weights

    torch.set_num_threads(threads)
    dataset = open_intact(data_dir)
    reports = epochs_of(config, dataset)
    if config.training.init_from is not None:
        for note in start_weights(config, with_features(dataset, config.data.features))[1]:
            click.echo(f"note: {note}")
    best: dict[str, Any] | None = None
    click.echo(
        f"{run} on {dataset.name}: {config.epochs} epochs of {config.training.batches_per_epoch} batches, "
        f"{len(dataset.train)} training and {len(dataset.val)} validation utterances"
    )
    click.echo("".join(f"{heading:>11}" for heading, _, _ in COLUMNS))
    diverged = False
    try:
        for report in reports:
            for note in report.notes:
                click.echo(note, err=True)
            row = report.row()
            diverged = report.diverged
            click.echo("".join(f"{row[key]:>11{form}}" for _, key, form in COLUMNS))
            if not diverged and (best is None or report.per < best["per"]):
                best = {"per": report.per, "epoch": report.epoch}
                if out is not None:
                    save(out, for_evaluation(report.checkpoint(), half=best_weights == "half"))
    except KeyboardInterrupt:
        click.echo("stopped by you", err=True)
        _say_best(best, out)
        raise click.exceptions.Exit(130) from None
    _say_best(best, out)
    if diverged:
        click.echo("error: the loss or the gradient became NaN or infinite; try a lower schedule.peak_lr", err=True)
        raise click.exceptions.Exit(1)


def _say_best(best: dict[str, Any] | None, out: Path | None) -> None:
    if best is not None:
        kept = f"; its weights are in {out}" if out is not None else ""
        click.echo(f"best PER {best['per']:.4f} at epoch {best['epoch']}{kept}")
