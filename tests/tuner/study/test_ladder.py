"""A search with several lengths: whole short runs, the best again in longer ones."""

from __future__ import annotations

import itertools
import math

import pytest

from results.store.tables import load_tables
from search_spaces.lengths.ladder import level_of, run_counts, with_lengths
from search_spaces.searchers import SEARCHERS
from search_spaces.space import LENGTH
from tests.tuner.conftest import settings_for
from tuner.study.settings import StudySettings
from tuner.study.study import Study
from tuner.testing import toy as toys

LENGTHS = (0.5, 1.0, 2.0)


def row(config, epoch, bad=()):
    """The toy's curve at the batches of a run of any length; better in longer runs, diverged where `bad` says."""
    found = toys.curve(config, epoch)
    per = found["per"] if not math.isnan(found["per"]) else 0.9
    batches = config.training.batches
    found |= {"per": per * (1 + 2 / batches), "per_raw": per, "val_loss": per, "diverged": False}
    found |= {"batch": min(batches, epoch * config.training.batches_per_epoch), "schedule_fraction": epoch / 9}
    if batches in bad and epoch == 1:
        found |= {"per": None, "val_loss": None, "diverged": True}
    return found


def drive(study, workers=1, events=None, bad=()):
    """`toy.drive`, with runs of any length."""
    running, count = [], 0
    while not study.done:
        while len(running) < workers and (job := study.ask()) is not None:
            running.append((job, job.epochs_logged))
        job, epoch = running.pop(0)
        if study.report(job.trial, job.attempt, row(job.config, epoch + 1, bad)) == "continue":
            running.append((job, epoch + 1))
        count += 1
        if count == events:
            return study
    return study


@pytest.fixture
def ladder(toy):
    """Makes studies over the toy space with three lengths."""
    space = with_lengths(toy.space, LENGTHS)

    def make(name, budget=None, **changes):
        given = {"stopping": {"kind": "none"}, "budget": budget or {"batches": 250}, **changes}
        return Study.create(toy.folder / name, StudySettings.read(settings_for(space, **given)), [])

    make.space, make.folder = space, toy.folder
    return make


def by_level(study):
    found = [[] for _ in LENGTHS]
    for trial in study.state.trials.values():
        found[level_of(study.state.space, trial.params)].append(trial)
    return found


@pytest.mark.parametrize("workers", [1, 3, 7])
def test_the_best_of_each_length_run_again_at_the_next(ladder, workers):
    """As many as the budget gives each length, whole; those that go on are the best of theirs; the budget holds."""
    study = drive(ladder("s"), workers)
    found = by_level(study)
    assert [len(level) for level in found] == run_counts(ladder.space, {"batches": 250})
    assert all(trial.status == "completed" for level in found for trial in level)
    assert study.state.spent.batches == sum(trial.config.training.batches for level in found for trial in level) <= 250
    for below, level in itertools.pairwise(found):
        best = sorted(below, key=lambda trial: (trial.best[0], trial.number))[: len(level)]
        assert {trial.about["shorter"] for trial in level} == {trial.number for trial in best}
        for trial in level:
            shorter = study.state.trials[trial.about["shorter"]]
            assert {**trial.params, LENGTH: None} == {**shorter.params, LENGTH: None}
            assert trial.config.training.batches == 2 * shorter.config.training.batches
            assert trial.seed != shorter.seed and trial.origin == shorter.origin


def test_nobody_waits_for_a_result_that_cannot_matter(ladder):
    """A run goes on as soon as nothing that is still to end can displace it, before the last short run has ended."""
    study = drive(ladder("s"))
    numbers = [trial.number for level in by_level(study)[1:] for trial in level]
    shortest = [trial.number for trial in by_level(study)[0]]
    assert min(numbers) < max(shortest)


@pytest.mark.parametrize("at", [1, 9, 40, 70, 95])
def test_a_killed_search_goes_on_as_if_it_had_not_been(ladder, toy, at):
    """After a kill at any epoch the same runs follow, of the same lengths, in the same order."""
    drive(ladder("whole")).close()
    drive(ladder("killed"), events=at)  # the log stays as a killed driver leaves it
    drive(Study.resume(toy.folder / "killed", {}, [])).close()
    assert toy.decisions("killed") == toy.decisions("whole")


