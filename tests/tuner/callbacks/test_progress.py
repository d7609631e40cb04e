"""What a search shows while it runs."""

import errno
import io
import os
import pty
import re
import subprocess
import sys

import pytest
from rich.console import Console

from results.output import clock
from tuner.callbacks.display import summarise, time_left
from tuner.callbacks.progress import Progress, describe_end
from tuner.study.rules.rungs import RungKey


def test_plain_lines_tell_how_each_trial_ended(toy):
    """Without a terminal there is one line for each trial that ends, with the best so far and the count."""
    out = io.StringIO()
    study = toy.create("s")
    progress = Progress(Console(file=out, force_terminal=False), lambda: study.state, 1)
    study.observers.append(progress.event)
    with progress:
        toy.drive(study)
    lines = out.getvalue().splitlines()
    assert len(lines) == 12
    assert lines[-1].endswith("12 of 12 ended")
    best = min(t.best[0] for t in study.state.trials.values())
    assert f"best so far {best:.4f}" in lines[-1]
    assert any("stopped at epoch 1 of 9" in line and "continued" in line for line in lines)


def test_the_live_view_shows_best_running_rungs_and_time(toy):
    """In a terminal: the leader, the running trials with epoch and PER, what each rung stopped, elapsed and left."""
    study = toy.create("s")
    toy.drive(study, workers=3, events=30)
    console = Console(file=io.StringIO(), force_terminal=True, width=140, color_system=None)
    progress = Progress(console, lambda: study.state, 3)
    console.print(progress.render())
    shown = console.file.getvalue()
    leader = study.state.leader
    assert f"PER {leader.best[0]:.4f}  trial {leader.number}" in shown
    assert summarise(leader, 9) in shown
    for trial in study.state.running:
        assert f"{trial.epoch}/9" in shown
    stopped = sum(t.status == "stopped" and t.epoch == 1 for t in study.state.trials.values())
    assert f"epoch 1: {len(study.state.history.rungs[RungKey(1)])} reached, {stopped} stopped" in shown
    assert "elapsed" in shown
    assert "left" in shown


def test_a_trial_is_summarised_by_its_configuration_values(toy):
    """Relative and complementary parameters are shown as what the run gets, not as what was sampled."""
    study = toy.create("s")
    toy.drive(study)
    trial = next(t for t in study.state.trials.values() if t.config.averaging.kind == "ema")
    text = summarise(trial, limit=10)
    assert f"decay {trial.config.averaging.decay:.3g}" in text
    assert f"peak_lr {trial.config.schedule.peak_lr:.3g}" in text


def test_a_failed_trial_s_line_has_its_error(toy):
    """The line of a failed trial gives the error; one that is tried again says so."""
    study = toy.create("s", retries=1)
    lines = []
    study.observers.append(
        lambda e: lines.append(describe_end(e, study.state)) if e["event"] == "trial_ended" else None
    )
    for _ in range(2):
        job = study.ask()
        study.fail(job.trial, job.attempt, "RuntimeError: out of paper")
    assert "failed, to be tried again" in lines[0]
    assert lines[1].startswith("trial 0 failed at epoch 0 of 9 (RuntimeError: out of paper)")


def test_clock():
    """Seconds as people read them."""
    assert (clock(0), clock(61.4), clock(3723)) == ("0:00", "1:01", "1:02:03")


DRAW = """
import fcntl, struct, sys, termios
from pathlib import Path
from rich.console import Console
from results.store.events import read_events
from tuner.callbacks.progress import Progress
from tuner.study.state import StudyState

state = StudyState(searching=False)
state.replay(read_events(sys.argv[1])[0], sys.argv[1])
for width in map(int, sys.argv[2:]):
    fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("4H", 30, width, 0, 0))
    console = Console(stderr=True)
    console.print(Progress(console, lambda: state, 3, lambda: 100.0).render())
    console.print("#")
"""
"""Draws the view of a log in the terminal on standard error, once for each width."""
WIDTHS = (60, 80, 120, 200)


def drawn_in_a_terminal(log, **environment):
    """What the terminal gets, a text for each width."""
    master, slave = pty.openpty()
    plain = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    command = [sys.executable, "-c", DRAW, str(log), *map(str, WIDTHS)]
    child = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env={**plain, "TERM": "xterm-256color", **environment}
    )
    os.close(slave)
    got = b""
    while True:
        try:
            block = os.read(master, 4096)
        except OSError as error:  # Linux says so when nobody holds the terminal any more
            assert error.errno == errno.EIO
            block = b""
        if not block:
            break
        got += block
    os.close(master)
    assert child.wait() == 0, got.decode()
    return dict(zip(WIDTHS, got.decode().replace("\r", "").split("#\n"), strict=False))


