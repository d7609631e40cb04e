"""The output formats: exact for programs, readable for people, harmless whatever the text."""

from __future__ import annotations

import builtins
import csv
import io
import json
import re
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.output import FORMATS, Sheet, format_value, render, write
from search_spaces.errors import InputError

NASTY = [
    "[bold red]x[/]",
    "<script>alert(1)</script>",
    "\x1b[31mred\x1b[0m",
    "a|b",
    "two\nlines",
    'q"uo,te',
    "雪",
    ":smile:",
]


@pytest.mark.parametrize(
    ("value", "column", "text"),
    [
        (0.20461234, "best_per", "0.2046"),
        (0.2, "min(best_per)", "0.2000"),
        (0.3, "per_raw", "0.3000"),
        (0.3, "per_halves", "0.3000"),
        (123.456, "samples_per_second", "123.5"),
        (0.004, "schedule_peak_lr", "4e-3"),
        (0.00612345, "min(schedule_peak_lr)", "6.12e-3"),
        (1e-8, "optimizer_eps", "1e-8"),
        (0.4, "model_dropout", "0.4"),
        (0.1234567, "model_dropout", "0.1235"),
        (0.00001234, "val_loss", "1.23e-5"),
        (12345.678, "cpu_seconds", "12346"),
        (200.0, "cpu_seconds", "200"),
        (3e9, "x", "3e9"),
        (0.0, "schedule_end_lr", "0"),
        (float("nan"), "per", ""),
        (float("inf"), "x", "inf"),
        (None, "x", ""),
        (True, "x", "yes"),
        (7, "x", "7"),
        (Decimal("12"), "sum", "12"),
        (datetime(2026, 1, 2, 3, 4, 5, 678), "started", "2026-01-02 03:04:05"),
        (timedelta(seconds=3661.4), "x", "1:01:01"),
        ([0.5, None], "x", "[0.5, null]"),
    ],
)
def test_values_for_people(value: object, column: str, text: str) -> None:
    """PER has 4 digits, rates are scientific, other numbers have 4 digits; null and NaN are empty."""
    assert format_value(value, column) == text


