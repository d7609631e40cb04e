"""What a campaign will do with its budget, before anything is spent: prices, amounts, checks, the plan's table."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

from results.output import Sheet, clock, render
from search_spaces import InputError, RunConfig, Space
from search_spaces.lengths.scaled_space import changes, scaled_space
from tuner.campaign.costs import (
    LEAST_SEEDS,
    WHOLE,
    Price,
    affordable,
    divided,
    least_amount,
)
from tuner.campaign.ladder import Ladder, ladder_of, laddered
from tuner.campaign.record import STUDIES, CampaignAsked
from tuner.simulation.virtual import draws

DRAWN = 64
"""Configurations drawn from a space to see how long its runs are."""


def price_of(asked: CampaignAsked) -> Price:
    """How the campaign pays for runs."""
    return Price(asked.limit, asked.seconds_per_batch, asked.gpus_per_trial, asked.at_once)


def configs_of(space: Space) -> list[RunConfig]:
    """Configurations of a space: its start points, and draws that are always the same."""
    return list(_configs(json.dumps(space.as_dict(), sort_keys=True)))


@lru_cache(maxsize=4)
def _configs(stored: str) -> tuple[RunConfig, ...]:
    space = Space.from_dict(json.loads(stored))
    starts = [space.config(space.start_params(name)[0], 0) for name in space.start_points]
    return (*starts, *draws(space, DRAWN))


def runs_of(space: Space, price: Price) -> list[float]:
    """What whole runs of a space cost."""
    return [price.run(config) for config in configs_of(space)]


def lengths_of(asked: CampaignAsked) -> tuple[Ladder | None, float | None]:
    """The ladder of lengths, None where whole runs are searched; and the least budget where this one is less."""
    space = Space.from_dict(asked.space)
    runs, batches = runs_of(space, price_of(asked)), min(config.training.batches for config in configs_of(space))
    if asked.lengths == "whole" or asked.limit == "trials":
        least = least_amount(runs)
        return None, None if asked.amount >= least * (1 - 1e-9) else least
    return ladder_of(asked.amount, runs, asked.shares, batches)


def amounts_of(asked: CampaignAsked) -> dict[str, float]:
    """The amount of each step.

    A search may go past its limit by an epoch of each trial at once, so the first keeps that back for the confirmation.
    """
    space, price = Space.from_dict(asked.space), price_of(asked)
    runs, (ladder, _) = runs_of(space, price), lengths_of(asked)
    if ladder is not None:
        found = laddered(asked.amount, max(runs), asked.shares, ladder)
    else:
        found = {"longer": 0.0, **divided(asked.amount, runs, asked.shares)}
    found = {step: found[step] for step in STUDIES}
    if asked.limit == "trials":
        return {step: float(int(amount)) for step, amount in found.items()}
    epoch = max(price.epoch(config) for config in configs_of(space)) * (math.sqrt(ladder.short) if ladder else 1)
    found["search"] -= min(epoch * price.concurrent, 0.1 * found["search"])
    return found


def fitted(asked: CampaignAsked, yes: bool) -> tuple[CampaignAsked, list[str]]:
    """What was asked for, and notes; with `yes` and too small a budget, the same with runs that are short enough.

    Raises InputError, with the least that would do, where the budget cannot hold a confirmed answer and runs may not be
    shorter, or cannot be short enough.
    """
    ladder, least = lengths_of(asked)
    if least is None:
        return asked, []
    if yes and ladder is not None:
        shorter = f"{ladder.whole:.2g} times as long as in the space"
        return replace(asked, shorter=True), [f"whole runs are {shorter}, so that the budget holds a confirmed answer"]
    if yes and asked.limit != "trials" and asked.lengths == "whole":
        return _scaled(asked, 0.97 * asked.amount / least)
    option = "--" + asked.limit.replace("_", "-")
    number = math.ceil(least) if asked.limit in WHOLE else math.ceil(1000 * least) / 1000
    raise InputError(
        f"{option} {asked.amount:g}: cannot hold a confirmed answer, something to choose from and {LEAST_SEEDS} fresh "
        f"seeds of a whole run; give {option} {number:g} or more"
        + ("" if yes or asked.limit == "trials" else ", or --yes for shorter runs")
    )


def _scaled(asked: CampaignAsked, scale: float) -> tuple[CampaignAsked, list[str]]:
    """The same in a space with shorter runs, and notes on them."""
    space = Space.from_dict(asked.space)
    shorter = scaled_space(space, scale)
    found = replace(asked, space=shorter.as_dict())
    fitted(found, yes=False)
    return found, [f"all runs are {scale:.2g} times as long, so that the budget holds them", *changes(space, shorter)]


def plan_rows(asked: CampaignAsked) -> list[dict[str, Any]]:
    """A row for each step that costs something."""
    space, price, (ladder, _) = Space.from_dict(asked.space), price_of(asked), lengths_of(asked)
    runs, lengths = runs_of(space, price), sorted(config.training.batches for config in configs_of(space))
    whole = ladder.whole if ladder else 1.0
    rows = []
    for step, amount in amounts_of(asked).items():
        if not amount:
            continue
        share = {"search": ladder.short, "longer": ladder.long}.get(step, whole) if ladder else 1.0
        ends = sorted({max(1, round(lengths[0] * share)), max(1, round(lengths[-1] * share))})
        costs = amount / (share * sorted(runs)[len(runs) // 2])
        what = f"{'about ' if step != 'longer' else ''}{costs:.1f} runs' worth"
        if step == "longer":
            what = f"the best {int(costs + 1e-9)} again, longer"
        if step == "confirm":
            count, each = affordable(amount, [max(runs) * whole] * asked.top, asked.top, asked.seeds)
            what = f"the best {count} again, {each} fresh seeds each, or as many as the rest holds"
        rows.append(
            {
                "step": step,
                "study": f"{asked.name}-{STUDIES[step]}",
                "share": round(amount / asked.amount, 2),
                asked.limit: round(amount) if asked.limit in WHOLE else amount,
                "length": " to ".join(f"{end:,}" for end in ends),
                "what": what,
            }
        )
    return rows


def plan_text(asked: CampaignAsked, test: str, form: str = "table") -> str:
    """The plan as a table; in a terminal and in Markdown with lines on time and the test split."""
    text = render(Sheet.of(plan_rows(asked)), form)
    if form not in ("table", "markdown"):
        return text
    lines = [f"then: the test split ({test}), {asked.name}-campaign/report.html, {asked.name}-campaign/decoder"]
    if asked.seconds_per_batch is not None:
        batches = sum(config.training.batches for config in configs_of(Space.from_dict(asked.space)))
        seconds = batches / len(configs_of(Space.from_dict(asked.space))) * asked.seconds_per_batch
        lines.append(f"a whole run takes about {clock(seconds)} ({asked.seconds_per_batch:.3g} s per batch)")
    dash = "- " if form == "markdown" else ""
    return text + "\n" + "".join(f"{dash}{line}\n" for line in lines)
