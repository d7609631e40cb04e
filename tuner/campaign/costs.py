"""What runs cost in the unit of a campaign's limit, and how the limit is divided.

A confirmed answer needs whole runs: `LEAST_SEARCHED` in the search, and `LEAST_SEEDS` fresh seeds of one configuration.
A budget below that is refused with the least that would do. The shares are wishes within that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search_spaces import InputError, RunConfig
from tuner.campaign.record import LIMITS, SHARES

LEAST_SEARCHED = 3
"""Whole runs that the search must be able to pay, so that there is something to choose from."""
LEAST_SEEDS = 2
"""Fresh seeds without which there is no interval."""
LEAST_NARROWED = 4
"""Whole runs below which a second search promises nothing."""
WORDS = {
    "hours": "hours",
    "gpu_hours": "GPU-hours",
    "batches": "batches",
    "utterances": "utterances",
    "trials": "trials",
}
WHOLE = ("batches", "utterances", "trials")
"""Limits that are whole numbers."""


@dataclass(frozen=True)
class Price:
    """How runs are paid: in which unit, and what a batch takes of time where the unit is one of time."""

    limit: str
    seconds_per_batch: float | None = None
    gpus_per_trial: float = 0.0
    concurrent: int = 1

    def run(self, config: RunConfig) -> float:
        """A whole run of a configuration."""
        return self.batches(config, config.training.batches)

    def epoch(self, config: RunConfig) -> float:
        """One epoch: a search may go past its limit by one for each trial at once."""
        return self.batches(config, min(config.training.batches_per_epoch, config.training.batches))

    def batches(self, config: RunConfig, count: int) -> float:
        """So many batches of a configuration; a trial counts one, however long it is."""
        if self.limit == "trials":
            return 1.0
        if self.limit == "batches":
            return float(count)
        if self.limit == "utterances":
            return float(count * config.training.batch_size * config.training.accumulation)
        assert self.seconds_per_batch is not None  # noqa: S101  measured before anything is priced in time
        hours = count * self.seconds_per_batch / 3600
        return hours * self.gpus_per_trial if self.limit == "gpu_hours" else hours / self.concurrent


def amount_text(limit: str, amount: float) -> str:
    """`21,336 utterances`, `2.5 hours`."""
    number = f"{math.floor(amount + 1e-9):,}" if limit in WHOLE else f"{amount:.3g}"
    return f"{number} {WORDS[limit].removesuffix('s') if number == '1' else WORDS[limit]}"


def least_amount(runs: Sequence[float]) -> float:
    """The least budget that holds a confirmed answer; `runs` are the costs of whole runs that the space may give.

    The search must be able to pay runs of a middling length, the confirmation the longest.
    """
    return LEAST_SEARCHED * _middle(runs) + LEAST_SEEDS * max(runs)


def divided(amount: float, runs: Sequence[float], shares: Mapping[str, float]) -> dict[str, float]:
    """The amount of each step. The confirmation gets its share, or where that is too little its least; the searches
    divide the rest as their shares say, and a second search that is too small for its purpose leaves its part to the
    first.
    """
    confirm = max(shares["confirm"] * amount, LEAST_SEEDS * max(runs))
    rest = amount - confirm
    narrow = rest * shares["narrow"] / (shares["search"] + shares["narrow"])
    if narrow < LEAST_NARROWED * _middle(runs):
        narrow = 0.0
    return {"search": rest - narrow, "narrow": narrow, "confirm": confirm}


def _middle(runs: Sequence[float]) -> float:
    return sorted(runs)[len(runs) // 2]


def parse_shares(text: str | None) -> dict[str, float]:
    """`search=0.6,narrow=0.2,confirm=0.2` as numbers; a share left out gets what its default has of the rest.

    Raises InputError for an unknown step, a share that is no number from 0 to 1, no share for search or confirm, and a
    sum above 1.
    """
    given: dict[str, float] = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        name, _, value = part.partition("=")
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if name.strip() not in SHARES or not 0 <= share <= 1:
            raise InputError(
                f"--shares: {part.strip()!r} is not allowed; give shares such as search=0.6,narrow=0.2,confirm=0.2"
            )
        given[name.strip()] = share
    rest, usual = 1 - sum(given.values()), sum(SHARES[name] for name in SHARES if name not in given)
    if rest < -1e-9 or (not usual and rest > 1e-9):
        raise InputError(f"--shares: they add up to {sum(given.values()):g}; let them add up to 1")
    shares = {name: given.get(name, SHARES[name] * rest / usual if usual else 0.0) for name in SHARES}
    for name in ("search", "confirm"):
        if shares[name] < 0.01:
            raise InputError(
                f"--shares: {name} gets {max(0.0, shares[name]):g}; an answer needs both search and confirm"
            )
    return shares


def chosen_limit(given: Mapping[str, float | int | None]) -> tuple[str, float]:
    """The one limit among the options, and its amount. Raises InputError for none, or several."""
    limits = [(name, given[name]) for name in LIMITS if given.get(name) is not None]
    options = ", ".join("--" + name.replace("_", "-") for name in LIMITS)
    if len(limits) != 1:
        said = "and ".join(f"--{name.replace('_', '-')} " for name, _ in limits) or "no budget "
        raise InputError(f"{said}given; a campaign divides one budget: give one of {options}")
    name, amount = limits[0]
    return name, float(amount or 0)


def affordable(budget: float, costs: Sequence[float], top: int, seeds: int) -> tuple[int, int]:
    """How many of the leaders, best first with these costs of a run, and how many seeds each; (0, 0) for too little.

    With few runs as many seeds as configurations; what a small `top` leaves goes to more seeds.
    """
    for leaders in range(min(top, len(costs)), 0, -1):
        longest = max(costs[:leaders])
        runs = math.floor(budget / longest + 1e-9)
        each = min(seeds, runs // leaders)
        if each >= max(LEAST_SEEDS, min(seeds, leaders)):
            return leaders, each
    return 0, 0
