"""What may be changed when a study goes on, and that a replay applies each change at its place."""

from __future__ import annotations

import dataclasses
import json

import pytest

from results.store.events import read_events
from search_spaces import InputError, Space
from tuner.launch.changes import space_changes
from tuner.study import study as of_study
from tuner.study.searchers.telling import params_in
from tuner.study.settings import StudySettings
from tuner.study.state import StudyState
from tuner.study.study import Study, read_past

RANDOM = {"kind": "random"}


def narrowed(space: Space, low: float, high: float) -> Space:
    """The space with other ranges for `schedule.peak_lr`."""
    dimensions = tuple(
        dataclasses.replace(d, low=low, high=high) if d.name == "schedule.peak_lr" else d for d in space.dimensions
    )
    return dataclasses.replace(space, name="narrow", dimensions=dimensions)


def replayed(folder) -> StudyState:
    state = StudyState()
    for event in read_events(folder / "events.jsonl")[0]:
        state.apply(event)
    return state


def known(state: StudyState):
    return [
        (t.state, t.params, t.value, t.intermediate_values) for t in state.searcher.trials if t.state.name != "FAIL"
    ]


def test_a_changed_searcher_decides_from_then_on(toy):
    """After the change the new searcher proposes, told of every trial so far; the log holds the change; a replay has
    the same searcher.
    """
    study = toy.create("s")
    toy.drive(study, events=30)
    study.close()
    again = toy.resume("s", {"searcher": [study.settings.searcher.as_dict(), RANDOM]})
    assert again.settings.searcher.as_dict() == RANDOM
    told = {t.params["schedule.peak_lr"] for t in again.state.searcher.trials if t.state.name != "FAIL"}
    assert {t.params["schedule.peak_lr"] for t in again.state.trials.values()} <= told
    toy.drive(again)
    assert again.state.trials.keys() == set(range(12))
    assert known(replayed(toy.folder / "s")) == known(again.state)
    resumed = [e for e in read_events(toy.folder / "s" / "events.jsonl")[0] if e["event"] == "study_resumed"]
    assert [e["changed"]["searcher"][1] for e in resumed] == [RANDOM]


def test_a_study_killed_after_a_change_goes_on_as_if_it_had_not_been(toy):
    """With a change of the searcher on the way, killed and resumed still equals never killed."""

    def changed_at_20(name, kills=()):
        study = toy.create(name)
        toy.drive(study, events=20)
        study.close()
        study = toy.resume(
            name, {"searcher": [study.settings.searcher.as_dict(), {"kind": "tpe", "startup_trials": 2}]}
        )
        for events in kills:
            if toy.drive(study, events=events):
                break
            study.close()
            study = toy.resume(name)
        toy.drive(study)
        return toy.decisions(name)

    assert changed_at_20("killed", (1, 4, 9)) == changed_at_20("whole")


def test_trials_outside_a_new_space_are_left_out_of_the_searcher_only(toy):
    """Trials that the new space cannot hold keep their results and go on; proposals come from the new space."""
    study = toy.create("s")
    toy.drive(study, events=25)
    study.close()
    narrow = narrowed(toy.space, 2e-3, 1e-2)
    changed = {"space": [study.settings.space, narrow.as_dict()]}
    before = set(study.state.trials)
    again = toy.resume("s", changed)
    outside = {n for n in before if not 2e-3 <= study.state.trials[n].config.schedule.peak_lr <= 1e-2}
    assert outside
    assert again.state.untold == outside
    toy.drive(again)
    assert again.state.trials.keys() == set(range(12))
    for number, trial in again.state.trials.items():
        if number not in before:
            assert 2e-3 <= trial.config.schedule.peak_lr <= 1e-2
    assert again.state.trials[min(outside)].best is not None
    assert known(replayed(toy.folder / "s")) == known(again.state)


def test_a_new_space_with_other_names_still_learns_from_old_trials(toy):
    """A trial is told by what its configuration is in the new space, whatever its parameters were called."""
    config = toy.space.config({"schedule.kind": "constant", "schedule.peak_lr": 0.004, "averaging.kind": "none"}, 0)
    other = dataclasses.replace(
        toy.space,
        dimensions=tuple(
            dataclasses.replace(d, name="rate") if d.name == "schedule.peak_lr" else d for d in toy.space.dimensions
        ),
    )
    assert params_in(other, config) == {"schedule.kind": "constant", "rate": 0.004, "averaging.kind": "none"}
    longer = dataclasses.replace(toy.space, fixed={"training.batches": 36})
    assert params_in(longer, config) is None


