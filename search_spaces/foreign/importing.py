"""Another program's search as a space file, with a remark for everything that has no counterpart."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search_spaces.common import atomic
from search_spaces.errors import InputError
from search_spaces.foreign import hydra_sweeper, optuna_study, wandb_sweep
from search_spaces.foreign.fitting import fitted, rates_beside
from search_spaces.foreign.names import PERS, path_of, plain
from search_spaces.foreign.sweep import Entry, Parameter, Sweep
from search_spaces.loader import load_run
from search_spaces.measures import objective_of
from search_spaces.parsing.fields import refusal, unknown_path
from search_spaces.parsing.yaml_file import MOST_BYTES, read_yaml
from search_spaces.space import Space
from search_spaces.space_file import load_space
from search_spaces.wording import show
from search_spaces.writing import flow, refuse_existing, write_text


@dataclass
class ImportLine:
    """What became of one parameter: `path` and `entry` are None where it is left out."""

    name: str
    there: str
    path: str | None = None
    entry: Entry | None = None
    remarks: list[str] = field(default_factory=list)


@dataclass
class Imported:
    """A space made from another program's search: its text, a line for each parameter, and further remarks."""

    source: str
    text: str
    lines: list[ImportLine]
    remarks: list[str]


def read_sweep(path: Path, study: str | None = None) -> Sweep:
    """The search in a file, whatever wrote it. Raises InputError where it is none that is known."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
            size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file") from None
    if head == optuna_study.SQLITE:
        return optuna_study.read_database(path, study)
    if head.lstrip()[:1] in (b"{", b"["):
        return _of_json(path, study, size)
    data = read_yaml(path, str(path))
    return _of_data(path, data)


def _of_json(path: Path, study: str | None, size: int) -> Sweep:
    try:
        text = path.read_text(encoding="utf-8")
        first = json.loads(text.split("\n", 1)[0]) if "\n" in text else None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no text; give a sweep, a sweeper's section or a study's storage") from None
    except ValueError:
        first = None
    if optuna_study.is_journal(first):
        return optuna_study.read_journal(path, text.splitlines(), study)
    if size > MOST_BYTES:
        raise InputError(f"{path}: has {size / 2**20:.0f} MB, which no sweep has; give the file of one")
    try:
        return _of_data(path, json.loads(text))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is no JSON file ({error}); correct it") from None


def _of_data(path: Path, data: Any) -> Sweep:
    if wandb_sweep.is_sweep(data):
        return wandb_sweep.read(data)
    if (section := hydra_sweeper.section(data)) is not None:
        return hydra_sweeper.read(section)
    if optuna_study.is_distributions(data):
        return optuna_study.read_distributions(path, data)
    raise InputError(
        f"{path}: is no search that is known here; give a W&B sweep (with parameters:), a configuration with Hydra's "
        "Optuna sweeper (hydra.sweeper.params), or an Optuna study (SQLite, journal, or its distributions as JSON)"
    )


def import_space(path: Path, base: str, given: Mapping[str, str], study: str | None = None) -> Imported:
    """The space file of another program's search over the run `base`; `given` maps its parameters to paths.

    Raises InputError for a file that is no search, an unknown run or path, and a search of which nothing is left.
    """
    load_run(base)
    if wrong := [f"--map {name}={at}: {reason}" for name, at in given.items() if (reason := unknown_path(at))]:
        raise InputError(wrong)
    sweep = read_sweep(path, study)
    names = {parameter.name for parameter in sweep.parameters} | sweep.fixed.keys()
    if unknown := [name for name in given if name not in names]:
        raise InputError(f"--map {unknown[0]}: {path} has no such parameter; it has {', '.join(sorted(names))}")
    lines = [_line(parameter, given) for parameter in sweep.parameters]
    fixed, remarks = _fixed(sweep, given, base)
    _only_once(lines)
    lines += [ImportLine("-", "the base run's", path, entry, ["as in the base run, relative to the peak"])
              for path, entry in rates_beside(lines, base, fixed).items()]  # fmt: skip
    fitted(lines, base, fixed)
    if not any(line.entry for line in lines):
        whys = "; ".join(f"{line.name}: {line.remarks[-1]}" for line in lines[:4] if line.remarks)
        raise InputError(f"{path}: nothing of it can be searched here ({whys or 'it has no parameters'})")
    imported = Imported(sweep.source, "", lines, remarks)
    imported.text = _loadable(imported, sweep, base, fixed)
    return imported


def _line(parameter: Parameter, given: Mapping[str, str]) -> ImportLine:
    path, why = path_of(parameter.name, given)
    line = ImportLine(parameter.name, parameter.there, path, parameter.entry, list(parameter.remarks))
    if path is None:
        line.entry = None
        line.remarks.append(why)
    return line


def _fixed(sweep: Sweep, given: Mapping[str, str], base: str) -> tuple[dict[str, Any], list[str]]:
    """The values that a sweep fixes, by path, and remarks with those of the sweep."""
    found: dict[str, Any] = {}
    remarks = list(sweep.remarks)
    for name, value in sweep.fixed.items():
        path, why = path_of(name, given)
        reason = why if path is None else refusal(path, value)
        if path is None or reason:
            remarks.append(f"{name} = {show(value)} is left out: {reason}")
        else:
            found[path] = value
    return found, remarks


def _only_once(lines: Sequence[ImportLine]) -> None:
    """Of several parameters for one path the first counts."""
    taken: dict[str, str] = {}
    for line in lines:
        if line.entry is not None and line.path is not None:
            if line.path in taken:
                line.entry = None
                line.remarks.append(f"{taken[line.path]} is {line.path} already")
            taken.setdefault(line.path, line.name)


def _loadable(imported: Imported, sweep: Sweep, base: str, fixed: dict[str, Any]) -> str:
    """The text of a file that loads: what the space's own checks refuse is left out, with their words as remark."""
    parts = _plan(sweep, imported.remarks)
    while True:
        text = _text(imported, base, fixed, parts)
        with tempfile.TemporaryDirectory() as folder:
            trial = Path(folder) / "imported.yaml"
            trial.write_text(text, encoding="utf-8")
            try:
                load_space(trial)
                return text
            except InputError as error:
                problems = [line.removeprefix(f"{trial}: ") for line in error.problems]
        if not _left_out(problems, imported, fixed, parts) or not any(line.entry for line in imported.lines):
            raise InputError(f"the space imported from {sweep.source}: {problem}" for problem in problems)


