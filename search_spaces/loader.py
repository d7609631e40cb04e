"""Run files: YAML that becomes a validated `RunConfig` with the history that belongs to it.

A run may say `from: OTHER` and then only what it changes. For every value, the file or override that gave it is known,
so that an error names the place to correct.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from search_spaces.config import SECTIONS, RunConfig, flatten
from search_spaces.errors import InputError
from search_spaces.parsing.fields import problems_of, unknown_path
from search_spaces.parsing.sections import (
    ABSENT,
    FILE,
    InvalidSettings,
    Settings,
    located,
    merge,
    nested,
    same,
    validate,
)
from search_spaces.parsing.yaml_file import find_file, parse_value, read_yaml, shipped_names
from search_spaces.wording import show

RUNS = Path(__file__).parent / "runs"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class _Assumption(_Strict):
    value: Any
    reason: str = Field(min_length=1)


class _Recorded(_Strict):
    per: float | None = Field(None, ge=0)
    decoder: Literal["greedy", "beam"] | None = None
    per_beam: float | None = Field(None, ge=0)
    beam_size: int | None = Field(None, ge=1)
    approximate: bool = False
    comparable: bool = True
    split: str = ""
    note: str = ""
    assumed: dict[Literal["decoder", "averaging", "split"], Annotated[str, Field(min_length=1)]] = {}
    """What of the result was not written down -> the reason for what is taken."""


class _RunFile(_Strict):
    """The keys of a run file; the sections are checked against RunConfig after merging."""

    parent: str | None = Field(None, alias="from")
    purpose: str = ""
    phase: str = ""
    notes: str = ""
    data: dict[str, Any] | None = None
    model: dict[str, Any] | None = None
    optimizer: dict[str, Any] | None = None
    schedule: dict[str, Any] | None = None
    averaging: dict[str, Any] | None = None
    augmentation: dict[str, Any] | None = None
    training: dict[str, Any] | None = None
    assumed: dict[str, _Assumption] = {}
    recorded: _Recorded = _Recorded()
    remarks: list[str] = []


@dataclass(frozen=True)
class Run:
    """A run file with its parents and overrides applied.

    `settings` is what the file, its parents and the overrides give, without defaults; `changed` maps the dotted paths
    whose value differs from the parent's to the value here; `assumed` maps the paths whose value is a guess, here or in
    a parent, to {"value", "reason", "run"}; `recorded` holds what was reported for the run (per, decoder, per_beam,
    beam_size, approximate, comparable, split, note, assumed), only the keys given.
    """

    name: str
    path: Path
    config: RunConfig
    settings: Settings
    parent: str | None = None
    parent_config: RunConfig | None = None
    changed: dict[str, Any] = field(default_factory=dict)
    assumed: dict[str, dict[str, Any]] = field(default_factory=dict)
    recorded: dict[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    purpose: str = ""
    phase: str = ""
    notes: str = ""
    overrides: tuple[str, ...] = ()


def run_names() -> list[str]:
    """The names of the runs that come with the program, sorted."""
    return shipped_names(RUNS)


def load_run(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Run:
    """Read a run by path, or by the name of one that comes with the program, and apply `section.key=value` overrides.

    The overrides apply together, so their order does not matter; of two for the same path the later one counts. Raises
    InputError with every problem of the file, its parents and the overrides, one line each.
    """
    chain = _chain(find_file("run", RUNS, name_or_path))
    changes, problems = _parse_overrides(overrides)
    return _resolve(chain, changes, tuple(overrides), problems)


def diff(left: RunConfig, right: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Dotted path -> (left value, right value) where they differ; "absent" where a kind has no such key."""
    a, b = flatten(left), flatten(right)
    pairs = {path: (a.get(path, ABSENT), b.get(path, ABSENT)) for path in {**a, **b}}
    return {path: pair for path, pair in pairs.items() if not same(*pair)}


@dataclass(frozen=True)
class _Document:
    """One file in the chain of parents: its own changes (sections and assumptions) and its own problems."""

    path: Path
    label: str
    file: _RunFile
    changes: Settings
    problems: tuple[str, ...]


def _chain(path: Path) -> list[_Document]:
    """The documents from the file itself to the run that has no parent."""
    chain: list[_Document] = []
    seen: list[Path] = []
    while True:
        if path.resolve() in seen:
            names = " -> ".join(document.path.stem for document in chain) + f" -> {path.stem}"
            raise InputError(
                f"{chain[-1].label}: from: {path.stem} is not allowed; the runs would form a circle: {names}"
            )
        seen.append(path.resolve())
        chain.append(_read(path))
        parent = chain[-1].file.parent
        if parent is None:
            return chain
        try:
            path = find_file("run", RUNS, parent, beside=path.parent)
        except InputError as error:
            raise InputError(f"{chain[-1].label}: from: {line}" for line in error.problems) from None


def _read(path: Path) -> _Document:
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; give a YAML file") from None
    return _read_cached(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=256)
