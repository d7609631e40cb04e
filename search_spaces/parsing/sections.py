"""Settings as written, `{section: {key: value}}`, before defaults: how they are merged, looked up and validated.

Only values that were written are kept. Defaults are not, because a default belongs to a kind: AdamW's eps must not
become Adam's in a merge.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from search_spaces.config import SECTIONS, RunConfig
from search_spaces.parsing.fields import Problem, default_kind, kinds, plain, problems_of

Settings = dict[str, dict[str, Any]]

INSTEAD = {"averaging": {"decay": "decays", "decays": "decay"}}
"""By section, keys of which a run has one or the other: giving the first replaces the second."""

ABSENT = "absent"
"""Marks the value of a path that does not exist in a configuration."""


class InvalidSettings(ValueError):
    """Settings that are not a valid RunConfig; `problems` holds every (dotted path, message)."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(f"{path}: {message}" for path, message in problems))
        self.problems = problems


def kind_of(settings: Mapping[str, Mapping[str, Any]], section: str) -> str | None:
    """The kind a section has, given or by default; None where there is none."""
    return settings.get(section, {}).get("kind", default_kind(section))


def merge(base: Settings, changes: Mapping[str, Mapping[str, Any]]) -> Settings:
    """`base` with `changes` on top; neither is modified.

    Where `changes` gives a section another kind, the keys of `base` which that kind lacks are dropped and the shared
    ones (such as schedule.peak_lr) stay. A key that stands for another one (`INSTEAD`) takes its place.
    """
    merged = {section: dict(values) for section, values in base.items()}
    for section, values in changes.items():
        merged[section] = merged_section(section, merged.get(section, {}), values)
    return merged


def merged_section(section: str, old: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """What `merge` does with one section."""
    gone = {other for key, other in INSTEAD.get(section, {}).items() if values.get(key) is not None}
    kept = {key: value for key, value in old.items() if key not in gone}
    kind = values.get("kind")
    if isinstance(kind, str) and kind != kind_of({section: old}, section):
        model = kinds(section).get(kind)
        kept = {key: value for key, value in kept.items() if model is not None and key in model.model_fields}
    return {**kept, **values}


def put(settings: Settings, section: str, key: str, value: Any) -> None:
    """What `merge` does with one value, in `settings` themselves."""
    if key == "kind" or key in INSTEAD.get(section, {}):
        settings[section] = merged_section(section, settings.get(section, {}), {key: value})
    else:
        settings.setdefault(section, {})[key] = value


def nested(flat: Mapping[str, Any]) -> Settings:
    """`{"schedule.kind": "linear"}` as `{"schedule": {"kind": "linear"}}`."""
    settings: Settings = {}
    for path, value in flat.items():
        section, _, key = path.partition(".")
        settings.setdefault(section, {})[key] = value
    return settings


def value_at(settings: Settings, path: str) -> Any:
    """The value a configuration made of these settings has at a path, defaults included, or ABSENT."""
    section, key = path.split(".")
    if key == "kind":
        return kind_of(settings, section) or ABSENT
    model = kinds(section).get(kind_of(settings, section))
    if model is None or key not in model.model_fields:
        return ABSENT
    values = settings.get(section, {})
    if key in values:
        return values[key]
    if values.get(INSTEAD.get(section, {}).get(key, "")) is not None:
        return None
    info = model.model_fields[key]
    return ABSENT if info.is_required() else info.get_default()


FILE = "training.init_from"
"""The one setting that is the path of a file."""


def located(value: Any, folder: Path) -> Any:
    """A path as written in a file of `folder`, absolute: beside that file, or in the working folder; else unchanged.

    Absolute, because a trial may work in another folder.
    """
    if not isinstance(value, str):
        return value
    found = next((path for path in (folder / value, Path(value)) if path.exists()), None)
    return value if found is None else str(found.absolute())


def same(left: Any, right: Any) -> bool:
    """Equality as YAML means it: 1 and 1.0 are the same, 1 and true are not."""
    return bool(left == right) and isinstance(left, bool) == isinstance(right, bool)


def validate(settings: Mapping[str, Mapping[str, Any]]) -> RunConfig:
    """The RunConfig of these settings. Strict: text is not a number, true is not 1. Raises InvalidSettings."""
    complete = {section: {key: plain(v) for key, v in values.items()} for section, values in settings.items()}
    for section in SECTIONS:
        kind = default_kind(section)
        if kind is not None and section in complete:
            complete[section].setdefault("kind", kind)
    try:
        return RunConfig.model_validate(complete, strict=True)
    except ValidationError as error:
        raise InvalidSettings(problems_of(error, RunConfig)) from None