_PLACE = re.compile(r"^(dimensions|fixed)\.(\w+\.\w+)")


def _left_out(problems: list[str], imported: Imported, fixed: dict[str, Any], parts: dict[str, Any]) -> bool:
    """Leave out what the problems name; returns whether anything was."""
    before = sum(line.entry is not None for line in imported.lines), len(fixed), len(parts)
    for problem in problems:
        place = _PLACE.match(problem)
        what = problem.partition(": ")[2]
        if place and place[1] == "fixed" and place[2] in fixed:
            imported.remarks.append(f"{place[2]} = {show(fixed.pop(place[2]))} is left out: {what}")
        elif place:
            for line in imported.lines:
                if line.path == place[2] and line.entry is not None:
                    line.entry = None
                    line.remarks.append(what)
        elif (key := problem.partition(":")[0].partition(".")[0]) in parts:
            imported.remarks.append(f"{key} {show(flow(parts.pop(key)))} is left out: {what}")
        elif problem.startswith("dimensions: "):
            _leave_one_out(problem, imported)
    return before != (sum(line.entry is not None for line in imported.lines), len(fixed), len(parts))


def _leave_one_out(problem: str, imported: Imported) -> None:
    """A random configuration was invalid: the last dimension that the problem names goes."""
    what = problem.removeprefix("dimensions: ").partition("; random configuration")[0]
    named = [line for line in imported.lines if line.entry is not None and line.path and line.path in what]
    if named:
        named[-1].entry = None
        named[-1].remarks.append(what)


def _plan(sweep: Sweep, remarks: list[str]) -> dict[str, Any]:
    """The keys of the space beside its dimensions."""
    parts: dict[str, Any] = {}
    if sweep.metric is not None:
        words = re.split(r"[./]", sweep.metric)
        name = next((each for each in (sweep.metric, "_".join(words), words[-1]) if objective_of(each)), None)
        if name is None and plain(sweep.metric) in PERS:
            name = "best_per"
        if name is None:
            remarks.append(f"metric {sweep.metric} is no measure of an epoch here; the objective is best_per")
        elif name != "per":
            parts["objective"] = name
    if sweep.searcher:
        parts["searcher"] = dict(sweep.searcher)
    if sweep.stopping:
        parts["stopping"] = dict(sweep.stopping)
    if sweep.trials:
        parts["budget"] = {"trials": sweep.trials}
    return parts


def _text(imported: Imported, base: str, fixed: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    lines = [f"# Imported from {imported.source}."]
    left = [line for line in imported.lines if line.entry is None]
    if left or imported.remarks:
        lines.append("# What has no counterpart here:")
        lines += [
            f"#   {_comment(line.name)} ({_comment(line.there)}): {_comment('; '.join(line.remarks))}" for line in left
        ]
        lines += [f"#   {_comment(remark)}" for remark in imported.remarks]
    lines += [f"purpose: {flow(f'Imported from {imported.source}.')}", f"base: {flow(base)}"]
    if fixed:
        lines += ["fixed:", *(f"  {path}: {flow(value)}" for path, value in fixed.items())]
    lines.append("dimensions:")
    for line in imported.lines:
        if line.entry is not None:
            said = "; ".join([*([] if line.name == "-" else [f"{line.name} there"]), *line.remarks])
            lines.append(f"  {line.path}: {flow(line.entry)}  # {_comment(said)}")
    lines += [f"{key}: {flow(value)}" for key, value in parts.items()]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    """On one line, and without what YAML does not allow in a comment."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def write_import(imported: Imported, out: Path, force: bool = False) -> Space:
    """Write the space file and load it. Raises InputError where `out` exists (without `force`) or is no .yaml."""
    if atomic.is_stream(out):
        with tempfile.TemporaryDirectory() as folder:
            space = write_import(imported, Path(folder) / "space.yaml")
        write_text(out, imported.text, force=force)
        return space
    if out.suffix not in (".yaml", ".yml"):
        raise InputError(f"{out}: the ending {out.suffix!r} is not allowed; give .yaml")
    refuse_existing(out, force)
    write_text(out, imported.text, force=force)
    return load_space(out)
