"""`tuner results`: the group, and the commands that add past runs (`maintain.py` has its other commands)."""

from __future__ import annotations

from pathlib import Path

import click

from results.store.paths import where_option
from tuner.commands.options import results_option
from tuner.commands.sections import NearestNames
from tuner.planned.past import add_recorded as add
from tuner.planned.past import write_study
from tuner.planned.reference import read_results


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


@results_group.command("import", epilog="Example: tuner results import neural_seq_decoder/outputs --study lab")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--study", help="Name of the study to make [default: PATH's last part].")
@results_option
def import_(path: Path, study: str | None, results_dir: Path) -> None:
    """Import past runs of the reference trainer (neural_seq_decoder) or a fork of it.

    PATH is one result folder (args, trainingStats, metrics.jsonl), or a folder of such folders. Pickles are read
    without executing any code in them. Settings that do not exist here are listed.
    """
    found = read_results(path)
    name = study or path.resolve().name
    note = f"imported from result folders of the reference trainer: {path}"
    write_study(results_dir, name, found.trials, data={"name": "as imported", "path": "not here"}, note=note)
    epochs = sum(len(trial.epochs) for trial in found.trials)
    click.echo(f"added {len(found.trials)} runs with {epochs} evaluations as {results_dir / name}")
    for setting, runs in sorted(found.unmatched.items()):
        more = f" and {len(runs) - 3} more" if len(runs) > 3 else ""
        click.echo(f"setting does not exist here: {setting} ({', '.join(runs[:3])}{more})")
    for problem in found.problems:
        click.echo(f"left out: {problem}", err=True)
    where = where_option(results_dir)
    click.echo(f"next: tuner best {name}{where}; tuner changelog {name}{where}")
