"""Which run a search with several lengths starts next: a function of the log (`search_spaces.lengths.ladder`).

A run comes to the next length when nothing that is still to end can displace it: so all workers are kept busy, and the
trials of a length do not depend on how many there are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from search_spaces import Space
from search_spaces.lengths.ladder import level_of, run_counts
from tuner.study import objectives
from tuner.study.settings import StudySettings
from tuner.study.trial_state import TrialState


class Searching(Protocol):
    """What is asked of the state of a study."""

    settings: StudySettings
    space: Space | None
    trials: dict[int, TrialState]

    def proposals_left(self, left: int) -> int:
        """How many of `left` further trials the start points and the searcher can give."""


@dataclass
class Level:
    """The trials of one length."""

    planned: int
    """How many it gets; fewer where too few of the length below have a result."""
    trials: list[int] = field(default_factory=list)
    ended: int = 0
    ranked: list[int] = field(default_factory=list)
    """Those that came to their end, best first."""
    went_on: set[int] = field(default_factory=set)
    """Those that were started again at the next length."""


def levels(state: Searching) -> list[Level]:
    """The lengths of the study, shortest first, with their trials."""
    assert state.space is not None  # noqa: S101  asked for a space with lengths only
    found = [Level(count) for count in run_counts(state.space, state.settings.budget.as_dict())]
    for number, trial in state.trials.items():
        place = level_of(state.space, trial.params)
        found[place].trials.append(number)
        found[place].ended += trial.final
        if (shorter := trial.about.get("shorter")) is not None and place:
            found[place - 1].went_on.add(shorter)
    for level in found:
        results = {number: _value(state, number) for number in level.trials}
        level.ranked = sorted((n for n, value in results.items() if value < math.inf), key=lambda n: (results[n], n))
    found[0].planned = len(found[0].trials) + state.proposals_left(max(0, found[0].planned - len(found[0].trials)))
    for below, level in itertools.pairwise(found):
        still = max(0, below.planned - below.ended)
        level.planned = max(len(level.trials), min(level.planned, len(below.ranked) + still))
    return found


def _value(state: Searching, number: int) -> float:
    trial = state.trials[number]
    if trial.status != "completed":
        return math.inf
    value = objectives.values(trial, state.settings)
    first = value[0] if isinstance(value, list | tuple) else value
    return math.inf if first is None or math.isnan(first) else float(first)


def trials_left(state: Searching) -> int:
    """Trials of all lengths that are still to be started."""
    return sum(max(0, level.planned - len(level.trials)) for level in levels(state))


def next_run(state: Searching) -> int | bool | None:
    """The trial whose settings run next at the next length; True for new settings; None while others must end first.

    Longer runs come first.
    """
    found = levels(state)
    for below, level in reversed(list(itertools.pairwise(found))):
        if len(level.trials) >= level.planned:
            continue
        still = max(0, below.planned - below.ended)
        sure = below.ranked[: max(0, level.planned - still)]
        if (best := next((number for number in sure if number not in below.went_on), None)) is not None:
            return best
    return True if len(found[0].trials) < found[0].planned else None


def longer(state: Searching, number: int) -> dict[str, Any]:
    """The parameters of a trial for the next length."""
    assert state.space is not None  # noqa: S101
    params: Mapping[str, Any] = state.trials[number].params
    return state.space.at_length(params, level_of(state.space, params) + 1)


def drawn(state: Searching) -> int:
    """How many trials since the first start point of the settings in force are no longer runs of others."""
    since = (state.trials[n] for n in state.trials if n >= state.settings.starts_from)
    return sum("shorter" not in trial.about for trial in since)
