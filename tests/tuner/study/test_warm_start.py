"""Warm starts: what earlier studies tell the searcher, what is left out, and what it forgets."""

import dataclasses
import math
import shutil

import pytest

from results.best import best
from results.store.tables import compact
from search_spaces import InputError, load_space
from search_spaces.parsing.given import parse_settings
from search_spaces.searchers import SEARCHERS, Searcher
from tests.tuner.conftest import settings_for
from tuner.study.searchers.searcher import OptunaSearcher
from tuner.study.searchers.warm_start import ENOUGH, discounted, gather, point_of, wanted
from tuner.study.settings import StudySettings
from tuner.study.study import Study
from tuner.testing.toy import drive, write_space

NEW = StudySettings.read({"objective": "best_per", "costs": [], "data": {"fingerprint": "0"}})
OTHER_DATA = NEW.changed({"data": {"fingerprint": "1"}})
TPE, RANDOM = (NEW.changed({"searcher": {"kind": kind}}) for kind in ("tpe", "random"))


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A study of 30 trials that ran before, `old`."""
    folder = tmp_path_factory.mktemp("ran")
    settings = settings_for(load_space(write_space(folder)), budget={"trials": 30, "hours": None})
    study = Study.create(folder / "old", StudySettings.read(settings), [])
    drive(study, workers=2)
    study.interrupt("budget")
    study.close()
    compact(study.folder)
    return study


@pytest.fixture
def earlier(ran, toy):
    """That study, in the folder of the toy studies."""
    shutil.copytree(ran.folder, toy.folder / "old")
    return ran


def test_every_trial_of_the_same_space_is_told_with_its_point(toy, earlier):
    """Over the same space each ended trial has its own parameters, value and state; the note says so."""
    told, notes = gather(toy.space, toy.folder, ["old"], NEW)
    trials = earlier.state.trials
    assert {trial["trial"] for trial in told} == set(trials)
    for trial in told:
        was = trials[trial["trial"]]
        assert trial["status"] == was.status
        assert trial["params"].keys() == was.params.keys()
        for name, value in was.params.items():
            assert trial["params"][name] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-9))
        assert trial["values"] == (None if was.status == "diverged" else [was.best[0]])
        assert trial["compares"]
    assert notes[0].startswith(
        "warm start from old: 30 of 30 trials used, settings in common: schedule.kind, schedule.peak_lr"
    )


def test_trials_outside_the_new_space_are_left_out_and_counted(toy, earlier, space_file):
    """With a narrower range, those beyond it are left out as a whole, and the note names the setting."""
    space_file.write_text(
        space_file.read_text().replace("peak_lr: {log_uniform: [1.0e-3", "peak_lr: {log_uniform: [8.0e-3")
    )
    narrow = load_space(space_file)
    told, notes = gather(narrow, toy.folder, ["old"], NEW)
    inside = {n for n, trial in earlier.state.trials.items() if trial.params["schedule.peak_lr"] >= 8e-3}
    assert 0 < len(inside) < 30
    assert {trial["trial"] for trial in told} == inside
    assert f"left out: {30 - len(inside)} outside the space (schedule.peak_lr)" in notes[0]


def test_a_dimension_that_the_tables_lack_is_left_out_of_the_point(toy):
    """A foreign table has some of the settings: the point has those; a conditional one only where it holds."""
    params, outside = point_of(toy.space, {"schedule_peak_lr": 0.01, "averaging_kind": "ema", "averaging_decay": 0.95})
    assert (params, outside) == ({"schedule.peak_lr": 0.01, "averaging.kind": "ema", "1-averaging.decay": 0.05}, None)
    params, outside = point_of(toy.space, {"schedule_peak_lr": 0.01, "averaging_kind": "swa", "averaging_decay": 0.95})
    assert outside == "averaging.kind"


@pytest.mark.parametrize("kind", SEARCHERS)
@pytest.mark.parametrize("settings", [NEW, OTHER_DATA], ids=["same data", "other data"])
def test_a_warm_started_study_resumes_without_the_earlier_one(toy, earlier, kind, settings):
    """Killed, the earlier study deleted, resumed: it goes on as it would have, before and after it forgets."""
    if kind == "gp":
        pytest.skip("covered by the others; a proposal takes long")
    given = {"tpe": "tpe startup_trials=4", "grid": "grid points=3"}
    changes = {
        "searcher": parse_settings(given.get(kind, kind), Searcher, "searcher"),
        "stopping": {"kind": "none"},
        "budget": {"trials": ENOUGH + 6, "hours": None},
        "warm_start": gather(toy.space, toy.folder, ["old"], settings)[0],
    }
    whole = toy.create("whole", **changes)
    toy.drive(whole)
    for events in (30, min(9 * (ENOUGH + 2) + 4, whole.state.epochs - 4)):
        killed = toy.create(f"killed{events}", **changes)
        assert not toy.drive(killed, events=events)
        killed.close()
        shutil.rmtree(toy.folder / "old", ignore_errors=True)
        toy.drive(toy.resume(f"killed{events}"))
        assert toy.decisions(f"killed{events}") == toy.decisions("whole")


def proposals(space, earlier, own=()):
    searcher = OptunaSearcher(space, parse_settings("tpe", Searcher, "searcher"), 3, 1, earlier)
    for number, (params, value) in enumerate(own):
        searcher.started(number, params)
        searcher.ended(number, "completed", value)
    found = []
    for number in range(100, 112):
        found.append(searcher.propose(number))
        searcher.withdraw(number)
    return found


def test_the_searcher_begins_where_the_earlier_study_ended(toy):
    """The first proposals are near the earlier study's best rates; without the warm start they are anywhere."""
    study = toy.create("full", seed=2, stopping={"kind": "none"}, budget={"trials": 30, "hours": None})
    toy.drive(study)
    study.close()
    told = discounted(gather(toy.space, toy.folder, ["full"], NEW)[0], toy.space)

    def far(found):
        return sum(abs(math.log10(params["schedule.peak_lr"] / 0.01)) for params in found)

    assert far(proposals(toy.space, told)) < 0.6 * far(proposals(toy.space, []))


