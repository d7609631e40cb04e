"""`--warm-start`: trials of earlier studies, reported only to the searcher.

These trials are written into the study's first event, so that resuming needs only the log. They are not trials of the
study: rungs, tables and `best` do not include them.

Of an earlier trial, its point in this space and its objectives are reported; the point has a dimension for each setting
of the same dotted path. A trial outside the space is left out, because its result comes from a setting that is not
possible here (and a trial with a part of a point would split TPE's joint model). Dimensions that its table does not
have are left out of the point.

Older data have less weight than the study's own. Their values are moved half-way to the median of their study: the
region of an earlier trial counts as good or bad, but a trial of this study with the same result ranks before it. Values
from other data, or with settings that this space fixes at another value, are not comparable: they guide the beginning,
and are removed when the study has `ENOUGH` completed trials of its own.

Without the option a search with TPE gets the trials of all earlier searches of the results folder that are about the
same: the same data, the same values for what the space fixes, whole points (`earlier`). On surrogates of recorded runs
that gave a PER 8.0 % lower (standard error 3.5) on AN4 and 0.3 % lower (1.4) on synthetic data, in pairs of searches of
24 trials (docs/benchmarks.md).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from results.measured import with_measures
from results.store.replay import flat_config
from results.store.tables import load_tables
from search_spaces import Dimension, InputError, Space
from search_spaces.config import to_dict
from search_spaces.parsing.sections import same
from search_spaces.wording import show
from tuner.study.settings import StudySettings

ENOUGH = 10
"""Number of completed trials after which values that are not comparable are removed."""
PULLED = 0.5
"""How far a value is moved to the median of its study."""
MOST = 500
"""Trials taken from a study: the latest."""
_TOLERANCE = 1e-9
_ENDED = ("completed", "stopped", "diverged")
_TOLD_AS = {"paused": "stopped"}
"""A trial that was still paused when its study ended is told as one that was stopped there."""

Told = dict[str, Any]
AUTO, NONE = "auto", "none"


def wanted(
    space: Space, results_dir: Path, asked: Sequence[str], settings: StudySettings
) -> tuple[list[Told], list[str]]:
    """The trials that a new search begins with, and notes, for what `--warm-start` says: studies, `none` or `auto`.

    Nothing said is `auto` for the searcher `tpe`, for which it was measured. Raises InputError as `gather` does.
    """
    if NONE in asked:
        if len(asked) > 1:
            raise InputError(f"--warm-start {NONE}: cannot be given with others; leave the others out")
        return [], []
    named = [name for name in asked if name != AUTO]
    told, notes = gather(space, results_dir, named, settings)
    if AUTO in asked or (not asked and settings.searcher.kind == "tpe"):
        more, line = earlier(space, results_dir, settings, named)
        return told + more, notes + line
    return told, notes


def earlier(
    space: Space, results_dir: Path, settings: StudySettings, but: Sequence[str] = ()
) -> tuple[list[Told], list[str]]:
    """The trials of all earlier searches that compare with those of this one, at most `MOST`, and a line on them."""
    found: list[Told] = []
    used: list[str] = []
    for name in _searches(results_dir, settings.data.fingerprint):
        if name in but:
            continue
        try:
            told, _ = gather(space, results_dir, [name], settings)
        except InputError:  # it has nothing for this space, and nobody asked for it
            continue
        if alike := [trial for trial in told if trial["compares"]]:
            found, used = found + alike, [*used, name]
    if not found:
        return [], []
    names = ", ".join(used[:5]) + (f" and {len(used) - 5} others" if len(used) > 5 else "")
    line = f"warm start from {names}: {len(found[-MOST:])} trials of this space on these data; --warm-start none"
    return found[-MOST:], [f"{line} begins without them"]


def _searches(results_dir: Path, fingerprint: str | None) -> list[str]:
    """The searches of a results folder on these data that can be read, the oldest first."""
    if not results_dir.is_dir():
        return []
    found = []
    for folder in sorted(results_dir.iterdir()):
        try:
            about = load_tables(results_dir, [folder.name], ("studies",))[0]["studies"].to_pylist()[0]
        except InputError:
            continue
        if about["space"] is not None and about["data_fingerprint"] == fingerprint:
            found.append((about["created"] is not None, about["created"], folder.name))
    return [name for *_, name in sorted(found)]


def gather(
    space: Space, results_dir: Path, studies: Sequence[str], settings: StudySettings
) -> tuple[list[Told], list[str]]:
    """The trials of these studies to report, and a note on each study. `settings` are those of the new study.

    Each is {study, trial, status, params, values, epochs, compares}. Raises InputError for a study that does not exist,
    has no trial in the space, or varies none of its dimensions.
    """
    objectives = [settings.objective, *settings.costs]
    told: list[Told] = []
    notes: list[str] = []
    for name in dict.fromkeys(studies):
        tables, _ = load_tables(results_dir, [name], ("studies", "trials"))
        about = tables["studies"].to_pylist()[0]
        trials = with_measures(tables["trials"], objectives[:1], results_dir, [name])
        rows = [{**row, "status": _TOLD_AS.get(row["status"], row["status"])} for row in trials.to_pylist()]
        rows = [row for row in rows if row["status"] in _ENDED][-MOST:]
        same_data = about["data_fingerprint"] == settings.data.fingerprint
        found, reasons = _of_study(space, name, rows, objectives, same_data)
        common = _varied(found)
        left_out = "; ".join(f"{count} {why}" for why, count in reasons.most_common(4))
        if not found:
            what = f"none of its {len(rows)} ended trials can be used ({left_out})" if rows else "no trial has ended"
            raise InputError(f"--warm-start {name}: {what}; name another study, or leave it out")
        if not common:
            raise InputError(
                f"--warm-start {name}: its trials vary no dimension of this space "
                f"({', '.join(d.path for d in space.dimensions if d.sampled)}); name another study, or leave it out"
            )
        told += found
        brief = sum(not trial["compares"] for trial in found)
        notes.append(
            f"warm start from {name}: {len(found)} of {len(rows)} trials used, settings in common: {', '.join(common)}"
            + (f"; left out: {left_out}" if left_out else "")
            + (f"; {brief} with other data or fixed settings, only for the beginning" if brief else "")
        )
    return told, notes


def _of_study(
    space: Space, study: str, rows: Sequence[Mapping[str, Any]], objectives: Sequence[str], same_data: bool
) -> tuple[list[Told], Counter[str]]:
    found: list[Told] = []
    reasons: Counter[str] = Counter()
    for row in rows:
        values = [row.get(name) for name in objectives]
        if row["status"] != "diverged" and None in values:
            reasons[f"without {objectives[values.index(None)]}"] += 1
            continue
        params, outside = point_of(space, row)
        if outside is not None or not params:
            reasons[f"outside the space ({outside})" if outside else "without any of its settings"] += 1
            continue
        found.append(
            {
                "study": study,
                "trial": row["trial"],
                "status": row["status"],
                "params": params,
                "values": values if row["status"] != "diverged" else None,
                "epochs": row["epochs"] or 0,
                "compares": same_data and _fixed_alike(space, params, row),
            }
        )
    return found, reasons


def _column(path: str) -> str:
    return re.sub(r"\W", "_", path)


def point_of(space: Space, row: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """(parameters of `space` at a row of the trials table, the path of the first value that is outside it).

    Dimensions whose column is missing, or whose condition does not hold in the row, have no parameter.
    """
    params: dict[str, Any] = {}
    for dimension in space.dimensions:
        active = all(
            any(same(row.get(_column(path)), value) for value in values) for path, values in dimension.when.items()
        )
        value = row.get(_column(dimension.path))
        if not dimension.sampled or not active or (value is None and None not in dimension.alternative):
            continue
        other = row.get(_column(dimension.of)) if dimension.of else None
        inside = inside_of(dimension, dimension.sample(value, other))
        if inside is None:
            return {}, dimension.path
        params[dimension.name] = inside[0]
    return params, None


def inside_of(dimension: Dimension, sample: Any) -> tuple[Any] | None:
    """The sample in the dimension's own type, in a tuple; None if it is not in its range or choices."""
    if dimension.kind == "choice":
        for choice in dimension.choices:
            text = json.dumps(choice) if isinstance(choice, list | tuple) else choice  # as the tables hold lists
            if same(sample, choice) or same(sample, text):
                return (choice,)
        return None
    if dimension.is_alternative(sample):
        return (dimension.alternative[0],)
    if isinstance(sample, bool) or not isinstance(sample, int | float):
        return None
    low, high = dimension.ends
    margin = _TOLERANCE * max(abs(low), abs(high))
    if not low - margin <= sample <= high + margin:
        return None
    if dimension.q is not None:
        step = dimension.nearest(min(max(float(sample), low), high))
        return (step,) if abs(step - sample) <= margin else None
    if dimension.whole:
        return (int(sample),) if float(sample).is_integer() else None
    return (min(max(float(sample), low), high),)


