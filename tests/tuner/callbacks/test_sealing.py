"""A look at a log that its driver seals as it grows gives what a look at every event gives."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys

import pytest
from rich.console import Console

from results.store import made, sealed
from results.store.lock import StudyLock
from results.store.tables import open_sources
from tests.tuner.callbacks.test_watch import stepwise, take
from tuner.callbacks import watch
from tuner.callbacks.progress import Progress
from tuner.callbacks.sealing import Sealing
from tuner.callbacks.watch import Watched, describe, summary

RULES = {
    "none": {"kind": "none"},
    "asha": {"kind": "asha", "reduction": 2, "grace": 1},
    "pausing": {"kind": "asha", "reduction": 2, "grace": 1, "promote": True},
    "median": {"kind": "median", "grace": 1},
}


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Logs are sealed at nearly every end of a trial, and fingerprinted by their last lines."""
    monkeypatch.setattr(sealed, "EVERY", 1500)
    monkeypatch.setattr(made, "_TAIL", 100)


def seen(folder, whole, monkeypatch):
    """(facts, lines, live view, trials of which no event was read) of a look, at the whole log or as it is."""
    with monkeypatch.context() as patch:
        if whole:
            patch.setattr(watch, "load_index", lambda *_: None)
        watched = Watched(folder)
        watched.look()
    out = io.StringIO()
    Console(file=out, width=200).print(Progress(Console(), lambda: watched.state, 2, lambda: 100.0).render())
    facts = summary(watched)
    facts.pop("seconds")
    lines = re.sub(r"[0-9:]+ of wall time", "", describe(watched)).splitlines()[2:]
    return facts, lines, out.getvalue(), watched._sealed


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("workers", [1, 3])
def test_a_look_says_what_every_event_says(toy, rule, workers, monkeypatch):
    """Facts, text and live view, at many moments of a search and after a kill and a resume, under each kind of rule."""
    study = toy.create("s", stopping=RULES[rule])
    study.observers.append(Sealing(study))
    steps, used = stepwise(study, toy, workers), 0
    with StudyLock(toy.folder / "s"):
        for turn in range(10):
            take(steps, 5)
            *a, _ = seen(toy.folder / "s", True, monkeypatch)
            *b, without = seen(toy.folder / "s", False, monkeypatch)
            assert a == b
            used += bool(without)
            if turn == 4:
                study.close()
                study = toy.resume("s")
                study.observers.append(Sealing(study))
                steps = stepwise(study, toy, workers)
    assert used > 3


def test_a_watcher_follows_over_sealings(toy, monkeypatch):
    """One that began in the middle and looks on sees at each moment what a new one sees in the whole log."""
    study = toy.create("s", stopping=RULES["asha"])
    study.observers.append(Sealing(study))
    steps = stepwise(study, toy, 2)
    with StudyLock(toy.folder / "s"):
        take(steps, 25)
        watched = Watched(toy.folder / "s")
        for _ in range(4):
            watched.look()
            assert watched._sealed
            whole, *_ = seen(toy.folder / "s", True, monkeypatch)
            facts = summary(watched)
            facts.pop("seconds")
            assert facts == whole
            take(steps, 3)


def test_after_a_kill_the_sealed_parts_are_used(toy, monkeypatch):
    """Without a driver, running trials are interrupted; the trials that had ended are not read again."""
    study = toy.create("s")
    study.observers.append(Sealing(study))
    toy.drive(study, workers=2, events=45)
    study.close()
    *a, _ = seen(toy.folder / "s", True, monkeypatch)
    *b, without = seen(toy.folder / "s", False, monkeypatch)
    assert a == b
    assert a[0]["driver"] == "gone"
    assert a[0]["statuses"]["interrupted"] >= 1
    assert without
    assert open_sources(toy.folder)[0][0].sealed is not None


def test_a_new_stopping_rule_needs_the_whole_log(toy, monkeypatch):
    """The rungs of another rule are made from all curves: after such a resume, until the next sealing, all is read."""
    study = toy.create("s", stopping=RULES["asha"])
    study.observers.append(Sealing(study))
    toy.drive(study, workers=2, events=45)
    study.close()
    old = study.settings.stopping.as_dict()
    study = toy.resume("s", {"stopping": [old, {**old, "grace": 2}]})
    *a, _ = seen(toy.folder / "s", True, monkeypatch)
    *b, without = seen(toy.folder / "s", False, monkeypatch)
    assert a == b
    assert not without
    study.observers.append(Sealing(study))
    toy.drive(study, workers=2, events=20)
    *a, _ = seen(toy.folder / "s", True, monkeypatch)
    *b, without = seen(toy.folder / "s", False, monkeypatch)
    assert a == b
    assert without


def test_damaged_parts_are_told_and_not_used(toy, monkeypatch, cli):
    """A bit of a part is wrong: the numbers are the log's, and `status` has a line on it; so has a log cut short."""
    study = toy.create("s")
    study.observers.append(Sealing(study))
    toy.drive(study, workers=2, events=45)
    study.close()
    whole, *_ = seen(toy.folder / "s", True, monkeypatch)
    index = made.load_index(toy.folder / "s", [])
    path = toy.folder / "s" / "sealed" / f"trials-{index.number}.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    facts, *_, without = seen(toy.folder / "s", False, monkeypatch)
    assert facts == {**whole, "problems": [f"{path}: damaged: its checksum is wrong; the log is read instead"]}
    assert not without
    assert f"problem: {path}: damaged" in cli("status", "s", "--results", toy.folder).out
    path.write_bytes(content)
    log = toy.folder / "s" / "events.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:9]))
    shown = cli("status", "s", "--results", toy.folder).out
    assert "it was emptied or cut short" in shown
    assert cli("resume", "s", "--results", toy.folder).status == 2


def test_what_cannot_be_written_is_said_once(toy, capsys, monkeypatch):
    """A full disk costs whoever looks some time, and the search nothing."""
    study = toy.create("s")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sealed, "seal", full)
    study.observers.append(Sealing(study))
    toy.drive(study, events=60)
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "No space left on device; looking at the study is slower" in err


def test_a_sealed_log_is_looked_at_without_heavy_packages(toy):
    """Neither Optuna, Ray, torch nor DuckDB is imported."""
    study = toy.create("s")
    study.observers.append(Sealing(study))
    toy.drive(study, events=45)
    code = (
        "import sys, pathlib, tuner.callbacks.watch as w, results.store.made as m; m._TAIL = 100;"
        "x = w.Watched(pathlib.Path(sys.argv[1])); x.look(); w.describe(x); assert x._sealed;"
        "print(sorted({'torch','ray','optuna','duckdb','pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, toy.folder / "s"], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_the_commands_agree(toy, cli, monkeypatch):
    """`status` and `watch --once` show the same with sealed parts as without."""
    study = toy.create("s")
    study.observers.append(Sealing(study))
    toy.drive(study, workers=2, events=45)
    at = ("--results", toy.folder)
    with StudyLock(toy.folder / "s"):
        short = json.loads(cli("status", "s", "--format", "json", *at).out)
        once = cli("watch", "s", "--once", *at).out
        monkeypatch.setattr(watch, "load_index", lambda *_: None)
        long = json.loads(cli("status", "s", "--format", "json", *at).out)
        again = cli("watch", "s", "--once", *at).out
    assert {**short, "seconds": 0} == {**long, "seconds": 0}
    assert once.splitlines()[3:] == again.splitlines()[3:]
