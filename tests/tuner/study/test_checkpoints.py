"""Checkpoints as a study sees them: from where trials go on, what is cleaned up, and what fits into the budget."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.store.events import read_events
from results.store.tables import compact, load_tables
from search_spaces import load_run, load_space
from search_spaces.checkpoints import parse_every, parse_size
from tuner.backend.worker import run_trial
from tuner.study.checkpoints import describe, files_of
from tuner.study.settings import StudySettings
from tuner.study.study import Study
from tuner.study.upkeep import KEPT_LEADERS, Upkeep, clean, to_drop

SPARSE = {"every": "3 epochs", "best_weights": "full", "budget": None}


@pytest.fixture(scope="module")
def real(tmp_path_factory, tiny_data, real_space):
    """Makes and drives studies that train, without Ray: `real(name, epochs)` stops dead after so many epochs."""
    from tests.tuner.conftest import settings_for
    from trainable.data.dataset import open_dataset

    root, dataset, space = tmp_path_factory.mktemp("real"), open_dataset(tiny_data), load_space(real_space)

    def drive(name, epochs=10**9, damage=None, **changes):
        folder = root / name
        if folder.exists():
            if damage:
                damage(folder)
            study = Study.resume(folder, {}, [])
        else:
            budget = {"trials": 4, "hours": None}
            study = Study.create(folder, StudySettings.read(settings_for(space, budget=budget, **changes)), [])
        kept = study.settings.checkpoints
        how = {"every": kept.every, "best_weights": kept.best_weights}
        while (job := study.ask()) is not None:
            rows = run_trial(
                job.config,
                dataset,
                folder / "checkpoints" / str(job.trial),
                epochs_logged=job.epochs_logged,
                checkpoints={**how, "rungs": job.rungs, "pauses": job.pauses},
            )
            for row in rows:
                if epochs == 0:  # the driver and its workers die between the checkpoint and the log
                    return study
                epochs -= 1
                if study.report(job.trial, job.attempt, row) == "stop":
                    break
            rows.close()
        study.interrupt("budget")
        return study

    drive.root = root
    return drive


@pytest.fixture(scope="module")
def whole(real):
    """The uninterrupted study, with a checkpoint at every epoch."""
    from tests.tuner.conftest import decisions

    real("whole", checkpoints={**SPARSE, "every": "auto"})
    return decisions(real.root / "whole")


# In the last one the state of epoch 3 had been written, and its row had not come to the log. All are of the
# first trial, whose length no searcher decides.
@pytest.mark.parametrize(("epochs", "goes_on_after"), [(1, 0), (4, 3), (8, 6), (2, 2)])
def test_a_sparse_study_killed_and_resumed_is_the_uninterrupted_one(real, whole, epochs, goes_on_after, tuner):
    """With a state every third epoch, a killed study repeats epochs and ends with the same trials, stops and PERs."""
    name = f"killed-{epochs}"
    real(name, epochs, checkpoints=SPARSE)
    real(name)
    folder = real.root / name
    assert tuner.decisions(folder) == whole
    events = read_events(folder / "events.jsonl")[0]
    assert {path.rsplit("/")[-1] for path in files_of(folder)} == {"best.pt"}
    (again,) = [e for e in events if e["event"] == "trial_started" and e["attempt"] == 2]
    first = next(e for e in events if e["event"] == "epoch" and e["attempt"] == 2)
    assert again["from_epoch"] == first["epoch"] - 1 == goes_on_after
    compact(folder)
    table = load_tables(real.root, [name], ("epochs",))[0]["epochs"].select(["trial", "epoch"]).to_pylist()
    assert len({tuple(row.values()) for row in table}) == len(table) == len(whole[1])


def test_damaged_checkpoints_cost_time_and_nothing_else(real, whole, tuner):
    """Both states of a trial are spoiled between two sessions: it begins again, says so, and decides as before."""

    def spoil(folder):
        paths = [*folder.glob("checkpoints/*/last.pt"), *folder.glob("checkpoints/*/previous.pt")]
        assert len(paths) == 2
        for path in paths:
            path.write_bytes(path.read_bytes()[:-200])

    real("spoilt", 4, checkpoints={**SPARSE, "every": "auto"})
    real("spoilt", damage=spoil)
    assert tuner.decisions(real.root / "spoilt") == whole
    notes = [e["note"] for e in read_events(real.root / "spoilt" / "events.jsonl")[0] if e.get("note")]
    assert len(notes) == 1 and "started again from epoch 1" in notes[0] and "truncated" in notes[0]


def test_a_repeated_epoch_keeps_its_rung_in_the_tables(toy):
    """An epoch that is reported again after a kill is still the rung it was, and the trial still goes on from it."""
    study = toy.create("s")
    job = study.ask()
    study.report(job.trial, job.attempt, toy.curve(job.config, 1))
    again = toy.resume("s")
    job = again.ask()
    assert (job.attempt, job.rungs[0], job.pauses) == (2, 1, False)
    assert again.report(job.trial, job.attempt, toy.curve(job.config, 1)) == "continue"
    first, second = [e for e in read_events(toy.folder / "s" / "events.jsonl")[0] if e["event"] == "epoch"]
    assert (first["rung"], first["passed"]) == (second["rung"], second["passed"]) == (1, True)


def lay(study):
    """Give every trial files as a worker would: 100 bytes of state, 100 of the one before, 10 of best weights."""
    for number, trial in study.state.trials.items():
        folder = study.folder / "checkpoints" / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "best.pt").write_bytes(b"b" * 10)
        if not trial.final:
            (folder / "last.pt").write_bytes(b"l" * 100)
            (folder / "previous.pt").write_bytes(b"p" * 100)


def test_a_budget_drops_in_order_and_says_so(toy):
    """Second-last states first, then the worst trials' weights; the leaders' and what runs stay; the tables know."""
    study = toy.create("s", checkpoints={**SPARSE, "budget": 300})
    toy.drive(study, workers=2, events=32)
    lay(study)
    running = [trial.number for trial in study.state.trials.values() if not trial.final]
    assert running and len(study.state.trials) > KEPT_LEADERS + 2
    told = []
    study.observers.append(told.append)
    upkeep = Upkeep(study)
    (event,) = [each for each in told if each["event"] == "checkpoints_dropped"]
    left = files_of(study.folder)
    assert sum(left.values()) == event["bytes"] <= 300
    assert not set(event["files"]) & set(left)
    assert {f"checkpoints/{n}/last.pt" for n in running} <= set(left)
    assert not any(path.endswith("previous.pt") for path in left)
    ranked = sorted((t for t in study.state.trials.values() if t.best), key=lambda t: t.best)
    assert {f"checkpoints/{t.number}/best.pt" for t in ranked[:KEPT_LEADERS]} <= set(left)
    upkeep._look()
    assert sum(each["event"] == "checkpoints_dropped" for each in told) == 1

    for number in running:  # such as an end that a worker's file outlived
        study.fail(number, study.state.trials[number].attempt, "out of memory", final=True)
    lay(study)  # as if the machine had died before the files were removed
    study.close()
    again = toy.resume("s")
    Upkeep(again)
    assert not set(event["files"]) & set(files_of(again.folder))
    compact(again.folder)
    trials = load_tables(toy.folder, ["s"], ("trials",))[0]["trials"].to_pylist()
    assert all(row["checkpoint"] is None or (again.folder / row["checkpoint"]).exists() for row in trials)


def test_a_budget_that_cannot_be_kept_is_told_once(toy):
    """Where only what must stay is left, nothing more is removed and there is one warning."""
    study = toy.create("s", checkpoints={**SPARSE, "budget": 50})
    toy.drive(study, workers=3, events=3)
    lay(study)
    told = []
    study.observers.append(told.append)
    upkeep = Upkeep(study)
    upkeep._look()
    (event,) = [each for each in told if each["event"] == "checkpoints_dropped"]
    assert event["bytes"] > event["budget"] == 50
    assert "give a larger --checkpoint-budget" in describe(event)


@given(
    st.lists(st.tuples(st.sampled_from(["running", "paused", "stopped", "completed"]), st.floats(0, 1)), max_size=12),
    st.integers(1, 500),
)
def test_what_may_not_be_dropped_is_not(trials, budget):
    """Whatever the budget: no last state, no leader's weights, nothing that is open but second-last states."""
    states = {
        n: SimpleNamespace(number=n, best=(per, 1), final=status in ("stopped", "completed"))
        for n, (status, per) in enumerate(trials)
    }
    files = {f"checkpoints/{n}/{name}": 7 for n in states for name in ("best.pt", "last.pt", "previous.pt")}
    dropped = to_drop(files, SimpleNamespace(trials=states), budget)
    ranked = sorted(states.values(), key=lambda t: (t.best, t.number))
    must_stay = {f"checkpoints/{n}/last.pt" for n in states}
    must_stay |= {f"checkpoints/{t.number}/best.pt" for t in states.values() if not t.final}
    must_stay |= {f"checkpoints/{t.number}/best.pt" for t in ranked[:KEPT_LEADERS]}
    assert not must_stay & set(dropped)
    left = sum(files.values()) - 7 * len(dropped)
    assert left <= budget or len(dropped) == len(files) - len(must_stay)
    assert not dropped or left + 7 > budget  # no more than it takes


