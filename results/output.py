"""The output formats of every table: terminal, CSV, JSON, Markdown; Parquet to a file.

Terminal and Markdown tables are for people: PER with 4 digits, rates in short scientific notation, other numbers with 4
digits, an empty cell for null. CSV, JSON and Parquet are for programs and keep every value exactly.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.odd_values import values
from search_spaces.common import atomic
from search_spaces.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("table", "csv", "json", "markdown")
FILE_FORMATS = (*FORMATS, "parquet")
_SUFFIXES = {".csv": "csv", ".json": "json", ".md": "markdown", ".parquet": "parquet", ".txt": "table"}
_OF_PER = "per|best_per|last_per|per_raw|per_halves|per_utterance_mean|mean|low|high|luck"
_PER = re.compile(rf"(^|[^a-z0-9])({_OF_PER})($|[^a-z0-9_])")
_RATE = re.compile(r"(^|_)(lr|eps|weight_decay)($|\))")
_CELL = 40  # characters a cell takes before it wraps


@dataclass
class Sheet:
    """A table to print: column names, and rows of plain Python values in the order of the columns.

    It is used instead of a `pa.Table` where the table is only printed (making a `pa.Table` imports pandas, if that is
    installed, which takes 0.3 s).
    """

    names: list[str]
    rows: list[tuple[Any, ...]]

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]], names: Sequence[str] = ()) -> Sheet:
        """A sheet from dictionaries; `names` selects and orders the columns [default: in order of appearance]."""
        rows = list(rows)
        columns = list(names) or list(dict.fromkeys(name for row in rows for name in row))
        return cls(columns, [tuple(row.get(name) for name in columns) for row in rows])

    @classmethod
    def of_table(cls, table: pa.Table) -> Sheet:
        """A sheet from an Arrow table; by position, because two columns of a query can have the same name."""
        return cls(table.column_names, list(zip(*map(values, table.columns), strict=True)))

    def dicts(self) -> list[dict[str, Any]]:
        """The rows as dictionaries; of two columns of one name the last."""
        return [dict(zip(self.names, row, strict=True)) for row in self.rows]

    def without(self, hide: Sequence[str]) -> Sheet:
        """The sheet without the columns named."""
        kept = [index for index, name in enumerate(self.names) if name not in hide]
        return Sheet([self.names[i] for i in kept], [tuple(row[i] for i in kept) for row in self.rows])

    def is_number(self, index: int) -> bool:
        """Whether a column has only numbers, and is aligned to the right."""
        values = [row[index] for row in self.rows if row[index] is not None]
        return bool(values) and all(isinstance(v, int | float | Decimal) and not isinstance(v, bool) for v in values)


def render(
    table: pa.Table | Sheet,
    format: str = "table",
    *,
    width: int | None = None,
    color: bool = False,
    headers: Mapping[str, str] | None = None,
    hide: Sequence[str] = (),
) -> str:
    """The table as text, ending in a newline. Raises `InputError` for a format that is not one of `FORMATS`.

    `hide` names columns that only CSV and JSON show. For the terminal table only: `width` in characters (default: that
    of the terminal), `color` for escape codes, `headers` for shorter column names. Columns that do not fit the width
    continue below, after the first column again. Markup, HTML and control characters in text are escaped.
    """
    if format in FORMATS:
        sheet = table if isinstance(table, Sheet) else Sheet.of_table(table)
        if format == "csv":
            return _csv(sheet)
        if format == "json":
            return _json(sheet)
        if format == "markdown":
            return _markdown(sheet.without(hide))
        return _terminal(
            sheet.without(hide), max(20, width or shutil.get_terminal_size((120, 24)).columns), color, headers or {}
        )
    raise InputError(f"format: {format!r} is not allowed; choose {', '.join(FORMATS)}")


def write(table: pa.Table | Sheet, path: str | Path, format: str | None = None) -> None:
    """Write the table to a file in one step, so that no partial file is ever seen.

    The format is one of `FILE_FORMATS`; without it, the file's ending decides (a device that has none gets a table).
    Raises `InputError` for an unknown one and for a place that cannot be written.
    """
    path = Path(path)
    chosen = format or _SUFFIXES.get(path.suffix.lower()) or ("table" if atomic.is_stream(path) else None)
    if chosen not in FILE_FORMATS:
        given = repr(format) if format else f"the ending of {path.name!r}"
        raise InputError(f"format: {given} is not allowed; choose {', '.join(FILE_FORMATS)}")
    with atomic.file(path, advice="choose another place") as temporary:
        if chosen == "parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            if isinstance(table, Sheet):
                table = pa.Table.from_pylist([dict(zip(table.names, row, strict=True)) for row in table.rows])
            if twice := repeated(table.column_names):
                raise InputError(f"{path}: two columns are named {twice!r}; name one otherwise in the query, by AS")
            try:
                pq.write_table(table, temporary, compression="zstd")
            except pa.ArrowNotImplementedError as error:
                raise InputError(
                    f"{path}: Parquet has no such type ({str(error).rsplit(':', 1)[-1].strip()}); "
                    "make it text in the query, such as x::varchar"
                ) from error
        else:
            temporary.write_bytes(render(table, chosen, width=200).encode())


def repeated(names: Sequence[str]) -> str | None:
    """A name that stands there twice; None where there is none."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def format_value(value: Any, column: str = "") -> str:
    """A value as text on one line; `column` says whether it is a PER or a rate. Null and NaN give an empty text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        value = int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float):
        return _format_float(value, column)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, timedelta):
        return str(timedelta(seconds=round(value.total_seconds())))
    if isinstance(value, list | dict):
        return visible(json.dumps(value, default=_plain, ensure_ascii=False))
    return visible(str(value))


def visible(text: str) -> str:
    r"""Text with control characters written out (`\n`, `\x1b`): a name cannot move the cursor or break a row."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _format_float(value: float, column: str) -> str:
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if _PER.search(column):
        return f"{value:.4f}"
    if value and (_RATE.search(column) or not 1e-3 <= abs(value) < 1e6):
        mantissa, exponent = f"{value:.2e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{mantissa}e{int(exponent)}"
    if value == int(value):
        return str(int(value))
    return f"{value:.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def _finite(value: Any) -> Any:
    """JSON has no NaN and infinity; they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value


def _csv(sheet: Sheet) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([safe_text(name) for name in sheet.names])
    for row in sheet.rows:
        writer.writerow([_csv_cell(value) for value in row])
    return text.getvalue()


def _csv_cell(value: Any) -> Any:
    value = _finite(value)
    if value is None or isinstance(value, int | float):
        return str(value).lower() if isinstance(value, bool) else value
    value = json.dumps(value, default=_plain) if isinstance(value, list | dict) else _plain(value)
    return safe_text(value) if isinstance(value, str) else value


FORMULA = r"^['=+\-@\t\r\n\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}]"
"""How a text begins that a spreadsheet may run (the last four are the wide forms of = + - @), or that begins with the
sign that is put before such a text. A regular expression of RE2 (Arrow)."""
NUMBER = r"^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$"
"""A text that is a number, which is none the worse for its sign."""
_FORMULA = re.compile(re.sub(r"\\x\{(\w+)\}", r"\\u\1", FORMULA))
_NUMBER = re.compile(NUMBER, re.ASCII)


def safe_text(text: str) -> str:
    """A text as a cell of a CSV file: `'` before what a spreadsheet could run as a formula, and before a `'`.

    Numbers stay what they are. Taking one `'` from the beginning of a text cell gives the text back (docs/tables.md).

    >>> safe_text("=HYPERLINK(x)"), safe_text("-0.5"), safe_text("one_cycle")
    ("'=HYPERLINK(x)", '-0.5', 'one_cycle')
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def _json(sheet: Sheet) -> str:
    rows = [dict(zip(sheet.names, map(_finite, row), strict=True)) for row in sheet.rows]
    return json.dumps(rows, default=_plain, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _markdown(sheet: Sheet) -> str:
    lines = [
        [_escape(visible(name)) for name in sheet.names],
        ["---:" if sheet.is_number(index) else "---" for index in range(len(sheet.names))],
        *([_escape(format_value(v, name)) for v, name in zip(row, sheet.names, strict=True)] for row in sheet.rows),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _escape(text: str) -> str:
    """Escape all characters that have a meaning in Markdown or HTML."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", text)


def _terminal(sheet: Sheet, width: int, color: bool, headers: Mapping[str, str]) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = _columns(sheet, headers)
    if not columns:
        return "\n"
    sizes = _sizes(columns)
    text = io.StringIO()
    # force_jupyter: otherwise rich would show the table itself in a notebook and return no text.
    console = Console(
        file=text,
        width=width,
        force_terminal=color,
        force_jupyter=False,
        no_color=not color,
        highlight=False,
        markup=False,
        emoji=False,
    )
    for number, block in enumerate(_blocks(sizes, width)):
        grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")
        for index in block:
            head, right, _ = columns[index]
            grid.add_column(Text(head), justify="right" if right else "left", overflow="fold", max_width=_CELL)
        for row in range(len(sheet.rows)):
            grid.add_row(*(Text(columns[index][2][row]) for index in block))
        if number:
            console.print()
        console.print(grid)
    if not sheet.rows:
        console.print("(no rows)")
    return re.sub(r"[ ]+$", "", text.getvalue(), flags=re.MULTILINE)


def beyond(sheet: Sheet, blocks: int, width: int | None = None, headers: Mapping[str, str] | None = None) -> list[str]:
    """The columns of a terminal table that would stand below its first `blocks` blocks, at `render`'s width."""
    columns = _columns(sheet, headers or {})
    wide = max(20, width or shutil.get_terminal_size((120, 24)).columns)
    shown = {index for block in _blocks(_sizes(columns), wide)[:blocks] for index in block} if columns else set()
    return [name for index, name in enumerate(sheet.names) if index not in shown]


def _columns(sheet: Sheet, headers: Mapping[str, str]) -> list[tuple[str, bool, list[str]]]:
    """Header, whether it is right-aligned, and cells of each column."""
    return [
        (visible(headers.get(name, name)), sheet.is_number(i), [format_value(row[i], name) for row in sheet.rows])
        for i, name in enumerate(sheet.names)
    ]


def _sizes(columns: Sequence[tuple[str, bool, list[str]]]) -> list[int]:
    """The characters that each column takes."""
    from rich.cells import cell_len

    return [min(_CELL, max(map(cell_len, (head, *cells)))) + 2 for head, _, cells in columns]


def _blocks(sizes: Sequence[int], width: int) -> list[list[int]]:
    """Column numbers that fit beside each other in `width`; each further block begins with column 0 again."""
    blocks = [[0]]
    used = sizes[0]
    for index in range(1, len(sizes)):
        if used + sizes[index] - 2 > width and len(blocks[-1]) > 1:
            blocks.append([0])
            used = sizes[0]
        blocks[-1].append(index)
        used += sizes[index]
    return blocks


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
