"""`tuner studies`, and what `tuner` alone shows: all studies at a glance, and what to do next."""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any

import click

from results.confirmed import confirmed
from results.output import Sheet, clock, format_value, render
from results.statistics import student_t
from results.store.lock import holder_of
from results.store.paths import RESULTS, StudyPaths, find_studies, where_option
from results.store.tables import load_tables
from results.store.telling import tell
from results.verdicts.luck import Luck
from results.verdicts.repeats import folder_luck
from search_spaces import InputError
from tuner.commands.options import format_option, results_option
from tuner.study.budgets import REASONS

Row = dict[str, Any]
STATES = ("running", "completed", "stopped", "paused", "interrupted", "diverged", "failed")
"""A trial's, in the order in which they are counted out."""
_TABLE = ("study", "state", "data", "best", "trials", "spent", "last sign", "tags", "notes")
"""The columns for people; programs get a column for each number."""


@click.command(epilog="Example: tuner studies; tuner studies --format json")
@format_option
@results_option
def studies(form: str, results_dir: Path) -> None:
    """Show all studies: state, data, best PER with its interval, trials, time spent, last sign of life.

    Running ones come first, then those with the latest sign of life. The interval, of 95 %, is that of the mean over
    new seeds after 'tuner confirm', else what a single seed may be off.
    """
    rows = overview(results_dir)
    click.echo(_rendered(rows, form), nl=False)
    if form == "table":
        click.echo(f"\n{next_step(rows[0], results_dir)}")


def home() -> None:
    """What `tuner` alone prints: the studies and the next step; without any, how to begin."""
    results_dir = Path(os.environ.get("TUNER_RESULTS") or RESULTS)
    if "://" in str(results_dir) or not _has_studies(results_dir):
        click.echo(_beginning(results_dir))
        return
    rows = overview(results_dir)
    click.echo(_rendered(rows, "table"), nl=False)
    click.echo(f"\n{next_step(rows[0], results_dir)}")
    click.echo("      tuner --help   (all commands)")


def overview(results_dir: Path) -> list[Row]:
    """A row for each study, the one to look at first at the top. Raises InputError for a folder without any."""
    folders = {folder.name: folder for folder in find_studies(results_dir)}
    tables, problems = load_tables(results_dir, None, ("studies", "trials"))
    tell(problems)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    trials = tables["trials"].select(["study", "status"])
    counts_of = zip(*(trials[name].to_pylist() for name in trials.column_names), strict=True)
    for study, status in counts_of:
        counts[study][status] += 1
    abouts = tables["studies"].to_pylist()
    again = {about["confirms"] for about in abouts if about["confirms"]}
    best_of = partial(_best, again=again, results_dir=results_dir, luck=folder_luck(results_dir))
    rows = [
        {**_row(about, folders[about["study"]], counts[about["study"]]), **best_of(about)}
        for about in abouts
        if about["study"] in folders
    ]
    return sorted(rows, key=lambda row: (row["state"] != "running", -row["last_sign"], row["study"]))


def _row(about: Mapping[str, Any], folder: Path, counts: Counter[str]) -> Row:
    driver = holder_of(folder)
    return {
        "study": about["study"],
        "state": _state(about, running=driver is not None),
        "reason": about["reason"],
        "host": driver.host if driver else about["host"],
        "data": about["data_name"],
        "trials": about["trials"],
        "budget_trials": about["budget_trials"],
        **{status: counts[status] for status in STATES},
        "cpu_seconds": about["cpu_seconds"],
        "gpu_seconds": about["gpu_seconds"],
        "last_sign": _last_sign(folder),
        "space": about["space"],
        "confirms": about["confirms"],
        "tags": about["tags"],
        "notes": about["notes"],
    }


def _state(about: Mapping[str, Any], *, running: bool) -> str:
    """In a word: running, finished, limit (one other than the trials was reached), stopped, died or failed."""
    if running:
        return "running"
    if about["reason"] is None:
        return "recorded" if about["origin_note"] and not about["searcher"] else "died"
    if about["reason"] == "interrupted":
        return "stopped"
    if about["reason"] == "failed":
        return "failed"
    return "limit" if about["reason"] in REASONS else "finished"


def _best(about: Mapping[str, Any], again: Collection[str], results_dir: Path, luck: Luck) -> Row:
    """The best PER with its 95 % interval, its trial and its number of seeds.

    The interval is that of the mean over new seeds where there are any (`again` names the studies), else what a single
    seed may be off (`results.verdicts.luck`).
    """
    first: Row = {}
    if about["study"] in again and (found := confirmed(results_dir, [about["study"]], 1)) is not None:
        first = found.sheet.dicts()[0]
    if first.get("mean") is None:
        return {
            "best_per": about["best_per"],
            **_single(about, luck),
            "best_seeds": None if about["best_per"] is None else 1,
            "best_trial": about["best_trial"],
        }
    names = {"mean": "best_per", "low": "best_low", "high": "best_high", "seeds": "best_seeds", "trial": "best_trial"}
    return {column: first[name] for name, column in names.items()}


