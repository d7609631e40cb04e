"""The files of constraints say when they were made, and `.ci/lock.py --age` how old that is."""

from __future__ import annotations

import datetime
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def lock():
    """`.ci/lock.py`, which is no package."""
    spec = importlib.util.spec_from_file_location("lock", ROOT / ".ci" / "lock.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("days", "words"), [(0, "0 days old"), (179, "179 days old"), (180, "180 days old; old: 'make")]
)
def test_the_age_of_a_lock_is_told(lock, days, words):
    """From the date in its head; half a year is old, and the line says what to do."""
    made = datetime.date(2026, 11, 26)
    for head in (lock.HEAD, lock.OLDEST):
        text = head.format(python="3.11", system="Linux", date=made) + "torch==2.13.0\n"
        told = lock.age(text, made + datetime.timedelta(days))
        assert told.startswith(words) and ("make lock" in told) == (days >= 180)


def test_the_committed_locks_have_a_date(lock):
    """Both can be asked for their age."""
    today = datetime.datetime.now(datetime.UTC).date()
    for name in ("constraints.txt", "constraints-oldest.txt"):
        assert lock.age((ROOT / name).read_text(), today)
