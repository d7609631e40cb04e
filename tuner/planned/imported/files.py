"""Reads settings and tables of foreign runs: pickles of plain values, YAML, JSON, JSON lines, CSV, Parquet.

Nothing in a file is run. Each error is one line with the file.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from search_spaces import InputError
from search_spaces.parsing.yaml_file import read_yaml
from search_spaces.wording import reason_of
from trainable.data.pickles import load_plain

MOST_BYTES = 64 << 20
_MOST_COLUMNS = 10_000
_MOST_ROWS = 5_000_000


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a file: YAML or JSON by its ending, else a pickle. W&B's `{value: x}` is x.

    Raises `InputError` for a file that holds no dict of settings.
    """
    if path.suffix in (".yaml", ".yml"):
        values: Any = read_yaml(path, str(path))
    elif path.suffix == ".json":
        values = read_json(path)
    else:
        values = load_plain(path, MOST_BYTES)
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InputError(
            f"{path}: is a {type(values).__name__}; it must be a dict of settings, as the reference writes it"
        )
    return {
        key: value["value"] if isinstance(value, dict) and {"value"} <= value.keys() <= {"value", "desc"} else value
        for key, value in values.items()
        if key not in ("_wandb", "wandb_version")
    }


def read_text(path: Path) -> str:
    """The text of a file. Raises `InputError` if it is too large or no text."""
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise InputError(f"{path}: has {size} bytes; a file of this kind has at most {MOST_BYTES}")
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises `InputError`."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON ({reason_of(error)[:80]}); copy it again") from error


def read_lines(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """The JSON objects of a file with one on each line, and the numbers of the lines that are none."""
    rows, bad = [], []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        try:
            row = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            row = ()
        if isinstance(row, dict):
            rows.append(row)
        elif row is not None:
            bad.append(number)
    return rows, bad


def left_out(path: Path, lines: list[int], what: str) -> str:
    """The line of a report on lines that were left out."""
    return f"{path}: line {', '.join(map(str, lines[:5]))}{' ...' * (len(lines) > 5)}: not {what}, left out"


def read_table(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    """The rows of a CSV, TSV, JSON, JSON-lines or Parquet file; a cell that is empty is not in its row.

    JSON may be a list of objects, an object of lists, or pandas' object of objects. Raises `InputError` for a file
    without rows.
    """
    if path.suffix in (".csv", ".tsv"):
        rows = list(_csv(path))
    elif path.suffix == ".jsonl":
        rows, bad = read_lines(path)
        problems += [left_out(path, bad, "a JSON object")] if bad and rows else []
    elif path.suffix == ".parquet":
        rows = _parquet(path)
    else:
        rows = list(_json_rows(path))
    if not rows:
        raise InputError(f"{path}: has no rows; give a log with a row for each evaluation")
    return rows


def _parquet(path: Path) -> list[dict[str, Any]]:
    """The history that W&B keeps of a run as an artifact."""
    try:
        if (rows := pq.read_metadata(path).num_rows) > _MOST_ROWS:
            raise InputError(f"{path}: has {rows} rows; a log has at most {_MOST_ROWS}")
        found = pq.read_table(path, use_threads=False).to_pylist()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: is no Parquet, or damaged ({reason_of(error)[:80]}); copy it again") from error
    return [{key: value for key, value in row.items() if value is not None} for row in found]


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    text = read_text(path)
    if "\0" in text:
        raise InputError(f"{path}: holds null characters and is no CSV; copy it again")
    try:
        reader = csv.DictReader(io.StringIO(text), delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
        if len(reader.fieldnames or ()) > _MOST_COLUMNS:
            raise InputError(f"{path}: has {len(reader.fieldnames or ())} columns; a log has at most {_MOST_COLUMNS}")
        for row in reader:
            yield {key: _cell(cell) for key, cell in row.items() if key is not None and cell not in (None, "")}
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: {error}; correct the CSV there") from error


def _cell(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    values = read_json(path)
    if isinstance(values, dict) and isinstance(values.get("history"), list):
        values = values["history"]
    if isinstance(values, list):
        yield from (row for row in values if isinstance(row, dict))
        return
    if not isinstance(values, dict):
        raise InputError(f"{path}: is a {type(values).__name__}; a log is a list of objects, or an object of lists")
    columns = {key: _column(value) for key, value in values.items() if isinstance(value, list | dict)}
    places = dict.fromkeys(place for column in columns.values() for place in column)
    for place in places:
        yield {key: column[place] for key, column in columns.items() if column.get(place) is not None}


def _column(value: list[Any] | Mapping[str, Any]) -> dict[Any, Any]:
    return dict(enumerate(value)) if isinstance(value, list) else dict(value)


def place(value: Any) -> int | None:
    """A whole number of 0 or more, also where it was written as 100.0; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value) if value >= 0 and value == int(value) else None
