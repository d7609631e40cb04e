"""A study that an earlier version wrote is read, reported and gone on with as that version did."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.tuner.conftest import cli, tiny_data, tuner  # noqa: F401  fixtures

KEPT = Path(__file__).parent / "fixtures" / "before_rooms"
COLUMNS = "trial, status, best_per, epochs, schedule_peak_lr"


@pytest.fixture(params=["log and tables", "log alone"])
def before(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A results folder with that study, once as it was left and once without its tables."""
    shutil.copytree(KEPT / "study", tmp_path / "results" / "before")
    if request.param == "log alone":
        for path in (tmp_path / "results" / "before").glob("*.parquet"):
            path.unlink()
    return tmp_path / "results"


def kept(name: str) -> object:
    """What that version answered."""
    return json.loads((KEPT / name).read_text())


def test_its_answers_are_those_of_before(before: Path, cli) -> None:  # noqa: F811
    """`best`, `query` and `report` give what they gave, and nothing is said against its log."""
    best = cli("best", "before", "--format", "json", "--results", before)
    assert (json.loads(best.out), best.err) == (kept("best.json"), "")
    asked = cli("query", f"select {COLUMNS} from trials order by trial", "--format", "json", "--results", before)
    assert (json.loads(asked.out), asked.err) == (kept("trials.json"), "")
    page = before.parent / "page.html"
    report = cli("report", "before", "--out", page, "--results", before)
    assert report.status == 0, report.err
    assert "0.4151" in page.read_text()
    problems = cli("results", "check", "--results", before).out.splitlines()[:-1]
    assert all(line.endswith("is missing") for line in problems), problems  # the best weights were not kept
    assert "problem" not in cli("status", "before", "--results", before).out


@pytest.mark.ray
def test_it_goes_on_as_it_would_have(tmp_path: Path, tiny_data: Path, tuner) -> None:  # noqa: F811
    """Resumed to ten trials, it trains and proposes to the last digit what the version before did."""
    shutil.copytree(KEPT / "study", tmp_path / "results" / "before")
    given = ("--results", "results", "--data", tiny_data, "--trials", 10, "--concurrent", 1)
    done = tuner.run("resume", "before", *given, cwd=tmp_path)
    assert done.status == 0, done.err
    sql = f"select {COLUMNS} from trials order by trial"
    asked = tuner.run("query", sql, "--format", "json", "--results", "results", cwd=tmp_path)
    assert json.loads(asked.out) == kept("resumed.json")
