"""`tuner results`: the group, and the commands that add past runs (`maintain.py` has its other commands)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from results.store.paths import where_option
from tuner.commands.options import results_option
from tuner.commands.sections import NearestNames
from tuner.planned.imported.reading import Found, read_results
from tuner.planned.past import add_recorded as add
from tuner.planned.past import write_study

_NOTES = 10
"""Runs whose notes are printed."""


@click.group("results", cls=NearestNames)
def results_group() -> None:
    """Check, merge, clean and delete studies; import past runs."""


@results_group.command("add-recorded", epilog="Example: tuner results add-recorded; tuner changelog recorded")
@click.option("--study", default="recorded", show_default=True, help="Name of the study to make.")
@results_option
def add_recorded(study: str, results_dir: Path) -> None:
    """Add the 23 recorded runs (from a changelog kept by hand) as a study."""
    runs = add(results_dir, study)
    known = [run.recorded["per"] for run in runs if run.recorded.get("per") is not None]
    click.echo(f"added {len(runs)} recorded runs as {results_dir / study}; {len(known)} have a PER")
    where = where_option(results_dir)
    click.echo(f"next: tuner best {study}{where}; tuner changelog {study}{where}")


@results_group.command(
    "import",
    epilog="""\b
Examples:
  tuner results import neural_seq_decoder/outputs --study lab
  tuner results import history.csv --map step=iter,per=val_cer --settings small
""",
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--study", help="Name of the study to make [default: PATH's last part].")
@click.option(
    "--map",
    "columns",
    metavar="NAME=COLUMN,...",
    help="Columns of a log: per, step (batches done) or epoch, val_loss, train_loss, lr, grad_norm, per_raw "
    "[default: found by their usual names].",
)
@click.option(
    "--settings",
    metavar="RUN|FILE",
    help="Settings of logs that have none beside them: a run, or a trainer's own file (YAML, JSON, pickle) "
    "[default: config.yaml, config.json, args.yaml, args.json, hparams.yaml or args beside the log; without, unknown].",
)
@click.option(
    "--utterances",
    type=click.IntRange(min=1),
    help="Training utterances, for runs that are counted in epochs [default: 8800, as the '24 recordings have, "
    "and named as assumed].",
)
@results_option
def import_(
    path: Path,
    study: str | None,
    columns: str | None,
    settings: str | None,
    utterances: int | None,
    results_dir: Path,
) -> None:
    """Import past runs that were not trained here.

    PATH is a result folder of the reference trainer (neural_seq_decoder) or a fork of it, an output folder of the '25
    baseline (nejm-brain-to-text), a log of PER by step (CSV, JSON; W&B's exports too), a folder of TensorBoard files,
    or a folder of these. Pickles are read without executing any code in them. Settings that do not exist here are
    listed; what is not known of a run stays empty in the tables.
    """
    found = read_results(path, columns=columns, settings=settings, utterances=utterances)
    name = study or path.resolve().name.partition(".")[0]
    note = f"imported: {path}"
    write_study(results_dir, name, found.trials, data={"name": "as imported", "path": "not here"}, note=note)
    epochs = sum(len(trial.epochs) for trial in found.trials)
    click.echo(f"added {len(found.trials)} runs with {epochs} evaluations as {results_dir / name}")
    _tell(found)
    where = where_option(results_dir)
    click.echo(f"next: tuner best {name}{where}; tuner changelog {name}{where}")


def _tell(found: Found) -> None:
    """What does not exist here, what is not known, and what was left out."""
    for setting, runs in sorted(found.unmatched.items()):
        click.echo(f"setting does not exist here: {setting} ({_some(runs)})")
    by_runs: dict[str, list[str]] = {}
    for column, runs in found.unknown.items():
        by_runs.setdefault(_some(runs), []).append(column)
    for runs_text, names in by_runs.items():
        click.echo(f"not known, so empty: {_some(names, most=8)} ({runs_text})")
    told = [f"{trial.about['run']}: {trial.about['note']}" for trial in found.trials if trial.about.get("note")]
    for line in told[:_NOTES]:
        click.echo(f"note: {line}")
    if len(told) > _NOTES:
        click.echo(f"{len(told) - _NOTES} more runs have notes: column note of the trials")
    for problem in found.problems:
        click.echo(f"left out: {problem}", err=True)


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
