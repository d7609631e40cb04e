"""`tuner spaces`: what can be searched."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Any

import click

from results.output import Sheet, render
from search_spaces import InputError, load_space, space_names
from search_spaces.foreign.importing import import_space, write_import
from search_spaces.stopping import STOPPING_KINDS, rule_text
from search_spaces.wording import did_you_mean, either, show
from tuner.analysis.narrow import write_space
from tuner.commands.options import FiniteRange, format_option, out_option, results_option
from tuner.commands.sections import NearestNames
from tuner.study import budgets


def _rows(rows: list[dict[str, Any]], form: str) -> str:
    import pyarrow as pa

    return render(pa.Table.from_pylist(rows), form)


@click.group(cls=NearestNames, invoke_without_command=True, epilog="Example: tuner spaces show small")
@click.pass_context
def spaces(context: click.Context) -> None:
    """List and show search spaces; make a narrower one; import one from another program."""
    if context.invoked_subcommand:
        return
    rows = []
    for name in space_names():
        space = load_space(name)
        rows.append(
            {
                "space": name,
                "dimensions": len({d.path for d in space.dimensions}),
                "base": space.base,
                "trials": space.budget.trials,
                "stopping": space.stopping.kind,
                "purpose": space.purpose,
            }
        )
    click.echo(_rows(rows, "table"))
    click.echo("\nnext: tuner spaces show NAME; tuner search NAME --data FOLDER")


@spaces.command("show", epilog="Example: tuner spaces show small")
@click.argument("name")
@format_option
def show_space(name: str, form: str) -> None:
    """Show what a space searches: a NAME from 'tuner spaces', or a file."""
    space = load_space(name)
    rows = [
        {
            "dimension": d.path,
            "values": describe_values(d),
            "when": describe_when(d.when),
        }
        for d in space.dimensions
    ]
    if form != "table":
        click.echo(_rows(rows, form))
        return
    facts = {
        "base run": space.base,
        "fixed": ", ".join(f"{key} = {value}" for key, value in space.fixed.items()) or "-",
        "constraints": "; ".join(map(str, space.constraints)) or "-",
        "start points": ", ".join(space.start_points) or "-",
        "objective": space.objective,
        "searcher": _settings(space.searcher.model_dump(exclude_none=True)),
        "stopping": rule_text(space.stopping.model_dump()),
        "budget": budgets.text(budgets.merged(space.budget.model_dump(), {})),
    }
    # Made before anything is printed: a start point that the space cannot hold is an error, not the end of a page.
    notes = [f"note: start point {start}: {n}" for start in space.start_points for n in space.start_params(start)[1]]
    click.echo(f"{space.name}: {space.purpose}\n")
    click.echo(_rows(rows, form))
    click.echo("")
    for key, value in facts.items():
        click.echo(f"{key:<14}{value}")
    for note in notes:
        click.echo(note)


@spaces.command("rules", epilog="Example: tuner spaces rules asha")
@click.argument("kind", required=False)
@format_option
def show_rules(kind: str | None, form: str) -> None:
    """List the early-stopping rules, or the settings of one KIND."""
    if kind is None:
        kinds = [
            {"rule": name, "what it does": (rule.__doc__ or "").splitlines()[0], "right for": rule.right_for}
            for name, rule in STOPPING_KINDS.items()
        ]
        click.echo(_rows(kinds, form))
        if form == "table":
            click.echo('\nnext: tuner spaces rules asha; tuner search SPACE --stopping "asha at=horizon grace=0.25"')
        return
    if kind not in STOPPING_KINDS:
        near = did_you_mean(kind, STOPPING_KINDS)
        raise InputError(f"{kind}: there is no such stopping rule; {near}give {either(list(STOPPING_KINDS))}")
    fields = [(name, about) for name, about in STOPPING_KINDS[kind].model_fields.items() if name != "kind"]
    rows = [{"setting": n, "default": show(about.default), "what it does": about.description} for n, about in fields]
    if rows:
        click.echo(_rows(rows, form))
    if form == "table":
        given = " ".join(["", *(f"{row['setting']}={row['default']}" for row in rows[:2])])
        click.echo(f'\nnext: tuner search SPACE --data FOLDER --stopping "{kind}{given}"')


@spaces.command(
    "narrow",
    epilog="Example: tuner spaces narrow an4 --keep 0.2 --out an4-2.yaml; tuner search an4-2.yaml --data data/an4",
)
@click.argument("study")
@click.option(
    "--keep",
    type=FiniteRange(0, 0.5, min_open=True),
    default=0.25,
    show_default=True,
    help="Fraction of the trials that counts as the best.",
)
@out_option("Space file to write [default: STUDY-narrow.yaml].", with_force=True)
@results_option
def narrow_space(study: str, keep: float, out: Path | None, force: bool, results_dir: Path) -> None:
    """Write a narrower space file around the best trials of STUDY.

    Each range shrinks to the values of the best trials. A choice is dropped if it does not occur among the best trials
    and chance does not explain that. The best trial becomes the start point of the new space.
    """
    out = out or Path(f"{study}-narrow.yaml")
    _, changes, written = write_space(results_dir, study, out, keep, force)
    rows = [
        {
            "dimension": change.old.path,
            "when": describe_when(change.old.when),
            "was": describe_values(change.old),
            "now": "gone" if change.new is None else "the same" if same else describe_values(change.new),
            "in top": f"{change.in_top} of {change.tried}",
            "why": change.why,
        }
        for change in changes
        if change.old.sampled or change.new is None
        for same in [change.new is not None and change.new.words() == change.old.words()]
    ]
    columns = ["dimension", "when", "was", "now", "in top", "why"]
    if not any(row["when"] for row in rows):
        columns.remove("when")
    click.echo(render(Sheet.of(rows, columns), "table"))
    for path in written:
        click.echo(f"wrote {path}")
    click.echo(f"next: tuner spaces show {quote(str(out))}; tuner search {quote(str(out))} --data FOLDER")


@spaces.command(
    "import",
    epilog="""\b
