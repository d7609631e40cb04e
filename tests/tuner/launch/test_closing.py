"""How a search ends: what is said, how to go on, and that a finished study is left alone."""

import pytest

from results.store.events import read_events
from tuner.launch import search as launch
from tuner.launch.closing import finish, over


@pytest.fixture
def ended(toy):
    """Ends the study `name` after `events` epochs (None: all), for a reason; gives its folder."""

    def end(name="s", reason="budget", events=None, **settings):
        study = toy.create(name, **settings)
        toy.drive(study, events=events)
        study.interrupt(reason)
        study.close()
        return toy.folder / name

    return end


def test_the_resume_of_a_finished_study_says_so_and_changes_nothing(ended, toy, cli):
    """Exit 0, the table and what would give more trials; no byte of the log changes and Ray is not started."""
    log = ended() / "events.jsonl"
    before = log.read_bytes()
    told = cli("resume", "s", "--results", toy.folder)
    assert told.status == 0, told.err
    assert "s is finished: 12 of 12 trials have ended, and nothing is left to run." in told.err
    assert "starting Ray" not in told.err
    assert "tuner resume s --trials N" in told.out and "tuner report s --out s.html" in told.out
    assert log.read_bytes() == before


def test_what_is_left_decides_whether_a_study_is_over(ended, toy):
    """More trials, trials that Ctrl-C left open and a driver that died go on; the budget it had and a change of what
    no trial would use do not."""
    whole, stopped = ended("whole"), ended("stopped", "interrupted", events=9)
    dead = toy.create("dead")
    toy.drive(dead)
    dead.close()
    budget = over(whole, {}).settings.budget.as_dict()
    assert over(whole, {"budget": [budget, {**budget, "trials": 13}]}) is None
    assert over(whole, {"retries": [0, 3]}) is not None
    assert over(stopped, {}) is None
    assert over(toy.folder / "dead", {}) is None


def test_a_time_limit_that_is_used_up_is_named(ended, toy, cli):
    """A study whose hours are spent is resumed to nothing: the limit and the option that raises it are said."""
    log = ended("hours", "wall_time", events=9, budget={"trials": 12, "hours": 1e-9}) / "events.jsonl"
    before = log.read_bytes()
    told = cli("resume", "hours", "--results", toy.folder)
    assert told.status == 0
    assert "the time limit is reached. Continue with: tuner resume hours --hours H" in told.out
    assert log.read_bytes() == before
    assert read_events(log)[0][-1]["event"] == "study_ended"


def test_ctrl_c_while_a_search_tidies_up_still_says_how_to_go_on(toy, monkeypatch, capsys):
    """A second Ctrl-C, while Ray stops or the tables are written: the command that goes on is the last that is said."""
    study = toy.create("a b")

    def broken_off(holder, *_):
        holder.append(study)
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "_session", broken_off)
    request = launch.Request(results_dir=toy.folder, data=toy.folder)
    with pytest.raises(KeyboardInterrupt):
        launch._run(study.folder, request, study.settings, [])
    said = capsys.readouterr().err
    assert said.endswith(f"Continue with: tuner resume 'a b' --results {toy.folder}\n")


def test_the_last_lines_name_the_report(ended, toy, capsys):
    """After a search that ended, the next commands are best, confirm, report and query."""
    study = over(ended(), {})
    assert finish(study, "budget", toy.folder) == 0
    said = capsys.readouterr().out
    assert [word in said for word in ("tuner best", "tuner confirm", "tuner report", "tuner query")] == [True] * 4
