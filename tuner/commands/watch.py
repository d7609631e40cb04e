"""`tuner watch`, `status`, `dashboard` and `log`: look at a study from any shell or machine that sees its folder."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tuner.commands.options import LOGGERS as KINDS
from tuner.commands.options import results_option


@click.command(epilog="Example: tuner watch an4")
@click.argument("study")
@click.option("--once", is_flag=True, help="Show it once and leave.")
@results_option
def watch(study: str, once: bool, results_dir: Path) -> None:
    """Follow STUDY until it ends, from another shell or machine.

    It reads only the study's folder. Ctrl-C ends the view, never the search. Exit status: 0 when the study ended, 1 if
    its driver went without ending it.
    """
    from rich.console import Console

    from tuner.callbacks.watch import Watched, describe
    from tuner.callbacks.watch import watch as follow

    watched = Watched(results_dir / study)
    if once:
        watched.look()
        click.echo(describe(watched))
        return
    try:
        status = follow(watched, Console())
    except KeyboardInterrupt:
        status = 130
    raise click.exceptions.Exit(status)


@click.command(epilog="Example: tuner status an4 --format json")
@click.argument("study")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How the facts are written.",
)
@results_option
def status(study: str, form: str, results_dir: Path) -> None:
    """Say where STUDY stands: whether it runs, trials, best so far, rungs."""
    from tuner.callbacks.watch import Watched, describe, summary

    watched = Watched(results_dir / study)
    watched.look()
    click.echo(json.dumps(summary(watched), indent=1) if form == "json" else describe(watched))


@click.command("log", epilog="Example: tuner log an4 --to tensorboard --out /tmp/an4; tensorboard --logdir /tmp/an4")
@click.argument("study")
@click.option("--to", "kind", type=click.Choice(KINDS), required=True, help="What to write.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="A new or empty folder for it."
)
@results_option
def log(study: str, kind: str, out: Path, results_dir: Path) -> None:
    """Write STUDY's trials as TensorBoard files, an MLflow store or offline W&B runs.

    The same as 'tuner search --log' writes while it runs, from the study's log.
    """
    from results.store.tables import find_studies
    from tuner.callbacks.loggers import replay

    (folder,) = find_studies(results_dir, [study])
    trials = replay(kind, folder, out)
    look = {
        "tensorboard": f"tensorboard --logdir {out}",
        "mlflow": f"mlflow ui --backend-store-uri sqlite:///{(out / 'mlflow.db').absolute()}",
        "wandb": f"wandb sync {out / 'wandb'}/offline-run-*",
    }
    click.echo(f"wrote {trials} trials to {out}; look at them with: {look[kind]}")


@click.command(epilog="Example: tuner dashboard an4 --port 8080")
@click.argument("study")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port; 0 for any free one."
)
@click.option(
    "--save",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Serve nothing; write the study as an Optuna SQLite file, for the dashboard elsewhere or for Optuna itself.",
)
@results_option
def dashboard(study: str, port: int, save: Path | None, results_dir: Path) -> None:
    """Show STUDY in optuna-dashboard, on this machine; it follows a search that is running.

    The pages show a copy made from the study's log, so they cannot change the study. Needs the extra 'dashboard'.
    """
    from results.store.tables import find_studies

    (folder,) = find_studies(results_dir, [study])
    if save is not None:
        from tuner.callbacks.mirror import save as write

        trials = write(folder, save)
        click.echo(f"wrote {trials} trials to {save}; look at them with: optuna-dashboard sqlite:///{save}")
        return
    from tuner.callbacks.dashboard import serve

    serve(folder, port, lambda address: click.echo(f"{study} is at {address} (Ctrl-C ends it)"))


COMMANDS = (watch, status, dashboard, log)
