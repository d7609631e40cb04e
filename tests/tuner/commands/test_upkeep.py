"""`tuner query` to files, and `tuner results`: check, compact, merge, delete from the command line."""

import json
import re
import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from results.store.columns import COLUMNS
from results.store.lock import StudyLock
from results.store.tables import compact


@pytest.fixture(scope="module")
def made(toys):
    """A results folder with the studies `a` (ended, compacted) and `b` (its driver was killed)."""
    for name, events in (("a", None), ("b", 10)):
        study = toys.create(f"studies/{name}")
        if toys.drive(study, events=events):
            study.interrupt("budget")
            compact(study.folder)
        study.close()
    return toys.folder / "studies"


@pytest.fixture
def store(made, tmp_path, cli):
    """A copy of it to work on: `store(*arguments)`."""
    root = shutil.copytree(made, tmp_path / "studies")

    def call(*arguments):
        return cli(*arguments, "--results", root, cwd=tmp_path)

    call.root = root
    call.cwd = tmp_path
    return call


def one_line(done, *words):
    assert done.status == 2, done.err
    assert len(done.err.splitlines()) == 1
    for word in words:
        assert word in done.err


@pytest.mark.parametrize("form", ["csv", "json", "markdown", "parquet", "table"])
def test_a_query_goes_to_a_file_in_every_format(store, form):
    """--out writes the rows whole in the format asked for, says how many, and nothing is printed."""
    sql = "select study, trial, best_per from trials where study = 'a' order by trial"
    done = store("query", sql, "--format", form, "--out", "rows.file")
    assert done.status == 0, done.err
    assert done.out == ""
    assert done.err == "wrote rows.file: 12 rows\n"
    path = store.cwd / "rows.file"
    if form == "parquet":
        assert pq.read_table(path)["trial"].to_pylist() == list(range(12))
    elif form == "json":
        assert [row["trial"] for row in json.loads(path.read_text())] == list(range(12))
    else:
        head = {"csv": "study,trial,best_per", "markdown": "| study | trial | best_per |", "table": "study"}[form]
        assert path.read_text().startswith(head)
    assert [p.name for p in store.cwd.glob(".*")] == []


def test_the_ending_of_the_file_chooses_the_format(store):
    """rows.parquet is Parquet without --format; an ending that says nothing is refused with what is allowed."""
    assert store("query", "select count(*) as n from trials", "--out", "rows.parquet").status == 0
    assert pq.read_table(store.cwd / "rows.parquet").to_pylist()[0]["n"] >= 13
    one_line(store("query", "select 1", "--out", "rows.xyz"), "rows.xyz", "parquet")


def test_a_file_is_replaced_only_by_force(store):
    """A file that is there is left as it is without --force, and whatever the query does wrong."""
    path = store.cwd / "kept.csv"
    path.write_text("mine\n")
    one_line(store("query", "select 1 as x", "--out", "kept.csv"), "kept.csv: exists", "--force")
    one_line(store("query", "select no from trials", "--out", "kept.csv", "--force"), "there is no column 'no'")
    assert path.read_text() == "mine\n"
    assert store("query", "select 1 as x", "--out", "kept.csv", "--force").status == 0
    assert path.read_text() == "x\n1\n"
    one_line(store("query", "select 1", "--out", "no/such/folder.csv"), "does not exist")


def test_parquet_needs_a_file(store):
    """Bytes are not printed."""
    done = store("query", "select 1", "--format", "parquet")
    assert done.status == 2
    assert "--out" in done.err


def test_a_query_that_is_none_is_one_line(store):
    """SQL that does not parse, and a column that is nearly right."""
    one_line(store("query", "selec 1"), "syntax error")
    one_line(store("query", "select bst_per from trials"), "did you mean best_per?")


