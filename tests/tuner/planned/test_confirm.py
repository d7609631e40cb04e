"""`tuner confirm`: the leaders again with fresh seeds."""

import json
from dataclasses import replace

import pytest

import tuner
from results.confirmed import confirmed
from results.store.tables import load_tables
from search_spaces import InputError, load_space, to_dict
from tuner.launch.checks import at_once
from tuner.launch.new_study import new_settings, planned_settings
from tuner.planned.confirm import as_chosen, check_resumed, cost, fresh_seeds, leaders, make_plan
from tuner.study.request import Request
from tuner.study.settings import StudySettings
from tuner.study.study import Study
from tuner.testing.toy import settings_for


@pytest.fixture
def searched(toy):
    """A results folder with the finished study `toy`."""
    study = toy.create("toy", seed=2)
    assert toy.drive(study)
    study.interrupt("budget")
    study.close()
    return study


def test_leaders_are_the_best_trials_once_each(toy, searched):
    """Best first by best_per; a configuration that ran under two seeds counts once."""
    found = leaders(toy.folder, "toy", 4)
    trials = load_tables(toy.folder, ["toy"], ("trials",))[0]["trials"].to_pylist()
    ranked = sorted((t["best_per"], t["trial"]) for t in trials if t["status"] in ("completed", "stopped"))
    assert [number for number, _ in found] == [number for _, number in ranked[:4]]
    assert len(leaders(toy.folder, "toy", 99)) == len(ranked)


def test_the_chosen_average_is_taken_as_given(toy):
    """Of several averages only the best is trained with again, of a raw best none; one average stays as it is."""
    base = toy.space.config({"schedule.kind": "constant", "schedule.peak_lr": 0.01, "averaging.kind": "none"}, 0)

    def given(averaging, average):
        config = type(base).model_validate({**to_dict(base), "averaging": averaging})
        chosen = as_chosen(config, average)
        assert chosen.model_copy(update={"averaging": config.averaging}) == config
        return chosen.averaging.model_dump(exclude_defaults=True)

    several = {"kind": "ema", "decays": [0.9, 0.99], "warmup": False}
    assert given(several, "0.99") == {"decay": 0.99, "warmup": False}
    assert given(several, "raw") == {}
    assert given(several, None) == {"decay": None, "decays": (0.9, 0.99), "warmup": False}
    assert given({"kind": "ema", "decay": 0.9}, "0.9") == {"decay": 0.9}
    swa = {"kind": "swa", "start_batch": 1}
    assert given({**swa, "or_raw": True}, "swa") == {"start_batch": 1} == given(swa, "swa")
    assert given({**swa, "or_raw": True}, "raw") == {}
    assert given({**swa, "or_raw": True, "lr": 0.1}, "raw") == {"start_batch": 1, "or_raw": True, "lr": 0.1}


def test_leaders_have_the_average_that_was_best(toy, cli):
    """The plan of a confirmation has, of each trial's averages, the one of its best epoch; `tuner show` names it."""
    space = replace(toy.space, dimensions=tuple(d for d in toy.space.dimensions if not d.path.startswith("averaging")))
    space = replace(space, fixed={**space.fixed, "averaging.kind": "ema", "averaging.decays": [0.9, 0.99]})
    study = Study.create(toy.folder / "several", StudySettings.read(settings_for(space)), [])
    names = {}
    while (job := study.ask()) is not None:
        names[job.trial] = ("raw", "0.9", "0.99")[job.trial % 3]
        for epoch in range(1, job.config.epochs + 1):
            row = toy.curve(job.config, epoch) | {"average": names[job.trial] if epoch > 1 else "raw"}
            if study.report(job.trial, job.attempt, row) != "continue":
                break
    study.close()
    found = leaders(toy.folder, "several", 99)
    assert len(found) > 3
    for number, config in found:
        row = next(r for r in load_tables(toy.folder, ["several"])[0]["trials"].to_pylist() if r["trial"] == number)
        assert config["averaging"].get("decay") == (None if row["best_average"] == "raw" else float(names[number]))
        assert config["averaging"].get("decays") is None
    said = {name: ", of the raw weights" if name == "raw" else f", of the EMA of {name}" for name in names.values()}
    number = found[0][0]
    name = found[0][1]["averaging"].get("decay")
    shown = cli("show", "several", number, "--results", toy.folder).out
    assert said["raw" if name is None else str(name)] in shown and "PER of the best weights" in shown


