"""A space whose runs are shorter or longer: the same model and the same search, every length in batches scaled.

The scaled space is an ordinary one, and everything that reads spaces reads it: base, fixed values, ranges, choices,
conditions, constraints and start points have the numbers that the runs will have. A range that is relative to another
length (`of: training.batches`) stays.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from search_spaces.dimensions.dimension import NORMALS, Dimension
from search_spaces.errors import InputError
from search_spaces.lengths.scale import (
    COUNTS,
    DECAYS,
    LARGEST,
    check_scale,
    epochs_factor,
    factor,
    scaled_decay,
    scaled_lengths,
    scaled_value,
)
from search_spaces.parsing.constraints import parse_constraint
from search_spaces.parsing.fields import kinds
from search_spaces.parsing.sections import ABSENT, Settings, kind_of, merge, nested, same, value_at
from search_spaces.plan import Budget
from search_spaces.space import Space, load_start_point
from search_spaces.space_file import check_drawn
from search_spaces.wording import show
from search_spaces.writing import flow

_IN_EPOCHS = ("grace", "interval", "every")
"""Settings of stopping rules that are numbers of epochs."""
_PATH = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_NUMBER = re.compile(r"(?<![\w.])[\d.]")


def scaled_space(space: Space, scale: float) -> Space:
    """The space with runs that are `scale` times as long; at 1 it is the space itself.

    The numbers of trials and hours in its budget stay; batches and utterances are scaled. Raises InputError for a scale
    out of range, and where the space cannot be scaled.
    """
    check_scale(scale)
    if scale == 1:
        return space
    found = replace(
        space,
        scale=space.scale * scale,
        config_base=_scaled_base(space.config_base, scale),
        fixed=_scaled_fixed(space, scale),
        dimensions=_with_defaults(space, scale, [scaled_dimension(each, scale) for each in space.dimensions]),
        constraints=tuple(_scaled_constraint(text, scale) for text in space.constraints),
        start_points=tuple(_scaled_start(text, scale) for text in space.start_points),
        stopping=_scaled_rule(space.stopping, scale),
        budget=_scaled_budget(space.budget, scale),
    )
    try:
        check_drawn(found)
    except InputError as error:
        raise InputError(f"at --scale {scale:g}: {line}" for line in error.problems) from None
    return found


def changes(before: Space, after: Space) -> list[str]:
    """A line on the lengths that scaling changed, and one for each range of which a single value is left."""
    old, new = (merge(each.config_base, nested(each.fixed)) for each in (before, after))
    lengths = [
        f"{path} {show(value_at(old, path))} -> {show(value_at(new, path))}"
        for path in (*COUNTS, *DECAYS)
        if not same(value_at(old, path), value_at(new, path))
    ]
    lines = [f"scale {after.scale:g}: {', '.join(lengths)}"] if lengths else []
    now = {dimension.name: dimension for dimension in after.dimensions}
    return lines + [
        f"{each.name}: {each.words()} is {now[each.name].words()} at this scale, and is not searched"
        for each in before.dimensions
        if each.sampled and each.name in now and not now[each.name].sampled
    ]


def _scaled_base(base: Settings, scale: float) -> Settings:
    """The base run's settings, with the lengths that it has by default written out."""
    given = {f"{section}.{key}": value for section, values in base.items() for key, value in values.items()}
    for path in (*COUNTS, *DECAYS):
        value = value_at(base, path)
        if path in given or (value not in (ABSENT, None) and not same(scaled_value(path, value, scale), value)):
            given[path] = scaled_value(path, value, scale)
    return {**base, **nested(given)}


def _scaled_fixed(space: Space, scale: float) -> dict[str, Any]:
    """The scaled fixed values, with the lengths that a kind which is fixed has by default written out."""
    fixed = {path: scaled_value(path, value, scale) for path, value in space.fixed.items()}
    settings = merge(space.config_base, nested(space.fixed))
    for section in {path.split(".")[0] for path in fixed if path.endswith(".kind")}:
        if kind_of(settings, section) != kind_of(space.config_base, section):
            defaults = _defaults(settings, section, kind_of(settings, section))
            fixed.update((path, scaled_value(path, value_at(settings, path), scale)) for path in defaults)
    return fixed


