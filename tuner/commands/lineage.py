"""`tuner lineage`: train the recorded runs again, scaled down, and compare them with the record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from results.store.paths import study_folder
from tuner.commands.options import FiniteRange, format_option, observer_options, resource_options, results_option
from tuner.launch.new_study import trial_resources
from tuner.launch.search import data_of, resume, run_plan
from tuner.planned.lineage import check_resumed, lineage_table, make_plan
from tuner.study.request import Request


@click.command(
    epilog="""\b
Examples:
  tuner lineage --data data/an4 --scale 0.02 --study lineage
  tuner lineage --study lineage --resume
  tuner lineage --study lineage --table --format markdown
"""
)
@click.option(
    "--data", "data_dir", type=click.Path(path_type=Path), help="Packed data folder; required for a new study."
)
@click.option(
    "--scale",
    type=FiniteRange(min=0, max=1, min_open=True),
    default=0.05,
    show_default=True,
    help="Factor for the number of batches; layer widths and evaluations are scaled by its square root; 1 = as "
    "recorded.",
)
@click.option("--only", multiple=True, metavar="RUN,RUN", help="Train only these of the recorded runs.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "recorded", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="auto = as recorded, but fp32 where the CPU does not support the recorded precision.",
)
@click.option("--study", default="lineage", show_default=True, help="Name of the study.")
@click.option("--resume", "resume_", is_flag=True, help="Continue the study if it exists.")
@click.option("--table", "table_only", is_flag=True, help="Train nothing; show the results so far.")
@resource_options
@observer_options
@format_option
@results_option
def lineage(
    data_dir: Path | None,
    scale: float,
    only: tuple[str, ...],
    precision: str,
    study: str,
    resume_: bool,
    table_only: bool,
    form: str,
    results_dir: Path,
    **given: Any,
) -> None:
    """Train the 23 recorded runs again as one study, and compare their ranking with the recorded one.

    No run is stopped early.
    """
    if table_only:
        click.echo(lineage_table(results_dir, study).render(form))
        return
    names = [name.strip() for part in only for name in part.split(",") if name.strip()]
    asked = {"scale": scale, "precision": precision, "only": names}
    if resume_ and study_folder(results_dir, study).exists():
        source = click.get_current_context().get_parameter_source
        default = click.core.ParameterSource.DEFAULT
        check_resumed(results_dir, study, {key: value for key, value in asked.items() if source(key) is not default})
        request = Request(results_dir=results_dir, data=data_dir or data_of(results_dir, study), **given)
        raise click.exceptions.Exit(resume(study, request))
    if data_dir is None:
        raise click.UsageError("give --data, a packed data folder, such as --data data/small")
    request = Request(results_dir=results_dir, data=data_dir, **given)
    gpu = trial_resources(request).gpus_per_trial > 0
    status = run_plan(
        study,
        request,
        lambda dataset: make_plan(dataset, scale, names, precision, gpu),
        lineage=asked,
        origin_note=f"the recorded runs at scale {scale:g}, precision {precision}",
    )
    raise click.exceptions.Exit(status)
