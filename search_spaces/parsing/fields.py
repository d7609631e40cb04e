"""The kinds, keys and limits of a configuration, taken from the pydantic models, and their errors as plain lines."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from search_spaces.config import SECTIONS, RunConfig
from search_spaces.wording import did_you_mean, either, nearest, not_allowed, show

Problem = tuple[str, str]
"""A dotted path and what is wrong there."""


@cache
def kinds(section: str) -> dict[str | None, type[BaseModel]]:
    """The models of a section of RunConfig by their `kind`; `{None: model}` for a section that has only one."""
    return _kinds_of(RunConfig.model_fields[section])


def _kinds_of(info: FieldInfo) -> dict[str | None, type[BaseModel]]:
    if info.discriminator is None:
        return {None: info.annotation} if _is_model(info.annotation) else {}  # type: ignore[dict-item]
    return {model.model_fields["kind"].default: model for model in get_args(info.annotation)}


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


@cache
def default_kind(section: str) -> str | None:
    """The kind a section has when none is given; None where one must be given or there are no kinds.

    Kept, because every draw from a space asks for it, and pydantic copies a default each time.
    """
    return getattr(RunConfig.model_fields[section].get_default(), "kind", None)


def kinds_with(section: str, key: str) -> list[str | None]:
    """The kinds of a section that have this key."""
    return [kind for kind, model in kinds(section).items() if key in model.model_fields]


@cache
def all_paths() -> tuple[str, ...]:
    """Every dotted path that exists in some configuration."""
    return tuple(
        dict.fromkeys(f"{s}.{key}" for s in SECTIONS for model in kinds(s).values() for key in model.model_fields)
    )


def unknown_path(path: str) -> str | None:
    """Why this path does not exist in any configuration, with the nearest name; None if it exists."""
    if path in all_paths():
        return None
    hint = _nearest_path(path) or f"write section.key; the sections are {', '.join(SECTIONS)}"
    return f"there is no such setting; {hint}"


def _nearest_path(path: str) -> str:
    section, _, key = path.rpartition(".")
    in_section = [p for p in all_paths() if p.startswith(f"{section}.")]
    same_key = [p for p in all_paths() if p.endswith(f".{key}")]
    near = nearest(path, in_section, cutoff=0.7) or next(iter(same_key), None) or nearest(path, all_paths())
    return f"did you mean {near}?" if near else ""


@cache
def _adapter(model: type[BaseModel], key: str) -> TypeAdapter[Any]:
    info = model.model_fields[key]
    kind: Any = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    return TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False, strict=True))


@cache
def _schema(model: type[BaseModel], key: str) -> dict[str, Any]:
    return _adapter(model, key).json_schema()


def takes(model: type[BaseModel], key: str) -> str:
    """The values a key takes, in words: `a whole number from 1 to 8192`."""
    if model.model_fields[key].discriminator is not None:
        return f"kind: {either([str(k) for k in _kinds_of(model.model_fields[key])])}, with its keys"
    if _is_model(model.model_fields[key].annotation):
        return "settings as `key: value`"
    return _words(_schema(model, key))


def _words(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_words(option) for option in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        return either([show(v) for v in schema.get("enum", [schema.get("const")])])
    if schema.get("type") in ("number", "integer"):
        return _number_words(schema)
    if schema.get("type") == "array":
        items = schema.get("items")
        return f"a list, each item {_words(items)}" if items else "a list"
    return {"boolean": "true or false", "null": "null", "string": "text", "object": "settings as `key: value`"}.get(
        schema.get("type", ""), "another value"
    )


def _number_words(schema: dict[str, Any]) -> str:
    noun = "a whole number" if schema["type"] == "integer" else "a number"
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"{noun} from {show(low)} to {show(high)}"
    lower = f" of {show(low)} or more" if low is not None else f" above {show(above)}" if above is not None else ""
    upper = f"at most {show(high)}" if high is not None else f"below {show(below)}" if below is not None else ""
    return noun + lower + (f" and {upper}" if lower and upper else f" {upper}" if upper else "")


def is_integer(path: str) -> bool:
    """Whether a path takes whole numbers only."""
    return _types(path) <= {"integer", "null"}


def is_number(path: str) -> bool:
    """Whether a path takes numbers (and possibly null)."""
    return _types(path) <= {"integer", "number", "null"}


@cache
def _types(path: str) -> frozenset[str]:
    section, key = path.split(".")
    schemas = [_schema(kinds(section)[kind], key) for kind in kinds_with(section, key)]
    return frozenset(option.get("type", "other") for schema in schemas for option in schema.get("anyOf", [schema]))


def refusal(path: str, value: Any, kind: str | None = None) -> str | None:
    """Why a value is not allowed at a path (in one kind, or in any that has the key), or None if it is."""
    section, key = path.split(".")
    if key == "kind" and section in SECTIONS and None not in kinds(section):
        options = [str(k) for k in kinds(section)]
        return None if value in options else _bad_kind(value, options)
    models = [kinds(section)[kind]] if kind else [kinds(section)[k] for k in kinds_with(section, key)]
    for model in models:
        try:
            _adapter(model, key).validate_python(plain(value))
        except ValidationError:
            return not_allowed(value, takes(model, key))
    return None


def _bad_kind(value: Any, options: list[str]) -> str:
    hint = did_you_mean(str(value), options)
    return f"{show(value)} is not allowed; {hint}give {either(options)}"


def plain(value: Any) -> Any:
    """YAML values as the strict models need them: lists as tuples, 1e4 as a whole number."""
    if isinstance(value, list | tuple):
        return tuple(plain(item) for item in value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Pydantic's errors as (dotted path, message) pairs in plain words, each once."""
    found = [problem for item in error.errors(include_url=False) for problem in _problem(item, model)]
    return list(dict.fromkeys(found))