def test_fresh_seeds_are_nobodys(searched):
    """No trial of the search had one, they differ, more of them begin with the same ones, another seed gives others."""
    seeds = fresh_seeds(2, 40, 0)
    assert len(set(seeds)) == 40
    assert not set(seeds) & {trial.seed for trial in searched.state.trials.values()}
    assert fresh_seeds(2, 3, 0) == seeds[:3]
    assert not set(fresh_seeds(2, 40, 1)) & set(seeds)


def planned(toy, top=3, seeds=2):
    """The settings of a confirmation of `toy`, as `tuner confirm` makes them, for data that nobody reads."""
    plan = make_plan("toy", leaders(toy.folder, "toy", top), fresh_seeds(2, seeds, 0))
    settings = {"study": "toy-confirm", "space": None, "plan": plan, "searcher": {"kind": "plan"}, "confirms": "toy"}
    return {
        **settings,
        "stopping": {"kind": "none"},
        "objective": "best_per",
        "start_points": [],
        "budget": {"trials": len(plan), "hours": None},
        "data": {"path": "nowhere", "name": "none", "fingerprint": "0"},
        "seed": 0,
        "resources": {"cpus_per_trial": 1, "gpus_per_trial": 0, "concurrent": None},
    }


@pytest.mark.parametrize("events", [None, 13])
def test_every_leader_runs_to_its_end_with_every_seed(toy, searched, events):
    """Nothing is stopped early, interrupted or not; each replicate says whose it is; the means rank."""
    study = Study.create(toy.folder / "toy-confirm", StudySettings.read(planned(toy)), [])
    if not toy.drive(study, events=events):
        study.close()
        assert confirmed(toy.folder, ["toy"]) is not None
        study = Study.resume(toy.folder / "toy-confirm", {}, [])
        toy.drive(study)
    study.close()
    rows = load_tables(toy.folder, ["toy-confirm"], ("trials",))[0]["trials"].to_pylist()
    assert {(row["status"], row["origin"]) for row in rows} == {("completed", "replicate")}
    assert len({(row["parent"], row["seed"]) for row in rows}) == 6
    found = confirmed(toy.folder, ["toy"])
    assert found is not None
    top = found.table.to_pylist()[:3]
    assert {row["trial"] for row in top} == {number for number, _ in leaders(toy.folder, "toy", 3)}
    assert [row["mean"] for row in top] == sorted(row["mean"] for row in top)
    (about,) = load_tables(toy.folder, ["toy-confirm"], ("studies",))[0]["studies"].to_pylist()
    assert about["confirms"] == "toy"


def test_best_ranks_by_the_means(toy, searched, cli):
    """`tuner best STUDY` and `tuner confirm STUDY --table` show the means; --by best_per shows the search alone."""
    study = Study.create(toy.folder / "toy-confirm", StudySettings.read(planned(toy)), [])
    toy.drive(study)
    study.close()
    options = ("--results", toy.folder, "--format", "json")
    rows = json.loads(cli("best", "toy", *options).out)
    assert [row["seeds"] for row in rows[:4]] == [2, 2, 2, 0]
    assert json.loads(cli("confirm", "toy", "--table", *options).out) == rows
    assert "mean" not in json.loads(cli("best", "toy", "--by", "best_per", *options).out)[0]
    assert "with new seeds" in cli("best", "toy", "--results", toy.folder).out


def test_from_python_the_best_is_the_lowest_mean_over_fresh_seeds(toy, searched, cli):
    """With new seeds the second of three is ahead of the first, within chance: `tuner.open` gives it as the best, and
    the first as its tie, under the study's name and under that of the confirmation, as `tuner best` does.
    """
    study = Study.create(toy.folder / "toy-confirm", StudySettings.read(planned(toy)), [])
    ranked = [number for number, _ in leaders(toy.folder, "toy", 3)]
    while (job := study.ask()) is not None:
        parent = int(study.settings.plan[job.trial]["parent"].split("/")[1])
        per = (0.301, 0.300, 0.6)[ranked.index(parent)] + 0.01 * (job.trial % 2)
        for epoch in range(1, job.config.epochs + 1):
            study.report(job.trial, job.attempt, toy.curve(job.config, epoch) | {"per": per, "diverged": False})
    study.close()
    first = json.loads(cli("best", "toy", "--results", toy.folder, "--format", "json").out)[0]
    assert first["trial"] == ranked[1]
    for name in ("toy", "toy-confirm"):
        found = tuner.open(name, results=toy.folder)
        assert found.best.name == f"toy/{ranked[1]}"
        assert [trial.name for trial in found.ties] == [f"toy/{ranked[0]}"]
        assert f"a tie with toy/{ranked[1]}: toy/{ranked[0]} " in " ".join(found.notes)


