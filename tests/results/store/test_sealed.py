"""Sealed parts of a log that grows: with them a study is what its whole log says, only sooner."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.store import made, sealed
from results.store.columns import TABLES
from results.store.events import EventLog
from results.store.lines import lines_of
from results.store.made import Damaged, load_index, load_part, look
from results.store.maintain import check
from results.store.repair import repair
from results.store.replay import build
from results.store.tables import compact, load_tables, open_sources, replay_log
from search_spaces import InputError
from tests.results.store.test_tables import logs

KEPT = Path(__file__).parents[2] / "fixtures" / "before_rooms" / "study"


def shown(root: Path) -> dict[str, Any]:
    """What the tables of the one study say."""
    tables, _ = load_tables(root)
    return {name: tables[name].to_pylist() for name in TABLES}


def rows(root: Path) -> dict[str, Any]:
    """The same of a study without problems."""
    assert load_tables(root)[1] == []
    return shown(root)


def found(root: Path) -> list[str]:
    """What `check` finds, the checkpoints left out, which the studies made here do not have."""
    return [line for line in check(root) if "the checkpoint of trial" not in line]


@given(events=logs(), cuts=st.lists(st.integers(1, 26), max_size=4).map(sorted))
@settings(max_examples=75, deadline=None)
def test_sealed_anywhere_a_log_says_what_it_says(
    tmp_path_factory: pytest.TempPathFactory, events: list[dict[str, Any]], cuts: list[int]
) -> None:
    """Sealed after any of its lines, however often, a log gives the tables that its events give; `check` agrees."""
    root = tmp_path_factory.mktemp("results")
    (root / "s").mkdir()
    lines = list(lines_of(events))
    for cut in [*cuts, len(lines)]:
        (root / "s" / "events.jsonl").write_bytes(b"".join(lines[:cut]))
        if cut < len(lines):
            sealed.seal(root / "s")
    built = build(events, running=False, study="s")
    assert rows(root) == {name: table.to_pylist() for name, table in built.items()}
    assert not [line for line in check(root) if "sealed" in line]


@pytest.fixture
def growing(tmp_path: Path, studies: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of five trials, the first three of which are sealed, in two parts."""
    monkeypatch.setattr(made, "_TAIL", 50)  # of a log so short, the fingerprint would be of all
    events = [studies.started()]
    for number in range(5):
        events += studies.trial(number, [0.9 - 0.1 * number, 0.5], ended=number != 4)
    folder = studies.write_log(tmp_path / "results" / "s", events)
    whole = studies.seal(folder)
    lines = whole.splitlines(keepends=True)
    for end in (9, 14):
        (folder / "events.jsonl").write_bytes(b"".join(lines[:end]))
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


def test_every_death_while_sealing_leaves_a_study_as_it_was(growing: Path) -> None:
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
                assert shown(growing.parent) == wanted


def parts(folder: Path) -> list[Path]:
    """The files that the index names."""
    index = load_index(folder, [])
    assert index is not None
    return [folder / "sealed" / name for name in sorted(index.files)]