def _problem(item: Any, root: type[BaseModel]) -> list[Problem]:
    path, owner, key, kind = _locate(root, item["loc"])
    value, error_type = item["input"], item["type"]
    if error_type == "value_error":
        lines = str(item["ctx"]["error"]).splitlines()
        if path:
            return [(path, line) for line in lines]
        return [(where, what) for where, _, what in (line.partition(": ") for line in lines)]
    if error_type == "extra_forbidden":
        return [(path, _unknown_key(path, owner, key, kind, value))]
    if error_type == "missing":
        needs = f"{kind} needs it; " if kind else ""
        return [(path, f"is missing; {needs}give {takes(owner, key)}")]
    if error_type in ("union_tag_invalid", "union_tag_not_found"):
        options = [str(k) for k in _kinds_of(owner.model_fields[key])]
        if error_type == "union_tag_not_found":
            return [(f"{path}.kind", f"is missing; give {either(options)}")]
        tag = value.get("kind") if isinstance(value, dict) else value
        return [(f"{path}.kind", _bad_kind(tag, options))]
    if owner is None or key not in owner.model_fields:
        return [(path, f"{show(value)} is not allowed; {item['msg']}")]
    return [(path, not_allowed(value, takes(owner, key)))]


def _unknown_key(path: str, owner: type[BaseModel], key: str, kind: str | None, value: Any) -> str:
    section = path.split(".")[0]
    allowed = [info.alias or name for name, info in owner.model_fields.items()]
    given = f"unknown key (value {show(value)}); "
    elsewhere = [k for k in kinds_with(section, key) if k] if kind and section in SECTIONS else []
    if elsewhere:
        return f"{given}{section}.kind {kind} does not have it, {either([str(k) for k in elsewhere])} does; " + (
            f"remove it or change {section}.kind"
        )
    hint = did_you_mean(key, allowed)
    if not hint and section in SECTIONS:
        hint = _nearest_path(path) + " " if _nearest_path(path) else ""
    return f"{given}{hint}{'the keys of ' + kind if kind else 'the keys'} are: {', '.join(allowed)}"


def _locate(root: type[BaseModel], loc: tuple[Any, ...]) -> tuple[str, Any, str, str | None]:
    """(dotted path without union tags, the model that owns the last key, that key, the owner's kind)."""
    path, owner, key, kind = "", root, "", None
    model: Any = root
    position = 0
    while position < len(loc):
        part = loc[position]
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
        if model is not None and isinstance(part, str):
            owner, key = model, part
            info = model.model_fields.get(part) or next(
                (field for field in model.model_fields.values() if field.alias == part), None
            )
            options = _kinds_of(info) if info is not None else {}
            model = options.get(None)
            of_models = info is not None and get_origin(info.annotation) is dict
            values = get_args(info.annotation) if info is not None and of_models else (None, None)
            if _is_model(values[1]) and position + 1 < len(loc):
                model = values[1]
                path += f".{loc[position + 1]}"
                position += 1
            tag = loc[position + 1] if position + 1 < len(loc) else None
            if None not in options and tag in options:
                model, kind = options[tag], tag
                position += 1
        position += 1
    return path, owner, key, kind