@pytest.fixture
def half_way(toy):
    """A study in the middle, with three trials running."""
    study = toy.create("s", stopping={"kind": "asha", "grace": 4, "reduction": 3})
    toy.drive(study, workers=3, events=30)
    assert len(study.state.running) == 3
    return study


def numbers_of(study):
    """Every number that the view must have: of the running trials, and the best."""
    leader = study.state.leader
    wanted = [f"PER {leader.best[0]:.4f}", f"trial {leader.number}", "elapsed 1:40", "left"]
    for trial in study.state.running:
        wanted += [f"{trial.epoch}/9", f"{trial.last_row['per']:.4f}", f"{trial.best[0]:.4f}"]
        wanted += [f"{trial.last_row['lr']:.2e}", "16"]
    return wanted


def test_a_terminal_of_any_usual_width_has_every_number(half_way):
    """In a real terminal of 60, 80, 120 and 200 columns: no number is lost or cut, and no line is too long; what
    shrinks are the settings. The best PER is in green.
    """
    drawn = drawn_in_a_terminal(half_way.folder / "events.jsonl")
    settings = {}
    for width, text in drawn.items():
        assert "\x1b[1;32mPER" in text
        plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
        assert not [line for line in plain.splitlines() if len(line) > width]
        assert not [number for number in numbers_of(half_way) if number not in plain], plain
        settings[width] = sum(plain.count(name) for name in ("peak_lr", "end_lr", "averaging", "decay"))
    assert settings[60] <= settings[80] < settings[120] <= settings[200]
    assert "peak_lr" in drawn[80] and "averaging" in drawn[200]


def test_no_color_leaves_the_colours_out(half_way):
    """NO_COLOR (https://no-color.org): the same text, and no colour in it."""
    drawn = drawn_in_a_terminal(half_way.folder / "events.jsonl", NO_COLOR="1")
    for text in drawn.values():
        assert not re.search(r"\x1b\[[0-9;]*\b(3[0-7]|38)\b", text)


@pytest.mark.parametrize("width", range(14, 60, 5))
def test_a_narrow_window_leaves_out_columns_and_cuts_no_number(half_way, width):
    """Below 60 columns the table loses rate, samples and best, in this order from the right; what it shows is whole."""
    console = Console(file=io.StringIO(), width=width)
    console.print(Progress(console, lambda: half_way.state, 3, lambda: 100.0).render())
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    head = next(line for line in lines if line.split()[:2] == ["trial", "epoch"])
    shown = head.split()
    whole = ["trial", "epoch", "PER", "best", "rate", "samples/s", "settings"]
    assert shown == whole[: len(shown)]
    for trial in half_way.state.running:
        row = next(line for line in lines if line.split()[:2] == [str(trial.number), f"{trial.epoch}/9"])
        assert "PER" not in shown or f"{trial.last_row['per']:.4f}" in row


def test_the_time_left_is_never_nothing_beside_running_trials(toy):
    """Trials that run longer than the mean of the ended ones are expected to train to their end; an estimate that has
    run out reads as the end; when nothing runs, no time is given.
    """
    assert time_left(0.0, running=True) == "about to end"
    assert time_left(0.0, running=False) is None
    assert time_left(None, running=True) is None
    assert time_left(61.0, running=True) == "about 1:01 left"
    study = toy.create("s", budget={"trials": 4, "hours": None})
    while study.state.ended_trials < 3:
        job = study.ask()
        epoch = 0
        while study.state.trials[job.trial].status == "running" and (study.state.ended_trials < 3):
            epoch += 1
            study.report(job.trial, job.attempt, toy.curve(job.config, epoch))
    job = study.ask()
    mean = sum(trial.seconds for trial in study.state.trials.values()) / 3
    progress = Progress(Console(file=io.StringIO()), lambda: study.state, 1, lambda: 1.0)
    left = progress.remaining(study.state)
    for epoch in range(1, 6):
        study.report(job.trial, job.attempt, {**toy.curve(job.config, epoch), "seconds": mean, "diverged": False})
        left = progress.remaining(study.state)
        if study.state.trials[job.trial].status != "running":
            break
        assert left >= mean * (9 - epoch) - 1e-9 > 0
