"""A user's SQL has a time and a memory limit, whatever it does with them."""

import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from results.limits import fenced, stopped_after
from results.query import query
from results.store.events import EventLog
from search_spaces import InputError

ENDLESS = "with recursive t(n) as (select 1 union all select n + 1 from t) select count(*) from t"
GREEDY = {
    "in the engine": "select list(i) from range(1000000000) t(i)",
    "in what it gives": "select * from range(30000000)",
    "in one value": "select repeat('x', 4000000000)",
}


@pytest.fixture
def results(tmp_path):
    """A results folder with a study."""
    with EventLog(tmp_path / "s" / "events.jsonl") as log:
        log.append("study_started", study="s")
    return tmp_path


def test_sql_that_does_not_end_is_stopped(results):
    """By the time that it was given, and with how to give it more; no thread is left."""
    before = threading.active_count()
    with pytest.raises(InputError, match=r"not done after 0.3 s; .* --timeout SECONDS"):
        query(results, ENDLESS, timeout=0.3)
    assert threading.active_count() == before
    assert query(results, "select 1 as x").num_rows == 1


@pytest.mark.parametrize("where", ["in the engine", "in what it gives"])
def test_sql_that_takes_too_much_is_stopped(where, results):
    """What the engine works with, and what it gives, are both held to the limit."""
    with pytest.raises(InputError, match=r"needs more than 100.0 MB of memory; .* --memory SIZE"):
        query(results, GREEDY[where], memory=100_000_000)
    assert query(results, "select sum(range) from range(1000000)", memory=100_000_000).num_rows == 1


@pytest.mark.parametrize("sql", [ENDLESS, *GREEDY.values()])
def test_the_command_leaves_with_one_line(sql, results):
    """Also where the engine counts nothing or cannot be interrupted: the process is held by the system."""
    done = subprocess.run(
        [sys.executable, "-m", "tuner", "query", sql, "--timeout", "2", "--memory", "200MB", "--results", str(results)],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: query: n")
    assert "SET " not in done.stderr and "Possible solutions" not in done.stderr


def test_the_fence_is_taken_down(monkeypatch):
    """What a query may take is not what the process may take afterwards; MemoryError becomes the line."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(InputError, match=r"^too much$"), fenced(60, 1 << 20, "too long", "too much"):
        assert resource.getrlimit(resource.RLIMIT_DATA) != before
        bytearray(2 << 30)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert len(bytearray(1 << 26)) == 1 << 26


def test_a_stop_that_comes_too_early_comes_again():
    """The engine forgets an interrupt that comes between two statements."""
    seen = threading.Event()
    calls = []

    def stop():
        calls.append(1)
        if len(calls) == 3:
            seen.set()

    with stopped_after(0.01, stop) as late:
        assert seen.wait(600)
    assert late.is_set() and len(calls) >= 3