def test_clean_tidies_a_study_that_no_search_runs(toy, cli):
    """Leftovers and states of ended trials go, and beyond a budget the worst trials' weights; sizes are told."""
    study = toy.create("s")
    toy.drive(study)
    lay(study)
    folder = toy.folder / "s"
    (folder / "checkpoints" / "0" / ".last.pt.abc").write_bytes(b"half")
    (folder / "checkpoints" / "1" / "last.pt").write_bytes(b"l" * 100)
    study.close()
    done = cli("results", "clean", "s", "--results", toy.folder)
    assert (done.status, done.out) == (0, "s: 120 bytes of checkpoints, 104 bytes removed\n")
    done = cli("results", "clean", "s", "--checkpoint-budget", "0.07kB", "--results", toy.folder)
    assert (done.status, done.out) == (0, "s: 70 bytes of checkpoints, 50 bytes removed\n")
    assert clean(folder, None) == (0, 70)
    assert len(list(folder.glob("checkpoints/*/best.pt"))) == 7


def test_status_shows_the_size(toy, cli):
    """`tuner status` says what the checkpoints take, for people and for programs."""
    study = toy.create("s", checkpoints={**SPARSE, "budget": 2000})
    toy.drive(study)
    lay(study)
    study.interrupt("budget")
    study.close()
    assert "checkpoints: 120 bytes of 2.0 kB in 12 files" in cli("status", "s", "--results", toy.folder).out
    facts = json.loads(cli("status", "s", "--results", toy.folder, "--format", "json").out)
    assert facts["checkpoints"] == {"files": 12, "bytes": 120, **SPARSE, "budget": 2000}