def test_the_cost_is_that_of_the_leaders_own_epochs(toy, searched):
    """Whole trials of nine epochs of one second each, 18 batches of 8: batches, utterances, time, time side by side."""
    plan = make_plan("toy", leaders(toy.folder, "toy", 3), [1, 2])
    said = cost(toy.folder, "toy", plan, 4)
    assert said == (
        "3 configurations x 2 new seeds = 6 trials to their end, 108 batches, 864 utterances; "
        "about 0:54 of training, by the times of toy, 0:14 with 4 at once"
    )
    assert cost(toy.folder, "toy", plan, 99).endswith(" 0:09 with 99 at once"), "not less than the longest trial"
    assert cost(toy.folder, "toy", plan, None).endswith("by the times of toy")


def test_what_runs_at_once_is_known_before_ray_runs(toy):
    """Cores by cores of a trial, no more than --concurrent, at least one; of a cluster nothing is known."""
    request = Request(results_dir=toy.folder, data=toy.folder, cpus=8)
    assert at_once(request) == 8
    assert at_once(replace(request, cpus_per_trial=3.0)) == 2
    assert at_once(replace(request, concurrent=3)) == 3
    assert at_once(replace(request, cpus_per_trial=16.0)) == 1
    assert at_once(replace(request, address="auto")) is None


def test_what_cannot_be_confirmed_is_one_line(toy, searched, cli, tiny_data):
    """An unknown study, a confirmation, a study without a PER, other data, another top on going on."""
    Study.create(toy.folder / "toy-confirm", StudySettings.read(planned(toy)), []).close()
    toy.create("empty").close()
    options = ("--results", toy.folder)
    for arguments, words in (
        (("tooy",), "there is no study 'tooy'; did you mean toy?"),
        (("toy-confirm",), "is itself a confirmation of toy"),
        (("empty",), "no trial that was trained here has a PER"),
        (("toy", "--table"), "no trial with a new seed has ended yet"),
        (("toy", "--data", tiny_data), "the study 'toy-confirm' exists"),
        (("toy", "--data", tiny_data, "--study", "t2"), "toy was trained on other data"),
        (("toy", "--resume", "--top", 5), "--top: the study toy-confirm was started with 3"),
    ):
        done = cli("confirm", *arguments, *options)
        assert done.status == 2
        (line,) = [line for line in done.err.splitlines() if not line.startswith("note:")]
        assert words in line
    assert not (toy.folder / "t2").exists()
    with pytest.raises(InputError, match="is not a confirmation of other"):
        check_resumed(toy.folder, "toy-confirm", "other", None, None)


@pytest.mark.ray
def test_leaders_train_again_on_a_local_ray(tmp_path, tiny_data, real_space, tuner):
    """Two leaders, two fresh seeds each: four whole runs, the ranked table, and a sentence on the leader."""
    from trainable.data.dataset import open_dataset

    results = tmp_path / "results" / "studies"
    request = Request(results_dir=results, data=tiny_data)
    settings = new_settings(load_space(real_space), "s", request, open_dataset(tiny_data))
    study = Study.create(results / "s", settings.changed({"start_points": []}), [])
    for per in (0.5, 0.6, 0.7):  # a search that only said so: what is confirmed is what its log has
        job = study.ask()
        study.report(job.trial, job.attempt, {"epoch": 1, "batch": 4, "per": per, "val_loss": per, "seconds": 1.0})
        study.fail(job.trial, job.attempt, "x") if per == 0.7 else None
    study.interrupt("budget")
    study.close()
    done = tuner.run("confirm", "s", "--top", 2, "--seeds", 2, "--study", "c", "--concurrent", 2, cwd=tmp_path)
    assert done.status == 0, done.err
    assert "first in the search," in done.out
    assert "next: tuner best s --top 5" in done.out
    assert done.err.index("cost: 2 configurations x 2 new seeds = 4 trials") < done.err.index("starting Ray")
    rows = load_tables(results, ["c"], ("trials",))[0]["trials"].to_pylist()
    assert {row["status"] for row in rows} == {"completed"}
    assert sorted(row["parent"] for row in rows) == ["s/0", "s/0", "s/1", "s/1"]
    assert all(row["epochs"] == 9 for row in rows)


def test_a_plan_may_have_a_wall_time(tmp_path, tiny_data):
    """--hours ends a confirmation as it ends a search."""
    from trainable.data.dataset import open_dataset

    request = Request(results_dir=tmp_path, data=tiny_data, hours=2.0)
    budget = planned_settings([{}], "c", request, open_dataset(tiny_data)).budget
    assert (budget.trials, budget.hours) == (1, 2.0)
