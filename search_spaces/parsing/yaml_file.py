"""Reads YAML the way a person means it: `3e-3` is a number, `off` is a word, and a key given twice is refused."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, ClassVar

import yaml

from search_spaces.errors import InputError
from search_spaces.wording import did_you_mean

_Base: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):
    """YAML 1.2's plain scalars. PyYAML's own 1.1 reads 3e-3 as text, `off` as false and 1:30 as 90."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if isinstance(key_node, yaml.ScalarNode) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", key_node.start_mark)
            seen.add(key)
            if not isinstance(self.construct_object(key_node), str):
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is no name", key_node.start_mark)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return mapping


for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^[-+]?[0-9][0-9_]*$", "-+0123456789"),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", "-+."),
    ("merge", r"^(?:<<)$", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))
# YAML 1.2 has no octal by leading zero: 010 is ten.
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value.replace("_", "")))


def _load(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader: plain values only)


def read_yaml(path: Path, label: str) -> dict[str, Any]:
    """The mapping in a YAML file; `label` is what error lines call the file. Raises InputError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"{label}: cannot be read: {reason}; give a YAML file") from None
    try:
        data = _load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{label}: {_yaml_problem(error)}") from None
    if data is None:
        raise InputError(f"{label}: is empty; write the settings in it")
    if not isinstance(data, dict):
        raise InputError(f"{label}: holds a {type(data).__name__}; write settings as `key: value`")
    return data


def parse_value(text: str) -> Any:
    """One YAML value from a command line, such as `3e-3`, `null` or `[0.5, 0.75]`. Raises ValueError."""
    try:
        return _load(text)
    except yaml.YAMLError as error:
        raise ValueError(_yaml_problem(error)) from None


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{where}{getattr(error, 'problem', None) or error}; correct the YAML there"


def shipped_names(folder: Path) -> list[str]:
    """The names of the YAML files that come with the program in `folder`, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def find_file(what: str, folder: Path, name_or_path: str | Path, beside: Path | None = None) -> Path:
    """The file that `name_or_path` means: an existing file (relative to `beside`), else a shipped one by its name.

    `what` ("run", "space") is the word used in the error. Raises InputError that names the nearest neighbour.
    """
    path = Path(beside or ".", name_or_path)
    if path.is_file():
        return path
    name = str(name_or_path).removesuffix(".yaml")
    names = shipped_names(folder)
    if name in names:
        return folder / f"{name}.yaml"
    raise InputError(
        f"{name_or_path}: there is no {what} of this name and no such file; "
        f"{did_you_mean(name, names)}the {what}s are: {', '.join(names)}"
    )
