"""Checking, merging and deleting studies."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from results.store.events import EventLog
from results.store.lock import StudyLock
from results.store.maintain import check, delete, merge
from results.store.tables import compact, load_tables
from search_spaces.errors import InputError


def add_checkpoints(folder: Path, trials: int) -> None:
    for trial in range(trials):
        path = folder / "checkpoints" / str(trial) / "best.pt"
        path.parent.mkdir(parents=True)
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("data", "x" * 1000)


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.name != "lock"}


@pytest.fixture
def whole(results_dir: Path) -> Path:
    """A results folder with nothing wrong."""
    add_checkpoints(results_dir / "alpha", 4)
    return results_dir


def test_a_whole_folder_has_no_problems(whole: Path) -> None:
    """Studies with a log alone, and with current tables and whole checkpoints, are in order."""
    assert check(whole) == []


def test_every_kind_of_damage_is_found(whole: Path) -> None:
    """A torn log, tables that differ or are damaged, and missing or short checkpoints: a line each, with the file."""
    alpha = whole / "alpha"
    best_pt = alpha / "checkpoints" / "0" / "best.pt"
    best_pt.write_bytes(best_pt.read_bytes()[:-30])
    shutil.rmtree(alpha / "checkpoints" / "1")
    table = pq.read_table(alpha / "trials.parquet")
    changed = table.set_column(5, "best_per", [[0.1] * table.num_rows])
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), alpha / "trials.parquet")
    data = bytearray((alpha / "epochs.parquet").read_bytes())
    data[200:210] = b"0123456789"
    (alpha / "epochs.parquet").write_bytes(data)
    with (whole / "beta" / "events.jsonl").open("a") as log:
        log.write('{"event": "ep')
    problems = "\n".join(check(whole))
    assert "checkpoints/0/best.pt: the checkpoint of trial 0 is truncated" in problems
    assert "checkpoints/1/best.pt: the checkpoint of trial 1 is missing" in problems
    assert "trials.parquet: differs from events.jsonl" in problems
    assert "epochs.parquet: unreadable" in problems
    assert "beta/events.jsonl: line 5: a torn last line (13 bytes) is skipped" in problems
    assert len(problems.splitlines()) == 5
    assert compact(alpha) == []
    assert not any("parquet" in line for line in check(whole))


def test_merge_brings_a_study_in(whole: Path, tmp_path: Path) -> None:
    """A copied study folder joins with its checkpoints and is in the tables; the source is untouched."""
    there = tmp_path / "there"
    shutil.copytree(whole / "alpha", there / "gamma")
    before = snapshot(there)
    assert merge(whole, there / "gamma") == ["gamma: added"]
    assert (whole / "gamma" / "checkpoints" / "0" / "best.pt").read_bytes() == before["gamma/checkpoints/0/best.pt"]
    trials = load_tables(whole, ["gamma"])[0]["trials"]
    assert set(trials["study"].to_pylist()) == {"gamma"}
    assert snapshot(there) == before
    assert check(whole) == []


def test_merge_goes_on_from_the_same_study(whole: Path, tmp_path: Path) -> None:
    """A study that went on elsewhere replaces its beginning here; merged again, or backwards, nothing happens."""
    there = tmp_path / "beta"
    shutil.copytree(whole / "beta", there)
    with EventLog(there / "events.jsonl") as log:
        log.append("epoch", trial=0, attempt=1, epoch=3, per=0.1)
    with (whole / "beta" / "events.jsonl").open("a") as torn:
        torn.write('{"event": "ep')
    assert merge(whole, there) == ["beta: updated"]
    assert load_tables(whole, ["beta"])[0]["trials"]["best_per"].to_pylist() == [0.1]
    shutil.rmtree(there)
    shutil.copytree(whole / "beta", there)
    assert merge(whole, there) == ["beta: not changed; the study here is the same or has more events"]


def test_merge_refuses_in_one_line(whole: Path, tmp_path: Path, studies: Any) -> None:
    """Another study of the name, no study folder, itself, a bad name, a running study: refused, nothing changed."""
    other = studies.write_log(tmp_path / "there" / "alpha", [studies.started(), *studies.trial(0, [0.7])])
    before = snapshot(whole)
    with pytest.raises(InputError, match="alpha: exists with other events"):
        merge(whole, other)
    with pytest.raises(InputError, match="is not a study folder"):
        merge(whole, tmp_path)
    with pytest.raises(InputError, match="is already the study alpha"):
        merge(whole, whole / "alpha")
    for name in ("../x", ".x", "a/b"):
        with pytest.raises(InputError, match="is not allowed as a study's name"):
            merge(whole, other, name=name)
    with StudyLock(other), pytest.raises(InputError, match="a search is running"):
        merge(whole, other, name="gamma")
    with StudyLock(whole / "alpha"), pytest.raises(InputError, match="a search is running"):
        merge(whole, other)
    assert snapshot(whole) == before
    assert merge(whole, other, name="gamma") == ["gamma: added"]


def test_delete(whole: Path) -> None:
    """A deleted study is gone with its checkpoints, the others stay; a running one is refused."""
    with StudyLock(whole / "alpha"), pytest.raises(InputError, match="a search is running"):
        delete(whole, "alpha")
    delete(whole, "alpha")
    assert [path.name for path in whole.iterdir()] == ["beta"]
    with pytest.raises(InputError, match="there is no study 'alpha'"):
        delete(whole, "alpha")