def test_csv_and_json_are_exact() -> None:
    """Programs get every digit; null is empty in CSV and null in JSON; both parse."""
    table = pa.table({"per": [0.1 + 0.2, None], "s": NASTY[:2], "n": [float("nan"), float("inf")], "b": [True, None]})
    rows = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    assert rows[0] == {"per": "0.30000000000000004", "s": NASTY[0], "n": "", "b": "true"}
    assert rows[1]["per"] == ""
    parsed = json.loads(render(table, "json"))
    assert parsed[0] == {"per": 0.1 + 0.2, "s": NASTY[0], "n": None, "b": True}
    assert parsed[1]["per"] is None


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\uff1d1", "'\uff1d1"),
        ("'=1", "''=1"),
        ("-0.5", "-0.5"),
        ("+1e-3", "+1e-3"),
        ("-.5", "-.5"),
        ("one_cycle", "one_cycle"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_no_cell_of_csv_is_a_formula(text: str, cell: str, tmp_path: Path) -> None:
    """Texts get a ' in front, numbers do not, whether they are text or not; pandas gives back the texts as documented,
    and Parquet and JSON have them as they are. Column names are cells too.
    """
    import pandas as pd

    table = pa.table({"=name": [text], "n": [-1.5], "i": [-7], "l": [[-1]]})
    parsed = list(csv.reader(io.StringIO(render(table, "csv"), newline="")))
    assert parsed == [["'=name", "n", "i", "l"], [cell, "-1.5", "-7", "[-1]"]]
    write(table, tmp_path / "x.csv")
    frame = pd.read_csv(tmp_path / "x.csv", keep_default_na=False, dtype={"'=name": str})
    back = frame.map(lambda cell: cell[1:] if isinstance(cell, str) and cell.startswith("'") else cell)
    assert back.iloc[0].tolist()[:3] == [text, -1.5, -7]
    assert json.loads(render(table, "json"))[0]["=name"] == text
    write(table, tmp_path / "x.parquet")
    assert pq.read_table(tmp_path / "x.parquet")["=name"].to_pylist() == [text]


@given(st.lists(st.tuples(st.text(), st.text()), max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_text_in_any_format(rows: list[tuple[str, str]]) -> None:
    """CSV and JSON give back any text; the terminal and Markdown print one that moves nothing and breaks no row."""
    sheet = Sheet(["a", "b"], list(rows))
    assert [tuple(row.values()) for row in json.loads(render(sheet, "json"))] == rows
    if not any("\r" in cell or "\0" in cell for row in rows for cell in row):
        parsed = list(csv.reader(io.StringIO(render(sheet, "csv"), newline="")))[1:]
        assert [tuple(cell[1:] if cell.startswith("'") else cell for cell in row) for row in parsed] == rows
        numbers = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
        assert not any(
            cell[:1] in set("=+-@\t") and not numbers.fullmatch(cell) for row in parsed for cell in row if cell
        )
    for format in ("table", "markdown"):
        text = render(sheet, format, width=100)
        assert all(c == "\n" or c.isprintable() for c in text)
    assert render(sheet, "markdown").count("\n") == len(rows) + 2


def test_markup_is_text() -> None:
    """Rich markup, emoji names, HTML and escape codes appear as they were written."""
    sheet = Sheet(["name"], [(text,) for text in NASTY])
    text = render(sheet, "table", width=100)
    assert "[bold red]x[/]" in text
    assert ":smile:" in text
    assert "\\x1b[31mred" in text
    assert "two\\nlines" in text
    assert "\x1b" not in text
    markdown = render(sheet, "markdown")
    assert "<script>" not in markdown
    assert "&lt;script&gt;" in markdown
    assert "a\\|b" in markdown


def test_a_narrow_terminal_wraps_the_columns() -> None:
    """No line is wider than the terminal; columns that do not fit continue below, beginning with the first again."""
    names = ["rank", *(f"column_number_{i}" for i in range(8))]
    sheet = Sheet(names, [tuple(range(9)), tuple(range(10, 19))])
    text = render(sheet, "table", width=60)
    assert max(map(len, text.splitlines())) <= 60
    assert all(name in text for name in names)
    assert text.count("rank") > 1
    assert "rank" in render(sheet, "table", width=5)


def test_color_only_on_demand() -> None:
    """Escape codes are printed only when asked for."""
    sheet = Sheet(["a"], [(1,)])
    assert "\x1b[" in render(sheet, "table", width=40, color=True)
    assert "\x1b" not in render(sheet, "table", width=40)


def test_hidden_and_renamed_columns() -> None:
    """`hide` leaves columns out for people, not for programs; `headers` renames them in the terminal."""
    table = pa.table({"a": [1], "b": [2]})
    assert "b" not in render(table, "table", hide=["b"])
    assert "b" in render(table, "csv", hide=["b"])
    assert render(table, "table", headers={"a": "alpha"}).startswith("alpha")


@pytest.mark.parametrize("format", FORMATS)
def test_no_rows_and_repeated_names(format: str) -> None:
    """An empty table and two columns of one name print without an error."""
    empty = pa.table({"a": pa.array([], pa.int64()), "b": pa.array([], pa.string())})
    assert render(empty, format).endswith("\n")
    twice = pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])
    assert "2" in render(twice, format)
    assert render(pa.table({}), format).endswith("\n")


def test_numbers_stand_to_the_right() -> None:
    """Numbers are aligned by their last digit, text by its first letter."""
    lines = render(Sheet(["n", "t"], [(1, "a"), (100, "bb")]), "table", width=40).splitlines()
    assert lines[-2:] == ["  1  a", "100  bb"]


@pytest.mark.parametrize("suffix", [".csv", ".json", ".md", ".parquet", ".txt"])
def test_write_by_ending(tmp_path: Path, suffix: str) -> None:
    """The file's ending chooses the format, and nothing is left beside the file."""
    table = pa.table({"a": [1, 2], "per": [0.5, None]})
    path = tmp_path / f"out{suffix}"
    write(table, path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    if suffix == ".parquet":
        assert pq.read_table(path).equals(table)
    else:
        assert re.search(r"0\.5", path.read_text())


def test_write_refuses_in_one_line(tmp_path: Path) -> None:
    """An unknown format or ending and an unwritable place raise InputError and leave nothing."""
    table = pa.table({"a": [1]})
    with pytest.raises(InputError, match=r"ending of 'x\.xls' is not allowed; choose table, csv, json"):
        write(table, tmp_path / "x.xls")
    with pytest.raises(InputError, match="'yaml' is not allowed"):
        write(table, tmp_path / "x.csv", "yaml")
    with pytest.raises(InputError, match="'parquet' is not allowed"):
        render(table, "parquet")
    for name in ("missing/x.csv", "missing/x.parquet"):
        with pytest.raises(InputError, match="cannot be written"):
            write(table, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_in_a_notebook_a_table_is_text_too(monkeypatch):
    """Where rich finds a notebook it shows what it prints; `render` still returns the text and shows nothing."""
    monkeypatch.setattr(builtins, "get_ipython", type("ZMQInteractiveShell", (), {}), raising=False)
    assert "best_per" in render(Sheet.of([{"trial": 1, "best_per": 0.25}]))


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("timestamp 'infinity'", "infinity"),
        ("date '-infinity'", "-infinity"),
        ("timestamptz 'infinity'", "infinity"),
        ("date '0001-01-01 (BC)'", "0001-01-01 (BC)"),
        ("date '5000000-02-28'", "5000000-02-28"),
        ("timestamp '290000-01-01 12:34:56.000789'", "290000-01-01 12:34:56.000789"),
        ("timestamp '0044-03-15 (BC) 10:00:00'", "0044-03-15 10:00:00 (BC)"),
        ("interval '14 months 2 days 3 seconds'", "1 year 2 months 2 days 0:00:03"),
        ("interval '-1 month'", "-1 month"),
        ("interval '0 days'", "0:00:00"),
        ("null::interval", ""),
        ("['infinity'::timestamp]", '["infinity"]'),
        ("{'a': date 'infinity'}", '{"a": "infinity"}'),
    ],
)
def test_dates_that_python_has_not(sql: str, text: str) -> None:
    """Infinity, years before 1 and after 9999 and intervals are text in every format, in lists and structs too, as
    DuckDB itself has the date.
    """
    import duckdb

    table = duckdb.sql(f"select {sql} as x union all select {sql}").to_arrow_table()
    for format in FORMATS:
        said = render(table, format, width=100)
        assert text in said.replace('""', '"').replace("\\", "") or format == "json"
    rows = json.loads(render(table, "json"))
    assert len(rows) == 2 and (json.dumps(rows[0]["x"]).strip('"') == text or text == "")
    if "date '" in sql and "infinity" not in sql:
        assert duckdb.sql(f"select ({sql})::varchar").fetchall() == [(text,)]


@pytest.mark.parametrize("sql", ["interval '1 day'", "union_value(a := 1)"])
def test_what_parquet_has_not_is_one_line(sql: str, tmp_path: Path) -> None:
    """And no file is left."""
    import duckdb

    with pytest.raises(InputError, match=r"Parquet has no such type .* x::varchar"):
        write(duckdb.sql(f"select {sql} as x").to_arrow_table(), tmp_path / "x.parquet")
    assert not list(tmp_path.iterdir())


def test_two_columns_of_one_name_are_no_parquet(tmp_path: Path) -> None:
    """Other programs cannot open such a file."""
    twice = pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(InputError, match="two columns are named 'a'"):
        write(twice, tmp_path / "x.parquet")
    assert not list(tmp_path.iterdir())