OF_THE_MACHINE = ("training_device", "training_precision", "training_tf32", "training_graphs")
"""Columns that say how a machine computes: earlier trials of another one are about the same configurations."""


def _fixed_alike(space: Space, params: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Whether the row has the values that the space fixes; False where its point is incomplete."""
    try:
        here = flat_config(to_dict(space.config(params, 0)))
    except InputError:
        return False
    searched = {_column(dimension.path) for dimension in space.dimensions}
    return all(
        value is None or row.get(name) is None or _alike(value, row[name])
        for name, value in here.items()
        if name not in searched and name not in OF_THE_MACHINE
    )


def _alike(a: Any, b: Any) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (a, b))
    return bool(abs(a - b) <= _TOLERANCE * abs(a)) if numbers else bool(a == b)


def _varied(found: Sequence[Told]) -> list[str]:
    """The dimensions in which these trials differ; for a single trial, all that it has."""
    values: dict[str, set[str]] = {}
    for trial in found:
        for name, value in trial["params"].items():
            values.setdefault(name, set()).add(show(value))
    return [name for name, seen in values.items() if len(seen) > 1 or len(found) == 1]


def discounted(told: Sequence[Told], space: Space) -> list[Told]:
    """The trials as the searcher gets them: those inside `space`, with moved values, the best of the first objective
    first.

    The space may have changed on resume.
    """
    inside = [trial for trial in told if _fits(space, trial["params"])]
    medians: dict[str, list[float]] = {}
    for study in {trial["study"] for trial in inside}:
        of_study = [trial["values"] for trial in inside if trial["study"] == study and trial["status"] == "completed"]
        medians[study] = [median(column) for column in zip(*of_study, strict=True)]
    pulled = [
        {
            **trial,
            "values": [value + PULLED * (middle - value) for value, middle in zip(trial["values"], centre, strict=True)]
            if trial["status"] == "completed" and (centre := medians[trial["study"]])
            else trial["values"],
        }
        for trial in inside
    ]
    return sorted(pulled, key=lambda trial: (_ENDED.index(trial["status"]), trial["values"] or [0.0]))


def _fits(space: Space, params: Mapping[str, Any]) -> bool:
    dimensions = {dimension.name: dimension for dimension in space.dimensions}
    return all(name in dimensions and inside_of(dimensions[name], value) is not None for name, value in params.items())
