"""Tables -> the events that a log would have to have, for a log that has lost them.

What the tables do not hold cannot come back: epochs that a later attempt trained again, process numbers, when the
search was resumed. What a trial sampled is found again from its configuration and the space.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import search_spaces  # its parts load pydantic when they are first used
from results.store.columns import COLUMNS, unknown_columns
from results.store.replay import NAMED, Tables, by_section
from search_spaces import InputError

Event = dict[str, Any]
_BUDGET = ("trials", "hours", "gpu_hours", "batches", "utterances", "target_per", "no_improvement", "then")
_MEASURED = [column.name for column in COLUMNS["epochs"] if column.name not in ("study", "reported")]
_FINAL = ("completed", "stopped", "diverged", "failed", "paused")


def events_of(tables: Tables, settings: Mapping[str, Any] | None, notes: list[str]) -> list[Event]:
    """The events that these tables of one study tell of, in the order of their times, without numbers.

    `settings` are those of the study as the tables' file has them; without, they are put together from its columns.
    What cannot be rebuilt is appended to `notes`.
    """
    studies = tables["studies"].to_pylist()
    about = studies[0] if studies else {}
    known = dict(settings or settings_of(about))
    events = [{"event": "study_started", "time": _seconds(about.get("created")) or 0.0, **known}] if about else []
    curves: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in tables["epochs"].to_pylist():
        curves[row["trial"]].append(row)
    rows = tables["trials"].to_pylist()
    exploits = {
        row["replaces"]: {"from_trial": row["from_trial"], "from_trial_epoch": row["from_trial_epoch"]}
        for row in rows
        if row.get("replaces") is not None
    }
    for row in rows:
        try:
            events += _trial(row, curves[row["trial"]], known, exploits.get(row["trial"]))
        except (InputError, ValueError, LookupError) as error:
            notes.append(f"trial {row['trial']}: its configuration cannot be rebuilt ({str(error).splitlines()[0]})")
    events.sort(key=lambda event: event["time"])
    now = events[-1]["time"] if events else 0.0
    events += [mark for row in (*studies[:1], *rows) if (mark := _mark(row, now)) is not None]
    if about.get("ended") is not None:
        events.append({"event": "study_ended", "time": _seconds(about["ended"]), "reason": about["reason"]})
    if about.get("resumed"):
        notes.append(f"when the search was resumed ({about['resumed']} times)")
    return events


def settings_of(about: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a study as far as the columns of the studies table have them."""
    space = _read(about.get("space_definition"))
    return {
        "host": about.get("host"),
        "study": about.get("study"),
        "data": {key: about.get(f"data_{key}") for key in ("path", "name", "fingerprint", "val_phonemes")},
        "code": {key: about.get(f"code_{key}") for key in ("version", "git", "dirty")},
        "packages": _read(about.get("packages")) or {},
        "seed": about.get("seed"),
        "retries": 0,
        "resources": {key: about.get(key) for key in ("cpus_per_trial", "gpus_per_trial", "concurrent")},
        "checkpoints": (space or {}).get("checkpoints") or {"every": "auto", "best_weights": "full", "budget": None},
        "space": space,
        "searcher": _read(about.get("searcher_options")) or {"kind": about.get("searcher") or "none"},
        "stopping": _read(about.get("stopping_options")) or {"kind": about.get("stopping") or "none"},
        "objective": about.get("objective"),
        "costs": [name for name in (about.get("costs") or "").split(",") if name],
        "budget": {key: about.get(f"budget_{key}") for key in _BUDGET},
        "start_points": [],
        **{key: about[key] for key in ("origin_note", "confirms") if about.get(key) is not None},
    }


_REQUIRED = {
    ("optimizer", "kind"): "adam",
    ("schedule", "kind"): "constant",
    ("schedule", "peak_lr"): 1e-3,
    ("averaging", "kind"): "none",
}
"""Placeholders for settings without which there is no configuration."""


