"""`repair`: what one file of a study has lost comes back from the others, and the damaged file stays beside."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from results.store.events import read_events
from results.store.lock import StudyLock
from results.store.maintain import check
from results.store.repair import repair
from results.store.tables import compact, load_tables
from search_spaces.errors import InputError

LOG_NAME = "events.jsonl"
KEPT = Path(__file__).parents[2] / "fixtures" / "before_rooms" / "study"


@pytest.fixture(params=["with checksums", "of before"])
def study(request: pytest.FixtureRequest, tmp_path: Path, studies: Any) -> Path:
    """A study of eight trials with its tables, its log with checksums or, with the tables of before, without."""
    folder = tmp_path / "results" / "before"
    shutil.copytree(KEPT, folder)
    if request.param == "with checksums":
        studies.seal(folder)
        compact(folder)
    return folder


def facts(folder: Path) -> list[Any]:
    """What the tables of a study say, in Python."""
    tables = load_tables(folder.parent, [folder.name])[0]
    return [tables[name].to_pylist() for name in ("studies", "trials", "epochs")]


def problems_of(folder: Path) -> list[str]:
    """What `check` finds, the best weights that the fixture was kept without left out."""
    return [line for line in check(folder.parent) if not line.endswith("is missing")]


def cut(log: bytes, *lines: int) -> bytes:
    """The log without these lines."""
    return b"".join(line for index, line in enumerate(log.splitlines(keepends=True)) if index not in lines)


LOGS = {
    "emptied": lambda log: b"",
    "cut to a third": lambda log: cut(log, *range(13, 40)),
    "without its beginning": lambda log: cut(log, 0, 1, 2),
    "without an end": lambda log: cut(log, 19),
    "without epochs": lambda log: cut(log, 5, 9, 11),
    "a bit in a key": lambda log: log.replace(b'"trial_ended"', b'"trial_endee"', 1),
    "a bit in a setting": lambda log: log.replace(b'"weight_decay"', b'"wuight_decay"', 1),
    "a newline that is gone": lambda log: log.replace(b"\n", b"\x0b", 9),
    "doubled": lambda log: log + log,
}


@pytest.mark.parametrize("damage", LOGS, ids=LOGS)
def test_a_damaged_log_is_rebuilt_from_the_tables(study: Path, damage: str) -> None:
    """Whatever lines were lost, afterwards log and tables are whole, and say in every column what they had said."""
    before, log = facts(study), (study / LOG_NAME).read_bytes()
    (study / LOG_NAME).write_bytes(LOGS[damage](log))
    found = repair(study)
    assert found.lost == []
    assert facts(study) == before
    assert problems_of(study) == []
    assert (study / f"{LOG_NAME}.damaged-1").read_bytes() == LOGS[damage](log)
    assert read_events(study / LOG_NAME)[0][-1]["kept"] == f"{LOG_NAME}.damaged-1"
    assert repair(study).done == ["nothing to do: the log is whole, and the tables say what it says"]


def test_a_log_that_is_gone_is_rebuilt(study: Path) -> None:
    """Without a log the tables are shown with a line that says so, and give one."""
    before = facts(study)
    (study / LOG_NAME).unlink()
    assert facts(study) == before
    repair(study)
    assert facts(study) == before
    assert problems_of(study) == []


def test_damaged_tables_are_made_again_from_the_log(study: Path) -> None:
    """Files that cannot be read, or are gone, come from the log; what was there stays beside."""
    before = facts(study)
    spoilt = (study / "trials.parquet").read_bytes()[:-30]
    (study / "trials.parquet").write_bytes(spoilt)
    (study / "epochs.parquet").unlink()
    found = repair(study)
    assert "trials.parquet, epochs.parquet made again from the log" in found.done[0]
    assert (study / "trials.parquet.damaged-1").read_bytes() == spoilt
    assert facts(study) == before
    assert problems_of(study) == []


def test_what_nothing_has_is_said(study: Path) -> None:
    """Lines that only the log had are counted, the rest of the study is whole, and can be read without a word."""
    log = (study / LOG_NAME).read_bytes()
    for name in ("studies", "trials", "epochs"):
        (study / f"{name}.parquet").unlink()
    (study / LOG_NAME).write_bytes(cut(log, 5, 9))
    found = repair(study)
    assert found.lost == ["2 of 40 events: no other file has them"]
    assert problems_of(study) == []
    assert len(facts(study)[2]) == 23


def test_a_study_without_any_start_is_refused_and_left_alone(study: Path) -> None:
    """Where no file has what the study was started with, one line says so and nothing changes."""
    for name in ("studies", "trials", "epochs"):
        (study / f"{name}.parquet").unlink()
    (study / LOG_NAME).write_bytes(b"\0" * 4096)
    before = sorted(path.name for path in study.iterdir())
    with pytest.raises(InputError, match="is in none of its files"):
        repair(study)
    assert sorted(path.name for path in study.iterdir() if path.name != "lock") == before


def test_a_running_search_is_not_repaired(study: Path) -> None:
    """A study that a driver holds is refused."""
    with StudyLock(study), pytest.raises(InputError, match="a search is running this study"):
        repair(study)
