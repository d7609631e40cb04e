"""A study whose stopping rule left the program still opens and reports, and goes on with another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from search_spaces import InputError, load_space
from search_spaces.stopping import DEFAULT_STOPPING, PROBES, RETIRED, retirement, rule_text, todays
from trainable.data.dataset import open_dataset
from tuner.launch.changes import settle
from tuner.simulation.audit import replay
from tuner.simulation.curves import read_curves
from tuner.study.request import Request
from tuner.study.rules.stopping import Decision, read_rule
from tuner.study.settings import StudySettings
from tuner.study.study import Study
from tuner.testing.toy import SPACE, settings_for

OLD = {
    "extrapolation": {"kind": "extrapolation", "top": 1, "chance": 0.02, "min_curves": 5, "grace": 1, "every": 1},
    "metric=probe": {"kind": "asha", "metric": "probe", "grace": 2, "reduction": 3, "probe_share": 0.25},
}
FORECAST = "chance 0.4% of becoming the best: predicted PER 0.512 [0.480, 0.551] at batch 18, best 0.402"


@pytest.fixture(params=list(OLD))
def old(toy, tiny_data, request):
    """A study of eight trials that an earlier version began under a retired rule, and left; trial 3 was stopped."""
    data = {"path": str(tiny_data), "fingerprint": open_dataset(tiny_data).fingerprint}
    rule = OLD[request.param]
    given = settings_for(toy.space, stopping=rule, searcher={"kind": "random"}, budget={"trials": 8}, data=data)
    given["space"] = toy.space.as_dict() | {"stopping": rule}
    study = Study.create(toy.folder / "old", StudySettings.read(given), [])
    while (job := study.ask()) is not None:
        for epoch in range(1, 10):
            row = toy.curve(job.config, epoch)
            stop = job.trial == 3 and epoch == 2
            verdict = Decision(stop=stop, rung=2 if epoch == 2 else None, passed=not stop, reason=FORECAST * stop)
            if request.param == "metric=probe" and epoch == 2:
                row |= {"probe_per": 0.4, "probe_val_loss": 1.0, "probe_batches": 1}
            if study.report(job.trial, job.attempt, row, verdict) != "continue":
                break
    study.interrupt("budget")
    study.close()
    return request.param


def test_it_still_opens_and_reports(toy, old, cli):
    """The best, the status, the curves and the stop with its reason are as they were; other rules can be judged on
    them.
    """
    best = json.loads(cli("best", "old", "--format", "json", "--results", toy.folder).out)
    assert best[0]["best_per"] == min(t.best[0] for t in toy.resume("old").state.trials.values())
    shown = cli("status", "old", "--results", toy.folder)
    assert shown.status == 0 and OLD[old]["kind"] in shown.out
    assert cli("report", "old", "--results", toy.folder, "--out", toy.folder / "r.html").status == 0
    told = cli("query", "select reason from epochs where trial = 3 and decision = 'stop'", "--results", toy.folder)
    assert "predicted PER 0.512" in told.out
    bank = read_curves("old", toy.folder)
    assert replay(bank, {"kind": "asha", "grace": 2}).runs == 8
    judged = cli("simulate", "old", "--repeats", 2, "--results", toy.folder)
    assert judged.status == 0
    assert f"left out: the study's own rule: {old} is retired" in judged.err


def test_it_goes_on_with_another_rule_and_says_which_without(toy, old, tiny_data):
    """Without --stopping one line says that the rule is retired, why, and what to give; with it nothing is asked."""
    folder = toy.folder / "old"
    request = Request(results_dir=toy.folder, data=tiny_data, trials=12)
    with pytest.raises(InputError, match=f"old: its stopping rule {old} is retired, ") as error:
        settle(folder, request, None)
    assert len(error.value.problems) == 1
    assert f'give "{rule_text(DEFAULT_STOPPING.model_dump())}", or none' in str(error.value)
    given = Request(results_dir=toy.folder, data=tiny_data, trials=12, stopping="asha")
    settings, changed, _, _ = settle(folder, given, None)
    assert settings.stopping.kind == "asha" and changed["stopping"][0] == OLD[old]
    again = toy.resume("old", changed)
    assert {t.number: t.status for t in again.state.trials.values()}[3] == "stopped"
    toy.drive(again)
    assert again.state.next_number == 12


RETIRED_RULES = [*({"kind": kind} for kind in RETIRED), *({"kind": "asha", "metric": metric} for metric in PROBES)]


@pytest.mark.parametrize("rule", RETIRED_RULES, ids=str)
def test_what_is_retired_reads_as_a_rule_that_is_there(rule):
    """Everything retired has a counterpart by which its log can be read."""
    assert retirement(rule) and not retirement(todays(rule))
    assert read_rule(rule) == read_rule(todays(rule))


def test_a_space_that_names_it_gets_one_line(tmp_path: Path, space_file: Path):
    """The file, the key, and what to give instead."""
    space_file.write_text(SPACE.replace("{kind: asha, grace: 1, reduction: 3}", "{kind: extrapolation, top: 2}"))
    with pytest.raises(InputError, match="stopping: extrapolation is retired") as error:
        load_space(space_file)
    assert len(error.value.problems) == 1
