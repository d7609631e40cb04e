"""Stopping a search or a trial from elsewhere: asked for by a file, answered in the log, and kept by a replay."""

import json
import threading

import pytest

from results.store.events import read_events
from results.store.lock import StudyLock
from search_spaces import InputError
from tuner.backend import by_hand
from tuner.backend.by_hand import Inbox


def events(study):
    return read_events(study.folder / "events.jsonl")[0]


def last_seq(study):
    return events(study)[-1]["seq"]


def epoch_of(toy, study, job, epoch):
    return study.report(job.trial, job.attempt, toy.curve(job.config, epoch))


@pytest.fixture
def study(toy):
    """A study without a stopping rule, and its inbox that looks at every call."""
    study = toy.create("s", stopping={"kind": "none"}, budget={"trials": 4, "hours": None})
    yield study, Inbox(study, clock=iter(range(0, 10**6, 10)).__next__)
    study.close()


def test_a_trial_stopped_by_hand_ends_with_its_next_epoch(toy, study):
    """The epoch is kept, its decision is "stop" with the reason, the trial is "stopped"; others go on."""
    study, inbox = study
    first, second = study.ask(), study.ask()
    assert epoch_of(toy, study, first, 1) == "continue"
    path = by_hand.ask(study.folder, 0, last_seq(study))
    assert inbox.look() is False and not path.exists()
    assert epoch_of(toy, study, first, 2) == "stop"
    assert epoch_of(toy, study, second, 1) == "continue"
    found = [e for e in events(study) if e.get("trial") == 0]
    assert [e["event"] for e in found[-3:]] == ["stop_requested", "epoch", "trial_ended"]
    assert (found[-2]["decision"], found[-2]["reason"]) == ("stop", "stopped by hand")
    assert found[-1]["status"] == "stopped" and "@" in found[-3]["by"]
    assert study.state.trials[0].epoch == 2 and study.state.trials[1].status == "running"


def test_a_request_outlives_the_driver(toy, study):
    """Asked, answered in the log, and then the driver dies: the resumed one ends the trial and does not run it."""
    study, inbox = study
    job, _ = study.ask(), study.ask()
    epoch_of(toy, study, job, 1)
    by_hand.ask(study.folder, 0, last_seq(study))
    inbox.look()
    study.close()
    again = toy.resume("s")
    assert again.state.trials[0].status == "stopped" and again.state.trials[0].error == "stopped by hand"
    assert again.ask().trial == 1
    assert not again.state.stop_asked
    again.close()


def test_a_request_without_a_driver_waits_for_the_next(toy, study):
    """Nobody runs the study: the file stays, and the next driver's first look ends the trial before it runs."""
    study, _ = study
    study.ask()
    study.interrupt("interrupted")
    study.close()
    assert by_hand.stop(study.folder, 0, 0) == "waits"
    again = toy.resume("s")
    assert [t.number for t in again.state.waiting] == [0]
    Inbox(again).look()
    assert again.state.trials[0].status == "stopped"
    assert again.ask().trial == 1
    again.close()


def test_a_search_is_left_when_asked_and_the_log_says_by_whom(study):
    """The inbox says leave; the request is an event and its file is gone."""
    study, inbox = study
    by_hand.ask(study.folder, None, last_seq(study))
    assert inbox.look() is True and inbox.leave
    assert events(study)[-1]["event"] == "stop_requested" and events(study)[-1]["trial"] is None
    assert not list((study.folder / "requests").iterdir())


def test_a_request_of_an_earlier_session_stops_nobody(toy, study):
    """A request that was left when its driver died is not held against the one that resumes."""
    study, _ = study
    by_hand.ask(study.folder, None, last_seq(study))
    study.close()
    again = toy.resume("s")
    assert Inbox(again).look() is False
    assert not list((study.folder / "requests").iterdir())
    again.close()


def test_what_is_no_request_is_thrown_away(study):
    """Half a file, another program's file, a trial that there is not: no event, no exception."""
    study, inbox = study
    folder = study.folder / "requests"
    folder.mkdir()
    (folder / "a.json").write_text("{")
    (folder / "b.json").write_text(json.dumps({"trial": 1}))
    (folder / "c.json").write_text(json.dumps([]))
    by_hand.ask(study.folder, 77, last_seq(study))
    before = events(study)
    assert inbox.look() is False
    assert events(study) == before and not list(folder.iterdir())


def test_looking_is_rare(study):
    """Between two looks that are due nothing is read."""
    study, _ = study
    now = [0.0]
    inbox = Inbox(study, clock=lambda: now[0])
    inbox.look()
    by_hand.ask(study.folder, None, last_seq(study))
    now[0] = 0.9
    assert inbox.look() is False
    now[0] = 1.1
    assert inbox.look() is True


