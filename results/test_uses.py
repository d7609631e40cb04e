"""How often the test split of a data set was scored, by whom, and with what result.

A PER on the test split says most the first time: whoever looks, changes something and looks again chooses by it. So
each use is a line of `test_uses.jsonl` in the results folder, found by the fingerprint of the data, and whoever shows
such a number says how many there were.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from search_spaces.common import atomic
from search_spaces.errors import InputError

FILE = "test_uses.jsonl"


def uses(results_dir: Path, fingerprint: str) -> list[dict[str, Any]]:
    """The uses of the test split of the data with this fingerprint, oldest first.

    Each is {time, data, name, what, decoder, per, ...}: `time` UTC in ISO form, `what` was scored, `per` the corpus
    PER. A line that is cut or damaged counts as a use of which nothing else is known.
    """
    try:
        lines = (results_dir / FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{results_dir / FILE}: cannot be read: {error.strerror}") from error
    found = [_entry(line, fingerprint) for line in lines if line.strip()]
    return [entry for entry in found if entry.get("data") == fingerprint]


def _entry(line: str, fingerprint: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    return entry if isinstance(entry, dict) else {"data": fingerprint, "what": "unknown", "per": None}


def record_use(results_dir: Path, fingerprint: str, **fields: Any) -> int:
    """Add a use, durably, before its number is shown; returns how many there are now.

    Raises InputError where the results folder cannot be written: then the number must not be shown either.
    """
    path = results_dir / FILE
    entry = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "data": fingerprint, **fields}
    try:
        results_dir.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            if file.tell() and not _ends_a_line(path):
                file.write(b"\n")
            file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        atomic.sync_folder(results_dir)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}), and a use of the test split must be recorded; "
            "make room, or choose another --results"
        ) from error
    return len(uses(results_dir, fingerprint))


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def uses_text(count: int) -> str:
    """The mark beside a number: `the first use of this test split`, `use 3 of this test split`."""
    return "the first use of this test split" if count == 1 else f"use {count} of this test split"
