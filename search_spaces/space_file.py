"""Space files: YAML that becomes a validated `Space`, or a list of all errors, one line each."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from search_spaces.checkpoints import Checkpoints
from search_spaces.dimensions.dimension import Dimension
from search_spaces.dimensions.findings import Findings
from search_spaces.dimensions.grid import grid_points
from search_spaces.dimensions.reading import order, parse_dimensions, parse_entries
from search_spaces.errors import InputError
from search_spaces.lengths.scale import clash_with_lengths, problem_of_lengths
from search_spaces.loader import Run, load_run
from search_spaces.parsing.constraints import parse_constraint
from search_spaces.parsing.fields import is_number, problems_of, refusal, unknown_path
from search_spaces.parsing.sections import FILE, InvalidSettings, located, merge, nested, validate
from search_spaces.parsing.yaml_file import find_file, read_yaml, shipped_names
from search_spaces.plan import Budget, split_objectives
from search_spaces.searchers import GridSearcher, Searcher, TPESearcher
from search_spaces.space import Space, load_start_point
from search_spaces.stopping import DEFAULT_STOPPING, NoStopping, Stopping
from search_spaces.wording import show

SPACES = Path(__file__).parent / "spaces"
SAMPLES = 300
"""Configurations drawn from a space to see that they are valid."""

_SOUND: set[str] = set()
"""All that the draws depend on, of each space whose draws were good: the draws are the same each time."""


class _SpaceFile(BaseModel):
    """The keys of a space file; dimensions and fixed values are checked below."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    purpose: str = ""
    base: str = Field(min_length=1)
    fixed: dict[str, Any] = {}
    dimensions: dict[str, Any] = Field(min_length=1)
    constraints: list[str] = []
    start_points: list[str] = []
    objective: str = "best_per"
    objectives: list[str] = []
    searcher: Searcher = TPESearcher()
    stopping: Stopping = DEFAULT_STOPPING
    budget: Budget = Budget(trials=16)
    checkpoints: Checkpoints = Checkpoints()
    lengths: list[float] = []


def space_names() -> list[str]:
    """The names of the spaces that come with the program, sorted."""
    return shipped_names(SPACES)


def load_space(name_or_path: str | Path) -> Space:
    """Read a space by path, or by the name of one that comes with the program.

    Besides checking each line, it draws 300 configurations (always the same) and checks that each is a valid run or
    violates a declared constraint. Raises InputError with every problem of the file, one line each.
    """
    path = find_file("space", SPACES, name_or_path)
    label = path.name if path.parent == SPACES else str(path)
    data = read_yaml(path, label)
    found = Findings(label)
    file = _parse_top(data, found)
    if file is None:
        found.raise_any()
        raise AssertionError("a file without dimensions has problems")
    base = _base_run(file.base, path, found) if file.base else None
    file = _placed(file, path.parent)
    _check_fixed(file, found)
    usable = {p: v for p, v in file.fixed.items() if not unknown_path(p)}
    if base is None:
        parse_entries(file.dimensions, found)
        dimensions: tuple[Dimension, ...] = ()
    else:
        settings = merge(base.settings, nested(usable))
        dimensions = order(parse_dimensions(file.dimensions, settings, usable, found), found)
    _check_constraints(file, found)
    _check_objectives(file, found)
    _check_start_points(file, found)
    stopping = _check_lengths(file, dimensions, found)
    found.raise_any()
    assert base is not None  # noqa: S101  (otherwise it is among the problems)
    objective, costs = split_objectives(file.objectives or [file.objective])
    space = Space(
        name=path.stem,
        path=str(path),
        purpose=file.purpose,
        base=file.base,
        config_base=base.settings,
        fixed=file.fixed,
        dimensions=dimensions,
        constraints=tuple(file.constraints),
        start_points=tuple(file.start_points),
        objective=objective,
        costs=costs,
        searcher=file.searcher,
        stopping=stopping,
        budget=file.budget,
        checkpoints=file.checkpoints,
        lengths=tuple(map(float, file.lengths)),
    )
    _check_samples(space, found)
    found.raise_any()
    return _whole_grid(space, "budget" in file.model_fields_set, found)


def _whole_grid(space: Space, has_budget: bool, found: Findings) -> Space:
    """The space; where it is searched by a grid and gives no budget, with a budget of the whole grid."""
    if not isinstance(space.searcher, GridSearcher):
        return space
    try:
        points = grid_points(space, space.searcher.points)
    except InputError as error:
        found.add("searcher", error.problems[0].removeprefix("searcher grid: "))
        found.raise_any()
        raise
    trials = len(points) + len(space.start_points)
    return space if has_budget else replace(space, budget=Budget(trials=trials))


def _parse_top(data: dict[str, Any], found: Findings) -> _SpaceFile | None:
    """The file without the keys that are wrong, so that reading continues, with "" for a wrong base; None if the
    dimensions are wrong.
    """
    try:
        return _SpaceFile.model_validate(data)
    except ValidationError as error:
        for where, what in problems_of(error, _SpaceFile):
            found.add(where, what)
        bad = {item["loc"][0] for item in error.errors()}
        if "dimensions" in bad:
            return None
        kept = {key: value for key, value in data.items() if key not in bad}
        return _SpaceFile.model_validate({**kept, "base": "small"}).model_copy(
            update={"base": "" if "base" in bad else kept["base"]}
        )


