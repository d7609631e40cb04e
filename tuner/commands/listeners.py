"""`tuner log` and `tuner dashboard`: a study in other tools."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import click

from results.store.paths import find_studies
from tuner.callbacks.dashboard import serve
from tuner.callbacks.loggers import replay
from tuner.callbacks.mirror import save as write
from tuner.commands.options import LOGGERS as KINDS
from tuner.commands.options import out_option, results_option


@click.command("log", epilog="Example: tuner log an4 --to tensorboard --out /tmp/an4; tensorboard --logdir /tmp/an4")
@click.argument("study")
@click.option("--to", "kind", type=click.Choice(KINDS), required=True, help="The format.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="A new or empty folder for it."
)
@results_option
def log(study: str, kind: str, out: Path, results_dir: Path) -> None:
    """Write the trials of STUDY as TensorBoard files, an MLflow store or offline W&B runs.

    These are the same files that 'tuner search --log' writes while it runs.
    """
    (folder,) = find_studies(results_dir, [study])
    trials = replay(kind, folder, out)
    look = {
        "tensorboard": f"tensorboard --logdir {quote(str(out))}",
        "mlflow": "mlflow ui --backend-store-uri " + quote(f"sqlite:///{(out / 'mlflow.db').absolute()}"),
        "wandb": f"wandb sync {quote(str(out / 'wandb'))}/offline-run-*",
    }
    click.echo(f"wrote {trials} trials to {out}; look at them with: {look[kind]}")


@click.command(epilog="Example: tuner dashboard an4 --port 8080")
@click.argument("study")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port; 0 for any free one."
)
@out_option(
    "Write the study as an Optuna SQLite file instead, to open it elsewhere.",
    "--save",
)
@results_option
def dashboard(study: str, port: int, out: Path | None, results_dir: Path) -> None:
    """Show STUDY in optuna-dashboard, in a browser; a running search is followed.

    The dashboard gets a copy made from the study's log, so it cannot change the study. It needs the extra 'dashboard'.
    """
    (folder,) = find_studies(results_dir, [study])
    if out is not None:
        trials = write(folder, out)
        click.echo(f"wrote {trials} trials to {out}; look at them with: optuna-dashboard {quote(f'sqlite:///{out}')}")
        return
    serve(folder, port, lambda address: click.echo(f"{study} is at {address} (Ctrl-C ends it)"))
