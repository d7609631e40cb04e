"""`tuner campaign`: everything around a search, from the checks to the answer."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from results.store.paths import check_name, study_folder
from search_spaces import InputError, Space, load_space
from search_spaces.lengths.scaled_space import scaled_space
from trainable.data.checks import ERROR, check_dataset
from trainable.data.intact import open_intact
from tuner.campaign import record
from tuner.campaign.answer import goal
from tuner.campaign.costs import chosen_limit, parse_shares
from tuner.campaign.planning import fitted, plan_text
from tuner.campaign.record import STUDIES, Campaign, CampaignAsked
from tuner.campaign.run import run
from tuner.campaign.studies import PLACED, SEARCHED
from tuner.campaign.test_split import outlook
from tuner.commands.options import FiniteRange, format_option, resource_options, results_option, scale_option
from tuner.commands.plan import fitting, measured
from tuner.commands.sections import Sectioned
from tuner.launch.checks import check_data, check_writable, first_config, start_points
from tuner.launch.new_study import new_settings, trial_resources
from tuner.study.request import Request


def _budget(function: Any) -> Any:
    """The one budget, besides --hours, and how it is divided."""
    options = (
        click.option(
            "--gpu-hours", type=FiniteRange(min=0, min_open=True), help="Budget in GPU hours, all steps together."
        ),
        click.option("--batches", type=click.IntRange(min=1), help="Budget in batches (optimizer steps)."),
        click.option("--utterances", type=click.IntRange(min=1), help="Budget in utterances that are trained on."),
        click.option("--trials", type=click.IntRange(min=1), help="Budget in trials, fresh seeds counted."),
        click.option(
            "--shares",
            metavar="STEP=SHARE,...",
            help="How the budget is divided; the confirmation gets at least two fresh seeds of one configuration "
            "[default: search=0.6,narrow=0.2,confirm=0.2].",
        ),
        click.option(
            "--top", type=click.IntRange(min=1), default=5, show_default=True, help="Most configurations to confirm."
        ),
        click.option(
            "--seeds", type=click.IntRange(min=2), default=5, show_default=True, help="Most fresh seeds for each."
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command(
    cls=Sectioned,
    epilog="""\b
Examples:
  tuner campaign small --data data/t15 --gpu-hours 24 --beat 0.2046
  tuner campaign small --data data/t15 --hours 8 --plan
  tuner campaign small --data data/an4 --batches 40000 --shares search=0.5,narrow=0.2,confirm=0.3
  tuner campaign --resume small