def _with_defaults(space: Space, scale: float, dimensions: list[Dimension]) -> tuple[Dimension, ...]:
    """The scaled dimensions, and constants for lengths that a kind which the space can choose has by default.

    A default is not written anywhere, so nothing else scales it: the decay of an EMA is one.
    """
    found = list(dimensions)
    settings = merge(space.config_base, nested(space.fixed))
    for place, dimension in _chooses_kind(dimensions):
        section = dimension.path.split(".")[0]
        for kind in dimension.choices:
            if kind == kind_of(settings, section):
                continue  # written out in the base
            chosen = merge(settings, {section: {"kind": kind}})
            for path in _defaults(chosen, section, kind):
                new = scaled_value(path, value_at(chosen, path), scale)
                others = [each for each in space.dimensions if each.path == path]
                if same(new, value_at(chosen, path)) or _always(others, dimension.path, kind):
                    continue
                if any(_may(each, dimension.path, kind) for each in others):
                    raise InputError(
                        f"{space.name}: {path}: cannot be scaled, because only some configurations with "
                        f"{dimension.path} {kind} search it; give it a `value` in the others"
                    )
                name, when = f"{path}[{kind}]", {dimension.path: (kind,)}
                if not any(each.name == name for each in found):
                    found.insert(place + 1, Dimension(name, path, "value", choices=(new,), when=when))
    return tuple(found)


def _chooses_kind(dimensions: list[Dimension]) -> Iterator[tuple[int, Dimension]]:
    """(place, dimension) of those that choose a kind, the last first, so that places stay when one is inserted."""
    for place in reversed(range(len(dimensions))):
        if dimensions[place].path.endswith(".kind"):
            yield place, dimensions[place]


def _defaults(settings: Settings, section: str, kind: Any) -> list[str]:
    """The lengths of a section that have a default in this kind, and no value in the settings."""
    model = kinds(section)[kind]
    paths = [path for path in (*COUNTS, *DECAYS) if path.startswith(f"{section}.")]
    keys = {path: path.split(".")[1] for path in paths}
    return [
        path
        for path, key in keys.items()
        if key in model.model_fields and key not in settings[section] and value_at(settings, path) not in (ABSENT, None)
    ]


def _may(dimension: Dimension, kind_path: str, kind: Any) -> bool:
    """Whether a dimension can be active where this kind is chosen."""
    return kind_path not in dimension.when or kind in dimension.when[kind_path]


def _always(dimensions: list[Dimension], kind_path: str, kind: Any) -> bool:
    """Whether one of the dimensions is active wherever this kind is chosen."""
    return any(_may(each, kind_path, kind) and not each.when.keys() - {kind_path} for each in dimensions)


def scaled_dimension(dimension: Dimension, scale: float) -> Dimension:
    """The dimension with the ranges, choices and conditions that it has in the scaled space.

    A range that rounding leaves one value becomes a constant. Raises InputError for a log_normal decay.
    """
    path = dimension.path
    when = {p: tuple(scaled_value(p, value, scale) for value in values) for p, values in dimension.when.items()}
    name = dimension.name
    if when != dimension.when and "[" in name:
        name = name.partition("[")[0] + "[" + ",".join(f"{p}={'|'.join(map(show, v))}" for p, v in when.items()) + "]"
    found = replace(dimension, name=name, when=when)
    found = replace(found, alternative=tuple(scaled_value(path, value, scale) for value in dimension.alternative))
    if dimension.of is not None:
        return _times(found, factor(path, scale) / factor(dimension.of, scale))
    if not dimension.numeric:
        choices = [scaled_value(path, value, scale) for value in dimension.choices]
        once = [value for i, value in enumerate(choices) if not any(same(value, each) for each in choices[:i])]
        return replace(found, choices=tuple(once))
    if path in DECAYS:
        return _scaled_decays(found, scale)
    if path in COUNTS and scale != 1:
        return _whole(_times(found, factor(path, scale)), COUNTS[path][1])
    return found


def _times(dimension: Dimension, by: float) -> Dimension:
    """The dimension with every sample multiplied."""
    if by == 1:
        return dimension
    if not dimension.numeric:
        return replace(dimension, choices=tuple(value * by for value in dimension.choices))
    low, high = (end * by for end in dimension.ends)
    q = None if dimension.q is None else dimension.q * by
    found = replace(dimension, low=low, high=high, q=q)
    if dimension.kind in NORMALS and dimension.mean is not None and dimension.sd is not None:
        log = dimension.kind == "log_normal"
        mean, sd = (dimension.mean + math.log(by), dimension.sd) if log else (dimension.mean * by, dimension.sd * by)
        found = replace(found, mean=mean, sd=sd)
    return found