def test_stop_waits_for_the_driver_and_asks_again_while_it_starts(toy, study):
    """Asked while the driver was only starting, so that its request was dropped: it is asked again and answered."""
    study, _ = study
    lock = StudyLock(study.folder)
    lock.acquire()
    study.close()
    driver = {}

    def drive():
        again = toy.resume("s")
        inbox = Inbox(again, clock=iter(range(0, 10**9, 10)).__next__)
        driver["dropped"] = inbox.look() is False
        while not inbox.look():
            pass
        again.interrupt("interrupted")
        again.close()
        lock.release()

    thread = threading.Thread(target=drive)
    asked = []
    original = by_hand.ask

    def ask(*arguments):
        asked.append(original(*arguments))
        if len(asked) == 1:
            thread.start()
        return asked[-1]

    by_hand.ask = ask
    try:
        assert by_hand.stop(study.folder, None, 60, sleep=lambda _: None) == "ended"
    finally:
        by_hand.ask = original
        thread.join()
    assert driver["dropped"] and len(asked) >= 2
    assert events(study)[-1]["event"] == "study_ended"


def test_there_must_be_something_to_stop(toy, study, cli):
    """No driver, no such trial, a trial that has ended, no such study: one line each, exit status 2."""
    study, _ = study
    job = study.ask()
    for epoch in range(1, 10):
        epoch_of(toy, study, job, epoch)
    with pytest.raises(InputError, match="no search is running"):
        by_hand.stop(study.folder, None, 0)
    for arguments, words in (
        (["s"], "no search is running"),
        (["s", "--trial", 9], "has no such trial"),
        (["s", "--trial", 0], "has ended already (completed)"),
        (["other"], "there is no such study"),
    ):
        said = cli("stop", *arguments, "--results", study.folder.parent)
        assert said.status == 2 and words in said.err and said.err.count("\n") == 1
    assert not (study.folder / "requests").exists()


def test_a_driver_that_does_not_answer_is_said(study, cli):
    """The lock is held and nobody looks: after --wait the request stands, and the exit status is 1."""
    study, _ = study
    with StudyLock(study.folder):
        said = cli("stop", "s", "--wait", 0, "--results", study.folder.parent)
    assert said.status == 1 and "has not stopped yet" in said.out
    assert len(list((study.folder / "requests").iterdir())) == 1


def test_more_and_fewer_at_once_while_it_runs(toy, study, cli):
    """The driver takes the request: as many as were asked for and fit; the log has it, and a resume keeps it."""
    study, _ = study
    inbox = Inbox(study, clock=iter(range(0, 10**9, 10)).__next__, concurrent=2, room=lambda: 5)
    over = threading.Event()

    def look():
        while not over.is_set():
            inbox.look()

    with StudyLock(study.folder):
        driver = threading.Thread(target=look)
        driver.start()
        try:
            more = cli("set", "s", "concurrent=8", "--results", study.folder.parent)
            assert inbox.concurrent == 5
            fewer = cli("set", "s", "concurrent=1", "--results", study.folder.parent)
            assert inbox.concurrent == 1
        finally:
            over.set()
            driver.join()
    assert more.out.startswith(
        "s: 5 trials at once from now on (8 were asked for, and no more fit); see: tuner watch s"
    )
    assert fewer.out.startswith("s: 1 trial at once from now on; see")
    found = [event for event in events(study) if event["event"] == "study_changed"]
    assert [(event["at_once"], event["changed"]["resources"][1]["concurrent"]) for event in found] == [(5, 8), (1, 1)]
    assert study.settings.resources.concurrent == 1
    study.close()
    again = toy.resume("s")
    assert again.settings.resources.concurrent == 1
    again.close()


def test_what_cannot_be_set_is_one_line(study, cli):
    """Nothing runs, another key, no number: exit status 2, one line each, and no request is left."""
    study, _ = study
    where = ("--results", study.folder.parent)
    for change, words in (
        ("concurrent=8", "no search is running this study, so there is nothing to change"),
        ("concurent=8", "did you mean concurrent?"),
        ("concurrent=0", "give a whole number from 1 on"),
        ("concurrent=two", "give a whole number from 1 on"),
        ("concurrent", "give a whole number from 1 on"),
    ):
        said = cli("set", "s", change, *where)
        assert said.status == 2 and words in said.err and said.err.count("\n") == 1
    assert not (study.folder / "requests").exists()


def test_a_request_to_an_earlier_search_changes_nothing_of_a_later_one(toy, study):
    """Left when its driver died: the next driver drops it; and one with impossible values is dropped too."""
    study, _ = study
    by_hand.leave(study.folder, {"kind": "set", "concurrent": 8, "seq": last_seq(study)})
    study.close()
    again = toy.resume("s")
    by_hand.leave(study.folder, {"kind": "set", "concurrent": 0, "seq": 10**9})
    by_hand.leave(study.folder, {"kind": "mark", "of": "x", "note": 3, "add": [], "remove": []})
    by_hand.leave(study.folder, {"kind": ["set"]})
    before = events(again)
    inbox = Inbox(again, concurrent=2, room=lambda: 9)
    inbox.look()
    assert inbox.concurrent == 2
    assert events(again) == before and not list((study.folder / "requests").iterdir())
    again.close()


def test_a_search_that_does_not_answer_is_said(study, cli):
    """The lock is held and nobody looks: the request stands, and the exit status is 1."""
    study, _ = study
    with StudyLock(study.folder):
        said = cli("set", "s", "concurrent=3", "--wait", 0, "--results", study.folder.parent)
    assert said.status == 1 and "has not answered yet" in said.out
