"""A kind with its settings on the command line: `--searcher "gp startup_trials=10"`."""

from __future__ import annotations

import shlex
from typing import Any

from pydantic import TypeAdapter, ValidationError, create_model

from search_spaces.errors import InputError
from search_spaces.parsing.fields import problems_of
from search_spaces.parsing.yaml_file import parse_value
from search_spaces.wording import show


def parse_settings(text: str, union: Any, name: str) -> dict[str, Any]:
    """The settings that `text`, a kind with `key=value` after it, gives; what it leaves out has the kind's default.

    `union` is the type of a space file's key `name` (`Searcher` for `searcher`). Values are read as YAML.

    >>> from search_spaces.searchers import Searcher
    >>> parse_settings("nsga2 population=8", Searcher, "searcher")["population"]
    8

    Raises InputError, a line for each problem.
    """
    try:
        kind, *rest = shlex.split(text) or [""]
        pairs = [part.partition("=") for part in rest]
        if wrong := [key + sign for key, sign, _ in pairs if not sign or not key]:
            raise InputError(f"--{name}: {wrong[0]!r} is not allowed; give a kind, then key=value")
        given = {key: parse_value(value) for key, _, value in pairs}
    except InputError:
        raise
    except ValueError:
        raise InputError(
            f"--{name} {show(text)}: cannot be read; give a kind, then key=value, with spaces between"
        ) from None
    fields: dict[str, Any] = {name: (union, ...)}
    model = create_model("_Given", **fields)
    try:
        model.model_validate({name: {"kind": kind, **given}})
    except ValidationError as error:
        lines = [(where.removeprefix(f"{name}."), what) for where, what in problems_of(error, model)]
        raise InputError(f"--{name}: {where}: {what}" for where, what in lines) from None
    settings: dict[str, Any] = TypeAdapter(union).validate_python({"kind": kind, **given}).model_dump(mode="json")
    return settings


def given_keys(text: str) -> set[str]:
    """The settings that a text of `parse_settings` gives.

    >>> sorted(given_keys("asha metric=per_raw at=horizon"))
    ['at', 'metric']
    """
    return {part.partition("=")[0] for part in shlex.split(text)[1:]}
