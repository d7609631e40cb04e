"""SQL over the tables: it answers, it names what was meant, and it can only read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results import query as query_module
from results.query import query, schema_rows
from results.store.columns import COLUMNS
from results.store.lock import StudyLock
from search_spaces.errors import InputError

HOSTILE = [
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_blob('{secret}')",
    "SELECT * FROM read_parquet('{parquet}')",
    "SELECT * FROM '{secret}'",
    "SELECT * FROM '{parquet}'",
    'SELECT * FROM "{parquet}"',
    "FROM glob('{root}/*')",
    "FROM query('SELECT * FROM read_text(''{secret}'')')",
    "FROM json_execute_serialized_sql('{{}}')",
    "FROM parquet_metadata('{parquet}')",
    "FROM sniff_csv('{secret}')",
    "SELECT (SELECT content FROM read_text('{secret}'))",
    "WITH a AS MATERIALIZED (FROM read_text('{secret}')) FROM a",
    "DESCRIBE SELECT * FROM read_csv('{secret}')",
    "SUMMARIZE FROM read_csv('{secret}')",
    "SELECT * FROM trials, LATERAL (SELECT * FROM read_text('{secret}'))",
    "COPY trials TO '{out}'",
    "COPY trials TO '{parquet}' (USE_TMP_FILE false)",
    "COPY trials FROM '{secret}'",
    "WITH a AS (COPY trials TO '{out}') SELECT 1",
    "WITH a AS (COPY trials TO '{parquet}' (USE_TMP_FILE false)) SELECT 1",
    "WITH a AS (INSERT INTO trials SELECT * FROM trials RETURNING *) SELECT * FROM a",
    "EXPLAIN ANALYZE COPY trials TO '{out}'",
    "EXPORT DATABASE '{out}'",
    "IMPORT DATABASE '{root}'",
    "ATTACH '{out}' AS other",
    "ATTACH '{out}' AS other; SELECT 1",
    "DETACH memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{secret}'",
    "SET enable_external_access = true",
    "SET GLOBAL temp_directory = '{root}'",
    "RESET lock_configuration",
    "PRAGMA enable_profiling",
    "PRAGMA database_list",
    "CALL enable_logging(storage = 'file', storage_path = '{root}')",
    "FROM enable_logging(storage = 'file', storage_path = '{root}')",
    "CREATE TABLE x AS SELECT 1",
    "CREATE MACRO f() AS TABLE FROM read_text('{secret}')",
    "CREATE SECRET s (TYPE s3)",
    "INSERT INTO trials SELECT * FROM trials",
    "UPDATE trials SET best_per = 0",
    "DELETE FROM trials",
    "DROP VIEW trials",
    "CHECKPOINT",
    "VACUUM",
    "PREPARE p AS SELECT 1",
    "USE memory",
    "BEGIN",
    "SELECT 1; COPY trials TO '{out}'",
    "FROM arrow_scan(1, 2, 3)",
    "FROM pandas_scan(1)",
    "FROM sources",
    "FROM connection",
    "FROM local_table",
    "FROM GLOBAL_TABLE",
    "",
    "-- nothing",
    "SELECT 1; SELECT 2",
]
GLOBAL_TABLE = pa.table({"reachable": [1]})


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("sql", HOSTILE)
def test_nothing_but_reading_the_tables(
    results_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    """Reading files, writing, attaching, loading, settings and Python's variables: refused, no file changed or made."""
    local_table = GLOBAL_TABLE
    secret = tmp_path / "secret.csv"
    secret.write_text("word\nswordfish\n")
    monkeypatch.chdir(tmp_path)
    before = digest(tmp_path)
    parquet = results_dir / "alpha" / "epochs.parquet"
    places = {"secret": secret, "out": tmp_path / "out", "parquet": parquet, "root": tmp_path}
    with pytest.raises(InputError) as caught:
        query(results_dir, sql.format(**places))
    assert len(caught.value.problems) == 1
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("query: ")
    assert "swordfish" not in str(caught.value)
    assert digest(tmp_path) == before
    assert local_table.num_rows == 1