def test_start_points_given_on_resume_come_next(toy):
    """Further start points are the next trials; those that the study has begun already are not repeated."""
    study = toy.create("s")
    toy.drive(study, events=12)
    study.close()
    begun = len(study.state.trials)
    old = study.settings
    started = [e for e in read_events(toy.folder / "s" / "events.jsonl")[0] if e["event"] == "trial_started"]
    point = {"schedule.kind": "constant", "schedule.peak_lr": 0.007, "averaging.kind": "none"}
    new = space_changes(old, started, None, [point, old.start_points[0]])
    assert new == {"start_points": [point], "starts_from": begun}
    again = toy.resume("s", {key: [getattr(old, key), value] for key, value in new.items()})
    toy.drive(again)
    assert (again.state.trials[begun].params, again.state.trials[begun].origin) == (point, "start_point")
    assert again.state.trials[begun + 1].origin == "searched"
    assert [t.origin for t in again.state.trials.values()].count("start_point") == 2


def test_start_points_still_to_come_survive_a_new_space(toy):
    """A study stopped before its start points were begun has them, expressed in the new space."""
    study = toy.create("s")
    study.close()
    narrow = narrowed(toy.space, 4e-3, 1e-2)
    new = space_changes(study.settings, [], narrow, [])
    assert new["starts_from"] == 0
    assert [p["schedule.peak_lr"] for p in new["start_points"]] == [4e-3]


def test_an_unchanged_space_is_no_change(toy):
    """The same file under another name or path changes nothing."""
    study = toy.create("s")
    assert space_changes(study.settings, [], dataclasses.replace(toy.space, name="again", path="elsewhere"), []) == {}
    study.close()


def test_a_changed_stopping_rule_decides_from_then_on(toy):
    """Trials stopped before stay stopped; under `none` nobody else is."""
    study = toy.create("s")
    toy.drive(study, events=40)
    study.close()
    stopped = {n for n, t in study.state.trials.items() if t.status == "stopped"}
    again = toy.resume("s", {"stopping": [study.settings.stopping.as_dict(), {"kind": "none"}]})
    toy.drive(again)
    assert stopped
    assert {n for n, t in again.state.trials.items() if t.status == "stopped"} == stopped


@pytest.mark.ray
def test_the_command_line_names_each_change(tmp_path, tiny_data, real_space, tuner, cli):
    """`tuner resume` with another space, searcher, rule and budget: a line for each, and the log and tables have it."""
    first = ("search", real_space, "--data", tiny_data, "--study", "c", "--concurrent", 1, "--trials", 2)
    assert tuner.run(*first, cwd=tmp_path).status == 0
    text = real_space.read_text().replace("[1.0e-4, 5.0e-2]", "[1.0e-3, 2.0e-2]")
    (tmp_path / "real.yaml").write_text((real_space.parent / "real.yaml").read_text())
    (tmp_path / "narrow.yaml").write_text(text)
    more = ("--space", "narrow.yaml", "--searcher", "random", "--stopping", "none", "--trials", 3)
    done = tuner.run("resume", "c", *more, cwd=tmp_path)
    assert done.status == 0, done.err
    for line in (
        "space toy_real -> narrow",
        "searcher: kind tpe -> random",
        "stopping: asha reduction=2 -> none",
        "budget: trials 2 -> 3",
    ):
        assert f"changed from now on: {line}" in done.err
    row = json.loads(cli("query", "select * from studies", "--format", "json", cwd=tmp_path).out)[0]
    assert (row["searcher"], row["stopping"], row["budget_trials"], row["space"]) == ("random", "none", 3, "narrow")
    refused = cli("resume", "c", "--space", "nowhere.yaml", cwd=tmp_path)
    assert refused.status == 2


def test_a_planned_study_refuses_what_it_does_not_have():
    """--space and the like on a study that follows a plan end in one line."""
    from tuner.launch.changes import refuse_for_plan

    with pytest.raises(InputError, match=r"--searcher: the study has a fixed list of 1 runs"):
        refuse_for_plan(StudySettings(plan=[{}]), {"searcher": "tpe", "space": None})


def test_a_log_is_replayed_once_for_a_resume(toy, monkeypatch):
    """What was read for a raised budget is what the study goes on from."""
    study = toy.create("s", budget={"trials": 4, "hours": None})
    toy.drive(study, events=9)
    study.close()
    past = read_past(toy.folder / "s")
    with monkeypatch.context() as patch:
        patch.setattr(of_study, "scan_events", lambda *_: pytest.fail("the log was read again"))
        again = Study.resume(toy.folder / "s", {}, [], past=past)
    assert again.state is past.state
    assert again.state.session_seq == past.seq + 1
    assert [event["event"] for event in read_events(toy.folder / "s" / "events.jsonl")[0]].count("study_resumed") == 1