def test_damage_of_the_parts_is_told_and_changes_no_number(growing: Path) -> None:
    """A bit of a part that is flipped, and a part that is gone, is found by `check`; the tables stay the log's."""
    wanted = rows(growing.parent)
    assert found(growing.parent) == []
    for path in [*parts(growing), growing / "sealed" / "index.json"]:
        content = path.read_bytes()
        for at in range(0, len(content), max(1, len(content) // 12)):
            path.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
            assert shown(growing.parent) == wanted
            problems = found(growing.parent)
            assert len(problems) == 1, problems
            assert str(path) in problems[0]
        if path.suffix == ".parquet":
            path.unlink()
            assert shown(growing.parent) == wanted
            assert f"{path}: damaged or gone" in found(growing.parent)[0]
        path.write_bytes(content)
    assert found(growing.parent) == []


def test_parts_that_changed_places_are_not_used(growing: Path) -> None:
    """Two parts with each other's name are damage."""
    wanted = rows(growing.parent)
    one, two = growing / "sealed" / "epochs-1.parquet", growing / "sealed" / "epochs-2.parquet"
    swapped = two.read_bytes(), one.read_bytes()
    one.write_bytes(swapped[0])
    two.write_bytes(swapped[1])
    assert shown(growing.parent) == wanted
    assert [line.split(": damaged")[0] for line in found(growing.parent)] == [str(one)]
    with pytest.raises(Damaged):
        load_part(growing, load_index(growing, []), "epochs-1")  # type: ignore[arg-type]


def test_another_study_s_parts_are_not_used(growing: Path, studies: Any, tmp_path: Path) -> None:
    """Put into another study they are told and left alone; one of its files among the right ones is damage."""
    wanted = rows(growing.parent)
    events = [studies.started(study="t"), *studies.trial(0, [0.3] * 14), *studies.trial(7, [0.2])]
    other = studies.write_log(tmp_path / "others" / "t", events)
    studies.seal(other)
    assert sealed.seal(other)
    own = {path: path.read_bytes() for path in [*parts(growing), growing / "sealed" / "index.json"]}
    for path in own:
        there = other / "sealed" / path.name
        if there.exists():
            path.write_bytes(there.read_bytes())
            assert shown(growing.parent) == wanted
            assert found(growing.parent)
            path.write_bytes(own[path])
    shutil.rmtree(growing / "sealed")
    shutil.copytree(other / "sealed", growing / "sealed")
    assert shown(growing.parent) == wanted
    assert found(growing.parent) == [
        f"{growing / 'sealed' / 'index.json'}: of the log of another study; it is not used"
    ]
    assert look(growing) is None
    repair(growing)
    assert rows(growing.parent) == wanted


@pytest.fixture
def real(tmp_path: Path, studies: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of eight trials whose log is sealed up to its line 20 and then 32 of 40, and which has no tables."""
    monkeypatch.setattr(made, "_TAIL", 50)
    folder = tmp_path / "results" / "before"
    shutil.copytree(KEPT, folder)
    for name in TABLES:
        (folder / f"{name}.parquet").unlink()
    whole = studies.seal(folder)
    lines = whole.splitlines(keepends=True)
    for end in (20, 32):
        (folder / "events.jsonl").write_bytes(b"".join(lines[:end]))
        assert sealed.seal(folder)
    (folder / "events.jsonl").write_bytes(whole)
    return folder


@pytest.mark.parametrize("lines", [0, 3, 8, 25])
def test_a_log_that_has_less_than_was_sealed_is_damaged_and_rebuilt(real: Path, lines: int) -> None:
    """Emptied or cut short, it is told, the parts are not written over, and `repair` takes from them what it lacks."""
    wanted, (part, _) = rows(real.parent), sealed.tables(real, [])
    log = real / "events.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:lines]))
    (problem,) = {line for line in load_tables(real.parent)[1] if "repair" in line}
    assert "it was emptied or cut short" in problem
    assert problem in found(real.parent)
    assert not sealed.seal(real)
    with pytest.raises(InputError, match="the tables are not changed"):
        compact(real)
    done = repair(real)
    assert "sealed parts of the log: kept as sealed.damaged-1" in done.done
    after, numbers = rows(real.parent), part["trials"]["trial"].to_pylist()
    assert len(numbers) > 3
    for table in ("trials", "epochs"):
        here, there = ([row for row in each[table] if row["trial"] in numbers] for each in (after, wanted))
        assert here == there
    assert not (real / "sealed").exists()
    assert found(real.parent) == []
    assert repair(real).done == ["nothing to do: the log is whole, and the tables say what it says"]


@pytest.mark.parametrize("line", [4, 9, 15, 19])
def test_a_damaged_line_is_rebuilt_from_what_was_sealed(real: Path, line: int) -> None:
    """One bit of the log is wrong: its event comes back from the sealed rows."""
    wanted = rows(real.parent)
    log = real / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b'"time":1', b'"time":3')
    log.write_bytes(b"".join(lines))
    assert f"line {line + 1}: damaged" in found(real.parent)[0]
    repair(real)
    after = rows(real.parent)
    assert [after[name] for name in ("trials", "epochs")] == [wanted[name] for name in ("trials", "epochs")]


def test_repair_of_a_whole_log_removes_what_the_tables_have(real: Path) -> None:
    """After the tables are made, sound parts are not needed; damaged ones are kept beside."""
    wanted = rows(real.parent)
    path = parts(real)[0]
    path.write_bytes(path.read_bytes()[:-9])
    assert repair(real).done[0] == "sealed parts of the log: kept as sealed.damaged-1"
    assert rows(real.parent) == wanted
    assert sealed.seal(real)
    assert repair(real).done == ["nothing to do: the log is whole, and the tables say what it says"]
    assert not (real / "sealed").exists()


def test_another_log_is_not_mixed_with_sealed_parts(growing: Path, studies: Any) -> None:
    """Parts that were made from another log are not used."""
    events = [studies.started(study="other"), *studies.trial(0, [0.3] * 14), *studies.trial(7, [0.2])]
    studies.write_log(growing, events)
    studies.seal(growing)
    assert [row["trial"] for row in shown(growing.parent)["trials"]] == [0, 7]


def test_a_log_with_damage_is_not_sealed(tmp_path: Path, studies: Any) -> None:
    """Nothing is sealed of a log without checksums, or of one that is damaged."""
    folder = studies.write_log(tmp_path / "s", [studies.started(), *studies.trial(0, [0.5])])
    assert not sealed.seal(folder)
    log = studies.seal(folder)
    (folder / "events.jsonl").write_bytes(log.replace(b'"per":0.5', b'"per":0.4', 1))
    assert not sealed.seal(folder)
    assert not (folder / "sealed" / "index.json").exists()


def test_a_log_that_began_without_checksums_is_sealed(tmp_path: Path, studies: Any) -> None:
    """An old log that goes on with checksums can be sealed and sealed again."""
    folder = studies.write_log(tmp_path / "s", [studies.started(), *studies.trial(0, [0.5])])
    for number in range(1, 4):
        with EventLog(folder / "events.jsonl") as log:
            for event in studies.trial(number, [0.5 - 0.1 * number]):
                log.append(
                    event.pop("event"), **{k: v for k, v in event.items() if k not in ("seq", "time", "elapsed")}
                )
        assert sealed.seal(folder)
        source = open_sources(tmp_path)[0][0]
        assert source.sealed is not None
        assert source.table("trials").to_pylist() == replay_log(folder).tables["trials"].to_pylist()


def test_the_tables_of_the_whole_log_come_from_the_log(growing: Path) -> None:
    """Compaction replays all of it; afterwards the parts can go."""
    wanted = rows(growing.parent)
    assert compact(growing) == []
    sealed.remove(growing)
    assert rows(growing.parent) == wanted
    assert json.loads(json.dumps([path.name for path in growing.iterdir()])).count("sealed") == 0