def test_the_schema_has_every_column_with_its_meaning(store, cli, tmp_path):
    """--schema lists the fixed columns and the configuration's, as found; before the first search, all there can be."""
    rows = json.loads(store("query", "--schema", "--format", "json").out)
    listed = {(row["table"], row["column"]): row for row in rows}
    assert {(table, column.name) for table, columns in COLUMNS.items() for column in columns} <= set(listed)
    assert all(row["meaning"] and row["type"] for row in rows)
    assert listed["trials", "training_batches"]["unit"] == "batches"
    assert ("trials", "schedule_gamma") not in listed
    empty = cli("query", "--schema", "--format", "json", "--results", tmp_path / "none", cwd=tmp_path)
    assert ("trials", "schedule_gamma") in {(row["table"], row["column"]) for row in json.loads(empty.out)}


def test_the_examples_of_the_help_run(store):
    """Every query in the epilog of `tuner query` is answered."""
    from tuner.commands.query import query

    examples = re.findall(r'tuner query "([^"]+)"', query.epilog)
    assert len(examples) >= 6
    for sql in examples:
        assert store("query", sql, "--format", "csv").status == 0, sql


def test_check_says_what_is_damaged(store):
    """A whole store is ok; a torn log and a table that says something else are lines, with status 1."""
    done = store("results", "check")
    assert (done.status, done.out) == (0, "2 studies checked: ok\n")
    with (store.root / "b" / "events.jsonl").open("a") as log:
        log.write('{"event": "epo')
    shutil.copy(store.root / "a" / "trials.parquet", store.root / "a" / "epochs.parquet")
    done = store("results", "check")
    assert done.status == 1
    assert "a torn last line" in done.out
    assert done.out.splitlines()[-1].startswith("2 studies checked: ")
    assert store("results", "check", "nothing").status == 2


def test_compact_makes_the_tables_of_a_killed_search(store):
    """The files appear, say what the log says, and the sizes are told; a search that is running is no obstacle."""
    assert not (store.root / "b" / "epochs.parquet").exists()
    with StudyLock(store.root / "b"):
        done = store("results", "compact", "b")
    assert done.status == 0, done.err
    assert done.out.startswith("b: ")
    assert "of tables from" in done.out
    assert pq.read_table(store.root / "b" / "epochs.parquet").num_rows == 10
    assert store("results", "check").status == 0


def test_merge_brings_studies_in(store):
    """A folder from elsewhere is added, under another name if asked; what is no study is one line."""
    there = store.cwd / "there"
    shutil.copytree(store.root / "a", there / "c")
    assert store("results", "merge", there / "c").out == "c: added\n"
    assert store("results", "merge", there / "c", "--name", "d").out == "d: added\n"
    assert (
        store("results", "merge", there / "c").out == "c: not changed; the study here is the same or has more events\n"
    )
    rows = json.loads(store("query", "select study, count(*) as n from trials group by 1", "--format", "json").out)
    assert {row["study"]: row["n"] for row in rows}["d"] == 12
    one_line(store("results", "merge", there), "is not a study folder")
    one_line(store("results", "merge", there / "c", "--name", "../x"), "not allowed as a name")


def test_delete_asks_and_refuses_a_live_study(store):
    """Without --yes it asks; a study whose search is running stays, and with it the others named."""
    with StudyLock(store.root / "b"):
        one_line(store("results", "delete", "a", "b", "--yes"), "b: a search is running this study")
    assert (store.root / "a").is_dir()
    assert (store.root / "b").is_dir()
    command = [sys.executable, "-m", "tuner", "results", "delete", "a", "--results", str(store.root)]
    asked = subprocess.run(command, input="n\n", capture_output=True, text=True, check=False)
    assert asked.stdout.strip() == "a: kept"  # click up to 8.1 asks with a space on stdout
    assert "? This cannot be undone [y/N]" in asked.stderr
    nobody = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert nobody.returncode == 130
    assert (store.root / "a").is_dir()
    done = store("results", "delete", "a", "--yes")
    assert done.out.startswith("a: deleted (")
    assert [p.name for p in store.root.iterdir()] == ["b"]
    one_line(store("results", "delete", "a", "--yes"), "there is no study 'a'")