def _whole(dimension: Dimension, least: int) -> Dimension:
    """The dimension with whole numbers, and a constant where a single one is left."""
    least = max(least, 1) if dimension.log else least
    low, high = (max(least, round(end)) for end in dimension.ends)
    q = None if dimension.q is None else max(1, round(dimension.q))
    if q is not None and dimension.kind not in NORMALS:
        high = low + (high - low) // q * q
    return replace(dimension, low=low, high=high, q=q) if low < high else _constant(dimension, low)


def _scaled_decays(dimension: Dimension, scale: float) -> Dimension:
    """The range of a decay, or of 1 - decay."""
    if dimension.kind == "log_normal":
        raise InputError(f"{dimension.name}: log_normal cannot be scaled; use log_uniform with complement: true")
    if dimension.complement:
        low, high = (min(end / scale, LARGEST) for end in dimension.ends)
    else:
        low, high = (scaled_decay(end, scale) for end in dimension.ends)
    found = replace(dimension, low=float(f"{low:.12g}"), high=float(f"{high:.12g}"))
    if found.ends[0] >= found.ends[1]:
        return _constant(found, found.value(found.low), plain=True)
    if dimension.q is not None:
        q = dimension.q / scale
        steps = math.floor((found.ends[1] - found.ends[0]) / q + 1e-9)
        found = replace(found, q=q, high=float(f"{found.ends[0] + steps * q:.12g}"))
        if not steps:
            return _constant(found, found.value(found.low), plain=True)
    if dimension.mean is not None and dimension.sd is not None:
        mean = dimension.mean / scale if dimension.complement else 1 - (1 - dimension.mean) / scale
        found = replace(found, mean=mean, sd=dimension.sd / scale)
    return found


def _constant(dimension: Dimension, value: Any, *, plain: bool = False) -> Dimension:
    """The dimension as a constant, or as a choice between the value of `or` and this one."""
    kind, choices = ("choice", (*dimension.alternative, value)) if dimension.alternative else ("value", (value,))
    found = Dimension(dimension.name, dimension.path, kind, choices=choices, when=dimension.when, of=dimension.of)
    return replace(found, of=None) if plain else found


def _scaled_constraint(text: str, scale: float) -> str:
    """The constraint on the scaled values: each length stands for the whole run's, computed from it."""
    paths = parse_constraint(text).paths
    counts = {factor(path, scale) for path in paths if path in COUNTS}
    if not counts and not any(path in DECAYS for path in paths):
        return text
    if len(counts) == 1 and all(path in COUNTS for path in paths) and not _NUMBER.search(text):
        return text  # lengths compared with lengths

    def whole(match: re.Match[str]) -> str:
        path = match.group()
        if path in DECAYS:
            return f"(1 - {scale:.12g} * (1 - {path}))"
        return f"({1 / factor(path, scale):.12g} * {path})" if path in COUNTS else path

    return _PATH.sub(whole, text)


def _scaled_start(text: str, scale: float) -> str:
    """The start point, with the lengths of the scaled run as overrides."""
    lengths: Mapping[str, Any] = scaled_lengths(load_start_point(text).config, scale)
    return " ".join([text, *(shlex.quote(f"{path}={flow(value)}") for path, value in lengths.items())])


def _scaled_rule(rule: Any, scale: float) -> Any:
    """The stopping rule, with numbers of epochs at the same share of a run; shares of a schedule stay."""
    if getattr(rule, "at", "epochs") != "epochs":
        return rule
    given = {key: getattr(rule, key, None) for key in _IN_EPOCHS}
    numbers = {key: value for key, value in given.items() if isinstance(value, int | float)}
    by = epochs_factor(scale)
    return rule.model_copy(update={key: max(1, round(value * by)) for key, value in numbers.items()})


def _scaled_budget(budget: Budget, scale: float) -> Budget:
    given = {key: getattr(budget, key) for key in ("batches", "utterances")}
    return budget.model_copy(update={k: max(1, round(v * scale)) for k, v in given.items() if v is not None})
