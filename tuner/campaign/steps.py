"""The steps of a campaign, in order: what each reads and writes, and what it does.

A step that searches or trains is an ordinary study, begun or gone on with as the ordinary commands do; what it found is
read back from its log. A step is done when the campaign's record says so, so a kill between the two only makes it look
at a finished study again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from results.report import write
from results.trials import find_trial
from search_spaces import InputError, RunConfig, Space, load_space, to_dict
from search_spaces.lengths.scale import scaled_run
from search_spaces.plan import Budget
from tuner.analysis.export import export_trial
from tuner.analysis.narrow import write_space
from tuner.analysis.report import make_page
from tuner.campaign import costs, studies
from tuner.campaign import ladder as ladders
from tuner.campaign.costs import affordable, amount_text
from tuner.campaign.planning import amounts_of, lengths_of, price_of, runs_of
from tuner.campaign.record import Campaign
from tuner.campaign.test_split import score_test
from tuner.campaign.winner import best_first, longer_is_better, ranked, winner
from tuner.launch.search import run_plan
from tuner.launch.search import search as begin
from tuner.planned.confirm import fresh_seeds, make_plan, note_on_heirs


@dataclass(frozen=True)
class Step:
    """One step: `run` does it and returns its facts, JSON types, for the campaign's record."""

    name: str
    reads: str
    writes: str
    run: Callable[[Campaign], dict[str, Any]]


def _search(campaign: Campaign) -> dict[str, Any]:
    ladder, _ = lengths_of(campaign.asked)
    space = ladders.short_space(campaign.space, ladder) if ladder else campaign.space
    return _searched(campaign, "search", space, amounts_of(campaign.asked)["search"], ())


def _longer(campaign: Campaign) -> dict[str, Any]:
    """Where the search had short runs: its best again in longer ones, as many as their part of the budget holds."""
    ladder, _ = lengths_of(campaign.asked)
    if ladder is None:
        return {"study": None, "why": "the search had whole runs"}

    def start() -> int:
        plan, note = lengthening(campaign, ladder)
        print(note, file=sys.stderr)
        return run_plan(campaign.study("longer"), studies.request(campaign), lambda _: plan, origin_note=note)

    studies.run(campaign, "longer", start)
    return studies.facts(campaign, "longer")


def lengthening(campaign: Campaign, ladder: ladders.Ladder) -> tuple[list[dict[str, Any]], str]:
    """The plan of the longer runs with what the confirmation leaves, and a line on it."""
    price, before = price_of(campaign.asked), campaign.study("search")
    amount = studies.left(campaign, "search") - amounts_of(campaign.asked)["confirm"]
    plan: list[dict[str, Any]] = []
    by_loss = studies.settings(campaign, "search").objective == ladders.BY_LOSS
    for number, short in best_first(campaign.results_dir, before, by_loss):
        config = scaled_run(RunConfig.model_validate(short), ladder.long / ladder.short)
        amount -= price.run(config)
        if amount < 0 and len(plan) >= ladders.LONGER:
            break
        plan += make_plan(before, [(number, to_dict(config))], [config.training.seed])
    if not plan:
        raise InputError(f"{before}: no trial has a PER, so there is nothing to go on with; 'tuner show {before}/0'")
    return plan, f"the {len(plan)} best of {before} again, in runs {ladder.long / ladder.short:.1f} times as long"


def _narrow(campaign: Campaign) -> dict[str, Any]:
    """A second search in a smaller space, where it promises more; else why not."""
    amounts = amounts_of(campaign.asked)
    amount = min(studies.left(campaign, "search") - amounts["confirm"], amounts["narrow"])
    before = campaign.study("search")
    if studies.begun(campaign, "narrow"):
        return _searched(campaign, "narrow", load_space(campaign.paths.space), amount, (before,))
    if not amounts["narrow"]:
        return {"study": None, "why": "too small for a second search: the first had its part"}
    space, why = _promising(campaign, amount)
    if space is None:
        print(f"no second search: {why}; its part of the budget goes to the confirmation", file=sys.stderr)
        return {"study": None, "why": why}
    return _searched(campaign, "narrow", space, amount, (before,))