""",
)
@click.argument("space", required=False)
@click.option("--data", "data_dir", type=click.Path(path_type=Path), help="Packed data folder; required for a new one.")
@click.option("--name", help="Name of the campaign; its studies are NAME-search and so on [default: the space's name].")
@scale_option("Runs F times as long, as of 'tuner search'")
@_budget
@click.option(
    "--beat",
    metavar="WHAT",
    help="What to beat: a PER such as 0.2046, STUDY/TRIAL, STUDY for its best trial, a run for its recorded PER, or "
    "recorded for the best recorded one.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of searches and fresh seeds."
)
@click.option("--searcher", metavar="KIND", help="As of 'tuner search' [default: from the space].")
@click.option("--stopping", metavar="KIND", help="As of 'tuner search' [default: from the space].")
@click.option("--start", multiple=True, metavar="WHAT", help="As of 'tuner search': try this first.")
@click.option("--test/--no-test", default=True, show_default=True, help="Score the winner on the test split, once.")
@click.option(
    "--seconds-per-batch", type=FiniteRange(min=0, min_open=True), help="As of 'tuner plan' [default: measured]."
)
@click.option("--plan", "plan_only", is_flag=True, help="Show the plan and its cost; train nothing.")
@click.option(
    "--lengths",
    type=click.Choice(["auto", "whole"]),
    default="auto",
    show_default=True,
    help="auto = where the budget holds few whole runs, search in short ones and confirm in whole ones; whole = never.",
)
@click.option("--yes", is_flag=True, help="Where the budget is too small for whole runs, make all runs shorter.")
@click.option("--resume", "resumed", metavar="NAME", help="Go on with this campaign.")
@click.option("--force-unlock", is_flag=True, help="Remove the lock of a process that has died.")
@resource_options
@format_option
@results_option
def campaign(
    space: str | None,
    data_dir: Path | None,
    name: str | None,
    scale: float | None,
    plan_only: bool,
    yes: bool,
    resumed: str | None,
    force_unlock: bool,
    form: str,
    results_dir: Path,
    **given: Any,
) -> None:
    """Run a whole campaign in SPACE: search, narrowed search, confirmation, test, report, decoder, answer.

    One budget is divided between the steps. Each of them is an ordinary study (NAME-search, NAME-narrowed,
    NAME-confirmed) that the other commands show. Stopped anywhere, the same command goes on.
    """
    if resumed is not None:
        if space is not None or name is not None:
            raise click.UsageError("--resume NAME goes on with what was asked then; give neither SPACE nor --name")
        raise click.exceptions.Exit(go_on(results_dir, resumed, data_dir, force_unlock))
    if space is None or data_dir is None:
        raise click.UsageError("give SPACE and --data, such as: tuner campaign small --data data/small --hours 1")
    raise click.exceptions.Exit(
        begin(
            scaled_space(load_space(space), scale or 1),
            data_dir,
            name,
            results_dir,
            given,
            plan_only,
            yes,
            force_unlock,
            form,
        )
    )


def go_on(results_dir: Path, name: str, data_dir: Path | None = None, force_unlock: bool = False) -> int:
    """Go on with a campaign; returns the exit status."""
    found = record.load(results_dir, name)
    if data_dir is not None and str(data_dir.resolve()) != found.asked.data["path"]:
        moved = {**found.asked.data, "path": str(data_dir.resolve())}
        found = replace(found, asked=replace(found.asked, data=moved))
        found.save()
    return run(found, force_unlock)


def begin(
    space: Space,
    data_dir: Path,
    name: str | None,
    results_dir: Path,
    given: dict[str, Any],
    plan_only: bool = False,
    yes: bool = False,
    force_unlock: bool = False,
    form: str = "table",
) -> int:
    """Check a new campaign, show its plan, and run it; or go on with it where it was asked for before."""
    name = space.name if name is None else name
    check_name(name)
    before = record.load(results_dir, name) if record.is_campaign(results_dir, name) and not plan_only else None
    asked = ask(space, data_dir, name, results_dir, given, before.asked.seconds_per_batch if before else None)
    asked, notes = fitted(asked, yes)
    if before is not None:
        _refuse_other(before.asked, asked)
        return run(before, force_unlock)
    if taken := [n for n in (f"{name}-{end}" for end in STUDIES.values()) if study_folder(results_dir, n).exists()]:
        raise InputError(f"{results_dir / taken[0]}: the study exists, and is no campaign's; choose another --name")
    dataset = open_intact(data_dir)
    test = outlook(dataset, results_dir) if given["test"] else "not scored: --no-test"
    for note in notes:
        click.echo(f"note: {note}", err=True)
    click.echo(plan_text(asked, test, form), nl=False)
    if plan_only:
        return 0
    _check_dataset(dataset, space)
    _check_machine(results_dir)
    return run(Campaign(results_dir, asked), force_unlock)


def ask(
    space: Space,
    data_dir: Path,
    name: str,
    results_dir: Path,
    given: dict[str, Any],
    seconds: float | None = None,
) -> CampaignAsked:
    """What was asked for, checked: the options of the searches, the data, the limit, what to beat.

    `seconds` a batch takes, where that is known already.
    """
    limit, amount = chosen_limit(given)
    shares = parse_shares(given["shares"])
    options = {key: given[key] for key in (*PLACED, *SEARCHED) if given.get(key) not in (None, (), False)}
    wanted = Request(results_dir=results_dir, data=data_dir, **{**options, limit: given[limit]})
    dataset = open_intact(data_dir)
    starts, _ = start_points(space, results_dir, wanted.start)
    check_data(space, starts, dataset)
    auto = wanted.gpus_per_trial == "auto"
    new_settings(space, name, replace(wanted, gpus_per_trial=1.0) if auto else wanted, dataset)
    resources = trial_resources(replace(wanted, gpus_per_trial=1.0) if auto else wanted)
    goal(given["beat"], results_dir, dataset.fingerprint)
    at_once = given["concurrent"] or (fitting(resources) if given["address"] is None else 0)
    if not at_once:
        raise InputError("--address: give --concurrent with it, the number of trials that the cluster runs at once")
    seconds = given["seconds_per_batch"] or seconds
    if limit in ("hours", "gpu_hours") and seconds is None:
        seconds = measured(space, first_config(space, starts), data_dir, resources, at_once)
    return CampaignAsked(
        name=name,
        space=space.as_dict(),
        data={"path": str(data_dir.resolve()), "name": dataset.name, "fingerprint": dataset.fingerprint},
        limit=limit,
        amount=amount,
        shares=shares,
        seed=given["seed"],
        top=given["top"],
        seeds=given["seeds"],
        lengths=given["lengths"],
        beat=given["beat"],
        test=given["test"],
        options={key: list(value) if isinstance(value, tuple) else value for key, value in options.items()},
        seconds_per_batch=seconds,
        at_once=at_once,
        gpus_per_trial=resources.gpus_per_trial,
    )


_SAME = (
    "space",
    "data",
    "limit",
    "amount",
    "shares",
    "seed",
    "top",
    "seeds",
    "lengths",
    "shorter",
    "beat",
    "test",
    "options",
)


def _refuse_other(before: CampaignAsked, now: CampaignAsked) -> None:
    """Raises InputError where a campaign of that name was asked for something else."""
    wrong = [key for key in _SAME if _plain(getattr(before, key), key) != _plain(getattr(now, key), key)]
    if wrong:
        raise InputError(
            f"{before.name}: there is a campaign of that name with another {', '.join(wrong)}; go on with it by "
            f"'tuner campaign --resume {before.name}', or choose another --name"
        )


def _plain(value: Any, key: str) -> Any:
    return value["fingerprint"] if key == "data" else value


def _check_dataset(dataset: Any, space: Space) -> None:
    """Raises InputError with the errors that 'tuner data check' would find; prints the warnings."""
    config = first_config(space, [])
    found = check_dataset(dataset, config.model.kernel, config.model.stride)
    lines = [
        f"{each.check} ({each.split}): {each.count} {each.what}; {each.example}".rstrip("; ")
        for each in found
        if each.level == ERROR
    ]
    if lines:
        raise InputError(
            [f"{dataset.path}: {line}" for line in lines] + ["'tuner data check' has more; mend the data first"]
        )
    for each in found:
        if each.level != "note":
            print(f"{each.level}: {each.check} ({each.split}): {each.count} {each.what}", file=sys.stderr)


LEAST_FREE = 2**30
"""Bytes of free disk below which no campaign begins."""


def _check_machine(results_dir: Path) -> None:
    check_writable(results_dir)
    there = results_dir
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if free < LEAST_FREE:
        raise InputError(f"{there}: {free / 2**20:.0f} MB are free, and a campaign keeps checkpoints; make room first")
    cards = len(list(Path("/dev").glob("nvidia[0-9]*")))
    what = f"{cards} GPU{'s' * (cards != 1)}" if cards else "no GPU"
    print(f"machine: {len(os.sched_getaffinity(0))} cores, {what}, {free / 2**30:.0f} GB free", file=sys.stderr)
