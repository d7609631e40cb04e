"""`tuner results repair`: what one file of a study has lost is taken from the others.

The lines of the log that are whole stay as they are, in their order. What the tables and the sealed parts of the log
have beyond them, and after that what a checkpoint says of itself, is put between by its time, and the log is numbered
and sealed anew. Then the tables are made again from it. Every file that is replaced is kept beside its place, as
NAME.damaged-1, -2, ...
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import search_spaces  # its parts load pydantic when they are first used
from results.store import sealed
from results.store.lines import LineScanner, OldEvent, lines_of
from results.store.lock import StudyLock
from results.store.made import Made, lost, newest, open_parquet
from results.store.paths import StudyPaths
from results.store.rebuild import events_of
from results.store.replay import Tables, empty
from results.store.tables import complete, replay_log, stack, write_tables
from search_spaces.common import atomic
from search_spaces.errors import InputError

Event = dict[str, Any]
Salvage = Callable[[Path, dict[str, Any] | None, Sequence[Event]], Iterable[Event]]
"""(folder, settings, known events) -> events that checkpoints tell of. What reads them is in another room."""


@dataclass
class Repair:
    """What was done: a line each."""

    done: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    """What could not be rebuilt."""


def repair(folder: Path, salvage: Salvage = lambda *_: ()) -> Repair:
    """Make the log and the tables of a study whole again, each from what the others have of it.

    Raises InputError where a search runs the study, nothing is left to go by, or the folder cannot be written.
    """
    with StudyLock(folder):
        try:
            return _repair(folder, salvage)
        except OSError as error:
            raise InputError(f"{folder}: cannot be repaired: {error.strerror or error}") from error


def _repair(folder: Path, salvage: Salvage) -> Repair:
    found, log = Repair(), StudyPaths(folder).log
    before, (tables, settings, unreadable) = newest(folder), _tables(folder)
    spoilt: list[str] = []
    parts, settings_then = sealed.tables(folder, spoilt)
    problems: list[str] = []
    scanner, whole = _read(log, problems, before.seq if before else 0)
    gone = lost(folder, before, scanner)
    rebuilt = bool(problems or gone is not None or not log.is_file())
    if rebuilt:
        known = _Known(whole, _joined(parts, tables), settings_then or settings)
        _repair_log(folder, found, known, scanner, before, salvage)
    if rebuilt or spoilt:
        _put_parts_aside(folder, found)
    _repair_tables(folder, found, unreadable, tables)
    sealed.remove(folder)  # the tables have all of it
    if not found.done:
        found.done.append("nothing to do: the log is whole, and the tables say what it says")
    return found


def _repair_log(
    folder: Path, found: Repair, known: _Known, scanner: LineScanner, before: Made | None, salvage: Salvage
) -> None:
    notes: list[str] = []
    told = events_of(known.tables, known.settings, notes) if known.tables["studies"].num_rows else []
    added = _missing(known.whole, told, before)
    there = max(scanner.numbers.next - 1, before.seq if before else 0)
    if len(known.whole) + len(added) < there:
        settings = known.settings or next((e for e in known.whole if e["event"] == "study_started"), None)
        so_far = [*known.whole, *added]
        added += _missing(so_far, salvage(folder, settings, so_far), None)
    events = _merged(known.whole, added)
    if not events or events[0]["event"] != "study_started":
        raise InputError(
            f"{folder}: what the study was started with is in none of its files; its lines and tables can still be "
            "read ('tuner query'), and nothing was changed"
        )
    left = there - len(events)
    log = StudyPaths(folder).log
    kept = _put_aside(log)
    about = {"rebuilt": len(added), "lost": max(0, left), "kept": kept}
    last = events[-1]
    events.append({"event": "study_repaired", "time": last["time"], "elapsed": last.get("elapsed", 0.0), **about})
    _write_log(log, events)
    found.done.append(
        f"log: {len(known.whole)} events were whole, {len(added)} were rebuilt"
        + (f"; the damaged file is {kept}" if kept else "")
    )
    if left > 0:
        found.lost.append(f"{left} of {there} events: no other file has them")
    if added:
        found.lost += notes


@dataclass
class _Known:
    whole: list[Event]
    tables: Tables
    settings: dict[str, Any] | None


def _read(log: Path, problems: list[str], mark: int) -> tuple[LineScanner, list[Event]]:
    scanner = LineScanner(str(log), problems, mark=mark)
    if not log.is_file():
        return scanner, []
    with log.open("rb") as file:
        return scanner, [event for event in scanner.scan(file) if _is_readable(event, log, problems)]


def _is_readable(event: Event, log: Path, problems: list[str]) -> bool:
    """False for the start of a trial, in a log without checksums, whose configuration is none."""
    if not isinstance(event, OldEvent) or event["event"] != "trial_started":
        return True
    try:
        search_spaces.RunConfig.model_validate(event.get("config"))
    except ValueError:
        problems.append(f"{log}: event {event['seq']}: damaged: its configuration is none")
        return False
    return True


def _tables(folder: Path) -> tuple[Tables, dict[str, Any] | None, list[Path]]:
    """The tables that can be read, the settings that they have, and the files that cannot be read."""
    tables, settings, unreadable = empty(), None, []
    for name, path in StudyPaths(folder).tables.items():
        if not path.is_file():
            continue
        try:
            with open_parquet(path) as file:
                table = pq.ParquetFile(file, page_checksum_verification=True).read()
            tables[name] = complete(table, name)
            if text := (table.schema.metadata or {}).get(b"settings"):
                settings = json.loads(text)
        except (pa.ArrowException, OSError, ValueError):
            unreadable.append(path)
    return tables, settings, unreadable


def _joined(newer: Tables, older: Tables) -> Tables:
    """Both together: of a trial that both have, and of the study, the rows of the first."""
    if "trials" not in newer:
        return older
    numbers = newer["trials"]["trial"].combine_chunks()
    joined = dict(older)
    for name in newer.keys() - {"studies"}:
        rest = older[name].filter(pc.invert(pc.is_in(older[name]["trial"], numbers)))
        joined[name] = stack(name, [newer[name], rest])
    if "studies" in newer:
        joined["studies"] = complete(newer["studies"], "studies")
    return joined


def _missing(whole: Sequence[Event], told: Iterable[Event], made: Made | None) -> list[Event]:
    """Those of the events that the tables tell of which the whole ones lack."""
    epochs = {(e["trial"], e["epoch"]): e.get("attempt") or 1 for e in whole if e["event"] == "epoch"}
    attempts = {
        kind: {(e["trial"], e.get("attempt") or 1) for e in whole if e["event"] == kind}
        for kind in ("trial_started", "trial_ended")
    }
    used = {name: _sums(whole, name) for name in ("cpu_seconds", "gpu_seconds")}
    last = max((e.get("seq", 0) for e in whole), default=0)
    kinds = {e["event"] for e in whole}
    added = []
    for event in told:
        kind = event["event"]
        if kind == "epoch":
            there = (event["trial"], event["epoch"])
            lacks = there not in epochs or epochs[there] < (event.get("attempt") or 1)
        elif kind in attempts:
            lacks = (event["trial"], event["attempt"]) not in attempts[kind]
        elif kind == "study_ended":
            lacks = made is not None and last < made.seq
        else:
            lacks = kind not in kinds
        if lacks and kind == "trial_ended":  # the tables have the sums over all attempts
            event = event | {n: max(0.0, (event.get(n) or 0.0) - used[n].get(event["trial"], 0.0)) for n in used}
        if lacks:
            added.append(event)
    return added


def _sums(events: Iterable[Mapping[str, Any]], name: str) -> dict[int, float]:
    sums: dict[int, float] = {}
    for event in events:
        if event["event"] == "trial_ended":
            sums[event["trial"]] = sums.get(event["trial"], 0.0) + (event.get(name) or 0.0)
    return sums


def _merged(whole: Sequence[Event], added: Sequence[Event]) -> list[Event]:
    """The whole events in their order, and the others put between by their times; the study's start first."""
    waiting = sorted(added, key=lambda event: (event["event"] != "study_started", event["time"]))
    events: list[Event] = []
    place = 0
    for event in whole:
        while place < len(waiting) and (
            waiting[place]["event"] == "study_started" or waiting[place]["time"] <= event.get("time", 0.0)
        ):
            events.append(waiting[place])
            place += 1
        events.append(event)
    return events + waiting[place:]


