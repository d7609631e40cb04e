"""Sealed parts of a log that grows: with them a study is what its whole log says, only sooner."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.store import sealed
from results.store.columns import TABLES
from results.store.lines import lines_of
from results.store.replay import build
from results.store.tables import compact, load_tables, open_sources
from tests.results.store.test_tables import logs


def rows(root: Path) -> dict[str, Any]:
    """What the tables of the one study say."""
    tables, problems = load_tables(root)
    assert problems == []
    return {name: tables[name].to_pylist() for name in TABLES}


@given(events=logs(), cuts=st.lists(st.integers(1, 26), max_size=4).map(sorted))
@settings(max_examples=150, deadline=None)
def test_sealed_anywhere_a_log_says_what_it_says(
    tmp_path_factory: pytest.TempPathFactory, events: list[dict[str, Any]], cuts: list[int]
) -> None:
    """Sealed after any of its lines, however often, a log gives the tables that its events give."""
    root = tmp_path_factory.mktemp("results")
    (root / "s").mkdir()
    lines = list(lines_of(events))
    for cut in [*cuts, len(lines)]:
        (root / "s" / "events.jsonl").write_bytes(b"".join(lines[:cut]))
        if cut < len(lines):
            sealed.seal(root / "s")
    built = build(events, running=False, study="s")
    assert rows(root) == {name: table.to_pylist() for name, table in built.items()}


@pytest.fixture
def growing(tmp_path: Path, studies: Any) -> Path:
    """A study of five trials, the first three of which are sealed."""
    events = [studies.started()]
    for number in range(5):
        events += studies.trial(number, [0.9 - 0.1 * number, 0.5], ended=number != 4)
    folder = studies.write_log(tmp_path / "results" / "s", events)
    whole = studies.seal(folder)
    lines = whole.splitlines(keepends=True)
    (folder / "events.jsonl").write_bytes(b"".join(lines[:14]))
    assert sealed.seal(folder)
    (folder / "events.jsonl").write_bytes(whole)
    return folder


def test_what_is_sealed_is_not_parsed_again(growing: Path) -> None:
    """The trials come from the sealed rows and the lines after them; lines before are not even looked at."""
    before = rows(growing.parent)
    log = (growing / "events.jsonl").read_bytes()
    lines = log.splitlines(keepends=True)
    spoilt = b"".join([lines[0], *(b"#" * (len(line) - 1) + b"\n" for line in lines[1:6]), *lines[6:]])
    (growing / "events.jsonl").write_bytes(spoilt)
    assert rows(growing.parent) == before
    assert open_sources(growing.parent)[0][0].sealed is not None


def test_every_death_while_sealing_leaves_a_study_as_it_was(growing: Path, tmp_path: Path) -> None:
    """Whatever files of the next sealing are there, and whichever is damaged or gone, the tables are the log's."""
    wanted = rows(growing.parent)
    first = {path.name: path.read_bytes() for path in (growing / "sealed").iterdir()}
    assert sealed.seal(growing)
    second = {path.name: path.read_bytes() for path in (growing / "sealed").iterdir()}
    assert rows(growing.parent) == wanted
    for name in sorted({*first, *second}):
        for content in ({**second, **first}, {**first, **second}):
            for damage in (None, b"", content[name][:-9]):
                shutil.rmtree(growing / "sealed")
                (growing / "sealed").mkdir()
                for other, data in content.items():
                    (growing / "sealed" / other).write_bytes(data)
                if damage is None:
                    (growing / "sealed" / name).unlink()
                else:
                    (growing / "sealed" / name).write_bytes(damage)
                tables = load_tables(growing.parent)[0]
                assert {table: tables[table].to_pylist() for table in TABLES} == wanted


def test_another_log_is_not_mixed_with_sealed_parts(growing: Path, studies: Any) -> None:
    """Parts that were made from another log, or from more than it has, are not used."""
    log = (growing / "events.jsonl").read_bytes()
    (growing / "events.jsonl").write_bytes(b"".join(log.splitlines(keepends=True)[:3]))
    assert len(rows(growing.parent)["trials"]) == 1
    events = [studies.started(study="other"), *studies.trial(0, [0.3] * 14), *studies.trial(7, [0.2])]
    studies.write_log(growing, events)
    studies.seal(growing)
    assert [row["trial"] for row in rows(growing.parent)["trials"]] == [0, 7]


def test_a_log_with_damage_is_not_sealed(tmp_path: Path, studies: Any) -> None:
    """Nothing is sealed of a log without checksums, or of one that is damaged."""
    folder = studies.write_log(tmp_path / "s", [studies.started(), *studies.trial(0, [0.5])])
    assert not sealed.seal(folder)
    log = studies.seal(folder)
    (folder / "events.jsonl").write_bytes(log.replace(b'"per":0.5', b'"per":0.4', 1))
    assert not sealed.seal(folder)
    assert not (folder / "sealed" / "index.json").exists()


def test_the_tables_of_the_whole_log_come_from_the_log(growing: Path) -> None:
    """Compaction replays all of it; afterwards the parts can go."""
    wanted = rows(growing.parent)
    assert compact(growing) == []
    sealed.remove(growing)
    assert rows(growing.parent) == wanted
    assert json.loads(json.dumps([path.name for path in growing.iterdir()])).count("sealed") == 0
