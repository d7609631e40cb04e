"""Run and space files as text; `load_run` and `load_space` read them back to the same objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from search_spaces.common import atomic
from search_spaces.config import RunConfig, flatten, to_dict
from search_spaces.dimensions.dimension import NORMALS, SHARE, Dimension
from search_spaces.errors import InputError
from search_spaces.wording import show


def run_text(
    config: RunConfig,
    *,
    purpose: str = "",
    notes: str = "",
    recorded: Mapping[str, Any] | None = None,
    assumed: Mapping[str, str] | None = None,
) -> str:
    """A run file of `config` with every value written out, and what else is known about the run.

    `assumed` maps the dotted paths of values that are a guess to the reason.
    """
    lines = [f"{key}: {flow(value)}" for key, value in (("purpose", purpose), ("notes", notes)) if value]
    for section, values in to_dict(config).items():
        given = {key: value for key, value in values.items() if f"{section}.{key}" not in (assumed or {})}
        lines += [f"{section}:"] if given else []
        lines += [f"  {key}: {flow(value)}" for key, value in sorted(given.items(), key=lambda kv: kv[0] != "kind")]
    if assumed:
        lines.append("assumed:")
        flat = flatten(config)
        lines += [f"  {path}: {flow({'value': _plain(flat[path]), 'reason': why})}" for path, why in assumed.items()]
    if recorded:
        lines.append("recorded:")
        lines += [f"  {key}: {flow(value)}" for key, value in recorded.items()]
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def dimensions_text(dimensions: Sequence[Dimension], remarks: Mapping[str, str] | None = None) -> str:
    """The `dimensions` of a space file, indented by two spaces; `remarks` maps a name to a comment after it."""
    lines = []
    by_path: dict[str, list[Dimension]] = {}
    for dimension in dimensions:
        by_path.setdefault(dimension.path, []).append(dimension)
    for path, alternatives in by_path.items():
        several = len(alternatives) > 1
        if several:
            lines.append(f"  {path}:")
        for dimension in alternatives:
            remark = (remarks or {}).get(dimension.name)
            lead = "    - " if several else f"  {path}: "
            lines.append(f"{lead}{flow(_entry(dimension))}" + (f"  # {remark}" if remark else ""))
    return "\n".join(lines) + "\n"


def _entry(dimension: Dimension) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    if dimension.kind == "choice":
        entry["choice"] = list(dimension.choices)
    elif dimension.kind == "value":
        entry["value"] = dimension.choices[0]
    else:
        entry |= _range_entry(dimension)
    if dimension.of:
        entry["of"] = dimension.of
    if dimension.complement:
        entry["complement"] = True
    if dimension.when:
        entry["when"] = {p: list(values) if len(values) > 1 else values[0] for p, values in dimension.when.items()}
    return entry


def _range_entry(dimension: Dimension) -> dict[str, Any]:
    """The keys of a range or a distribution of numbers."""
    ends = [dimension.low, dimension.high]
    entry: dict[str, Any] = {dimension.kind: ends}
    if dimension.kind in NORMALS:
        entry = {dimension.kind: [dimension.mean, dimension.sd], "within": ends}
    if dimension.q is not None:
        entry["q"] = dimension.q
    if dimension.alternative:
        entry["or"] = dimension.alternative[0]
        entry |= {} if dimension.share == SHARE else {"share": dimension.share}
    return entry


class _Dumper(yaml.SafeDumper):
    """Quotes text that the loader of this package, which follows YAML 1.2, would otherwise read as another type."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    # A line break in single quotes would be written on several lines.
    quoted = show(value).startswith('"') or not value.isprintable()
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"' if quoted else None)


_Dumper.add_representer(str, _text)


def flow(value: Any) -> str:
    """A value as YAML on one line."""
    value = list(value) if isinstance(value, tuple) else value
    text: str = yaml.dump(
        value, Dumper=_Dumper, default_flow_style=True, width=10**9, allow_unicode=True, sort_keys=False
    )
    return text.removesuffix("...\n").strip()


def write_text(path: Path, text: str, *, force: bool = False) -> None:
    """Write a file in one step. Raises InputError if it exists (without `force`) or cannot be written."""
    refuse_existing(path, force)
    atomic.write(path, text, advice="choose another --out")


def refuse_existing(path: Path, force: bool = False, option: str = "--out") -> None:
    """Raise InputError if `path` exists (a device or a pipe is allowed: it is written to), or its folder does not."""
    if (path.exists() or path.is_symlink()) and not (force or atomic.is_stream(path)):
        raise InputError(f"{path}: exists; choose another {option}, or replace it by --force")
    if not path.resolve().parent.is_dir():
        raise InputError(
            f"{path}: the folder {path.resolve().parent} does not exist; make it, or choose another {option}"
        )