def _placed(file: _SpaceFile, folder: Path) -> _SpaceFile:
    """The file with its start points and paths as they are meant from its folder."""
    changed: dict[str, Any] = {"start_points": [_beside(text, folder) for text in file.start_points]}
    if FILE in file.fixed:
        changed["fixed"] = {**file.fixed, FILE: located(file.fixed[FILE], folder)}
    if FILE in file.dimensions:
        changed["dimensions"] = {**file.dimensions, FILE: _located_in(file.dimensions[FILE], folder)}
    return file.model_copy(update=changed)


def _located_in(entry: Any, folder: Path) -> Any:
    """The dimension of a path, with every path in it."""
    if isinstance(entry, list):
        return [_located_in(each, folder) for each in entry]
    if isinstance(entry, dict):
        return {key: _located_in(each, folder) if key in ("choice", "value") else each for key, each in entry.items()}
    return located(entry, folder)


def _beside(start_point: str, folder: Path) -> str:
    """A start point; if its run is a file in the folder of the space, with the full path of that file."""
    name, *rest = start_point.split(maxsplit=1) or [""]
    sibling = folder / name
    return " ".join([shlex.quote(str(sibling)), *rest]) if name and sibling.is_file() else start_point


def _base_run(base: str, path: Path, found: Findings) -> Run | None:
    sibling = path.parent / base
    try:
        return load_run(sibling if sibling.is_file() else base)
    except InputError as error:
        for line in error.problems:
            found.add("base", line)
        return None


def _check_fixed(file: _SpaceFile, found: Findings) -> None:
    for path, value in file.fixed.items():
        where = f"fixed.{path}"
        if reason := unknown_path(path):
            found.add(where, reason)
        elif path == "training.seed":
            found.add(where, "is set by the search for each trial; remove it")
        elif path in file.dimensions:
            found.add(where, f"{show(value)} is also a dimension; remove one of the two")
        elif reason := refusal(path, value):
            found.add(where, reason)


def _check_constraints(file: _SpaceFile, found: Findings) -> None:
    for text in file.constraints:
        where = f"constraints: {text}"
        try:
            constraint = parse_constraint(text)
        except ValueError as error:
            found.add(where, str(error))
            continue
        for path in constraint.paths:
            if reason := unknown_path(path):
                found.add(where, f"{path}: {reason}")
            elif not is_number(path):
                found.add(where, f"{path}: is not a number; constraints can compare only numbers")


def _check_objectives(file: _SpaceFile, found: Findings) -> None:
    try:
        split_objectives(file.objectives or [file.objective])
    except ValueError as error:
        found.add("objectives" if file.objectives else "objective", str(error))
        return
    if file.objectives and "objective" in file.model_fields_set:
        found.add("objective", f"{file.objective} is given together with objectives; remove one of the two")


def _check_lengths(file: _SpaceFile, dimensions: Iterable[Dimension], found: Findings) -> Stopping:
    """The stopping rule: none where runs have several lengths, since each is whole."""
    if not file.lengths:
        return file.stopping
    if reason := problem_of_lengths(file.lengths) or clash_with_lengths(dimensions):
        found.add("lengths", reason)
    if "stopping" in file.model_fields_set and not isinstance(file.stopping, NoStopping):
        found.add("stopping", f"{file.stopping.kind} cannot be used with lengths, whose runs are whole; leave it out")
    return NoStopping()


def _check_start_points(file: _SpaceFile, found: Findings) -> None:
    for point in file.start_points:
        try:
            load_start_point(point)
        except InputError as error:
            for line in error.problems:
                found.add("start_points", line)


class _RandomTrial:
    """Samples like an Optuna trial, from Python's random generator."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        # Limits are violated at the ends of ranges, so the ends are drawn often.
        share = self.random.choice([0.0, 1.0]) if self.random.random() < 0.2 else self.random.random()
        value = low * (high / low) ** share if log else low + (high - low) * share
        value = low + round((value - low) / step) * step if step else value
        return min(max(value, low), high)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        value = self.suggest_float(name, low, high, step=step if step > 1 else None, log=log)
        return min(max(round(value), low), high)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self.random.choice(list(choices))


def check_drawn(space: Space) -> None:
    """Draw 300 configurations, always the same. Raises InputError where one is neither valid nor ruled out."""
    found = Findings(space.name)
    _check_samples(space, found)
    found.raise_any()


def _check_samples(space: Space, found: Findings) -> None:
    """Draw configurations and report, once for each path, those that are not a valid run."""
    drawn_from = repr((space.config_base, space.fixed, space.dimensions, space.constraints))
    if drawn_from in _SOUND:
        return
    random, feasible, seen = Random(0), 0, set()
    for _ in range(SAMPLES):
        try:
            params, settings = space.drawn(_RandomTrial(random))
        except InputError as error:
            found.lines += error.problems
            return
        if space.broken_constraints(settings):
            continue
        try:
            validate(settings)
            feasible += 1
        except InvalidSettings as error:
            for path, message in error.problems:
                if path not in seen:
                    seen.add(path)
                    sample = ", ".join(f"{name}={show(value)}" for name, value in params.items())
                    found.add(
                        "dimensions",
                        f"{path}: {message}; random configuration: {sample}; narrow a range or add a constraint",
                    )
    if not feasible and not seen:
        found.add(
            "constraints", f"none of {SAMPLES} random configurations meets all of them; relax one or narrow a range"
        )
    if feasible and not seen:
        _SOUND.add(drawn_from)
