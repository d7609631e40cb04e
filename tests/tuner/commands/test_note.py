"""Notes and tags: written by whoever holds the log, in the tables for good, and without effect on the search."""

import json
import threading

import pytest

from results.store import sealed
from results.store.events import read_events
from results.store.lock import StudyLock
from results.store.repair import repair
from results.store.replay import build
from results.store.tables import compact, load_tables
from tuner.backend import by_hand
from tuner.backend.by_hand import Inbox


@pytest.fixture
def done(toy):
    """A finished study of 12 trials."""
    study = toy.create("s")
    toy.drive(study)
    study.interrupt("budget")
    study.close()
    return toy.folder


def marks(root, trial=None):
    """(tags, notes) of a trial, or of the study, in the tables."""
    tables, problems = load_tables(root, ["s"], ("studies", "trials"))
    assert not problems
    rows = tables["studies"].to_pylist() if trial is None else tables["trials"].to_pylist()
    row = next(row for row in rows if trial is None or row["trial"] == trial)
    return row["tags"], row["notes"]


def test_notes_and_tags_are_in_tables_show_and_studies(done, cli):
    """On a study and on a trial, tags once each and in order; what is removed is gone, a further note is added."""
    where = ("--results", done)
    assert marks(done) == (None, None)
    assert cli("note", "s", "new electrodes", *where).out == f"s is noted; see: tuner studies --results {done}\n"
    assert cli("note", "s/3", "odd\n start", *where).status == 0
    assert cli("note", "s/3", "looked at", *where).status == 0
    assert cli("tag", "s", "paper", "late", *where).status == 0
    assert cli("tag", "s/3", "odd", "odd", "b", *where).status == 0
    assert cli("tag", "s/3", "odd", "--remove", *where).out.startswith("s/3 is untagged; see: tuner show s/3")
    assert marks(done) == ("paper, late", "new electrodes")
    assert marks(done, 3) == ("b", "odd start; looked at")
    assert marks(done, 4) == (None, None)
    shown = cli("show", "s", 3, *where).out
    assert "notes: odd start; looked at" in shown and "tags: b" in shown
    table = cli("studies", *where).out
    assert "paper, late" in table and "new electrodes" in table
    page = done / "page.html"
    assert cli("report", "s", "--out", page, *where).status == 0
    text = page.read_text(encoding="utf-8")
    assert "paper, late" in text and "new electrodes" in text and "b; odd start; looked at" in text
    asked = cli("query", "select trial from trials where tags like '%b%'", "--format", "json", *where)
    assert json.loads(asked.out) == [{"trial": 3}]


def test_a_mark_changes_no_decision(done, toy, cli):
    """After a note the study is as finished as before, and a resume has the same trials and states."""
    before = toy.decisions("s")
    cli("note", "s", "seen", "--results", done)
    assert toy.decisions("s") == before
    again = cli("resume", "s", "--results", done)
    assert again.status == 0 and "is finished" in again.err


def test_the_driver_writes_for_everybody(toy, cli):
    """While a driver holds the log, a request is left; its next look writes the event, with who asked."""
    study = toy.create("s")
    toy.drive(study, workers=2, events=5)
    inbox = Inbox(study, clock=iter(range(0, 10**9, 10)).__next__)
    over = threading.Event()

    def look():
        while not over.is_set():
            inbox.look()

    with StudyLock(study.folder):
        driver = threading.Thread(target=look)
        driver.start()
        try:
            said = cli("tag", "s/0", "odd", "--results", toy.folder)
        finally:
            over.set()
            driver.join()
        assert said.status == 0, said.err
        event = read_events(study.folder / "events.jsonl")[0][-1]
        assert (event["event"], event["of"], event["add"]) == ("marked", 0, ["odd"]) and "@" in event["by"]
        assert not list((study.folder / "requests").iterdir())
        toy.drive(study, workers=2, events=5)
    study.close()
    assert read_events(study.folder / "events.jsonl")[1] == []
    assert marks(toy.folder, 0)[0] == "odd"


def test_a_driver_that_does_not_look_keeps_the_request(toy, cli):
    """It is said, with exit status 1, and the next driver writes it."""
    study = toy.create("s")
    with StudyLock(study.folder):
        assert by_hand.mark(study.folder, None, note="later", seconds=0) == "asked"
    study.close()
    again = toy.resume("s")
    Inbox(again).look()
    again.close()
    assert marks(toy.folder)[1] == "later"


def test_a_lock_that_is_no_drivers_is_waited_for(done):
    """Whoever holds the study for a moment (`results clean`) answers no request: it is then written here."""
    lock = StudyLock(done / "s")
    lock.acquire()
    assert by_hand.mark(done / "s", 2, add=["x"], seconds=60, sleep=lambda _: lock.release()) == "marked"
    assert not list((done / "s" / "requests").iterdir())
    assert marks(done, 2)[0] == "x"


def test_what_cannot_be_marked_is_one_line(done, cli):
    """An unknown study or trial, an empty or endless note, a name that is no tag: exit status 2, nothing written."""
    before = (done / "s" / "events.jsonl").read_bytes()
    for arguments, words in (
        (("note", "t", "x"), "there is no study 't'"),
        (("note", "s/99", "x"), "no trial '99'"),
        (("note", "s", "  "), "give 1 to 2000"),
        (("note", "s", "x" * 2001), "give 1 to 2000"),
        (("tag", "s", "two words"), "two words: is not allowed"),
        (("tag", "s", "-x"), "No such option"),
        (("tag", "s"), "Missing argument"),
    ):
        said = cli(*arguments, "--results", done)
        assert said.status == 2, arguments
        assert words in said.err, said.err
    assert (done / "s" / "events.jsonl").read_bytes() == before


def test_a_sealed_trial_gets_its_tags_too(toy):
    """A mark on a trial whose rows are sealed while the log grows: the tables have it, and `check` agrees."""
    study = toy.create("s")
    toy.drive(study, events=30)
    study.close()
    folder = toy.folder / "s"
    assert sealed.seal(folder)
    rows = load_tables(toy.folder, ["s"], ("trials",))[0]["trials"].to_pylist()
    ended = next(row["trial"] for row in rows if row["status"] in ("completed", "stopped"))
    from results.store.events import EventLog

    with EventLog(folder / "events.jsonl") as log:
        log.append("marked", of=ended, note="n", add=["t"], remove=[])
    assert sealed.read(folder, []) is not None
    assert marks(toy.folder, ended) == ("t", "n")
    assert sealed.seal(folder)
    assert marks(toy.folder, ended) == ("t", "n")
    events = read_events(folder / "events.jsonl")[0]
    built = build(events, running=False, study="s")["trials"].to_pylist()
    assert load_tables(toy.folder, ["s"], ("trials",))[0]["trials"].to_pylist() == built


def test_a_log_that_is_rebuilt_from_the_tables_keeps_them(done, cli):
    """The log is gone: what is rebuilt from the tables has the tags and notes."""
    cli("note", "s", "kept", "--results", done)
    cli("tag", "s/3", "odd", "--results", done)
    compact(done / "s")
    (done / "s" / "events.jsonl").unlink()
    repair(done / "s")
    assert marks(done) == (None, "kept")
    assert marks(done, 3) == ("odd", None)