def test_other_data_is_forgotten_after_enough_trials_and_the_same_data_is_not(toy, earlier):
    """After ten completed trials of its own, trials on other data count no more; one fewer, and they do."""
    own = [(trial.params, 0.1 * number) for number, trial in list(earlier.state.trials.items())[:ENOUGH]]
    cold = proposals(toy.space, [], own)
    other = discounted(gather(toy.space, toy.folder, ["old"], OTHER_DATA)[0], toy.space)
    alike = discounted(gather(toy.space, toy.folder, ["old"], NEW)[0], toy.space)
    assert proposals(toy.space, other, own) == cold
    assert proposals(toy.space, alike, own) != cold
    assert proposals(toy.space, other, own[:-1]) != proposals(toy.space, [], own[:-1])


def test_a_space_that_fixes_another_value_does_not_compare(toy, earlier):
    """The same data with longer training here: the earlier PERs are for the beginning only."""
    other = dataclasses.replace(toy.space, fixed={"training.batch_size": 16})
    told, notes = gather(other, toy.folder, ["old"], NEW)
    assert not any(trial["compares"] for trial in told)
    assert "30 with other data or fixed settings, only for the beginning" in notes[0]


def test_values_are_pulled_half_way_to_their_median(toy, earlier):
    """An earlier best is told as half as good, beside its study's median; the order stays."""
    told, _ = gather(toy.space, toy.folder, ["old"], NEW)
    completed = sorted(trial["values"][0] for trial in told if trial["status"] == "completed")
    pulled = [trial["values"][0] for trial in discounted(told, toy.space) if trial["status"] == "completed"]
    middle = (completed[len(completed) // 2] + completed[(len(completed) - 1) // 2]) / 2
    assert pulled == pytest.approx([(value + middle) / 2 for value in completed])


def test_best_does_not_know_the_earlier_trials(toy, earlier):
    """The tables of a warm-started study have its own trials alone."""
    study = toy.create(
        "s", warm_start=gather(toy.space, toy.folder, ["old"], NEW)[0], budget={"trials": 3, "hours": None}
    )
    toy.drive(study)
    study.close()
    assert best(toy.folder, ["s"]).table.num_rows == 3


def test_a_warm_start_that_cannot_be_is_one_line(toy, earlier, space_file):
    """No such study, none inside the space, no dimension in common: what is wrong and what to do."""
    with pytest.raises(InputError, match="olt"):
        gather(toy.space, toy.folder, ["olt"], NEW)
    text = space_file.read_text()
    space_file.write_text(text.replace("log_uniform: [1.0e-3, 1.0e-1]}", "log_uniform: [0.5, 0.6]}", 1))
    with pytest.raises(InputError) as error:
        gather(load_space(space_file), toy.folder, ["old"], NEW)
    line = "--warm-start old: none of its 30 ended trials can be used (30 outside the space (schedule.peak_lr))"
    assert str(error.value) == f"{line}; name another study, or leave it out"
    head = text.split("dimensions:")[0]
    space_file.write_text(head + "dimensions:\n  model.hidden: {log_int: [4, 16]}\n")
    with pytest.raises(InputError) as error:
        gather(load_space(space_file), toy.folder, ["old"], NEW)
    line = "--warm-start old: its trials vary no dimension of this space (model.hidden)"
    assert str(error.value) == f"{line}; name another study, or leave it out"


def test_a_search_begins_with_all_earlier_searches_of_its_kind(toy, earlier):
    """With TPE, and where nothing is said: trials of the same space and data; one line names them."""
    told, (line,) = wanted(toy.space, toy.folder, (), TPE)
    assert told == gather(toy.space, toy.folder, ["old"], NEW)[0]
    assert line.startswith("warm start from old: 30 trials of this space on these data; --warm-start none")
    assert wanted(toy.space, toy.folder, ("none",), NEW) == ([], [])
    assert wanted(toy.space, toy.folder, (), RANDOM) == ([], [])
    assert wanted(toy.space, toy.folder, ("auto",), RANDOM)[0] == told
    assert wanted(toy.space, toy.folder, (), OTHER_DATA.changed({"searcher": {"kind": "tpe"}})) == ([], [])
    assert wanted(toy.space, toy.folder / "nowhere", (), TPE) == ([], [])
    both = wanted(toy.space, toy.folder, ("old", "auto"), NEW)
    assert both[0] == told and len(both[1]) == 1
    with pytest.raises(InputError, match="--warm-start none: cannot be given with others"):
        wanted(toy.space, toy.folder, ("none", "old"), NEW)


def test_the_oldest_search_comes_first(toy, earlier):
    """So that of too many trials the latest are kept; the names do not count."""
    study = toy.create("a-later-one", budget={"trials": 3, "hours": None})
    toy.drive(study)
    study.close()
    told, (line,) = wanted(toy.space, toy.folder, (), TPE)
    assert list(dict.fromkeys(trial["study"] for trial in told)) == ["old", "a-later-one"]
    assert line.startswith("warm start from old, a-later-one: 33 trials")


def test_what_does_not_compare_is_not_taken_unasked(toy, earlier):
    """Longer runs, or a folder that is no study, beside it: the search begins without them, and without an error."""
    (toy.folder / "no-study").mkdir()
    (toy.folder / "a-file").write_text("")
    longer = dataclasses.replace(toy.space, fixed={**toy.space.fixed, "training.batches": 800})
    assert wanted(longer, toy.folder, (), TPE) == ([], [])
    assert len(wanted(longer, toy.folder, ("old",), NEW)[0]) == 30  # asked for by name, for the beginning


def test_a_paused_trial_is_told_as_a_stopped_one(toy):
    """Under a rule that pauses, most trials of a study that has ended are paused: they say what is not good."""
    rule = {"kind": "asha", "promote": True, "grace": 2, "reduction": 3}
    study = toy.create("paused", stopping=rule, budget={"trials": 99, "hours": None, "batches": 300})
    toy.drive(study, workers=2)
    study.interrupt("budget")
    study.close()
    paused = {n for n, trial in study.state.trials.items() if trial.status == "paused"}
    told, _ = gather(toy.space, toy.folder, ["paused"], NEW)
    assert paused and {trial["trial"] for trial in told if trial["status"] == "stopped"} >= paused
