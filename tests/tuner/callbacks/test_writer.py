"""A driver of a long log says where it stands; whoever looks gets what a look at the whole log gives."""

from __future__ import annotations

import json
import os
import time

import pytest

from results.store import sealed
from results.store.lock import StudyLock
from results.store.tables import open_sources
from tuner.callbacks.standing import STALE_SECONDS
from tuner.callbacks.watch import Watched, describe, glance, summary
from tuner.callbacks.writer import Writer


def until(done) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + 60
    while not done():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.005)


@pytest.fixture
def long(toy, monkeypatch):
    """A study whose log counts as long, in the middle of its search; its driver holds the lock."""
    monkeypatch.setattr(sealed, "EVERY", 20_000)
    folder = toy.folder / "s"
    with StudyLock(folder):
        study = toy.create("s")
        writer = Writer(study, every=0.005)
        study.observers.append(writer.event)
        study.observers.append(lambda event: writer.event({**event, "seq": 100 * event["seq"]}))
        toy.drive(study, workers=2, events=45)
        seq = study._log.last_seq
        writer._seq = seq
        until(lambda: (folder / "now.json").exists() and json.loads((folder / "now.json").read_bytes())["seq"] == seq)
        yield folder, writer
        writer.close()


def test_a_glance_says_what_the_whole_log_says(long) -> None:
    """Facts and text are those of a look at every event."""
    folder, _ = long
    watched, seen = Watched(folder), glance(folder)
    watched.look()
    assert seen is not None
    whole, facts = summary(watched), seen.facts([])
    assert facts.pop("seconds") == pytest.approx(whole.pop("seconds"), abs=5)
    assert list(facts) == list(whole)
    assert facts == whole
    assert describe(watched).splitlines()[3:] == seen.text([]).splitlines()[3:]


def test_commands_take_the_glance(long, cli, monkeypatch) -> None:
    """`status` and `watch --once` read no event where the driver says where it stands; `best` reads the sealed rows."""
    folder, _ = long

    def refuse(*_: object) -> None:
        raise AssertionError("the log was read")

    monkeypatch.setattr(Watched, "look", refuse)
    at = ("--results", folder.parent)
    assert "driver: running on" in cli("status", "s", *at).out
    assert json.loads(cli("status", "s", "--format", "json", *at).out)["driver"] == "running"
    assert "best so far" in cli("watch", "s", "--once", *at).out
    assert open_sources(folder.parent)[0][0].sealed is not None
    assert cli("best", "s", *at).err == ""


def test_only_a_driver_that_is_there_and_up_to_date_is_believed(long) -> None:
    """Behind the log for long, ahead of it, or damaged, its word counts for nothing; nor that of one that is gone."""
    folder, writer = long
    now = folder / "now.json"
    said = json.loads(now.read_bytes())
    writer._off = True
    late = time.time() - STALE_SECONDS - 1
    for text in (json.dumps({**said, "seq": said["seq"] + 1}), "{", json.dumps({"seq": said["seq"]})):
        now.write_text(text)
        assert glance(folder) is None
    now.write_text(json.dumps({**said, "seq": said["seq"] - 1}))
    assert glance(folder) is not None
    os.utime(now, (late, late))
    assert glance(folder) is None
    now.write_text(json.dumps(said))
    os.utime(now, (late, late))
    assert glance(folder) is not None  # nothing has happened since


def test_nothing_is_left_when_the_driver_ends(long) -> None:
    """What was written of a running search goes with its driver."""
    folder, writer = long
    writer.close()
    assert not (folder / "now.json").exists()
    assert glance(folder) is None


def test_a_short_log_needs_none_of_it(toy) -> None:
    """A study with a short log has no files of this kind."""
    study = toy.create("s")
    writer = Writer(study, every=0.001)
    study.observers.append(writer.event)
    toy.drive(study, events=20)
    writer.close()
    assert {path.name for path in (toy.folder / "s").iterdir()} == {"events.jsonl"}
