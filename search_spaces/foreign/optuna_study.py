"""The distributions of an Optuna study: from its SQLite storage, its journal file, or a JSON file of them.

Read without Optuna: a database is opened read-only, and nothing in a file is run.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from search_spaces.errors import InputError
from search_spaces.foreign.sweep import Parameter, Sweep, ends_on_step, range_entry, tidy
from search_spaces.wording import did_you_mean, reason_of, show

SQLITE = b"SQLite format 3\x00"
_FLOATS = {"FloatDistribution", "UniformDistribution", "LogUniformDistribution", "DiscreteUniformDistribution"}
_INTS = {"IntDistribution", "IntUniformDistribution", "IntLogUniformDistribution"}


_PARAMS = (
    "SELECT p.param_name, p.distribution_json FROM trial_params p JOIN trials t ON p.trial_id = t.trial_id "
    "WHERE t.study_id = ? ORDER BY p.param_id"
)
_GOALS = "SELECT direction FROM study_directions WHERE study_id = ? ORDER BY objective"


def read_database(path: Path, study: str | None) -> Sweep:
    """The distributions of a study in an SQLite file. Raises InputError where it has none, or several studies."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)) as base:
            names = {name: number for number, name in base.execute("SELECT study_id, study_name FROM studies")}
            chosen = _chosen(path, names, study)
            rows = base.execute(_PARAMS, (names[chosen],)).fetchall()
            goals = [goal for (goal,) in base.execute(_GOALS, (names[chosen],))]
    except sqlite3.Error as error:
        raise InputError(f"{path}: is no storage of an Optuna study ({reason_of(error)})") from None
    return _sweep(path, chosen, rows, goals)


def is_journal(first: Any) -> bool:
    """Whether the first line of a file is that of an Optuna journal."""
    return isinstance(first, dict) and "op_code" in first and "worker_id" in first


def read_journal(path: Path, lines: Iterable[str], study: str | None) -> Sweep:
    """The distributions of a study in a journal file. Raises InputError where it has none, or several studies."""
    names: list[str] = []
    owner: list[int] = []
    """The study of each trial, in their order."""
    goals: list[list[Any]] = []
    params: list[tuple[int, str, str]] = []
    for number, line in enumerate(filter(str.strip, lines), 1):
        try:
            entry = json.loads(line)
            if "study_name" in entry:
                names.append(str(entry["study_name"]))
                goals.append(list(entry.get("directions") or ()))
            elif "distribution" in entry and "param_name" in entry:
                params.append((int(entry["trial_id"]), str(entry["param_name"]), str(entry["distribution"])))
            elif "study_id" in entry and ("datetime_start" in entry or entry.get("op_code") == _CREATE_TRIAL):
                owner.append(int(entry["study_id"]))
                for name, text in (entry.get("distributions") or {}).items():
                    params.append((len(owner) - 1, str(name), text if isinstance(text, str) else json.dumps(text)))
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{path}: line {number} is no line of an Optuna journal ({reason_of(error)})") from None
    numbers = {name: number for number, name in enumerate(names)}
    chosen = _chosen(path, numbers, study)
    mine = [(n, text) for trial, n, text in params if trial < len(owner) and owner[trial] == numbers[chosen]]
    words = ["MAXIMIZE" if goal in (2, "MAXIMIZE") else "MINIMIZE" for goal in goals[numbers[chosen]]]
    return _sweep(path, chosen, mine, words)


_CREATE_TRIAL = 4
"""Optuna's number for the creation of a trial in a journal."""


def is_distributions(data: Any) -> bool:
    """Whether the content of a file maps parameters to distributions."""
    found = _inner(data)
    return bool(found) and all(_distribution(each) is not None for each in found.values())


def read_distributions(path: Path, data: Any) -> Sweep:
    """The distributions in a JSON file: name -> what `optuna.distributions.distribution_to_json` gives."""
    return _sweep(
        path, path.stem, [(str(name), json.dumps(_distribution(each))) for name, each in _inner(data).items()], []
    )


def _inner(data: Any) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        return {}
    inside = data.get("distributions")
    return inside if isinstance(inside, dict) else data


def _distribution(text: Any) -> Mapping[str, Any] | None:
    if isinstance(text, str):
        try:
            text = json.loads(text)
        except ValueError:
            return None
    good = isinstance(text, dict) and isinstance(text.get("name"), str) and isinstance(text.get("attributes"), dict)
    return text if good else None


def _chosen(path: Path, names: Mapping[str, Any], study: str | None) -> str:
    if study is not None and study not in names:
        raise InputError(f"{path}: has no study {show(study)}; {did_you_mean(study, names)}it has {', '.join(names)}")
    if not names:
        raise InputError(f"{path}: has no study; give the storage of one")
    if study is None and len(names) > 1:
        raise InputError(f"{path}: has several studies, {', '.join(names)}; name one by --study")
    return study or next(iter(names))


def _sweep(path: Path, study: str, rows: Iterable[tuple[str, str]], goals: list[str]) -> Sweep:
    sweep = Sweep(f"the Optuna study {study}")
    latest: dict[str, str] = {}
    changed: set[str] = set()
    for name, text in rows:
        if latest.get(name, text) != text:
            changed.add(name)
        latest[name] = text
    if not latest:
        raise InputError(f"{path}: the study {study} has no trial with a parameter; there is nothing to import")
    for name, text in latest.items():
        parameter = _parameter(name, _distribution(text))
        if name in changed:
            parameter.remarks.append("had several distributions; this is the latest")
        sweep.parameters.append(parameter)
    if any("MAX" in str(goal).upper() for goal in goals):
        sweep.remarks.append("is maximised there; here an objective is minimised")
    return sweep


def _parameter(name: str, about: Mapping[str, Any] | None) -> Parameter:
    kind, values = (about or {}).get("name", ""), (about or {}).get("attributes", {})
    parameter = Parameter(name, f"{kind}({', '.join(f'{k}={show(v)}' for k, v in values.items() if v is not None)})")
    try:
        if kind == "CategoricalDistribution":
            parameter.entry = {"choice": list(values["choices"])}
        elif kind in _FLOATS | _INTS:
            low, high = values["low"], values["high"]
            step = values.get("step") or values.get("q")
            log = bool(values.get("log")) or "Log" in kind
            if step and not log:
                high = tidy(ends_on_step(low, high, step))
            parameter.entry = range_entry(low, high, log=log, step=None if log else step, whole=kind in _INTS)
        else:
            parameter.remarks.append(f"the distribution {kind} has no counterpart")
    except (KeyError, TypeError):
        parameter.remarks.append("its distribution is incomplete")
    return parameter
