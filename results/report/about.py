"""The sections of the report that tell what ran and where: failures, the space, versions and machines."""

from __future__ import annotations

import json
from typing import Any

from results.output import format_value
from results.report.facts import Facts, Row
from results.report.tables import pairs, rows_table

_FAILED = ("failed", "diverged", "interrupted")
_MOST_FAILURES = 200


def failures(facts: Facts) -> str:
    """The trials that failed, diverged or were interrupted, as HTML."""
    rows = [row for row in facts.trials if row["status"] in _FAILED]
    if not rows:
        return f"<p>{'None.' if facts.trials else ''}</p>" if facts.trials else ""
    shown = rows[:_MOST_FAILURES]
    names = ("trial", "status", "epochs", "attempts", "host", "error")
    more = f"<p>The first {len(shown)} of {len(rows)}.</p>" if len(shown) < len(rows) else ""
    return more + rows_table(names, [[format_value(row[name], name) for name in names] for row in shown])


def searched(facts: Facts) -> str:
    """What the study searched and how, as HTML."""
    space, about = facts.space, facts.about
    data = f"{about.get('data_name') or 'unknown'} ({about.get('data_path') or 'place unknown'})"
    lines = [
        (
            "space",
            f"{space['name']}: {space.get('purpose') or ''}"
            if space.get("name")
            else "none: the runs were given by hand",
        ),
        ("base run", space.get("base")),
        ("data", data),
        ("searcher", _options(about.get("searcher"), about.get("searcher_options"))),
        ("early stopping", _options(about.get("stopping"), about.get("stopping_options"))),
        ("objective", about.get("objective")),
        ("note", about.get("origin_note")),
        *facts.marks,
        ("start points", ", ".join(map(str, space.get("start_points") or []))),
        ("fixed", ", ".join(f"{key} = {value}" for key, value in (space.get("fixed") or {}).items())),
        ("constraints", "; ".join(map(str, space.get("constraints") or []))),
    ]
    dimensions = [d for d in space.get("dimensions", []) if isinstance(d, dict) and "path" in d]
    table = rows_table(("setting", "kind", "values", "relative to", "only if"), [_dimension(d) for d in dimensions])
    return f"{pairs(lines)}{table if dimensions else ''}"


def _dimension(dimension: Row) -> list[str]:
    choices = dimension.get("choices") or []
    values = ", ".join("none" if c is None else format_value(c) for c in choices)
    if not choices:
        values = f"{format_value(dimension.get('low'))} to {format_value(dimension.get('high'))}"
        if dimension.get("mean") is not None:
            values = f"{format_value(dimension['mean'])} \u00b1 {format_value(dimension.get('sd'))}, within {values}"
        if dimension.get("q") is not None:
            values += f", steps of {format_value(dimension['q'])}"
    if dimension.get("complement"):
        values = f"1 - ({values})"
    for other in dimension.get("alternative") or ():
        values += f", or {'none' if other is None else format_value(other)}"
    when = {path: ", ".join(map(str, allowed)) for path, allowed in (dimension.get("when") or {}).items()}
    conditions = " and ".join(f"{path} = {allowed}" for path, allowed in when.items())
    return [str(dimension["path"]), str(dimension.get("kind")), values, str(dimension.get("of") or ""), conditions]


def provenance(facts: Facts) -> str:
    """Versions, machines, resources and times, as HTML."""
    about = facts.about
    git = about.get("code_git")
    state = " with uncommitted changes" if about.get("code_dirty") else ""
    packages = json.loads(about.get("packages") or "null") or {}
    return pairs(
        [
            ("program", about.get("code_version")),
            ("git commit", f"{git}{state}" if git else "unknown"),
            ("packages", ", ".join(f"{name} {version}" for name, version in packages.items())),
            ("data fingerprint", about.get("data_fingerprint")),
            ("driven from", about.get("host")),
            ("workers", ", ".join(sorted({str(row["host"]) for row in facts.trials if row["host"]}))),
            ("cards", ", ".join(facts.cards)),
            ("resources of a trial", _resources(about)),
            ("seed", about.get("seed")),
            ("started, ended (UTC)", f"{format_value(about.get('created'))}, {format_value(about.get('ended'))}"),
            ("resumed", about.get("resumed")),
        ]
    )


def _resources(about: Row) -> str:
    cpus, gpus = about.get("cpus_per_trial"), about.get("gpus_per_trial")
    return f"{format_value(cpus)} CPUs, {format_value(gpus)} GPUs" if cpus is not None or gpus is not None else ""


def _options(kind: Any, options: Any) -> str:
    values = {key: value for key, value in (json.loads(options or "null") or {}).items() if key != "kind"}
    said = ", ".join(f"{key} {'any' if value is None else value}" for key, value in values.items())
    return f"{kind}{f' ({said})' if said else ''}" if kind else ""