def _promising(campaign: Campaign, amount: float) -> tuple[Space | None, str]:
    """The narrower space, or None and why a second search does not promise more."""
    price, before = price_of(campaign.asked), campaign.study("search")
    runs = runs_of(campaign.space, price)
    if amount < costs.LEAST_NARROWED * sorted(runs)[len(runs) // 2]:
        return None, f"its part of the budget would hold fewer than {costs.LEAST_NARROWED} whole runs"
    try:
        space, changes, _ = write_space(campaign.results_dir, before, campaign.paths.space, keep=0.25, force=True)
    except InputError as error:
        return None, str(error.problems[0])
    narrower = [change for change in changes if change.new != change.old]
    if not narrower:
        return None, f"the best trials of {before} lie all over its space"
    said = ", ".join(change.old.name for change in narrower)
    print(f"narrowed from {before}: {said} ({campaign.paths.space})", file=sys.stderr)
    return space, ""


def _searched(campaign: Campaign, step: str, space: Space, amount: float, earlier: tuple[str, ...]) -> dict[str, Any]:
    """Begin a step's search, or go on with it."""
    asked = campaign.asked
    limit: Any = int(amount) if asked.limit in costs.WHOLE else amount
    space = replace(space, budget=Budget.model_validate({asked.limit: limit}))
    wanted = studies.request(campaign, **{asked.limit: limit})
    if earlier:  # the first search has tried the start points
        wanted = replace(wanted, warm_start=earlier, start=())
    studies.run(campaign, step, lambda: begin(space, campaign.study(step), wanted))
    return studies.facts(campaign, step)


def _confirm(campaign: Campaign) -> dict[str, Any]:
    """The leaders of the searches again with fresh seeds, whole runs, as many as the rest of the budget holds."""

    def start() -> int:
        left = studies.left(campaign, "search", "longer", "narrow")
        plan, note = confirming(campaign, left)
        print(note, file=sys.stderr)
        wanted = studies.request(campaign, **({"hours": left} if campaign.asked.limit == "hours" else {}))
        search = campaign.study("search")
        return run_plan(campaign.study("confirm"), wanted, lambda _: plan, confirms=search, origin_note=note)

    studies.run(campaign, "confirm", start)
    found = winner(campaign.results_dir, campaign.study("confirm"))
    return {**studies.facts(campaign, "confirm"), "winner": found.parent, "decoder": found.decoder}


def confirming(campaign: Campaign, left: float) -> tuple[list[dict[str, Any]], str]:
    """The plan of the confirmation with the budget that is left, and a line on it."""
    asked, price = campaign.asked, price_of(campaign.asked)
    found, length = _leaders(campaign)
    if lengths_of(asked)[0] is not None:  # which length is trained is the campaign's choice
        found = [(study, number, fitting(config, price, left)) for study, number, config in found]
    prices = [price.run(RunConfig.model_validate(config)) for _, _, config in found]
    count, each = affordable(left, prices, asked.top, asked.seeds)
    over = ""
    if not count:
        count, each = 1, costs.LEAST_SEEDS
        over = f"; this goes past the budget by about {amount_text(asked.limit, count * each * prices[0] - left)}"
    chosen = found[:count]
    seeds = fresh_seeds(asked.seed, each, 0)
    plan = [
        entry
        for seed in seeds
        for study, number, config in chosen
        for entry in make_plan(study, [(number, config)], [seed])
    ]
    cost = amount_text(asked.limit, each * sum(prices[:count]))
    note = f"confirming: {count} configuration{'s' * (count > 1)} with {each} new seeds each, {cost}{over}{length}"
    heirs = [note_on_heirs(campaign.results_dir, study, [(number, config)]) for study, number, config in chosen]
    return plan, "\n".join([note, *(f"note: {line}" for line in heirs if line)])


def fitting(config: dict[str, Any], price: costs.Price, left: float) -> dict[str, Any]:
    """A configuration, made shorter where `costs.LEAST_SEEDS` runs of it cost more than what is left."""
    run = RunConfig.model_validate(config)
    if price.limit == "trials":  # a run counts one, however long it is
        return config
    while left > 0 and (share := left / (costs.LEAST_SEEDS * price.run(run))) < 1:
        shorter = scaled_run(run, 0.999 * share)
        if shorter.training.batches >= run.training.batches:
            break  # it cannot be made shorter
        run = shorter
    return to_dict(run)


def _leaders(campaign: Campaign) -> tuple[list[tuple[str, int, dict[str, Any]]], str]:
    """What is confirmed, best first, at the length that it is confirmed at, and words on that length."""
    asked, (ladder, _) = campaign.asked, lengths_of(campaign.asked)
    if ladder is None:
        return ranked(campaign.results_dir, studies.searches(campaign))[: asked.top], ""
    found = ranked(campaign.results_dir, [campaign.study("longer")])[: asked.top]
    if not longer_is_better(campaign.results_dir, campaign.study("longer")):
        return found, "; at this length, because a longer run was no better than a short one"
    whole = [
        (study, number, to_dict(scaled_run(RunConfig.model_validate(config), ladder.whole / ladder.long)))
        for study, number, config in found
    ]
    return whole, f"; {RunConfig.model_validate(whole[0][2]).training.batches:,} batches each"


def _test(campaign: Campaign) -> dict[str, Any]:
    if not campaign.asked.test:
        return {"why": "not asked for (--no-test)"}
    decoder = campaign.done["confirm"]["decoder"]
    trial = find_trial(campaign.results_dir, campaign.study("confirm"), str(decoder))
    return score_test(campaign.results_dir, trial, campaign.asked.data, by=f"campaign {campaign.asked.name}")


def _report(campaign: Campaign) -> dict[str, Any]:
    names = [*studies.searches(campaign), campaign.study("confirm")]
    size = write(campaign.paths.report, make_page(campaign.results_dir, names))
    return {"file": str(campaign.paths.report), "bytes": size}


def _bundle(campaign: Campaign) -> dict[str, Any]:
    trial = find_trial(campaign.results_dir, campaign.study("confirm"), str(campaign.done["confirm"]["decoder"]))
    said = export_trial(trial, "bundle", campaign.paths.bundle, force=True)
    return {"folder": str(campaign.paths.bundle), "trial": trial.name, "said": said}


STEPS = (
    Step("search", "the space, the data", "a study", _search),
    Step("longer", "the best of a search in short runs", "a study of longer runs", _longer),
    Step("narrow", "the search", "a narrower space, a study", _narrow),
    Step("confirm", "the leaders of both searches", "a study with fresh seeds", _confirm),
    Step("test", "the confirmed winner, the test split", "a PER, and a line on the use of the split", _test),
    Step("report", "all studies", "report.html", _report),
    Step("bundle", "the confirmed winner's decoder", "a folder that needs only torch", _bundle),
)
"""In the order in which they run. What must be right before anything is spent is in `tuner.campaign.planning`."""
