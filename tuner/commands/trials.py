"""`tuner show` and `tuner compare`: single trials in detail."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from results.output import Sheet, format_value, render, visible
from results.store.paths import where_option
from results.store.replay import schema
from results.terminal_plot import Line, plot
from results.trials import Trial, base_config, find_trial, parse_name
from results.verdicts.common import CommonPlace, all_ended, common_place
from results.verdicts.compared import verdict
from search_spaces import ABSENT, InputError, RunConfig, flatten, load_run, to_dict
from search_spaces.parsing.fields import kinds
from search_spaces.parsing.sections import same
from search_spaces.writing import flow
from tuner.commands.options import json_option, results_option
from tuner.study.settings import StudySettings

_NUMBERS = ("status", "origin", "best_per", "best_epoch", "last_per", "epochs", "cpu_seconds", "gpu_seconds", "seed")


@click.command(
    epilog="""\b
Examples:
  tuner show an4 9
  tuner show an4/9 --format json
  tuner show recorded run16_5
"""
)
@click.argument("study")
@click.argument("trial", required=False)
@json_option
@results_option
def show(study: str, trial: str | None, form: str, results_dir: Path) -> None:
    """Show one TRIAL (a number, or a run's name) of STUDY: result, settings, curve, checkpoints, events.

    The last lines are the commands that train it again and that save it as a run file.
    """
    found = find_trial(results_dir, *_pair(study, trial))
    if form == "json":
        click.echo(json.dumps(_facts(found, results_dir), indent=2, default=str, ensure_ascii=False))
        return
    click.echo(_headline(found))
    click.echo("")
    click.echo(_curve(found), nl=False)
    click.echo("")
    click.echo(_configuration(found))
    click.echo(_history(found))
    for line in _again(found, results_dir):
        click.echo(line)


def _pair(study: str, trial: str | None) -> tuple[str, str]:
    """(study, trial) of `STUDY TRIAL` or `STUDY/TRIAL`."""
    if trial is not None:
        return study, trial
    name, slash, number = study.rpartition("/")
    if not slash:
        raise click.UsageError(f"give a trial too: tuner show {study} 0; 'tuner best {study}' lists them")
    return name, number


def _headline(trial: Trial) -> str:
    row, epochs, inherited = trial.row, trial.config.epochs, trial.row.get("from_trial_epoch") or 0
    done = inherited + (row["epochs"] or 0)
    lines = [f"trial {trial.name}: {row['status']} after {done} of {epochs} epochs, {row['origin']}"]
    if inherited:
        lines += [
            f"its first {inherited} epochs are those of trial {row['from_trial']}, with the settings of that trial"
        ]
    if row["run"]:
        lines[0] += f", run {visible(row['run'])}"
    if row["best_per"] is not None:
        at = f" at epoch {row['best_epoch']}" if row["best_epoch"] else ""
        last = f", last PER {row['last_per']:.4f}" if row["last_per"] is not None else ""
        lines.append(f"best PER {row['best_per']:.4f}{at}{_weights(trial)}{last}")
    spent = {"CPU": row["cpu_seconds"], "GPU": row["gpu_seconds"]}
    facts = [f"{format_value(seconds)} {unit} seconds" for unit, seconds in spent.items() if seconds]
    facts += [f"{row['attempts']} attempts"] if (row["attempts"] or 1) > 1 else []
    facts += [f"on {visible(str(row['host']))}"] if row["host"] else []
    lines += [", ".join(facts)] if facts else []
    why = "why it ended" if row["status"] == "stopped" else "error"
    lines += [f"{why}: {visible(row['error'])}"] if row["error"] else []
    lines += [f"{key}: {visible(row[key])}" for key in ("purpose", "note", "notes", "tags") if row[key]]
    return "\n".join(lines)


def _weights(trial: Trial) -> str:
    """Which weights the best PER is of, where they are not all the same."""
    name = trial.row["best_average"]
    if name is None or trial.config.averaging.kind == "none":
        return ""
    return {"raw": ", of the raw weights", "swa": ", of the mean of the weights"}.get(name, f", of the EMA of {name}")


def _curve(trial: Trial) -> str:
    averaging = trial.config.averaging
    averaged = averaging.kind != "none"
    several = getattr(averaging, "decays", None) or getattr(averaging, "or_raw", False)
    name = "PER of the best weights" if several else "PER of the averaged weights" if averaged else "PER"
    lines = [Line(name, _points(trial, "per"), "●")]
    if averaged:
        lines.append(Line("of the raw weights", _points(trial, "per_raw"), "○", joined=False))
    rungs = [row["rung"] for row in trial.epochs if row["rung"] is not None]
    text = plot(lines, width=_width(), height=14, x_label="epoch", verticals=rungs)
    return text + (f"{'':9}┊ rungs: epoch {', '.join(map(str, rungs))}\n" if rungs else "")


def _points(trial: Trial, column: str) -> list[tuple[float, float | None]]:
    return [(row["epoch"], row[column]) for row in trial.epochs]


def _width() -> int:
    return min(100, shutil.get_terminal_size((100, 24)).columns)


def _configuration(trial: Trial) -> str:
    """What differs from the base run as a table, the rest in a few lines."""
    base = base_config(trial.settings)
    origin, reference = base if base else ("the defaults", None)
    rows, rest = _differences(trial.config, reference, _searched(trial), trial.unknown)
    against = f"the base run {origin}" if base else origin
    lines = [f"configuration; what differs from {against}, and what was searched (*):", ""]
    sheet = Sheet.of(rows, ("setting", "value", "base" if base else "default"))
    lines.append(render(sheet, "table") if rows else "nothing differs\n")
    lines += [f"the rest is as in {against}:"]
    for section, values in rest.items():
        text = ", ".join(f"{key} {value}".strip() for key, value in values.items())
        lines += click.wrap_text(
            text, width=_width(), initial_indent=f"  {section:<13}", subsequent_indent=" " * 15
        ).splitlines()
    return "\n".join(lines) + "\n"


def _searched(trial: Trial) -> set[str]:
    """The paths that the searcher gave a value."""
    space = StudySettings.read(trial.settings).space or {"dimensions": []}
    return {d["path"] for d in space["dimensions"] if d["name"] in trial.params}


def _differences(
    config: RunConfig, reference: RunConfig | None, searched: set[str], unknown: Sequence[str] = ()
) -> tuple[list[dict[str, Any]], dict[str, dict[str, str]]]:
    """Rows for what differs from `reference` (None: from the defaults) or was searched, and the other settings."""
    flat = flatten(config)
    base = flatten(reference) if reference is not None else {}
    rows: list[dict[str, Any]] = []
    rest: dict[str, dict[str, str]] = {}
    for path, value in flat.items():
        section, key = path.split(".")
        if path in unknown:
            rest.setdefault("not known", {})[path] = ""
            continue
        if reference is not None:
            before = base.get(path, ABSENT)
        else:
            kind = flat.get(f"{section}.kind")
            info = kinds(section)[kind].model_fields[key]
            before = ABSENT if info.is_required() else info.get_default()
        if value != before or path in searched:
            column = "base" if reference is not None else "default"
            shown = "" if before == ABSENT else _short(before)
            rows.append({"setting": path + " *" * (path in searched), "value": _short(value), column: shown})
        else:
            rest.setdefault(section, {})[key] = _short(value)
    return rows, rest


def _short(value: Any) -> str:
    """A setting as YAML, five digits of it; --format json and run files have them all."""
    return f"{value:.5g}" if isinstance(value, float) else flow(value)


def _history(trial: Trial) -> str:
    lines = ["checkpoints:"]
    kept = trial.checkpoints
    lines += [f"  {trial.folder / path}  {_size(size)}" for path, size in kept.items()] or ["  none saved"]
    lines.append("events:")
    begun = trial.events[0]["time"]
    for event in trial.events:
        lines.append(f"  {_clock(event['time'], begun)}  {_event(event)}")
    decided = [row for row in trial.epochs if row["rung"] is not None or row["reason"]]
    for row in decided:
        rung = f"rung at epoch {row['epoch']}" if row["rung"] is not None else f"epoch {row['epoch']}"
        why = f": {visible(row['reason'])}" if row["reason"] else ""
        lines.append(f"  {rung}: {row['decision']}{why}")
    return "\n".join(lines) + "\n"


def _event(event: Mapping[str, Any]) -> str:
    attempt = f"attempt {event['attempt']}"
    if event["event"] == "trial_started":
        origin = f", from epoch {event['from_epoch']}" if event.get("from_epoch") else ""
        host = f" on {visible(str(event['host']))}" if event.get("host") else ""
        return f"{attempt} started{host}{origin}"
    error = f": {visible(event['error'])}" if event.get("error") else ""
    return f"{attempt} ended, {event.get('status')}{error}"


def _clock(seconds: float, begun: float) -> str:
    from datetime import UTC, datetime

    stamp = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{stamp} UTC" + (f" (+{seconds - begun:.0f} s)" if seconds > begun else "")


def _size(size: int) -> str:
    return f"{size / 2**20:.1f} MB" if size >= 2**20 else f"{size / 2**10:.0f} kB"


def _again(trial: Trial, results_dir: Path) -> list[str]:
    """The commands that train the trial again and save it; the first gives the same PERs on the same CPU."""
    import shlex

    where = where_option(results_dir)
    name = shlex.quote(f"{trial.study}/{trial.number}")
    study = shlex.quote(trial.study)
    settings = StudySettings.read(trial.settings)
    path = settings.data.path
    data = shlex.quote(path) if path and path != "not here" else "FOLDER"
    cores = settings.resources.cpus_per_trial
    threads = f" --threads {int(cores)}" if cores >= 2 else ""
    lines = [
        "again:",
        f"  tuner train {name} --data {data}{threads}{where} --out best.pt",
        f"  tuner runs save {study} {trial.number} NAME{where}; tuner train NAME.yaml --data {data}",
    ]
    if trial.row["checkpoint"] and trial.row["checkpoint"] in trial.checkpoints:
        lines.append(f"  tuner export {study} --trial {trial.number} --best bundle{where} --out FOLDER")
    return lines


def _facts(trial: Trial, results_dir: Path) -> dict[str, Any]:
    return {
        **{key: value for key, value in trial.row.items() if key in _known_columns()},
        "config": _known(trial),
        "params": trial.params,
        "curve": trial.epochs,
        "checkpoints": trial.checkpoints,
        "events": trial.events,
        "again": [line.strip() for line in _again(trial, results_dir)[1:]],
    }


def _known(trial: Trial) -> dict[str, Any]:
    """The configuration; null for what is not known of an imported run."""
    return {
        section: {key: None if f"{section}.{key}" in trial.unknown else value for key, value in values.items()}
        for section, values in to_dict(trial.config).items()
    }


def _known_columns() -> list[str]:
    return list(schema("trials").names)


@click.command(
    epilog="""\b
Examples:
  tuner compare an4/9 an4/3 an4/0
  tuner compare an4/9 small
"""
)
@click.argument("names", nargs=-1, required=True, metavar="A B ...")
@results_option
def compare(names: tuple[str, ...], results_dir: Path) -> None:
    """Compare trials and runs side by side: settings, curves, results, and ties.

    A trial is STUDY/TRIAL; a run is a name from 'tuner runs' or a file. A run has no curve; its PER is the recorded
    one, if there is one.
    """
    if len(names) < 2:
        raise click.UsageError(f"give two or more, such as tuner compare {names[0]} small")
    if len(names) > 26:
        raise click.UsageError("give at most 26: each one is shown with a letter")
    compared = _load(names, results_dir)
    click.echo(_compared_settings(compared))
    click.echo(_compared_curves(compared), nl=False)
    click.echo(_compared_results(compared), nl=False)
    for note in _verdict(compared, results_dir):
        click.echo(note)


def _load(names: Sequence[str], results_dir: Path) -> dict[str, tuple[str, RunConfig, Trial | None, Mapping[str, Any]]]:
    """Letter -> (name, configuration, trial or None, recorded). Raises InputError, a line for each wrong name."""
    found: dict[str, tuple[str, RunConfig, Trial | None, Mapping[str, Any]]] = {}
    problems = []
    for letter, name in zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", names, strict=False):
        pair = parse_name(name)
        try:
            if pair is not None and not name.endswith((".yaml", ".yml")):
                trial = find_trial(results_dir, *pair)
                found[letter] = (trial.name, trial.config, trial, {})
            else:
                run = load_run(name)
                found[letter] = (run.name, run.config, None, run.recorded)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(dict.fromkeys(problems))
    return found


def _compared_settings(compared: Mapping[str, Any]) -> str:
    flats = {letter: flatten(config) for letter, (_, config, _, _) in compared.items()}
    for letter, (_, _, trial, _) in compared.items():
        flats[letter] |= dict.fromkeys(trial.unknown if trial else (), "not known")
    rows = []
    for path in dict.fromkeys(path for flat in flats.values() for path in flat):
        values = [flat.get(path, ABSENT) for flat in flats.values()]
        if any(not same(value, values[0]) for value in values) and path != "training.seed":
            shown = ["" if value == ABSENT else _short(value) for value in values]
            rows.append({"setting": path, **dict(zip(flats, shown, strict=True))})
    headers = {letter: f"{letter}: {name}" for letter, (name, *_) in compared.items()}
    if not rows:
        return "the same configuration" + "; only the seeds differ" * _seeds_differ(flats) + "\n"
    return render(Sheet.of(rows, ("setting", *compared)), "table", headers=headers)


def _seeds_differ(flats: Mapping[str, Mapping[str, Any]]) -> bool:
    return len({flat["training.seed"] for flat in flats.values()}) > 1


def _compared_curves(compared: Mapping[str, Any]) -> str:
    lines = [
        Line(name, _points(trial, "per"), letter)
        for letter, (name, _, trial, _) in compared.items()
        if trial is not None and trial.epochs
    ]
    return plot(lines, width=_width(), height=18, x_label="epoch; PER") + "\n" if lines else ""


def _compared_results(compared: Mapping[str, Any]) -> str:
    trials = [trial for _, _, trial, _ in compared.values() if trial is not None]
    place: CommonPlace | str | None = None
    if len(trials) > 1 and not all_ended([trial.row for trial in trials]):
        place = common_place([trial.row for trial in trials], [trial.epochs for trial in trials])
    reached = (
        dict(zip((trial.name for trial in trials), place.best, strict=True)) if isinstance(place, CommonPlace) else {}
    )
    rows = []
    for letter, (name, _, trial, recorded) in compared.items():
        row: dict[str, Any] = {"": letter, "name": name}
        if trial is not None:
            row |= {column: trial.row[column] for column in _NUMBERS}
            if isinstance(place, CommonPlace):
                row[f"per until {place.text}"] = reached[name]
        else:
            row |= {"status": "a run", "origin": "recorded" if recorded else "", "best_per": recorded.get("per")}
        rows.append(row)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    idle = [name for name in ("cpu_seconds", "gpu_seconds") if not any(row.get(name) for row in rows)]
    return render(Sheet.of(rows, columns), "table", hide=idle) + "\n"


def _verdict(compared: Mapping[str, Any], results_dir: Path) -> list[str]:
    trials = [trial for _, _, trial, _ in compared.values() if trial is not None]
    notes = []
    if len(trials) > 1:
        notes = verdict(results_dir, [trial.row for trial in trials], [trial.epochs for trial in trials])
    if any(recorded.get("per") is not None for *_, recorded in compared.values()):
        notes.append("a recorded PER is from another machine, and perhaps other data; it is not used for ties")
    return notes
