"""How long a campaign's runs are where its budget holds few whole ones."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.store.tables import load_tables
from search_spaces import InputError, RunConfig
from search_spaces.dimensions.dimension import Dimension
from search_spaces.stopping import ASHAStopping, NoStopping
from tuner.campaign.ladder import CONFIRM, LONG, LONGER, SEEDS, SHORT, Ladder, ladder_of, laddered, needed, short_space
from tuner.campaign.planning import amounts_of, fitted, lengths_of, plan_rows
from tuner.campaign.record import SHARES, Campaign
from tuner.campaign.steps import confirming, lengthening
from tuner.campaign.winner import best_first, longer_is_better
from tuner.study.settings import StudySettings
from tuner.study.study import Study

runs = st.lists(st.floats(10, 1000), min_size=1, max_size=12)


@given(runs, st.floats(0.05, 20))
def test_the_parts_of_a_ladder_fit_into_the_budget(costs, times):
    """At every budget for which there is one: two seeds of a whole run, two longer runs, and short runs to choose from.

    A ladder that shortens whole runs names the least budget that would not have to.
    """
    amount = times * max(costs)
    ladder, least = ladder_of(amount, costs, SHARES, 10_000)
    if ladder is None:
        assert least is None and amount > 10 * min(costs)
        return
    assert (least is None) == (ladder.whole == 1)
    parts = laddered(amount, max(costs), SHARES, ladder)
    whole = ladder.whole * max(costs)
    assert sum(parts.values()) == pytest.approx(amount)
    assert parts["confirm"] >= SEEDS * whole * (1 - 1e-9) and parts["longer"] >= LONGER * LONG * whole * (1 - 1e-9)
    assert parts["search"] >= SHORT * whole
    if least is not None:
        assert amount < least == needed(max(costs)) and parts["confirm"] == pytest.approx(CONFIRM * amount)


def test_short_runs_are_not_too_short_to_say_anything():
    """Eight batches or more; below that there is no ladder, whatever is consented to."""
    assert ladder_of(250, [100], SHARES, 100)[0] is None
    assert ladder_of(250, [100], SHARES, 200) == (Ladder(pytest.approx(0.6875)), needed(100))


def test_short_runs_are_whole_and_compared_by_their_loss(toy):
    """Not where the space searches what the loss is made of: those losses cannot be compared."""
    space = dataclasses.replace(toy.space, stopping=ASHAStopping())
    short = short_space(space, Ladder())
    assert short.objective == "best_val_loss" and short.stopping == NoStopping()
    assert short.scale == SHORT and space.objective == "best_per"
    strides = Dimension("model.stride", "model.stride", "choice", choices=(2, 4))
    mixed = dataclasses.replace(space, dimensions=(*space.dimensions, strides))
    assert short_space(mixed, Ladder()).objective == "best_per"
    other = dataclasses.replace(space, objective="last_val_loss")
    assert short_space(other, Ladder()).objective == "last_val_loss"


def test_the_lowest_loss_comes_first(climbing, toy):
    """Where losses can be compared, all of the order is theirs."""
    losses = {}
    for row in load_tables(toy.folder, ["c-search"], ("epochs",))[0]["epochs"].to_pylist():
        losses[row["trial"]] = min(losses.get(row["trial"], row["val_loss"]), row["val_loss"])
    order = [number for number, _ in best_first(toy.folder, "c-search", by_loss=True)]
    assert order == sorted(losses, key=lambda number: (losses[number], number))


@pytest.fixture
def climbing(toy, asked):
    """A campaign whose search has ended in short runs: (campaign, ladder). A whole run takes as many as 8 of them."""
    study = toy.create("c-search", seed=2)
    toy.drive(study)
    study.interrupt("budget")
    study.close()
    batches = toy.space.config(toy.space.start_params(toy.space.start_points[0])[0], 0).training.batches
    space = {**toy.space.as_dict()}
    wanted = asked(space=space, lengths="auto", amount=5.0 * batches)
    campaign = Campaign(toy.folder, wanted)
    ladder, least = lengths_of(wanted)
    assert ladder == Ladder() and least is None
    return campaign, ladder


def test_the_best_by_per_or_by_loss_go_on_longer(climbing, toy, monkeypatch):
    """The lowest PER and the lowest loss of the search; each with its own seed, in runs that are as much longer."""
    campaign, ladder = climbing
    monkeypatch.setattr("tuner.campaign.studies.left", lambda campaign, *steps: campaign.asked.amount)
    plan, note = lengthening(campaign, ladder)
    tables, _ = load_tables(toy.folder, ["c-search"], ("trials", "epochs"))
    rows = {row["trial"]: row for row in tables["trials"].to_pylist() if row["best_per"] is not None}
    order = [number for number, _ in best_first(toy.folder, "c-search", by_loss=False)]
    assert order[0] == min(rows, key=lambda number: (rows[number]["best_per"], number))
    losses = [row for row in tables["epochs"].to_pylist() if row["val_loss"] is not None]
    assert min(losses, key=lambda row: (row["val_loss"], row["trial"]))["trial"] in order[:2]
    assert [entry["parent"] for entry in plan] == [f"c-search/{number}" for number in order[: len(plan)]]
    assert len(plan) >= LONGER and note.startswith(f"the {len(plan)} best of c-search again")
    for entry, number in zip(plan, order, strict=False):
        config = RunConfig.model_validate(entry["config"])
        row = rows[number]
        assert config.training.batches == pytest.approx(LONG / SHORT * row["training_batches"], abs=1)
        assert config.training.seed == row["seed"]


@pytest.mark.parametrize("better", [True, False])
def test_longer_runs_are_confirmed_where_length_helped(climbing, toy, better):
    """At full length then; where the longer run was no better than the short one, at that length."""
    campaign, ladder = climbing
    plan, _ = lengthening(campaign, ladder)
    rows = {r["trial"]: r for r in load_tables(toy.folder, ["c-search"], ("trials",))[0]["trials"].to_pylist()}
    given = {"study": "c-longer", "plan": plan, "searcher": {"kind": "plan"}, "budget": {"trials": len(plan)}}
    study = Study.create(toy.folder / "c-longer", StudySettings.read({**given, "stopping": {"kind": "none"}}), [])
    while (job := study.ask()) is not None:
        per = rows[int(plan[job.trial]["parent"].split("/")[1])]["best_per"] + (-0.01 if better else 0.01)
        for epoch in range(1, job.config.epochs + 1):
            study.report(job.trial, job.attempt, toy.curve(job.config, epoch) | {"per": per, "diverged": False})
    study.close()
    assert longer_is_better(toy.folder, "c-longer") is better
    found, note = confirming(campaign, 100 * campaign.asked.amount)
    lengths = {entry["config"]["training"]["batches"] for entry in found}
    long = RunConfig.model_validate(plan[0]["config"]).training.batches
    assert lengths == ({round(long / LONG)} if better else {long})
    assert ("no better than a short one" in note) is not better
    assert {entry["parent"].split("/")[0] for entry in found} == {"c-longer"}


def test_a_small_budget_needs_consent_to_shorten_whole_runs(asked):
    """The refusal names the least; with consent the plan says how long runs are, and all of it is in the budget."""
    batches = 400
    space = asked().space
    longer = {**space, "fixed": {**space["fixed"], "training.batches": batches, "training.batches_per_epoch": 14}}
    small = asked(space=longer, lengths="auto", amount=1000.0)
    with pytest.raises(InputError, match="or --yes for shorter runs") as error:
        fitted(small, yes=False)
    least = float(str(error.value).split("give --batches ")[1].split(" ")[0])
    assert least == pytest.approx(needed(batches), abs=1)
    assert fitted(dataclasses.replace(small, amount=least), yes=False)[1] == []
    found, (note,) = fitted(small, yes=True)
    assert found.shorter and "0.69 times as long" in note
    rows = {row["step"]: row for row in plan_rows(found)}
    assert {step: row["length"] for step, row in rows.items()} == {"search": "17", "longer": "55", "confirm": "275"}
    assert sum(amounts_of(found).values()) <= 1000
