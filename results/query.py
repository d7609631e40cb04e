"""Read-only SQL over the tables.

Three measures protect the files of the machine, and each is enough alone: the SQL must parse as one SELECT whose tree
has only SELECTs and table functions that read no files (DuckDB allows COPY and INSERT inside WITH); DuckDB has no
access to files, extensions or Python variables, because the tables are given to it in memory; its configuration is
locked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from results.limits import SECONDS, default_memory, stopped_after
from results.store.columns import COLUMNS, TABLES
from results.store.made import open_parquet
from results.store.replay import clean_text, schema
from results.store.tables import Source, load_tables, open_sources, sound_table, stack
from results.store.telling import meet
from search_spaces.checkpoints import size_text
from search_spaces.errors import InputError
from search_spaces.wording import nearest_or

_BATCH = 100_000
_FILES = "epochs_files"
"""The epochs that are read from Parquet while a query runs."""
_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_TABLE_FUNCTIONS = {"range", "generate_series", "unnest", "repeat", "json_each", "json_tree"}
_ONLY_READS = "only one SELECT over the tables studies, trials and epochs is allowed"
_LOCK = (
    "SET python_enable_replacements = false",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET allow_community_extensions = false",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)


def query(
    results_dir: str | Path,
    sql: str,
    studies: Sequence[str] | None = None,
    problems: list[str] | None = None,
    what: str = "query",
    timeout: float = SECONDS,
    memory: int | None = None,
) -> pa.Table:
    """The rows of one SELECT over the views `studies`, `trials` and `epochs` of a results folder.

    A running search is included up to its last event. Problems of the files are appended to `problems`. Raises
    `InputError`, with a line that begins with `what`, for SQL that does not parse, is not a SELECT, or names an unknown
    table or column (the nearest name is given), that takes more than `timeout` seconds, that needs more than `memory`
    bytes for its work or its result (`limits.default_memory()`), and for a folder without studies.
    """
    sql, memory = clean_text(sql), memory or default_memory()
    with _locked(memory) as connection, stopped_after(timeout, connection.interrupt) as late:
        used = _base_tables(_parse(connection, sql, what))
        sources, found = open_sources(results_dir, studies)
        try:
            try:
                return _answer(connection, sql, sources, used, found, memory)
            except (duckdb.Error, pa.ArrowException, OSError) as error:
                if not _mended(sources, error, found):
                    raise
                return _answer(connection, sql, sources, used, found, memory)
        # Arrow's may be OSError; DuckDB cuts its messages, also within a letter.
        except (duckdb.Error, pa.ArrowException, MemoryError, RuntimeError, OSError, UnicodeDecodeError) as error:
            if isinstance(error, MemoryError) or "Out of Memory" in str(error):
                raise InputError(too_much(what, memory)) from error
            raise InputError(too_long(what, timeout) if late.is_set() else _explain(what, error, connection)) from error
        finally:
            meet(found)
            if problems is not None:
                problems += found


def _answer(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    sources: Sequence[Source],
    used: set[str],
    problems: list[str],
    memory: int,
) -> pa.Table:
    _register(connection, sources, used, problems)
    return _fetch(connection.sql(sql).to_arrow_reader(_BATCH), memory)


def _mended(sources: Sequence[Source], error: Exception, problems: list[str]) -> bool:
    """Whether the error is of a damaged file of epochs, which the log now replaces: it is found as pages are read."""
    known = len(problems)
    if _FILES in str(error) or not isinstance(error, duckdb.Error):
        for source in sources:
            sound_table(source, "epochs", problems)
    return len(problems) > known


def too_long(what: str, timeout: float) -> str:
    """The line on SQL that takes longer than `timeout` seconds."""
    return f"{what}: not done after {timeout:g} s; ask for less, or give it more time by --timeout SECONDS"


def too_much(what: str, memory: int) -> str:
    """The line on SQL that needs more than `memory` bytes."""
    return f"{what}: needs more than {size_text(memory)} of memory; ask for less, or give it more by --memory SIZE"


def _fetch(rows: pa.RecordBatchReader, memory: int) -> pa.Table:
    """All rows; MemoryError for more than `memory` bytes of them, which the engine does not count."""
    batches, size = [], 0
    for batch in rows:
        size += batch.nbytes
        if size > memory:
            raise MemoryError
        batches.append(batch)
    return pa.Table.from_batches(batches, rows.schema)


def schema_rows(
    results_dir: str | Path | None = None, meanings: Mapping[str, str] | None = None
) -> list[dict[str, str]]:
    """Every column as `{table, column, type, unit, meaning}`, for `tuner query --schema`.

    With a results folder, the configuration columns found there too; `meanings` gives theirs by column name.
    """
    rows = [{"table": table, **_column_row(*column)} for table in TABLES for column in COLUMNS[table]]
    if results_dir is None:
        return rows
    trials = load_tables(results_dir, tables=["trials"])[0]["trials"]
    after = max(index for index, row in enumerate(rows) if row["table"] == "trials") + 1
    rows[after:after] = [
        {"table": "trials", **_column_row(f.name, str(f.type), "", (meanings or {}).get(f.name, "configuration"))}
        for f in trials.schema
        if f.name not in schema("trials").names
    ]
    return rows


def _column_row(name: str, kind: str, unit: str, meaning: str) -> dict[str, str]:
    return {"column": name, "type": kind, "unit": unit, "meaning": meaning}


def _locked(memory: int) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB without access to files, extensions or the network, and with so many bytes."""
    # No folder for temporary files either: a query that needs too much memory fails.
    connection = duckdb.connect(":memory:", config={"temp_directory": "", "memory_limit": f"{memory}B"})
    for statement in _LOCK:
        connection.execute(statement)
    return connection


