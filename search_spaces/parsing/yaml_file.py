"""Reads YAML 1.2: `3e-3` is a number, `off` is text, and a key that is given twice is refused."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import yaml

from search_spaces.errors import InputError
from search_spaces.wording import did_you_mean

MOST_VALUES = 10_000
"""Values of a file, each alias counted with all that it stands for. The largest space has some hundred."""
MOST_DEEP = 40
MOST_BYTES = 4 << 20
_DIGITS = 100
_TAGS = {None, "!", *(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map"))}

_MERGE = "tag:yaml.org,2002:merge"

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
            if key_node.tag == _MERGE:
                continue
            if not isinstance(self.construct_object(key_node), str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} is not a name (a key must be text)", key_node.start_mark
                )
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


def _whole(loader: Any, node: yaml.ScalarNode) -> int:
    """YAML 1.2 has no octal by leading zero: 010 is ten."""
    text = node.value.replace("_", "")
    if len(text) > _DIGITS:
        raise yaml.constructor.ConstructorError(None, None, f"a number of {len(text)} digits", node.start_mark)
    return int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _whole)


def _load(text: str) -> Any:
    """The values in a YAML text. Raises yaml.YAMLError, for what is too large or too deep too."""
    try:
        _measure(text)
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader: plain values only)
    except UnicodeEncodeError:
        raise yaml.YAMLError("it holds half a character (a lone surrogate)") from None
    except (ValueError, TypeError, LookupError, AttributeError) as error:  # !!bool x, a list as a key
        raise yaml.YAMLError(f"a value that is no YAML ({str(error).splitlines()[0][:80]})") from None


def _measure(text: str) -> None:
    """Refuse what would take a computer down: an alias stands for as many values as what it points to, and an alias to
    that for as many times more; brackets in brackets end in the stack. Neither is built before it is counted.
    """
    sizes: dict[str, int] = {}
    around: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in around):
                _refuse(f"*{event.anchor} stands for what it is in", event)
            total += sizes.get(event.anchor or "", 1)
        elif isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            if event.tag not in _TAGS:
                _refuse(f"the tag {event.tag} is not allowed; leave it out", event)
            if isinstance(event, yaml.CollectionStartEvent):
                around.append((event.anchor, total))
            elif event.anchor is not None:
                sizes[event.anchor] = 1
            total += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = around.pop()
            if anchor is not None:
                sizes[anchor] = total - before
        if total > MOST_VALUES:
            _refuse(f"more than {MOST_VALUES} values, with what its aliases (*name) stand for", event)
        if len(around) > MOST_DEEP:
            _refuse(f"more than {MOST_DEEP} brackets or indents in each other", event)


def _refuse(what: str, event: Any) -> NoReturn:
    raise yaml.MarkedYAMLError(None, None, what, event.start_mark)


def read_yaml(path: Path, label: str) -> dict[str, Any]:
    """The mapping in a YAML file; `label` is what error lines call the file. Raises InputError."""
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise InputError(f"{label}: {size / 1e6:.0f} MB are no settings; give a YAML file")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"{label}: cannot be read: {reason}; give a YAML file") from None
    try:
        data = _load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{label}: {_yaml_problem(error, text)}") from None
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
        raise ValueError(_yaml_problem(error, text)) from None


def _yaml_problem(error: yaml.YAMLError, text: str) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    problem = str(getattr(error, "problem", None) or error).splitlines()[0]
    if mark and "cannot start any token" in problem and text.split("\n")[mark.line][mark.column :].startswith("\t"):
        problem = "a tab, which YAML does not take there; indent by spaces"
    return f"{where}{problem}; correct the YAML there"


def shipped_names(folder: Path) -> list[str]:
    """The names of the YAML files that come with the program in `folder`, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def find_file(what: str, folder: Path, name_or_path: str | Path, beside: Path | None = None) -> Path:
    """The file that `name_or_path` means: an existing file (relative to `beside`), or one that comes with the program.

    `what` ("run", "space") is the word used in the error. Raises InputError, with the nearest name.
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
