"""`tuner runs`: single configurations, as files."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote
from typing import Any

import click

from results.output import Sheet, render
from results.store.paths import check_name
from results.trials import find_trial, trial_run_text
from search_spaces import InputError, diff, load_run, run_names, to_dict
from search_spaces.recorded import LINEAGE
from search_spaces.writing import refuse_existing, write_text
from tuner.analysis.pictures import plot_schedules
from tuner.commands.options import format_option, out_option, results_option
from tuner.commands.sections import NearestNames


@click.group(cls=NearestNames, invoke_without_command=True, epilog="Example: tuner runs show run16_5")
@click.pass_context
def runs(context: click.Context) -> None:
    """List, show, compare and plot single configurations; save a trial as one."""
    if context.invoked_subcommand:
        return
    rows = []
    for name in [*LINEAGE, *(name for name in run_names() if name not in LINEAGE)]:
        run = load_run(name)
        rows.append(
            {
                "run": name,
                "from": run.parent,
                "schedule": run.config.schedule.kind,
                "peak_lr": run.config.schedule.peak_lr,
                "averaging": run.config.averaging.kind,
                "batches": run.config.training.batches,
                "recorded_per": run.recorded.get("per"),
                "assumed": len(run.assumed),
                "remarks": len(run.remarks),
                "phase": run.phase,
            }
        )
    click.echo(render(Sheet.of(rows), "table"))
    click.echo("next: tuner runs show NAME; tuner runs plot; tuner train NAME --data FOLDER")


@runs.command(
    "show",
    epilog="Example: tuner runs show run16_5. What it prints is a run file: "
    "tuner runs show run16_5 > mine.yaml; tuner train mine.yaml --data data/small",
)
@click.argument("name")
@click.option(
    "--format",
    "form",
    type=click.Choice(["yaml", "json"]),
    default="yaml",
    show_default=True,
    help="yaml = a run file with comments; json = the same facts for programs.",
)
def show(name: str, form: str) -> None:
    """Show the whole configuration of run NAME (a name from 'tuner runs', or a file).

    Comments say which values differ from its parent run, which are assumed and why, what was recorded, and where the
    record is doubtful.
    """
    run = load_run(name)
    click.echo(json.dumps(_facts(run), indent=2) if form == "json" else _annotated(run), nl=form == "json")


def _facts(run: Any) -> dict[str, Any]:
    changed = diff(run.parent_config, run.config) if run.parent_config else {}
    return {
        "run": run.name,
        "from": run.parent,
        "phase": run.phase,
        "purpose": run.purpose,
        "notes": run.notes,
        "config": to_dict(run.config),
        "changed": {path: {"from": old, "to": new} for path, (old, new) in changed.items()},
        "assumed": run.assumed,
        "recorded": run.recorded,
        "remarks": list(run.remarks),
    }


def _annotated(run: Any) -> str:
    facts = _facts(run)
    lines = [f"# {run.name}" + (f", from {run.parent}" if run.parent else "")]
    lines += [f"{key}: {_yaml(facts[key])}" for key in ("purpose", "phase", "notes") if facts[key]]
    for section, values in facts["config"].items():
        lines.append(f"{section}:")
        for key, value in sorted(values.items(), key=lambda item: item[0] != "kind"):
            remarks = _about(run, facts, f"{section}.{key}")
            lines.append(f"  {key}: {_yaml(value)}" + (f"  # {'; '.join(remarks)}" if remarks else ""))
        gone = {path: change["from"] for path, change in facts["changed"].items() if change["to"] == "absent"}
        lines += [
            f"  # without {run.parent}'s {path.split('.')[1]}: {_yaml(old)}"
            for path, old in gone.items()
            if path.split(".")[0] == section
        ]
    if run.recorded:
        lines.append("recorded:")
        lines += [f"  {key}: {_yaml(value)}" for key, value in run.recorded.items()]
    if run.remarks:
        lines.append("remarks:")
        lines += [f"  - {_yaml(remark)}" for remark in run.remarks]
    return "\n".join(lines) + "\n"


def _about(run: Any, facts: dict[str, Any], path: str) -> list[str]:
    """The comment on one value."""
    remarks = []
    if path in facts["changed"]:
        before = facts["changed"][path]["from"]
        remarks.append(f"{run.parent}: {'has none' if before == 'absent' else _yaml(before)}")
    if path in run.assumed:
        entry = run.assumed[path]
        where = "" if entry["run"] == run.name else f" ({entry['run']})"
        remarks.append(f"assumed{where}: {entry['reason']}")
    return remarks


def _yaml(value: Any) -> str:
    """A value as YAML on one line."""
    import yaml

    value = list(value) if isinstance(value, tuple) else value
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=True)
    return text.removesuffix("...\n").strip()


@runs.command("diff", epilog="Example: tuner runs diff run16_4 run16_5")
@click.argument("a")
@click.argument("b")
@format_option
def diff_runs(a: str, b: str, form: str) -> None:
    """Show the settings in which runs A and B differ."""
    left, right = load_run(a), load_run(b)
    rows = [
        # As text, so that 0.02 and "absent" can stand in one column.
        {"setting": path, a: _yaml(old), b: _yaml(new)}
        for path, (old, new) in diff(left.config, right.config).items()
    ]
    click.echo(render(Sheet.of(rows, ("setting", a, b)), form), nl=False)
    if not rows and form == "table":
        click.echo(f"{a} and {b} have the same configuration")


@runs.command(
    "plot", epilog="Example: tuner runs plot run13_onecycle_safe run16_5 run18_long_sgdr_swa --out schedules.svg"
)
@click.argument("names", nargs=-1)
@out_option("File to write: .png, .svg or .html.", default=Path("schedules.png"))
@click.option("--linear", is_flag=True, help="A linear axis of rates [default: a logarithmic one].")
def plot(names: tuple[str, ...], out: Path, linear: bool) -> None:
    """Plot the learning rates of runs NAMES over the batches (default: all recorded runs).

    The PER that was recorded of a run stands beside its name.
    """
    found = {name: load_run(name) for name in names or LINEAGE}
    configs = {name: run.config for name, run in found.items()}
    pers = {name: float(run.recorded["per"]) for name, run in found.items() if run.recorded.get("per") is not None}
    lines = plot_schedules(configs, out, pers, linear)
    same = f" ({len(configs)} runs, some with the same rates)" if lines < len(configs) else ""
    click.echo(f"wrote {out}: {lines} learning rates{same}; open it in a browser or picture viewer")


@runs.command(
    "save",
    epilog="Example: tuner runs save an4 9 an4-9; tuner train an4-9.yaml --data data/an4 --set training.seed=1",
)
@click.argument("study")
@click.argument("trial")
@click.argument("name")
@click.option(
    "--out",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    show_default=True,
    help="Folder for the file.",
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@results_option
def save(study: str, trial: str, name: str, folder: Path, force: bool, results_dir: Path) -> None:
    """Save TRIAL (a number, or a run's name) of STUDY as the run file NAME.yaml.

    The file holds the whole configuration, its origin, and the PER that it reached. A space can start from it.
    """
    name = name.removesuffix(".yaml")
    try:
        check_name(name)
    except InputError as error:
        raise InputError(line.replace("study", "run", 1) for line in error.problems) from None
    if name in run_names():
        raise InputError(f"run {name!r}: is the name of a run that comes with the program; choose another name")
    path = folder / f"{name}.yaml"
    refuse_existing(path, force)
    found = find_trial(results_dir, study, trial)
    write_text(path, trial_run_text(found), force=force)
    if load_run(path).config != found.config:
        raise RuntimeError(f"{path} does not give the configuration of {found.name}")
    click.echo(f"wrote {path}: trial {found.name}")
    click.echo(
        f"next: tuner train {quote(str(path))} --data FOLDER; "
        f"in a space: base: {path.name}, or start_points: [{path.name}]"
    )
