"""All studies at a glance, and what `tuner` alone shows."""

import json
import os

import pytest

from results.store.lock import StudyLock
from results.store.tables import compact


@pytest.fixture
def several(toy):
    """A finished study, one that was stopped by hand after seven epochs, and one whose driver died."""
    for name, reason, events in (("whole", "budget", None), ("halted", "interrupted", 7), ("dead", None, 7)):
        study = toy.create(name)
        toy.drive(study, events=events)
        if reason:
            study.interrupt(reason)
        study.close()
        compact(toy.folder / name)
    for age, name in enumerate(("whole", "halted", "dead")):
        log = toy.folder / name / "events.jsonl"
        os.utime(log, (log.stat().st_mtime - 3600 * age,) * 2)
    return toy.folder


def test_every_study_has_its_state_best_trials_and_time(several, cli):
    """As JSON: a row for each, latest sign of life first, with what its log says."""
    rows = json.loads(cli("studies", "--format", "json", "--results", several).out)
    assert [(row["study"], row["state"]) for row in rows] == [
        ("whole", "finished"), ("halted", "stopped"), ("dead", "died"),
    ]  # fmt: skip
    whole, halted, dead = rows
    best = json.loads(cli("best", "whole", "--top", 1, "--format", "json", "--results", several).out)[0]
    assert (whole["best_per"], whole["best_trial"]) == (best["best_per"], best["trial"])
    assert whole["completed"] + whole["stopped"] + whole["diverged"] == whole["trials"] == whole["budget_trials"] == 12
    assert whole["cpu_seconds"] > 0 and whole["data"] == "none"
    assert whole["best_low"] < whole["best_per"] < whole["best_high"] and whole["best_seeds"] == 1
    assert halted["interrupted"] == dead["interrupted"] == 1
    assert whole["last_sign"] > halted["last_sign"] > dead["last_sign"]


def test_people_get_a_table_and_the_next_step(several, cli):
    """The table counts trials by state and says how long ago; the next commands are those of the first study."""
    out = cli("studies", "--results", several).out
    lines = out.splitlines()
    heads = [word for line in lines if line.startswith("study ") for word in line.split() if word != "study"]
    assert heads[:4] == ["state", "data", "best", "trials"]  # in blocks, where the terminal is narrow
    whole = " ".join(line for line in lines if line.startswith("whole"))
    assert "12 of 12:" in whole and "completed" in whole and " stopped" in whole
    assert "1 h ago" in " ".join(line for line in lines if line.startswith("halted"))
    assert f"next: tuner best whole --results {several}" in out
    assert "tuner confirm whole" in out and "tuner report whole --out whole.html" in out


def test_a_running_study_comes_first(several, cli):
    """One that a driver holds is running, whatever its log ends with; its next step is to watch it."""
    with StudyLock(several / "dead"):
        rows = json.loads(cli("studies", "--format", "json", "--results", several).out)
        assert (rows[0]["study"], rows[0]["state"], rows[0]["host"]) == ("dead", "running", os.uname().nodename)
        assert "next: tuner watch dead" in cli("studies", "--results", several).out


def test_the_interval_is_that_of_the_fresh_seeds(toy, several, cli):
    """After a confirmation the best is the mean over the new seeds, with its interval, and no confirm is proposed."""
    from tests.tuner.planned.test_confirm import planned
    from tuner.study.settings import StudySettings
    from tuner.study.study import Study

    (several / "whole").rename(several / "toy")
    study = Study.create(several / "toy-confirm", StudySettings.read(planned(toy)), [])
    toy.drive(study)
    study.interrupt("budget")
    study.close()
    rows = {row["study"]: row for row in json.loads(cli("studies", "--format", "json", "--results", several).out)}
    found = rows["toy"]
    assert found["best_seeds"] == 2
    assert found["best_low"] <= found["best_per"] <= found["best_high"]
    assert f"{found['best_per']:.4f} [" in cli("studies", "--results", several).out


def test_tuner_alone_shows_the_studies(several, cli, monkeypatch):
    """Without a command: the table, the next step, where the commands are; exit status 0."""
    monkeypatch.setenv("TUNER_RESULTS", str(several))
    said = cli()
    assert said.status == 0, said.err
    assert "whole" in said.out and "next: tuner best whole" in said.out and "tuner --help" in said.out


def test_tuner_alone_says_how_to_begin(tmp_path, cli, monkeypatch):
    """Where there is no study yet: check the machine, make data or use what is there, search."""
    monkeypatch.delenv("TUNER_RESULTS", raising=False)
    said = cli(cwd=tmp_path)
    assert said.status == 0
    assert "There is no study in results/studies yet." in said.out
    assert "tuner doctor" in said.out and "tuner data synthetic small --out data/small" in said.out
    (tmp_path / "data" / "mine").mkdir(parents=True)
    (tmp_path / "data" / "mine" / "dataset.json").write_text("{}")
    again = cli(cwd=tmp_path).out
    assert "tuner search quickstart --data data/mine" in again and "synthetic" not in again
    assert cli("studies", cwd=tmp_path).status == 2