def test_a_larger_budget_goes_on_with_new_short_runs(ladder, toy):
    """Resumed with more batches, the search draws again, and longer runs follow from all results so far."""
    study = drive(ladder("s", {"batches": 120}))
    before = [len(level) for level in by_level(study)]
    study.close()
    budget = study.settings.budget.changed({"batches": 400}).as_dict()
    again = drive(Study.resume(toy.folder / "s", {"budget": [{"batches": 120}, budget]}, []))
    counts = [len(level) for level in by_level(again)]
    assert counts == run_counts(ladder.space, {"batches": 400})
    assert all(new >= old for new, old in zip(counts, before, strict=True)) and counts[0] > before[0]


@pytest.mark.parametrize("bad", [(9,), (18,), (36,), (9, 18)])
def test_where_all_diverge_the_search_ends(ladder, bad):
    """A length whose runs all diverge passes nobody on, and the search ends with what there is."""
    study = drive(ladder("s"), 2, bad=bad)
    assert study.done and study.ask() is None
    assert {trial.status for trial in study.state.trials.values()} <= {"completed", "diverged"}
    assert len(by_level(study)[0]) == run_counts(ladder.space, {"batches": 250})[0]


def test_start_points_come_first_and_each_once(ladder):
    """They are short runs like all others, and a longer run between them takes no start point's place."""
    starts = [
        {"schedule.kind": "constant", "schedule.peak_lr": rate, "averaging.kind": "none"} for rate in (0.002, 0.01)
    ]
    starts = [ladder.space.at_length(start) for start in starts]
    study = drive(ladder("s", start_points=starts))
    assert [study.state.trials[n].params for n in (0, 1)] == starts
    assert [
        t.number for t in study.state.trials.values() if t.origin == "start_point" and "shorter" not in t.about
    ] == [0, 1]


@pytest.mark.parametrize("kind", [kind for kind in SEARCHERS if kind not in ("grid", "nsga2")])
def test_every_searcher_is_told_the_length(ladder, toy, kind):
    """New settings are for the shortest length; a resumed search has told the searcher what the live one did."""
    study = drive(ladder("s", searcher={"kind": kind}))
    study.close()
    told = [t for t in study.state.searcher.trials if t.state.name == "COMPLETE"]
    assert sorted(t.params[LENGTH] for t in told) == sorted(t.params[LENGTH] for t in study.state.trials.values())
    again = [t for t in Study.resume(toy.folder / "s", {}, []).state.searcher.trials if t.state.name == "COMPLETE"]
    assert [t.params for t in told] == [t.params for t in again]


def test_the_tables_have_length_and_the_run_before(ladder, toy):
    """`length`, and in `shorter` the trial with the same settings one length below."""
    study = drive(ladder("s"))
    study.close()
    rows = load_tables(toy.folder, ["s"], ("trials",))[0]["trials"].to_pylist()
    for found in rows:
        trial = study.state.trials[found["trial"]]
        assert (found["length"], found["shorter"]) == (trial.params[LENGTH], trial.about.get("shorter"))


def test_the_lengths_of_a_study_stay(ladder, toy, call):
    """A resumed search keeps them for another space too; other ones, or a stopping rule, are refused in a line."""
    drive(ladder("s"), events=5).close()
    resume = ("resume", "s", "--results", toy.folder, "--data", "nowhere")
    assert "nowhere" in call(*resume, "--space", toy.space.path)[2]
    (toy.folder / "other.yaml").write_text(
        (toy.folder / "toy.yaml").read_text().replace("stopping: {", "lengths: [1, 2]\n#")
    )
    assert (
        "the lengths of its runs cannot change ([0.5, 1.0, 2.0]"
        in call(*resume, "--space", toy.folder / "other.yaml")[2]
    )


def test_a_plan_of_lengths_is_what_will_run(call, space_file):
    """`tuner plan --lengths`: runs and batches of each length, exact; without a limit that divides, a line."""
    status, out, _ = call("plan", space_file, "--lengths", "0.5,1,2", "--batches", 250, "--trials", 100)
    assert status == 0
    rows = [line.split() for line in out.splitlines()]
    assert rows[2:5] == [["0.5", "15", "9", "135"], ["1", "4", "18", "72"], ["2", "1", "36", "36"]]
    assert f"next: tuner search {space_file} --data FOLDER --lengths 0.5,1,2" in out
    assert "cannot be used with lengths" in call("plan", space_file, "--lengths", "1,2", "--stopping", "asha")[2]
