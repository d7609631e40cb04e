"""Following a study from elsewhere: only its folder is read, and of the log only what is new."""

import io
import json
import signal
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from results.store.events import read_events
from results.store.lock import StudyLock
from search_spaces import InputError
from tuner.callbacks.watch import GONE_SECONDS, REFRESH_SECONDS, Tail, Watched, describe, summary, watch
from tuner.study.trial_state import OPEN


def stepwise(study, toy, workers=1):
    """Works for a study; stops for breath after each epoch, and writes the study's end after the last."""
    running = []
    while not study.done:
        while len(running) < workers and (job := study.ask()) is not None:
            running.append([job, job.epochs_logged])
        job, epoch = running.pop(0)
        epoch += 1
        if study.report(job.trial, job.attempt, toy.curve(job.config, epoch)) == "continue":
            running.append([job, epoch])
        yield
    study.interrupt("budget")


def take(steps, count):
    """So many steps, or as many as there are."""
    for _ in range(count):
        next(steps, None)


LINES = [json.dumps({"event": "x", "seq": n, "time": 0.0, "text": "ä" * n}).encode() + b"\n" for n in range(1, 9)]


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, sum(map(len, LINES))), max_size=6).map(sorted))
def test_a_tail_gives_each_event_once_however_the_log_grows(tmp_path_factory, cuts):
    """Looked at after any prefix of its bytes, a log gives the same events as when it is read at once."""
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    whole = b"".join(LINES)
    tail = None
    found = []
    for end in [*cuts, len(whole)]:
        path.write_bytes(whole[:end])
        tail = tail or Tail(path)
        found += tail.new()
    assert found == read_events(path)[0]
    assert tail.problems == []
    assert tail.restarts == 0


def test_a_tail_does_not_read_what_it_has_read(tmp_path):
    """What was read once may turn into anything: the next look is at the bytes after it."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(LINES[:4]))
    tail = Tail(path)
    assert len(list(tail.new())) == 4
    size = path.stat().st_size
    path.write_bytes(b"\xff" * size + b"".join(LINES[4:6]))
    assert [event["seq"] for event in tail.new()] == [5, 6]
    assert tail.problems == []


def test_a_tail_begins_again_with_a_shorter_log(tmp_path):
    """A log that became shorter than what was read of it is another one: it is read from its start."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(LINES))
    tail = Tail(path)
    assert len(list(tail.new())) == 8
    path.write_bytes(b"".join(LINES[:2]))
    assert [event["seq"] for event in tail.new()] == [1, 2]
    assert tail.restarts == 1


def test_a_watched_study_is_in_the_driver_s_state(toy):
    """After every few epochs, and over a kill and a resume, the watcher has the driver's trials, rungs and leader."""
    study = toy.create("s")
    steps = stepwise(study, toy, workers=2)
    watched = Watched(toy.folder / "s")
    for turn in range(6):
        take(steps, 5)
        if turn == 3:
            study.close()
            study = toy.resume("s")
            steps = stepwise(study, toy, workers=2)
        watched.look()
        mine, theirs = watched.state, study.state
        assert {n: (t.status, t.pers, t.attempt) for n, t in mine.trials.items()} == {
            n: (t.status, t.pers, t.attempt) for n, t in theirs.trials.items()
        }
        assert mine.history.rungs == theirs.history.rungs
        assert mine.leader.number == theirs.leader.number
    assert mine.searcher is None


def test_watching_a_pipe_prints_a_line_a_trial_until_the_study_ends(toy):
    """Where there is no terminal: where it stands, a line for each trial that ends from then on, and the end."""
    study = toy.create("s")
    steps = stepwise(study, toy)
    take(steps, 30)
    before = sum(t.status not in OPEN for t in study.state.trials.values())
    out = io.StringIO()

    with StudyLock(toy.folder / "s"):
        status = watch(Watched(toy.folder / "s"), Console(file=out), lambda _: take(steps, 7))
    text = out.getvalue()
    assert status == 0
    assert text.splitlines()[1].startswith("driver: running on ")
    lines = [line for line in text.splitlines() if line.startswith("[")]
    assert len(lines) == 12 - before
    assert lines[-1].endswith("12 of 12 ended")
    assert "driver: ended (budget)" in text
    assert f"best so far: PER {study.state.leader.best[0]:.4f}" in text


def test_a_driver_that_dies_ends_the_watch_with_what_to_do(toy):
    """A study that nobody holds and that has no end: status 1 after a moment, and the command that goes on."""
    study = toy.create("s")
    toy.drive(study, events=10)
    naps = []
    out = io.StringIO()
    assert watch(Watched(toy.folder / "s"), Console(file=out), naps.append) == 1
    assert sum(naps) == GONE_SECONDS
    assert "continue with: tuner resume s" in out.getvalue()
    assert summary(watched := _looked(toy, "s"))["driver"] == "gone"
    assert summary(watched)["statuses"].get("running") is None