def _parse(connection: duckdb.DuckDBPyConnection, sql: str, what: str) -> dict[str, Any]:
    """The syntax tree of `sql`. Raises `InputError` if it is not exactly one SELECT that reads only tables."""
    try:
        statements = connection.extract_statements(sql)
    except (duckdb.Error, UnicodeDecodeError) as error:
        raise InputError(_explain(what, error, connection)) from error
    kinds = [statement.type.name for statement in statements]
    if kinds != ["SELECT"]:
        given = " and ".join(kinds) or "nothing"
        raise InputError(f"{what}: {given} was given; {_ONLY_READS}")
    rows = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
    tree: dict[str, Any] = json.loads(rows[0][0])
    if tree.get("error") or len(tree["statements"]) != 1:
        raise InputError(f"{what}: {tree.get('error_message', 'this statement')} is not allowed; {_ONLY_READS}")
    for node in _walk(tree):
        kind = str(node.get("type"))
        if kind.endswith("_NODE") and kind not in _NODES:
            raise InputError(f"{what}: {kind.split('_')[0]} is not allowed; {_ONLY_READS}")
        if kind == "TABLE_FUNCTION":
            function = str(_mapping(node.get("function")).get("function_name"))
            if function not in _TABLE_FUNCTIONS:
                raise InputError(f"{what}: the table function {function} is not allowed; {_ONLY_READS}")
    return tree


def _walk(node: Any) -> Iterator[dict[str, Any]]:
    pending = [node]  # not recursive: SQL can be nested to any depth
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            yield item
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


def _base_tables(tree: dict[str, Any]) -> set[str]:
    return {str(node.get("table_name", "")).lower() for node in _walk(tree) if node.get("type") == "BASE_TABLE"}


def _register(
    connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], used: set[str], problems: list[str]
) -> None:
    """Make the three views; one that is not `used` gets no rows, so that its files are not read."""
    for name in ("studies", "trials"):
        connection.register(
            name, stack(name, [sound_table(source, name, problems) for source in sources if name in used])
        )
    connection.execute("DROP VIEW IF EXISTS epochs")
    parts = [schema("epochs").empty_table()]
    files = []
    for source in sources if "epochs" in used else ():
        if "epochs" in source.parquet and "epochs" not in source.tables:
            files.append(source.parquet["epochs"])
        else:
            parts.append(sound_table(source, "epochs", problems))
    if files:
        connection.register("epochs_live", stack("epochs", parts))
        connection.register(_FILES, _lazy(files))
        connection.execute(
            f"CREATE TEMP VIEW epochs AS SELECT * FROM {_FILES} UNION ALL BY NAME SELECT * FROM epochs_live"
        )
    else:
        connection.register("epochs", stack("epochs", parts))


def _lazy(files: Sequence[Path]) -> Any:
    """Parquet files as one Arrow dataset; DuckDB reads only the columns and row groups that a query needs."""
    import pyarrow.dataset as ds  # takes 0.2 s, so it is imported only for queries over epochs

    # Names repeat: dictionary encoding makes reading and joining a third faster. DuckDB returns them as text.
    words = {f.name for f in schema("epochs") if pa.types.is_string(f.type)}
    word = pa.dictionary(pa.int32(), pa.string())
    fields = [pa.field(f.name, word) if f.name in words else f for f in schema("epochs")]
    checked = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    form = ds.ParquetFileFormat(dictionary_columns=words, default_fragment_scan_options=checked)
    # An open file, not a path: the file may be replaced by a compaction while it is read.
    fragments = [form.make_fragment(open_parquet(path)) for path in files]
    return ds.FileSystemDataset(fragments, schema=pa.schema(fields), format=form)


def _explain(what: str, error: BaseException, connection: duckdb.DuckDBPyConnection) -> str:
    """One line: what is wrong, and the nearest name."""
    if isinstance(error, UnicodeDecodeError):
        return f"{what}: is wrong near a letter that is not ASCII; write it without such letters to see what is wrong"
    text = str(error).strip() or type(error).__name__
    if isinstance(error, duckdb.PermissionException) or "external access" in text or "disabled" in text:
        return f"{what}: files and extensions cannot be used; {_ONLY_READS}"
    missing = re.search(r'(?:Referenced column|column named|Referenced table) "([^"]+)"', text)
    if missing:
        hint = nearest_or(missing[1].lower(), _names(connection), "tuner query --schema lists them", 0.5)
        return f"{what}: there is no column {missing[1]!r}; {hint}"
    table = re.search(r"Table with name (.+?) does not exist", text)
    if table:
        hint = nearest_or(table[1].lower(), TABLES, f"the tables are {', '.join(TABLES)}", 0.5)
        return f"{what}: there is no table {table[1]!r}; {hint}"
    return f"{what}: {text.splitlines()[0]}"


def _names(connection: duckdb.DuckDBPyConnection) -> list[str]:
    rows = connection.execute("SELECT DISTINCT column_name FROM duckdb_columns() WHERE NOT internal").fetchall()
    return [str(name) for (name,) in rows]


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