def _read_cached(path: Path, _modified: int, _size: int) -> _Document:
    """Listing the runs reads each parent many times, so files are cached; a changed file has another key."""
    label = path.name if path.parent == RUNS else str(path)
    data = read_yaml(path, label)
    problems: list[str] = []
    while True:
        try:
            file = _RunFile.model_validate(data)
            break
        except ValidationError as error:
            problems += [f"{label}: {where}: {what}" for where, what in problems_of(error, _RunFile)]
            data = _without(data, error)
    changes: Settings = {section: dict(getattr(file, section) or {}) for section in SECTIONS if section in data}
    for dotted, assumption in file.assumed.items():
        section, _, key = dotted.partition(".")
        if reason := unknown_path(dotted):
            problems.append(f"{label}: assumed.{dotted}: {reason}")
        elif key in changes.get(section, {}):
            problems.append(f"{label}: assumed.{dotted}: is also given under {section}; remove one of the two")
        else:
            changes.setdefault(section, {})[key] = assumption.value
    return _Document(path, label, file, changes, tuple(problems))


def _without(data: dict[str, Any], error: ValidationError) -> dict[str, Any]:
    """`data` without the keys that are wrong, so that reading can continue and find all errors."""
    for item in error.errors():
        top, *rest = item["loc"]
        if top == "assumed" and rest and isinstance(data.get("assumed"), dict):
            data = {**data, "assumed": {key: value for key, value in data["assumed"].items() if key != rest[0]}}
        else:
            data = {key: value for key, value in data.items() if key != top}
    return data


def _parse_overrides(overrides: Iterable[str]) -> tuple[dict[str, tuple[Any, str]], list[str]]:
    """Dotted path -> (value, the override as typed), and the problems of those that cannot be read."""
    changes, problems = {}, []
    for text in overrides:
        path, equals, raw = text.partition("=")
        label, path = f"--set {show(text)}", path.strip()
        if not equals or not raw.strip():
            problems.append(f"{label}: has no value; write it as section.key=value, null for none")
        elif reason := unknown_path(path):
            problems.append(f"{label}: {path}: {reason}")
        else:
            try:
                value = parse_value(raw)
                changes[path] = (located(value, Path()) if path == FILE else value, label)
            except ValueError as error:
                problems.append(f"{label}: {path}: {error}")
    return changes, problems


def _resolve(
    chain: list[_Document], overrides: dict[str, tuple[Any, str]], typed: tuple[str, ...], problems: list[str]
) -> Run:
    own, parents = chain[0], chain[1:]
    settings: Settings = {}
    origins: dict[str, str] = {}
    assumed: dict[str, dict[str, Any]] = {}
    for document in reversed(chain):
        label = document.label if document is own else f"{document.label} (parent of {own.label})"
        settings = merge(settings, _with_place(document))
        paths = [f"{section}.{key}" for section, values in document.changes.items() for key in values]
        origins.update(dict.fromkeys(paths, label))
        assumed = {path: entry for path, entry in assumed.items() if path not in paths}
        assumed.update(
            (path, {"value": entry.value, "reason": entry.reason, "run": document.path.stem})
            for path, entry in document.file.assumed.items()
        )
        problems = [line.replace(document.label, label, 1) for line in document.problems] + problems
    settings = merge(settings, nested({path: value for path, (value, _) in overrides.items()}))
    origins.update((path, label) for path, (_, label) in overrides.items())
    try:
        config = validate(settings)
    except InvalidSettings as error:
        problems += [_line(own.label, origins, path, message) for path, message in error.problems]
    if problems:
        raise InputError(dict.fromkeys(problems))
    parent = _resolve(parents, {}, (), []) if parents else None
    differs = diff(parent.config, config) if parent else {}
    flat = flatten(config)
    return Run(
        name=own.path.stem,
        path=own.path,
        config=config,
        settings=settings,
        parent=parent.name if parent else None,
        parent_config=parent.config if parent else None,
        changed={path: now for path, (_, now) in differs.items() if path in flat},
        assumed={path: entry for path, entry in assumed.items() if path in flat and path not in overrides},
        recorded=own.file.recorded.model_dump(exclude_unset=True),
        remarks=tuple(own.file.remarks),
        purpose=own.file.purpose,
        phase=own.file.phase,
        notes=own.file.notes,
        overrides=typed,
    )


def _with_place(document: _Document) -> Settings:
    """The document's changes; a path is meant from the document's folder."""
    section, key = FILE.split(".")
    values = document.changes.get(section, {})
    if key not in values:
        return document.changes
    return {**document.changes, section: {**values, key: located(values[key], document.path.parent)}}


def _line(own: str, origins: dict[str, str], path: str, message: str) -> str:
    """The line for a problem: where its value was given first, and where the values it is compared with were."""
    origin = origins.get(path, own)
    others = {p: label for p, label in origins.items() if p != path and p in message and label != origin}
    also = "; ".join(f"{p} is from {label}" for p, label in others.items())
    return f"{origin}: {path}: {message}" + (f" ({also})" if also else "")