def test_the_live_view_shows_the_study_and_its_driver(toy):
    """In a terminal: leader, running trials, the last endings, and whether a driver runs; erased at the end."""
    steps = stepwise(toy.create("s"), toy, workers=2)
    take(steps, 20)
    console = Console(file=io.StringIO(), force_terminal=True, width=140, color_system=None)
    frames = []

    def work(seconds):
        assert seconds == REFRESH_SECONDS
        frames.append(console.file.getvalue())
        take(steps, 20)

    with StudyLock(toy.folder / "s"):
        assert watch(Watched(toy.folder / "s"), console, work) == 0
    assert "driver: running on" in frames[0]
    assert "best so far: PER" in frames[0]
    assert "stopped at epoch 1 of 9" in frames[0]
    assert console.file.getvalue().rstrip().splitlines()[-1].startswith("rungs: ")


def _looked(toy, name):
    watched = Watched(toy.folder / name)
    watched.look()
    return watched


def test_the_summary_counts_and_names(toy):
    """`tuner status` in words and as JSON: trials by status, epochs, leader, rungs, time."""
    study = toy.create("s")
    toy.drive(study)
    study.interrupt("budget")
    watched = _looked(toy, "s")
    facts = json.loads(json.dumps(summary(watched)))
    trials = study.state.trials.values()
    assert facts["trials"] == 12
    assert sum(facts["statuses"].values()) == 12
    assert facts["epochs"] == sum(len(t.pers) for t in trials)
    assert facts["best_per"] == min(t.best[0] for t in trials if t.best)
    assert facts["rungs"]["1"] == 12
    assert facts["driver"] == "ended"
    text = describe(watched)
    assert f"{facts['statuses']['stopped']} stopped" in text
    assert "rungs: epoch 1: 12 reached" in text


def test_names_cannot_move_the_cursor(toy):
    """Control characters of a study's name or data are written out."""
    study = toy.create("a\nb", data={"path": "x", "name": "d\x1b[2J", "fingerprint": "0"})
    toy.drive(study, events=3)
    text = describe(_looked(toy, "a\nb"))
    assert "\x1b" not in text
    assert text.startswith("study a\\nb: space toy, data d\\x1b[2J")


def test_what_is_no_study_is_one_line(toy):
    """No folder, and a log without a whole event."""
    with pytest.raises(InputError, match="there is no such study"):
        Watched(toy.folder / "nothing")
    (toy.folder / "torn").mkdir()
    (toy.folder / "torn" / "events.jsonl").write_text('{"event": "study_st')
    with pytest.raises(InputError, match="no complete event yet"):
        Watched(toy.folder / "torn").look()


def test_looking_imports_nothing_heavy(toy):
    """A status needs neither Optuna, Ray, torch nor a table library."""
    study = toy.create("s")
    toy.drive(study, events=10)
    code = (
        "import sys, pathlib, tuner.callbacks.watch as w;"
        "x = w.Watched(pathlib.Path(sys.argv[1])); x.look(); w.describe(x);"
        "print(sorted({'torch','ray','optuna','duckdb','pyarrow','pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, toy.folder / "s"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_ctrl_c_ends_the_view_quietly(toy, tuner, end):
    """SIGINT: status 130 and not a word of it; the study is untouched."""
    study = toy.create("s")
    toy.drive(study, events=10)
    before = (toy.folder / "s" / "events.jsonl").read_bytes()
    with StudyLock(toy.folder / "s"):
        process = tuner.start("watch", "s", "--results", toy.folder, cwd=toy.folder)
        assert process.stdout.readline().startswith("study s: ")
        process.send_signal(signal.SIGINT)
        done = end(process, toy.folder)
    assert (done.status, done.err) == (130, "")
    assert (toy.folder / "s" / "events.jsonl").read_bytes() == before


def test_status_and_watch_once_from_the_command_line(toy, cli):
    """Both show the study and leave; status also as JSON; an unknown study is one line."""
    toy.drive(toy.create("s"), events=10)
    once = cli("watch", "s", "--once", "--results", toy.folder, cwd=toy.folder)
    assert once.status == 0
    assert once.out.startswith("study s: space toy")
    facts = cli("status", "s", "--format", "json", "--results", toy.folder, cwd=toy.folder)
    assert json.loads(facts.out)["trials"] >= 1
    missing = cli("status", "nothing", "--results", toy.folder, cwd=toy.folder)
    assert missing.status == 2
    assert len(missing.err.splitlines()) == 1
