"""What a search shows while it runs."""

import io

from rich.console import Console

from tuner.callbacks.progress import Progress, clock, describe_end, summarise
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
