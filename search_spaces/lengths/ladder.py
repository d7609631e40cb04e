"""A ladder of lengths: whole short runs first, and the best settings again in longer ones.

A rung of the ladder is a length, a multiple of the space's. A run of each has its whole schedule, laid out for its own
length (`scale.scaled_run`). New settings are drawn for the shortest; the best third of a length come to the next one,
at least one comes to the longest. How many runs each length gets follows from the budget (`run_counts`).
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import replace

from search_spaces.errors import InputError
from search_spaces.lengths.scale import clash_with_lengths, problem_of_lengths, scaled_value
from search_spaces.parsing.sections import merge, nested, value_at
from search_spaces.space import LENGTH, Space
from search_spaces.stopping import NoStopping
from search_spaces.wording import not_allowed, show

REDUCTION = 3
"""The best 1 / REDUCTION of the runs of a length come to the next one."""
LIMITS = ("trials", "batches", "utterances")
"""The limits that can be divided among lengths before anything has run."""


def with_lengths(space: Space, lengths: Sequence[float]) -> Space:
    """The space with runs of several lengths, each of them whole: no stopping rule. Raises InputError."""
    if reason := problem_of_lengths(lengths) or clash_with_lengths(space.dimensions):
        raise InputError(f"{space.name}: lengths: {reason}")
    return replace(space, lengths=tuple(map(float, lengths)), stopping=NoStopping())


def read_lengths(text: str) -> tuple[float, ...]:
    """`0.25,0.5,1,2` as numbers. Raises ValueError, in the words of an error line."""
    try:
        lengths = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(not_allowed(text, "numbers with commas, such as 0.25,0.5,1,2")) from None
    if reason := problem_of_lengths(lengths):
        raise ValueError(reason)
    return lengths


def run_costs(space: Space, limit: str) -> list[int]:
    """What a run of each length uses of a limit of `LIMITS`, an upper bound where batch sizes are searched."""
    settings = merge(space.config_base, nested(space.fixed))
    batches = [scaled_value("training.batches", value_at(settings, "training.batches"), each) for each in space.lengths]
    if limit == "trials":
        return [1] * len(batches)
    if limit == "batches":
        return batches
    size = 1
    for path in ("training.batch_size", "training.accumulation"):
        searched = [end for d in space.dimensions if d.path == path for end in (d.choices or d.ends)]
        size *= int(max([value_at(settings, path), *searched]))
    return [each * size for each in batches]


def run_counts(space: Space, budget: Mapping[str, float | None]) -> list[int]:
    """How many runs each length gets, shortest first: as many of the shortest as leave room for those that follow.

    What is left over then goes to the shortest first. `budget` has limits by name; of several the tightest counts.
    Raises InputError where it has none of `LIMITS`, or does not pay for one run of each length.
    """
    limits = {name: float(limit) for name in LIMITS if (limit := budget.get(name))}
    if not limits:
        raise InputError(
            f"{space.name}: lengths divide a budget of trials, batches or utterances; give --batches, --utterances or "
            "--trials"
        )
    costs = {name: run_costs(space, name) for name in limits}

    def fits(counts: Sequence[int]) -> bool:
        totals = {name: sum(n * c for n, c in zip(counts, each, strict=True)) for name, each in costs.items()}
        return all(totals[name] <= limit for name, limit in limits.items())

    short = [name for name in limits if sum(costs[name]) > limits[name]]
    if short:
        needs = " and ".join(f"{sum(costs[name]):,} {name}, and the budget is {limits[name]:,.0f}" for name in short)
        raise InputError(
            f"{space.name}: one run of each length {show(list(space.lengths))} takes {needs}; give a larger budget, or "
            "fewer or shorter lengths"
        )
    most = 1
    while fits(_halved(2 * most, len(space.lengths))):
        most *= 2
    too_many = bisect.bisect_left(
        range(2 * most + 1), True, lo=1, key=lambda n: not fits(_halved(n, len(space.lengths)))
    )
    counts = _halved(too_many - 1, len(space.lengths))
    for level in range(len(counts)):
        while fits([n + (i == level) for i, n in enumerate(counts)]) and (
            not level or counts[level] < counts[level - 1]
        ):
            counts[level] += 1
    return counts


def _halved(shortest: int, levels: int) -> list[int]:
    counts = [shortest]
    while len(counts) < levels:
        counts.append(max(1, counts[-1] // REDUCTION))
    return counts


def level_of(space: Space, params: Mapping[str, object]) -> int:
    """The place of a trial's length among the space's, from 0; a trial without one has the length 1, or the nearest."""
    length = params.get(LENGTH, 1.0)
    return min(range(len(space.lengths)), key=lambda place: abs(space.lengths[place] - float(length)))  # type: ignore[arg-type]