def _single(about: Mapping[str, Any], luck: Luck) -> Row:
    """The interval of a PER with one seed; null where there is none."""
    per = about["best_per"]
    if per is None:
        return {"best_low": None, "best_high": None}
    spread = luck.spread(per, about["data_fingerprint"], about["data_val_phonemes"])
    margin = spread.sd * (student_t(0.975, spread.degrees) if spread.degrees else 1.96)
    return {"best_low": max(0.0, per - margin), "best_high": per + margin}


def _last_sign(folder: Path) -> float:
    """Unix time of what the study's driver did last: an event, or its heartbeat while it runs."""
    paths = StudyPaths(folder)
    times = [path.stat().st_mtime for path in (paths.log, paths.beat, *paths.tables.values()) if path.is_file()]
    newest = times[:2] if paths.beat.is_file() else times[:1]
    return max(newest or times or [0.0])


def _rendered(rows: Sequence[Row], form: str) -> str:
    if form in ("csv", "json"):
        return render(Sheet.of(rows), form)
    shown = [_for_people(row) for row in rows]
    names = [name for name in _TABLE if name not in ("tags", "notes") or any(row[name] for row in rows)]
    return render(Sheet.of(shown, names), form)


def _for_people(row: Row) -> Row:
    counted = ", ".join(f"{row[status]} {status}" for status in STATES if row[status])
    of = f" of {row['budget_trials']}" if row["budget_trials"] else ""
    used = {"GPU": row["gpu_seconds"], "CPU": row["cpu_seconds"]}
    return {
        **{name: row[name] for name in ("study", "state", "data", "tags", "notes")},
        "best": _interval(row),
        "trials": f"{row['trials']}{of}" + (f": {counted}" if counted else ""),
        "spent": ", ".join(f"{clock(seconds)} {unit}" for unit, seconds in used.items() if seconds),
        "last sign": f"{ago(time.time() - row['last_sign'])} ago",
    }


def _interval(row: Row) -> str:
    if row["best_per"] is None:
        return ""
    text = format_value(float(row["best_per"]), "per")
    if row["best_low"] is None or row["best_high"] is None:
        return text
    return f"{text} [{format_value(row['best_low'], 'per')}, {format_value(row['best_high'], 'per')}]"


def ago(seconds: float) -> str:
    """A time span in its largest unit: `40 s`, `12 min`, `5 h`, `3 days`."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size or (unit != "days" and seconds >= size):
            return f"{int(seconds / size)} {unit}"
    return f"{max(0, int(seconds))} s"


def next_step(row: Row, results_dir: Path) -> str:
    """The commands that fit the state of the study."""
    name, where = quote(row["study"]), where_option(results_dir)
    lines = {
        "running": f"tuner watch {name}{where}",
        "stopped": f"tuner resume {name}{where}",
        "died": f"tuner resume {name}{where}   (its driver died; everything reported is kept)",
        "failed": f"tuner resume {name}{where}",
        "limit": f"tuner resume {name}{where}   (a limit was reached: raise it, see 'tuner resume --help')",
    }
    steps = [lines[row["state"]]] if row["state"] in lines else []
    if row["best_per"] is not None:
        steps.append(f"tuner best {name}{where}")
    if row["state"] == "finished" and row["space"] and not row["confirms"] and row["best_seeds"] == 1:
        steps.append(f"tuner confirm {name}{where}   (is the lead real? trains the best again with new seeds)")
    if row["best_per"] is not None:
        steps.append(f"tuner report {name} --out {name}.html{where}")
    return "\n".join(("next: " if place == 0 else "      ") + step for place, step in enumerate(steps))


def _has_studies(results_dir: Path) -> bool:
    try:
        return bool(find_studies(results_dir))
    except InputError:
        return False


def _beginning(results_dir: Path) -> str:
    """What to do first: check the machine, get data, search."""
    packed = sorted(path.parent for path in Path("data").glob("*/dataset.json")) if Path("data").is_dir() else []
    data = quote(str(packed[0])) if packed else "data/small"
    lines = [
        f"There is no study in {results_dir} yet.",
        "",
        "next: tuner doctor   (is everything here that a search needs?)",
    ]
    if not packed:
        lines.append(
            "      tuner data synthetic small --out data/small   (made-up recordings; for yours: tuner data import)"
        )
    lines.append(f"      tuner search quickstart --data {data}   (24 short trials)")
    lines.append("      tuner --help   (all commands)")
    return "\n".join(lines)