@pytest.mark.parametrize(
    ("given", "read"),
    [("3", "3 epochs"), ("1 epoch", "1 epochs"), ("10m", "10 minutes"), ("0.5 min", "0.5 minutes"), ("AUTO", "auto")],
)
def test_when_to_write_can_be_said_in_several_ways(given, read):
    """Each way gives the one that the log holds, and that reads as itself."""
    assert parse_every(given) == parse_every(read) == read


@pytest.mark.parametrize(("given", "size"), [("200GB", 2 * 10**11), ("1.5 tb", 15 * 10**11), ("2MiB", 2**21)])
def test_sizes_have_units(given, size):
    """Decimal and binary units, in any case."""
    assert parse_size(given) == size


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--checkpoint-every", "0"),
        ("--checkpoint-every", "1.5 epochs"),
        ("--checkpoint-every", "never"),
        ("--checkpoint-budget", "5 parsecs"),
        ("--checkpoint-budget", "0GB"),
        ("--checkpoint-budget", "7"),
    ],
)
def test_bad_settings_are_one_line(cli, flag, value, tmp_path):
    """The flag, the value and what is allowed."""
    done = cli("search", "small", "--data", tmp_path, flag, value)
    assert done.status == 2
    assert f"'{flag}': '{value}' is not allowed; give " in done.err.splitlines()[-1]


def test_a_space_file_may_say_which_checkpoints_are_kept(space_file):
    """`checkpoints:` in a space, in the words of the flags; a wrong one is a line with the file's name."""
    from search_spaces import InputError

    text = space_file.read_text()
    space_file.write_text(text + "checkpoints: {every: 10 minutes, best_weights: half, budget: 200GB}\n")
    space = load_space(space_file)
    assert space.checkpoints.model_dump() == {"every": "10 minutes", "best_weights": "half", "budget": 2 * 10**11}
    assert type(space).from_dict(space.as_dict()).checkpoints == space.checkpoints
    space_file.write_text(text + "checkpoints: {every: 0, budget: 5 parsecs}\n")
    with pytest.raises(InputError) as caught:
        load_space(space_file)
    assert [line.split(": ", 1)[1][:40] for line in caught.value.problems] == [
        "checkpoints.every: '0' is not allowed; g",
        "checkpoints.budget: '5 parsecs' is not a",
    ]


def test_what_a_card_chose_is_logged_once(tiny_data, tmp_path, monkeypatch):
    """The line of the engine is the note of the first epoch, with what there is to say of checkpoints; then none."""
    from trainable import loop
    from trainable.data.dataset import open_dataset

    class Speaking(loop.Engine):
        def begin_epoch(self, steps):
            if not self._chosen:
                self.notes.append("computes in bf16 with CUDA graphs")
            super().begin_epoch(steps)

    monkeypatch.setattr(loop, "Engine", Speaking)
    config = load_run("small", ["training.batches=8", "training.batches_per_epoch=4", "model.hidden=8"]).config
    notes = [row["note"] for row in run_trial(config, open_dataset(tiny_data), tmp_path / "0")]
    assert len(notes) > 1 and notes == ["computes in bf16 with CUDA graphs"] + [None] * (len(notes) - 1)