def config_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a row of the trials table. Raises ValueError where its columns give none."""
    config: dict[str, dict[str, Any]] = defaultdict(dict)
    sections = search_spaces.RunConfig.model_fields
    for name in by_section(row):
        section, _, key = name.partition("_")
        if section in sections and key and row[name] is not None:
            value = row[name]
            config[section][key] = json.loads(value) if isinstance(value, str) and value.startswith("[") else value
    if row["seed"] is not None:
        config["training"]["seed"] = row["seed"]
    guessed = unknown_columns(row)
    for (section, key), value in _REQUIRED.items():
        if f"{section}_{key}" in guessed:
            config[section].setdefault(key, value)
    whole = search_spaces.to_dict(search_spaces.RunConfig.model_validate(dict(config)))
    # A setting that came later than the study has no column, and was not in its log.
    columns = {*row, "training_seed"}
    return {
        section: {key: value for key, value in values.items() if f"{section}_{key}" in columns}
        for section, values in whole.items()
    }


def _paths(config: Mapping[str, Any]) -> list[str]:
    return [f"{section}.{key}" for section, values in config.items() for key in values]


def _trial(
    row: Mapping[str, Any], curve: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], exploits: Any
) -> Iterator[Event]:
    number, attempts = row["trial"], max(1, row["attempts"] or 1)
    started = {"trial": number, "seed": row["seed"], "origin": row["origin"], "host": row["host"]}
    config = config_of(row)
    started |= {"params": _params(settings, config), "config": config}
    started |= {name: row[name] for name in NAMED if row.get(name) is not None}
    hidden = unknown_columns(row)
    if unknown := [path for path in _paths(config) if path.replace(".", "_") in hidden]:
        started["unknown"] = unknown
    started |= {} if row.get("decoder") == "greedy" else {"decoder": row.get("decoder")}
    begin = _seconds(row["started"]) or 0.0
    by_attempt: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for point in curve:
        by_attempt[min(point["attempt"] or 1, attempts)].append(point)
    for attempt in range(1, attempts + 1):
        points = by_attempt[attempt]
        first = points[0] if points else None
        if attempt > 1 and first is not None:
            begin = max(begin, (_seconds(first["reported"]) or 0.0) - (first["seconds"] or 0.0))
        epochs = first["epoch"] - 1 if first else 0
        yield {"event": "trial_started", "time": begin, "attempt": attempt, "from_epoch": epochs, **started}
        yield from _epochs(row, points, settings)
        begin = max([begin, *(_seconds(point["reported"]) or 0.0 for point in points)])
        if attempt < attempts:
            yield _end(row, attempt, begin, status="interrupted", cpu_seconds=0.0, gpu_seconds=0.0)
    if row["ended"] is not None:
        more = {} if curve else {name: row[name] for name in ("best_per", "last_per", "batches")}
        more |= {"exploits": exploits} if exploits else {}
        used = {name: row[name] for name in ("cpu_seconds", "gpu_seconds")}
        yield _end(row, attempts, max(begin, _seconds(row["ended"]) or 0.0), row["status"], **used, **more)


def _epochs(
    row: Mapping[str, Any], points: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
) -> Iterator[Event]:
    resources, seconds = settings.get("resources") or {}, 0.0
    for point in points:
        seconds += point["seconds"] or 0.0
        status = {"stop": row["status"] if row["status"] in _FINAL else "stopped", "pause": "paused"}
        yield {
            "event": "epoch",
            "time": _seconds(point["reported"]) or 0.0,
            **{name: point[name] for name in _MEASURED},
            "cpu_seconds": seconds * (resources.get("cpus_per_trial") or 1.0),
            "gpu_seconds": seconds * (resources.get("gpus_per_trial") or 0.0),
            "decision": point["decision"] or "continue",
            "status": status.get(point["decision"]),
        }


def _end(row: Mapping[str, Any], attempt: int, time: float, status: str, **more: Any) -> Event:
    error = row["error"] if status == row["status"] else None
    fields = {"attempt": attempt, "status": status, "error": error, "checkpoint": row["checkpoint"], **more}
    return {"event": "trial_ended", "time": time, "trial": row["trial"], "host": row["host"], **fields}


def _params(settings: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    if not settings.get("space"):
        return {}
    space = search_spaces.Space.from_dict(settings["space"])
    return space.params_of(search_spaces.RunConfig.model_validate(config))[0]


def _mark(row: Mapping[str, Any], now: float) -> Event | None:
    """The tags and notes of a row of the trials or the studies table; None if it has none."""
    tags, note = row.get("tags"), row.get("notes")
    add = tags.split(", ") if tags else []
    return {"event": "marked", "time": now, "of": row.get("trial"), "note": note, "add": add} if add or note else None


def _read(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.replace(tzinfo=UTC).timestamp()
