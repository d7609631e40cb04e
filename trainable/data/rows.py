"""Small tables that people write: CSV, TSV or JSON lines, a row each, with named columns."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from search_spaces.errors import InputError
from search_spaces.wording import reason_of

JSON_LINES = (".jsonl", ".ndjson")
MOST_PROBLEMS = 20


def read_rows(file: str | Path, needs: str) -> list[tuple[str, dict[str, Any]]]:
    """(place, column -> value) of each row: JSON lines by the file's ending, else text separated by `,`, tab or `;`.

    The first line of a text names the columns; empty lines and lines that begin with # are left out. A place is
    `FILE: line N`. Raises `InputError`, with `needs`, which says what the file should be, where it is none.
    """
    file = Path(file)
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            found = _json_rows(lines) if file.suffix.lower() in JSON_LINES else _text_rows(lines)
            return [(f"{file}: line {number}", row) for number, row in found]
    except (OSError, UnicodeDecodeError, csv.Error, json.JSONDecodeError, TypeError, RecursionError) as error:
        what = error.strerror if isinstance(error, OSError) else reason_of(error)
        raise InputError(f"{file}: cannot be read ({what}); give {needs}") from None


def _json_rows(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict):
                raise TypeError(f"line {number} is no JSON object")
            yield number, row


def _text_rows(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    written = ("\n" if line.startswith("#") else line for line in lines)
    header = ""
    skipped = 0
    for header in written:
        if header.strip():
            break
        skipped += 1
    separator = max(",\t;", key=header.count)
    names = [name.strip() for name in next(csv.reader([header], delimiter=separator), [])]
    rows = csv.reader(written, delimiter=separator)
    for row in rows:
        if any(cell.strip() for cell in row):
            number = rows.line_num + skipped + 1
            if len(row) != len(names):
                raise csv.Error(f"line {number} has {len(row)} values for {len(names)} columns")
            yield number, dict(zip(names, row, strict=True))


def columns_of(rows: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """The names of the columns that the rows have, in the order of their first appearance."""
    return list(dict.fromkeys(name for _, row in rows for name in row))


def first_problems(file: str | Path, problems: list[str]) -> list[str]:
    """The problems up to a limit, and a line that counts the others."""
    more = len(problems) - MOST_PROBLEMS
    return problems[:MOST_PROBLEMS] + ([f"{file}: and {more} more problems"] if more > 0 else [])