@pytest.mark.parametrize("sql", [sql for sql in HOSTILE if "_scan(" not in sql])
def test_the_engine_is_locked_by_itself(
    results_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    """Were the check of the syntax tree to let a statement through, it still could not read or write a file."""
    secret = tmp_path / "secret.csv"
    secret.write_text("word\nswordfish\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(query_module, "_parse", lambda *_: {})
    before = digest(tmp_path)
    parquet = results_dir / "alpha" / "epochs.parquet"
    places = {"secret": secret, "out": tmp_path / "out", "parquet": parquet, "root": tmp_path}
    with contextlib.suppress(InputError, AttributeError):  # a statement without rows gives None
        assert "swordfish" not in str(query(results_dir, sql.format(**places)).to_pylist())
    assert digest(tmp_path) == before


def test_the_three_tables_answer(results_dir: Path) -> None:
    """The views hold all studies, the one with a live log included, and join."""
    sql = "SELECT study, min(best_per) AS best, count(*) AS n FROM trials GROUP BY 1 ORDER BY 2"
    assert query(results_dir, sql).to_pylist() == [
        {"study": "alpha", "best": 0.3, "n": 4},
        {"study": "beta", "best": 0.55, "n": 1},
    ]
    joined = query(
        results_dir,
        "SELECT s.space, t.trial, e.per FROM studies s JOIN trials t USING (study) JOIN epochs e USING (study, trial) "
        "WHERE e.epoch = t.best_epoch ORDER BY e.per LIMIT 1;",
    )
    assert joined.to_pylist() == [{"space": "small", "trial": 2, "per": 0.3}]
    assert query(results_dir, "SELECT count(*) n FROM epochs", ["beta"]).to_pylist() == [{"n": 2}]


@pytest.mark.parametrize(
    "sql",
    [
        "DESCRIBE epochs",
        "SHOW TABLES",
        "SUMMARIZE trials",
        "FROM trials",
        "TABLE studies",
        "VALUES (1)",
        "FROM range(3)",
        "WITH RECURSIVE r AS (SELECT 1 x UNION ALL SELECT x + 1 FROM r WHERE x < 3) FROM r",
        "SELECT unnest([1, 2])",
        "SELECT date_trunc('hour', started), ended - started, x FROM (SELECT *, 1 AS x FROM trials)",
        "SELECT trial, row_number() OVER (PARTITION BY study ORDER BY best_per) FROM trials",
        "UNPIVOT (SELECT best_per, last_per FROM trials) ON *",
        "SELECT j.key FROM trials, json_each('{\"a\": 1}') j",
        "SELECT 1 UNION SELECT 2",
    ],
)
def test_all_kinds_of_select_are_allowed(results_dir: Path, sql: str) -> None:
    """What only reads is not refused."""
    assert query(results_dir, sql).num_rows > 0


@pytest.mark.parametrize(
    ("sql", "line"),
    [
        ("SELECT best_pr FROM trials", "query: there is no column 'best_pr'; did you mean best_per?"),
        ("SELECT t.sched_kind FROM trials t", "query: there is no column 'sched_kind'; did you mean schedule_kind?"),
        ("SELECT 1 FROM trails", "query: there is no table 'trails'; did you mean trials?"),
        ("SELECT 1 FROM x", "query: there is no table 'x'; the tables are studies, trials, epochs"),
        ("SELEC 1", 'query: Parser Error: syntax error at or near "SELEC"'),
        ("SELECT date_trunc('houx', started) FROM trials", 'query: Conversion Error: extract specifier "houx"'),
        ("SELECT 'a'::INT", "query: Conversion Error: Could not convert string 'a' to INT32"),
        ("SELECT '\udcff' FROM x", "query: there is no table 'x'"),
        ("SELECT 'a\0b", "query: Parser Error"),
    ],
)
def test_a_mistake_is_one_line(results_dir: Path, sql: str, line: str) -> None:
    """SQL that does not parse, and unknown names, raise InputError with one line that gives the nearest name."""
    with pytest.raises(InputError) as caught:
        query(results_dir, sql)
    assert str(caught.value).startswith(line)
    assert len(str(caught.value).splitlines()) == 1


def test_a_running_search_is_seen_to_its_last_event(results_dir: Path) -> None:
    """A study whose driver is at work shows its trials as running, epochs from its log included."""
    with StudyLock(results_dir / "beta"):
        sql = "SELECT t.status, max(e.epoch) AS epoch FROM trials t JOIN epochs e USING (study, trial) "
        rows = query(results_dir, sql + "WHERE t.study = 'beta' GROUP BY 1").to_pylist()
    assert rows == [{"status": "running", "epoch": 2}]


def test_older_and_newer_files_are_one_view(results_dir: Path) -> None:
    """Epochs of a file that lacks columns, of a current one and of a log stand in one view, text as text."""
    path = results_dir / "alpha" / "epochs.parquet"
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["rung", "reason"]).replace_schema_metadata(table.schema.metadata), path)
    rows = query(
        results_dir,
        "SELECT study, count(*) AS n, max(rung) AS rung, max(reason) AS r FROM epochs GROUP BY 1 ORDER BY 1",
    )
    assert rows.to_pylist() == [
        {"study": "alpha", "n": 9, "rung": None, "r": None},
        {"study": "beta", "n": 2, "rung": None, "r": None},
    ]
    assert rows.schema.field("study").type == pa.string()