def _write_log(path: Path, events: Sequence[Event]) -> None:
    numbered = (
        {"event": event["event"], "seq": seq, **{k: v for k, v in event.items() if k not in ("event", "seq")}}
        for seq, event in enumerate(events, start=1)
    )
    with atomic.file(path, sync_name=True) as temporary, temporary.open("wb") as file:
        file.writelines(lines_of(numbered))


def _repair_tables(folder: Path, found: Repair, unreadable: Sequence[Path], old: Tables) -> None:
    replayed = replay_log(folder, running=False)
    there = StudyPaths(folder).tables
    wrong = [name for name, path in there.items() if path in unreadable or not path.is_file()]
    wrong += [name for name in there if name not in wrong and not replayed.tables[name].equals(old[name])]
    if not wrong:
        if newest(folder) != replayed.made:
            write_tables(folder, replayed)
        return
    fewer = [name for name in ("trials", "epochs") if replayed.tables[name].num_rows < old[name].num_rows]
    kept = [_put_aside(there[name]) for name in wrong if there[name] in unreadable or name in fewer]
    write_tables(folder, replayed)
    names = ", ".join(f"{name}.parquet" for name in wrong)
    found.done.append(
        f"tables: {names} made again from the log"
        + (f"; what was there before is {', '.join(filter(None, kept))}" if any(kept) else "")
    )
    found.lost += [
        f"{old[name].num_rows - replayed.tables[name].num_rows} rows of the table {name}: see the file kept"
        for name in fewer
    ]


def _put_parts_aside(folder: Path, found: Repair) -> None:
    """Keep the sealed parts of a log that was damaged, or their own remains, under another name."""
    place, number = StudyPaths(folder).sealed, 1
    if not place.is_dir():
        return
    while (beside := place.with_name(f"{place.name}.damaged-{number}")).exists():
        number += 1
    place.rename(beside)
    found.done.append(f"sealed parts of the log: kept as {beside.name}")


def _put_aside(path: Path) -> str | None:
    """Give a file a second name, NAME.damaged-N, so that it stays when it is replaced; None if there is none."""
    if not path.is_file():
        return None
    number = 1
    while True:
        beside = path.with_name(f"{path.name}.damaged-{number}")
        with contextlib.suppress(FileExistsError):
            os.link(path, beside)
            atomic.sync_folder(path.parent)
            return beside.name
        number += 1
