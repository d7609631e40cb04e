"""A study as Optuna's tools see it: a copy of the log under our trial numbers."""

import json
import signal
import urllib.error
import urllib.request
from datetime import datetime

import optuna
import pytest
from optuna.trial import TrialState

from results.store.events import EventLog, read_events
from results.store.lock import StudyLock
from search_spaces import InputError
from tuner.callbacks.mirror import OptunaMirror, save


def mirrored(folder):
    return OptunaMirror(optuna.storages.InMemoryStorage(), read_events(folder / "events.jsonl")[0])


def agrees(trials, state):
    """What Optuna has of each trial is what the log says."""
    names = {"completed": TrialState.COMPLETE, "stopped": TrialState.PRUNED}
    names |= {"diverged": TrialState.FAIL, "failed": TrialState.FAIL}
    names |= {"running": TrialState.RUNNING, "interrupted": TrialState.RUNNING}
    assert [trial.number for trial in trials] == sorted(state.trials)
    for frozen in trials:
        trial = state.trials[frozen.number]
        assert frozen.state == names[trial.status]
        assert frozen.params == trial.params
        assert frozen.intermediate_values == {e: per for e, per in trial.pers.items() if per is not None}
        assert frozen.user_attrs["status"] == trial.status
        assert frozen.user_attrs["origin"] == trial.origin
        assert frozen.user_attrs["trial"] == trial.number
        assert frozen.user_attrs.get("best_per") == (trial.best[0] if trial.best else None)
        if trial.status == "completed":
            assert frozen.value == trial.best[0]
        if frozen.state.is_finished():
            assert frozen.datetime_complete is not None
    return True


def test_every_trial_is_there_with_its_state_and_epochs(toy):
    """COMPLETE, PRUNED, FAIL and RUNNING, with parameters, intermediate values and attributes, at the log's times."""
    study = toy.create("s", retries=0)
    failed = study.ask()
    study.fail(failed.trial, failed.attempt, "out of memory")
    toy.drive(study, workers=3, events=30)
    mirror = mirrored(toy.folder / "s")
    trials = mirror.study.get_trials()
    assert agrees(trials, study.state)
    assert {trial.state for trial in trials} == set(TrialState) - {TrialState.WAITING}
    assert trials[0].user_attrs["error"] == "out of memory"
    for frozen in trials:
        assert frozen.datetime_start == datetime.fromtimestamp(study.state.trials[frozen.number].started)
    assert mirror.study.best_value == min(t.best[0] for t in study.state.trials.values() if t.status == "completed")


def test_a_mirror_kept_in_step_is_one_made_at_the_end(toy):
    """Fed event by event, over a kill and a resume, it has what a mirror of the whole log has."""
    study = toy.create("s")
    toy.drive(study, workers=2, events=25)
    study.close()
    study = toy.resume("s")
    toy.drive(study, workers=2)
    study.interrupt("budget")
    events, _ = read_events(toy.folder / "s" / "events.jsonl")
    for start in (1, 20, 60):
        mirror = OptunaMirror(optuna.storages.InMemoryStorage(), events[:start])
        for event in events[start:]:
            mirror.take(event)
        assert agrees(mirror.study.get_trials(), study.state)


def test_an_optuna_file_opens_with_optuna_alone(toy):
    """The SQLite file holds the study under its name; Optuna loads it and can go on from it."""
    study = toy.create("s")
    toy.drive(study)
    study.interrupt("budget")
    assert save(toy.folder / "s", toy.folder / "s.db") == 12
    loaded = optuna.load_study(study_name="toy", storage=f"sqlite:///{toy.folder / 's.db'}")
    assert agrees(loaded.get_trials(), study.state)
    assert loaded.user_attrs["objective"] == "best_per"
    assert {p.name for p in toy.folder.glob(".s.db*")} == set()
    assert set(optuna.importance.get_param_importances(loaded, params=["schedule.peak_lr"])) == {"schedule.peak_lr"}
    with pytest.raises(InputError, match="cannot be written"):
        save(toy.folder / "s", toy.folder / "no" / "s.db")


def test_recorded_runs_have_the_settings_that_differ_as_parameters(tmp_path):
    """A study without a space: each varying setting is a parameter in a range that holds it; results are values."""
    from search_spaces import flatten
    from tuner.planned.past import add_recorded

    runs = add_recorded(tmp_path, "recorded")
    trials = mirrored(tmp_path / "recorded").study.get_trials()
    assert len(trials) == 23
    varying = set().union(*(trial.params for trial in trials))
    assert "schedule.peak_lr" in varying
    assert "training.seed" not in varying
    for trial, run in zip(trials, runs, strict=True):
        flat = flatten(run.config)
        assert trial.params["schedule.peak_lr"] == flat["schedule.peak_lr"]
        assert trial.user_attrs["run"] == run.name
        assert trial.value == run.recorded.get("per")
        assert trial.state != TrialState.RUNNING


def test_a_log_without_its_beginning_is_one_line(tmp_path):
    """A log that holds no settings cannot be shown."""
    with EventLog(tmp_path / "events.jsonl") as log:
        log.append("study_ended", reason="budget")
    with pytest.raises(InputError, match="does not begin with the study's settings"):
        mirrored(tmp_path)


def fetch(address):
    with urllib.request.urlopen(address) as answer:
        return answer.status, answer.read()


def test_the_dashboard_serves_a_study_that_grows(toy, tuner, wait, end):
    """`tuner dashboard` answers on this machine with the study's trials, follows the log, and leaves on SIGINT."""
    pytest.importorskip("optuna_dashboard", reason="the extra 'dashboard' is not installed")
    study = toy.create("s")
    toy.drive(study, events=20)
    study.close()
    with StudyLock(toy.folder / "s"):
        process = tuner.start("dashboard", "s", "--port", 0, "--results", toy.folder, cwd=toy.folder)
        try:
            line = process.stdout.readline()
            address = next(word for word in line.split() if word.startswith("http://127.0.0.1:"))
            assert fetch(address)[0] == 200
            api = address.replace("/dashboard/", "/api/studies")
            (summary,) = json.loads(fetch(api)[1])["study_summaries"]
            assert summary["study_name"] == "toy"
            for header in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):  # DNS rebinding, another site
                with pytest.raises(urllib.error.HTTPError) as refused:
                    urllib.request.urlopen(urllib.request.Request(api, headers=header))
                assert refused.value.code == 403 and b"toy" not in refused.value.read()
            study = toy.resume("s")
            toy.drive(study)
            study.interrupt("budget")

            def shown():  # the page's own way: ask again
                return [t["state"] for t in json.loads(fetch(f"{api}/{summary['study_id']}")[1])["trials"]]

            wait(lambda: len(states := shown()) >= 12 and "Running" not in states, shown)
            states = shown()
            assert states.count("Complete") == sum(t.status == "completed" for t in study.state.trials.values())
        finally:
            process.send_signal(signal.SIGINT)
            done = end(process, toy.folder)
    assert done.status == 130
    assert "Traceback" not in done.err


def test_a_dashboard_that_cannot_be_is_one_line(toy, tuner, monkeypatch):
    """Not installed, and a port that is taken: what to do about it."""
    from tuner.callbacks import dashboard

    monkeypatch.setattr(dashboard.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install '\.\[dashboard\]'"):
        dashboard.serve(toy.folder / "s", 0, print)