def test_problems_of_files_are_handed_over(results_dir: Path) -> None:
    """A damaged file does not stop the query; its line reaches the caller."""
    (results_dir / "alpha" / "epochs.parquet").write_bytes(b"PAR1 no more PAR1")
    problems: list[str] = []
    assert query(results_dir, "SELECT count(*) n FROM epochs", problems=problems).to_pylist() == [{"n": 11}]
    assert "epochs.parquet: unreadable" in problems[0]


@pytest.mark.parametrize("name", ["it's", "a[b]*?", "räksmörgås 雪", "line\nbreak", "<b>x"])
def test_any_study_name(tmp_path: Path, studies: Any, name: str) -> None:
    """Epochs of a compacted study are found whatever its name holds."""
    from results.store.tables import compact

    compact(studies.write_log(tmp_path / name, [studies.started(), *studies.trial(0, [0.5])]))
    assert query(tmp_path, "SELECT study, per FROM epochs").to_pylist() == [{"study": name, "per": 0.5}]


def test_schema_lists_every_column(results_dir: Path) -> None:
    """`schema_rows` lists the fixed columns and, with a results folder, the configuration's with their meaning."""
    fixed = {(table, column.name) for table, columns in COLUMNS.items() for column in columns}
    assert {(row["table"], row["column"]) for row in schema_rows()} == fixed
    rows = schema_rows(results_dir, {"schedule_kind": "kind of schedule"})
    extra = {row["column"]: row["meaning"] for row in rows if (row["table"], row["column"]) not in fixed}
    assert extra["schedule_kind"] == "kind of schedule"
    assert {"model_hidden", "training_batches"} <= set(extra)
    assert all(row["meaning"] and row["type"] for row in rows)


def test_importing_the_room_is_cheap() -> None:
    """`import results` and the log and lock import neither pyarrow, duckdb, pandas nor rich."""
    code = (
        "import sys, results, results.store.events, results.store.lock, results.store.columns, results.output; "
        "sys.exit(any(m in sys.modules for m in ('pyarrow', 'duckdb', 'pandas', 'rich')))"
    )
    assert subprocess.run([sys.executable, "-c", code], env=dict(os.environ), check=False).returncode == 0


@pytest.mark.parametrize("name", ["studies", "trials", "epochs"])
def test_a_flipped_bit_in_a_table_is_told_and_changes_no_number(results_dir: Path, name: str) -> None:
    """Each page of a file has a checksum: where one is wrong, the log is used, and the file is named."""
    sql = f"SELECT * FROM {name} ORDER BY ALL"
    sound = query(results_dir, sql).to_pylist()
    path = next(iter(results_dir.glob(f"*/{name}.parquet")))
    whole = path.read_bytes()
    chunk = pq.read_metadata(path).row_group(0).column(min(3, pq.read_metadata(path).num_columns - 1))
    told = 0
    for share in (0.5, 0.8):
        at = chunk.data_page_offset + int(share * (chunk.total_compressed_size - 1))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 8]) + whole[at + 1 :])
        problems: list[str] = []
        assert query(results_dir, sql, problems=problems).to_pylist() == sound
        told += any(str(path) in line for line in problems)
    assert told


def test_a_message_that_the_engine_cut_within_a_letter_is_one_line(
    results_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB shortens the text of an error by bytes, and Python then cannot read it."""

    def cut(*_: Any) -> Any:
        raise UnicodeDecodeError("utf-8", b"\xc3", 0, 1, "unexpected end of data")

    monkeypatch.setattr(query_module, "_fetch", cut)
    with pytest.raises(InputError, match="is wrong near a letter that is not ASCII"):
        query(results_dir, "SELECT 1")
