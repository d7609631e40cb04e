"""Reads the `dimensions` of a space file, and collects all errors in them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from search_spaces.dimensions.dimension import KINDS, NORMALS, NUMBERS, SHARE, WITHIN, Dimension
from search_spaces.dimensions.findings import Findings
from search_spaces.dimensions.other_forms import line_for
from search_spaces.dimensions.ranges import (
    bad_normal,
    bad_range,
    check_distribution,
    check_range_options,
    check_steps,
    stepped,
)
from search_spaces.parsing.fields import is_integer, is_number, kinds, kinds_with, refusal, unknown_path
from search_spaces.parsing.sections import ABSENT, Settings, kind_of, merge, same, value_at
from search_spaces.wording import did_you_mean, either, show

_OPTIONS = ("when", "of", "complement", "q", "within", "or", "share")


def parse_dimensions(
    entries: Mapping[str, Any], settings: Settings, fixed: Mapping[str, Any], found: Findings
) -> list[Dimension]:
    """The dimensions of a file, checked against RunConfig, against each other, and against the base `settings`."""
    by_path = parse_entries(entries, found)
    _check_fixed_kinds(fixed, by_path, settings, found)
    for path, alternatives in by_path.items():
        for dimension in alternatives:
            where = _where(dimension, len(alternatives))
            _check_when(dimension, where, by_path, settings, found)
            _check_values(dimension, where, by_path, settings, found)
        for left, right in itertools.combinations(alternatives, 2):
            if not _disjoint(left, right):
                found.add(
                    f"dimensions.{path}",
                    f"alternatives {left.name} and {right.name} can be active together; "
                    f"give both a `when` on the same path with different values",
                )
    return [dimension for alternatives in by_path.values() for dimension in alternatives]


def parse_entries(entries: Mapping[str, Any], found: Findings) -> dict[str, list[Dimension]]:
    """Path -> its dimensions, checked against RunConfig alone: what can be said of them without the base."""
    by_path: dict[str, list[Dimension]] = {}
    for path, entry in entries.items():
        where = f"dimensions.{path}"
        if reason := unknown_path(path):
            found.add(where, reason)
        elif path == "training.seed":
            found.add(where, "is set by the search for each trial; remove it")
        else:
            by_path[path] = _parse_path(path, entry, found)
    return by_path


def _check_fixed_kinds(
    fixed: Mapping[str, Any], by_path: Mapping[str, list[Dimension]], settings: Settings, found: Findings
) -> None:
    """A fixed key must exist in every kind that its section can have in this space."""
    for path in fixed:
        section, key = path.split(".")
        lacking = [k for k in _possible_kinds(section, by_path, settings) if k not in kinds_with(section, key)]
        have = [k for k in kinds_with(section, key) if k]
        if lacking and have:
            found.add(
                f"fixed.{path}",
                f"{section}.kind {either(lacking)} does not have it, {either(have)} does; "
                f"make it a dimension with `value` and `when`",
            )


def order(dimensions: list[Dimension], found: Findings) -> tuple[Dimension, ...]:
    """The dimensions, each after those that it depends on, otherwise in the order of the file."""
    paths = {dimension.path for dimension in dimensions}
    needs: dict[str, set[str]] = {path: set() for path in paths}
    for dimension in dimensions:
        for path in [*dimension.when, *filter(None, [dimension.of])]:
            needs[dimension.path] |= {path, _kind_path(path)} & paths
        needs[dimension.path] |= {_kind_path(dimension.path)} & paths - {dimension.path}
    ordered: list[Dimension] = []
    done: set[str] = set()
    while len(done) < len(paths):
        ready = next((d.path for d in dimensions if d.path not in done and needs[d.path] <= done), None)
        if ready is None:
            circle = sorted(paths - done)
            found.add("dimensions", f"{either(circle)} depend on each other in a circle; remove a `when` or `of`")
            return ()
        ordered += [dimension for dimension in dimensions if dimension.path == ready]
        done.add(ready)
    return tuple(ordered)


def _kind_path(path: str) -> str:
    return f"{path.split('.')[0]}.kind"


def _where(dimension: Dimension, alternatives: int) -> str:
    tag = dimension.name.rpartition("[")[2].rstrip("]")
    return f"dimensions.{dimension.path}" + (f" ({tag})" if alternatives > 1 and dimension.when else "")


def _parse_path(path: str, entry: Any, found: Findings) -> list[Dimension]:
    alternatives = entry if isinstance(entry, list) else [entry]
    if not alternatives:
        found.add(f"dimensions.{path}", f"is empty; give one of {', '.join(KINDS)}")
    parsed = []
    for number, alternative in enumerate(alternatives, 1):
        where = f"dimensions.{path}" + (f", alternative {number}" if len(alternatives) > 1 else "")
        dimension = _parse_one(path, alternative, len(alternatives) > 1, where, found)
        parsed += [dimension] if dimension else []
    return parsed


def _parse_one(path: str, entry: Any, tagged: bool, where: str, found: Findings) -> Dimension | None:
    if not isinstance(entry, dict):
        found.add(where, f"{show(entry)} is not allowed; give one of {', '.join(KINDS)}, as in {{uniform: [0, 1]}}")
        return None
    before = len(found.lines)
    if other := line_for(entry):
        found.add(where, other)
        return None
    for key in entry:
        if key not in (*KINDS, *_OPTIONS):
            hint = did_you_mean(str(key), (*KINDS, *_OPTIONS))
            found.add(f"{where}.{key}", f"unknown key; {hint}the keys are: {', '.join((*KINDS, *_OPTIONS))}")
    given = [kind for kind in KINDS if kind in entry]
    if len(given) > 1 or not (given or len(found.lines) > before):
        found.add(where, f"has {len(given)} of {', '.join(KINDS)}; give exactly one")
    when = _parse_when(entry.get("when", {}), f"{where}.when", found)
    if len(given) != 1:
        return None
    kind, content = given[0], entry[given[0]]
    if kind == "choice" and isinstance(content, dict):
        content = stepped(content, f"{where}.choice", found)
        if content is None:
            return Dimension(path, path, "choice", when=when)
    reason = _bad_content(kind, content)
    if reason:
        found.add(f"{where}.{kind}", f"{show(content)} is not allowed; {reason}")
    _check_options(path, kind, content, entry, where, found)
    if len(found.lines) > before and not reason:
        return None
    # With a wrong range or wrong choices, the dimension is checked further without them.
    dimension = Dimension(
        _name(path, entry, when if tagged else {}), path, kind, when=when, of=entry.get("of"),
        complement=entry.get("complement", False),
    )  # fmt: skip
    return dimension if reason else _with_values(dimension, content, entry, where, found)


def _name(path: str, entry: Mapping[str, Any], when: Mapping[str, tuple[Any, ...]]) -> str:
    name = f"1-{path}" if entry.get("complement") else f"{path}/{entry['of']}" if entry.get("of") else path
    if when:
        name += "[" + ",".join(f"{p}={'|'.join(map(show, values))}" for p, values in when.items()) + "]"
    return name


def _with_values(
    dimension: Dimension, content: Any, entry: Mapping[str, Any], where: str, found: Findings
) -> Dimension | None:
    """The dimension with its range, distribution or choices, and the options of a range."""
    kind = dimension.kind
    if kind not in NUMBERS:
        return replace(dimension, choices=tuple(content) if kind == "choice" else (content,))
    q, before = entry.get("q"), len(found.lines)
    if kind in NORMALS:
        dimension = _distribution(dimension, content, entry.get("within"))
        q = 1 if q is None and dimension.whole else q
    else:
        dimension = _range(dimension, content, q)
    if "or" in entry:
        dimension = replace(dimension, alternative=(entry["or"],), share=float(entry.get("share", SHARE)))
    if q is not None:
        dimension = replace(dimension, q=int(q) if dimension.whole else float(q))
        check_steps(dimension, where, found)
    check_distribution(dimension, where, found)
    return dimension if len(found.lines) == before else None


def _distribution(dimension: Dimension, content: Any, within: Any) -> Dimension:
    mean, sd = map(float, content)
    low, high = within or (mean - WITHIN * sd, mean + WITHIN * sd)
    if dimension.kind == "log_normal" and within is None:
        low, high = math.exp(low), math.exp(high)
    return replace(dimension, mean=mean, sd=sd, low=float(low), high=float(high))


def _range(dimension: Dimension, content: Any, q: Any) -> Dimension:
    path, kind = dimension.path, dimension.kind
    plain = dimension.of is None and not dimension.complement and is_number(path) and is_integer(path)
    if q is not None and plain and all(float(each).is_integer() for each in (*content, q)):
        kind = kind.replace("uniform", "int")  # people write `uniform` with steps for whole numbers too
    low, high = map(int if kind in ("int", "log_int") else float, content)
    return replace(dimension, kind=kind, low=low, high=high)


def _bad_content(kind: str, content: Any) -> str | None:
    if kind in NORMALS:
        return bad_normal(kind, content)
    return bad_range(kind, content) if kind in NUMBERS else _bad_choices(kind, content)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _bad_choices(kind: str, content: Any) -> str | None:
    if kind == "value":
        return None
    if not isinstance(content, list) or not content:
        return "give a list of values, such as [a, b]"
    if any(isinstance(item, list | dict) for item in content):
        return "give a list of text, numbers, true, false or null"
    if any(same(a, b) for a, b in itertools.combinations(content, 2)):
        return "a value occurs twice; give each value once"
    return None


def _check_options(path: str, kind: str, content: Any, entry: Mapping[str, Any], where: str, found: Findings) -> None:
    check_range_options(kind, entry, where, found)
    of, complement = entry.get("of"), entry.get("complement", False)
    if not isinstance(complement, bool):
        found.add(f"{where}.complement", f"{show(complement)} is not allowed; give true or false")
    elif complement and (of is not None or kind not in ("uniform", "log_uniform")):
        found.add(f"{where}.complement", "can only be used with uniform or log_uniform, and not with `of`")
    if of is None:
        return
    numbers = [content] if kind == "value" or not isinstance(content, list) else content
    if reason := unknown_path(str(of)):
        found.add(f"{where}.of", f"{show(of)}: {reason}")
    elif not is_number(of) or not is_number(path):
        found.add(f"{where}.of", f"{show(of)} is not allowed; {path} and the path it is relative to must be numbers")
    elif kind in ("int", "log_int") or not all(map(_is_number, numbers)):
        found.add(
            f"{where}.of",
            "can only be used with uniform, log_uniform, a normal, and a choice or value of numbers",
        )
    elif of == path:
        found.add(f"{where}.of", f"{of} is not allowed; a path cannot be relative to itself")


def _parse_when(entry: Any, where: str, found: Findings) -> dict[str, tuple[Any, ...]]:
    if not isinstance(entry, dict):
        found.add(where, f"{show(entry)} is not allowed; give {{path: value}} or {{path: [values]}}")
        return {}
    when = {}
    for path, values in entry.items():
        if reason := unknown_path(str(path)):
            found.add(f"{where}.{path}", reason)
        elif values == [] or any(
            isinstance(v, list | dict) for v in (values if isinstance(values, list) else [values])
        ):
            found.add(f"{where}.{path}", f"{show(values)} is not allowed; give a value or a list of values")
        else:
            when[path] = tuple(values) if isinstance(values, list) else (values,)
    return when


def _possible_kinds(section: str, by_path: Mapping[str, list[Dimension]], settings: Settings) -> list[str]:
    dimensions = by_path.get(f"{section}.kind", [])
    kinds_here = [kind for dimension in dimensions for kind in dimension.choices]
    base = kind_of(settings, section)
    if base is not None and all(dimension.when for dimension in dimensions):
        kinds_here.append(base)
    return [kind for kind in kinds(section) if kind is not None and kind in kinds_here]


def _check_when(
    dimension: Dimension,
    where: str,
    by_path: Mapping[str, list[Dimension]],
    settings: Settings,
    found: Findings,
) -> None:
    """Each value of a condition must be possible for its path; a condition must allow only kinds with the key."""
    for path, values in dimension.when.items():
        place = f"{where}.when.{path}"
        if path == dimension.path:
            found.add(place, "is the dimension itself; a condition must be on another path")
            continue
        for value in values:
            if not _reachable(path, value, by_path, settings):
                options = _options(path, by_path, settings)
                found.add(
                    place,
                    f"can never have the value {show(value)}; {did_you_mean(str(value), options)}{_takes(options)}",
                )
    section, key = dimension.path.split(".")
    kind_path = f"{section}.kind"
    allowed = [k for k in kinds_with(section, key) if k]
    if not allowed or key == "kind":
        return
    possible = dimension.when.get(kind_path) or _possible_kinds(section, by_path, settings)
    lacking = [kind for kind in possible if kind in kinds(section) and kind not in allowed]
    if lacking:
        found.add(
            where,
            f"{kind_path} {either(lacking)} does not have {key}, {either(allowed)} does; "
            f"add `when: {{{kind_path}: {show(allowed[0] if len(allowed) == 1 else allowed)}}}`",
        )


def _takes(options: list[str]) -> str:
    return f"here it is {either(options)}" if options else "no configuration of this space has it"


def _options(path: str, by_path: Mapping[str, list[Dimension]], settings: Settings) -> list[str]:
    dimensions = by_path.get(path, [])
    words = [word for d in dimensions for word in ([d.words()] if d.numeric else map(show, d.choices))]
    if not dimensions or all(d.when for d in dimensions):
        words += [show(value) for value in _base_values(path, by_path, settings)]
    return list(dict.fromkeys(words))


def _base_values(path: str, by_path: Mapping[str, list[Dimension]], settings: Settings) -> list[Any]:
    """The values that a path without a dimension can have: that of the base, or the default of a kind that has it."""
    section, key = path.split(".")
    if key == "kind" or None in kinds(section):
        return [value_at(settings, path)]
    with_kind = [merge(settings, {section: {"kind": k}}) for k in _possible_kinds(section, by_path, settings)]
    values = [value_at(candidate, path) for candidate in [settings, *with_kind]]
    return [value for value in values if not (isinstance(value, str) and value == ABSENT)]


def _reachable(path: str, value: Any, by_path: Mapping[str, list[Dimension]], settings: Settings) -> bool:
    dimensions = by_path.get(path, [])
    if any(_can_give(dimension, value) for dimension in dimensions):
        return True
    if dimensions and not all(dimension.when for dimension in dimensions):
        return False
    return any(same(value, base) for base in _base_values(path, by_path, settings))


def _can_give(dimension: Dimension, value: Any) -> bool:
    if dimension.is_alternative(value):
        return True
    if not dimension.choices and dimension.low is None:
        return True  # its range or its choices are wrong, which it has a line for
    if dimension.of is not None:
        return _is_number(value)
    if dimension.kind in ("choice", "value"):
        return any(same(value, choice) for choice in dimension.choices)
    if not _is_number(value) or dimension.low is None or dimension.high is None:
        return False
    sample = dimension.sample(value)
    inside = bool(dimension.low <= sample <= dimension.high) and (not dimension.whole or float(sample).is_integer())
    return inside and (dimension.q is None or abs(dimension.nearest(sample) - sample) <= 1e-9 * dimension.q)


def _check_values(
    dimension: Dimension,
    where: str,
    by_path: Mapping[str, list[Dimension]],
    settings: Settings,
    found: Findings,
) -> None:
    """Choices and the ends of a range must be allowed by RunConfig; relative values are checked by sampling."""
    section, key = dimension.path.split(".")
    possible = dimension.when.get(f"{section}.kind") or _possible_kinds(section, by_path, settings)
    have = [kind for kind in possible if kind in kinds_with(section, key)] if key != "kind" else []

    def refused(value: Any) -> str | None:
        reasons = (refusal(dimension.path, value, kind) for kind in have or [None])
        return next((reason for reason in reasons if reason), None)

    for value in dimension.alternative:
        if reason := refused(value):
            found.add(f"{where}.or", reason)
    if dimension.of is not None:
        return
    place = f"{where}.{dimension.kind}"
    if dimension.kind in ("uniform", "log_uniform") and is_number(dimension.path) and is_integer(dimension.path):
        found.add(place, f"{dimension.path} takes whole numbers; use {'log_int' if 'log' in dimension.kind else 'int'}")
        return
    for value in dimension.choices or [end for end in (dimension.low, dimension.high) if end is not None]:
        whole = dimension.whole and dimension.kind in NORMALS  # its ends lie anywhere, its values are on steps
        end = dimension.value(dimension.nearest(value) if whole else value)
        if reason := refused(end):
            more = "; its range is cut off by `within: [low, high]`" if dimension.kind in NORMALS else ""
            found.add(place, reason + more)
            if more:
                return  # both ends would say the same


def _disjoint(left: Dimension, right: Dimension) -> bool:
    shared = set(left.when) & set(right.when)
    return any(not any(same(a, b) for a in left.when[path] for b in right.when[path]) for path in shared)