Examples:
  tuner spaces import sweep.yaml --out mine.yaml
  tuner spaces import conf/config.yaml --base speechBaseline4 --map model.width=model.hidden --out mine.yaml
  tuner spaces import optuna.db --study gru --out mine.yaml
""",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--base", default="small", show_default=True, help="Run whose settings hold where nothing is searched.")
@click.option(
    "--map",
    "mapped",
    multiple=True,
    metavar="NAME=PATH",
    help="The setting that a parameter of FILE is, such as width=model.hidden; can be given several times.",
)
@click.option("--study", help="Study to take from an Optuna storage that has several.")
@out_option("Space file to write [default: FILE-space.yaml].", with_force=True)
def import_file(
    file: Path, base: str, mapped: tuple[str, ...], study: str | None, out: Path | None, force: bool
) -> None:
    """Turn the search in FILE into a space file.

    FILE is a W&B sweep, a configuration with a section for Hydra's Optuna sweeper, or an Optuna study: its SQLite
    storage, its journal, or its distributions as JSON. What has no counterpart is a remark, here and in the file.
    """
    pairs = [text.partition("=") for text in mapped]
    if wrong := [text for text, (name, sign, path) in zip(mapped, pairs, strict=True) if not (name and sign and path)]:
        raise InputError(f"--map {wrong[0]}: is not allowed; give NAME=SECTION.KEY, such as width=model.hidden")
    found = import_space(file, base, {name.strip(): path.strip() for name, _, path in pairs}, study)
    out = out or Path(f"{file.stem}-space.yaml")
    space = write_import(found, out, force)
    here = {d.path: describe_values(d) for d in space.dimensions}
    rows = [
        {
            "there": line.name,
            "values there": line.there,
            "here": line.path if line.entry else "-",
            "values": here[line.path] if line.entry and line.path else "",
            "remark": "; ".join(line.remarks),
        }
        for line in found.lines
    ]
    click.echo(f"{found.source}:\n")
    click.echo(render(Sheet.of(rows, list(rows[0])), "table"))
    for remark in found.remarks:
        click.echo(f"note: {remark}")
    click.echo(f"wrote {out}")
    click.echo(f"next: tuner spaces show {quote(str(out))}; tuner search {quote(str(out))} --data FOLDER")


def _settings(values: dict[str, Any]) -> str:
    kind = values.pop("kind")
    rest = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in values.items())
    return f"{kind} ({rest})" if rest else kind


def describe_values(d: Any) -> str:
    """A dimension's values in a few words."""
    if d.kind in ("choice", "value"):
        return ", ".join("null" if c is None else str(c) for c in d.choices)
    text = f"{d.low:g} to {d.high:g}" + (", log" if d.log else "")
    if d.mean is not None:
        of = "log normal, its log " if d.log else "normal "
        text = f"{of}{d.mean:g} +- {d.sd:g}, within {d.low:g} to {d.high:g}"
    if d.q is not None:
        text += f", steps of {d.q:g}"
    if d.of:
        text += f", times {d.of}"
    if d.complement:
        text = f"1 - ({text})"
    return "".join([text, *(f", or {show(value)}" for value in d.alternative)])


def describe_when(when: Any) -> str:
    """A condition in a few words; empty where there is none."""
    parts = []
    for path, allowed in dict(when or {}).items():
        several = isinstance(allowed, list | tuple)
        parts.append(
            f"{path} in {', '.join(map(str, allowed))}"
            if several and len(allowed) > 1
            else f"{path} = {allowed[0] if several else allowed}"
        )
    return " and ".join(parts)
