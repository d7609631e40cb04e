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
    LEAST_SEARCHED,
    LEAST_SEEDS,
    WHOLE,
    Price,
    affordable,
    divided,
    least_amount,
)
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


def amounts_of(asked: CampaignAsked) -> dict[str, float]:
    """The amount of each step.

    A search may go past its limit by an epoch of each trial at once, so the first keeps that back for the confirmation.
    """
    space, price = Space.from_dict(asked.space), price_of(asked)
    found = divided(asked.amount, runs_of(space, price), asked.shares)
    if asked.limit == "trials":
        return {step: float(int(amount)) for step, amount in found.items()}
    epoch = max(price.epoch(config) for config in configs_of(space))
    found["search"] -= min(epoch * price.concurrent, 0.1 * found["search"])
    return found


def check_amount(asked: CampaignAsked) -> None:
    """Raises InputError where the budget cannot hold a confirmed answer, with the least that would."""
    least = least_amount(runs_of(Space.from_dict(asked.space), price_of(asked)))
    if asked.amount >= least - 1e-9:
        return
    option = "--" + asked.limit.replace("_", "-")
    least = math.ceil(least) if asked.limit in WHOLE else math.ceil(1000 * least) / 1000
    raise InputError(
        f"{option} {asked.amount:g}: cannot hold a confirmed answer, for which {LEAST_SEARCHED} whole runs to choose "
        f"from and {LEAST_SEEDS} fresh seeds of the longest are needed; give {option} {least:g} or more"
    )


def fitted(asked: CampaignAsked, yes: bool) -> tuple[CampaignAsked, list[str]]:
    """What was asked for, and notes; with `yes` and too small a budget, the same with runs that are short enough.

    Raises InputError as `check_amount` does where they may not be shorter, or cannot be short enough.
    """
    try:
        check_amount(asked)
        return asked, []
    except InputError:
        if not yes or asked.limit == "trials":
            raise
    space, price = Space.from_dict(asked.space), price_of(asked)
    scale = 0.97 * asked.amount / least_amount(runs_of(space, price))
    shorter = scaled_space(space, scale)
    found = replace(asked, space=shorter.as_dict())
    check_amount(found)
    return found, [f"all runs are {scale:.2g} times as long, so that the budget holds them", *changes(space, shorter)]


def plan_rows(asked: CampaignAsked) -> list[dict[str, Any]]:
    """A row for each step that costs something."""
    space, price = Space.from_dict(asked.space), price_of(asked)
    runs, lengths = runs_of(space, price), sorted(config.training.batches for config in configs_of(space))
    long = f"{lengths[0]:,}" + (f" to {lengths[-1]:,}" if lengths[-1] > lengths[0] else "")
    rows = []
    for step, amount in amounts_of(asked).items():
        what = f"about {amount / sorted(runs)[len(runs) // 2]:.1f} whole runs' worth, of {long} batches"
        if step == "confirm":
            count, each = affordable(amount, [max(runs)] * asked.top, asked.top, asked.seeds)
            what = f"the best {count} again, {each} fresh seeds each, or as many as the rest holds"
        rows.append(
            {
                "step": step,
                "study": f"{asked.name}-{STUDIES[step]}" if amount else "",
                "share": round(amount / asked.amount, 2),
                asked.limit: round(amount) if asked.limit in WHOLE else amount,
                "what": what if amount else "too small for a second search: the first has it",
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
