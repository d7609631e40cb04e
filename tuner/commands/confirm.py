"""`tuner confirm`: train the best configurations again with new seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from results.confirmed import confirmed
from results.store.paths import study_folder
from results.trials import read_log
from search_spaces import InputError
from tuner.commands.options import format_option, observer_options, resource_options, results_option
from tuner.launch.checks import at_once
from tuner.launch.search import data_of, resume, run_plan
from tuner.planned.confirm import check_resumed, cost, fresh_seeds, leaders, make_plan, note_on_heirs
from tuner.study.request import Request
from tuner.study.settings import StudySettings


@click.command(
    epilog="""\b
Examples:
  tuner confirm an4 --top 5 --seeds 5
  tuner confirm an4 --resume
  tuner confirm an4 --table --format markdown
"""
)
@click.argument("study")
@click.option("--top", type=click.IntRange(min=1), help="How many of the best configurations. [default: 5]")
@click.option("--seeds", type=click.IntRange(min=2), help="New seeds for each. [default: 5]")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed from which the new seeds are drawn."
)
@click.option("--data", "data_dir", type=click.Path(path_type=Path), help="Data folder [default: the study's].")
@click.option("--study", "name", help="Name of the new study [default: STUDY-confirm].")
@click.option("--resume", "resume_", is_flag=True, help="Continue the new study if it exists.")
@click.option("--table", "table_only", is_flag=True, help="Train nothing; show the results so far.")
@resource_options
@observer_options
@format_option
@results_option
def confirm(
    study: str,
    top: int | None,
    seeds: int | None,
    seed: int,
    data_dir: Path | None,
    name: str | None,
    resume_: bool,
    table_only: bool,
    form: str,
    results_dir: Path,
    **given: Any,
) -> None:
    """Train the best configurations of STUDY again with new seeds, and rank them by their mean PER.

    Its cost is said before it begins. No trial is stopped early. The trials are a new study, STUDY-confirm. 'tuner best
    STUDY' then ranks by the means, with confidence intervals and ties.
    """
    name = f"{study}-confirm" if name is None else name
    folder = study_folder(results_dir, name)
    data_dir = data_dir or data_of(results_dir, study)
    if table_only:
        found = confirmed(results_dir, [study])
        if found is None:
            raise InputError(f"{study}: no trial with a new seed has ended yet; run 'tuner confirm {study}' first")
        click.echo(found.render(form), nl=False)
        return
    if resume_ and folder.exists():
        check_resumed(results_dir, name, study, top, seeds)
        raise click.exceptions.Exit(resume(name, Request(results_dir=results_dir, data=data_dir, **given)))
    chosen = leaders(results_dir, study, top or 5)
    before = StudySettings.read(read_log(results_dir / study)[0])
    if len(chosen) < (top or 5):
        click.echo(
            f"note: {study} has {len(chosen)} configurations with a PER; all of them are trained again", err=True
        )
    if note := note_on_heirs(results_dir, study, chosen):
        click.echo(f"note: {note}", err=True)
    plan = make_plan(study, chosen, fresh_seeds(before.seed, seeds or 5, seed))
    resources = {
        key: getattr(before.resources, key) for key in ("cpus_per_trial", "gpus_per_trial") if given[key] is None
    }
    request = Request(results_dir=results_dir, data=data_dir, **{**given, **resources})
    status = run_plan(
        name,
        request,
        lambda dataset: _on_same_data(plan, dataset, before, request),
        confirms=study,
        origin_note=f"the {len(chosen)} best of {study} again, {seeds or 5} new seeds each",
    )
    raise click.exceptions.Exit(status)


def _on_same_data(plan: list[Any], dataset: Any, before: StudySettings, request: Request) -> list[Any]:
    """The plan, once its cost was said; raises InputError for other data than the study's."""
    if dataset.fingerprint != before.data.fingerprint:
        raise InputError(
            f"{request.data}: {before.study} was trained on other data, so the PERs cannot be compared; "
            "give the same data with --data"
        )
    click.echo(f"cost: {cost(request.results_dir, before.study, plan, at_once(request))}", err=True)
    return plan
