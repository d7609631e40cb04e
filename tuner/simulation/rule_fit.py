"""Checks that a stopping rule fits its search, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from search_spaces import InputError, RunConfig, Space
from search_spaces.lengths.ladder import run_counts
from search_spaces.stopping import FIRST_RUNGS, ComparingRule, NoStopping, PBTStopping
from tuner.simulation.virtual import draws
from tuner.study.rules.population import check as check_population
from tuner.study.rules.rungs import Grid, grid_under, places, read_rule
from tuner.study.settings import StudyBudget

DRAWS = 48
"""Configurations of the space that are looked at."""


def check_fit(rule: Mapping[str, Any], space: Space, budget: StudyBudget, where: str) -> None:
    """Raises InputError for a rule that could never compare trials in a search of `space`, or not as its settings say.

    `where` begins the line: the option, or the space and its key.
    """
    model = read_rule(rule)
    if space.lengths:
        if not isinstance(model, NoStopping):
            kind = rule["kind"]
            raise InputError(f"{where}: {kind} cannot be used with lengths, whose runs are whole; leave it out")
        run_counts(space, budget.as_dict())  # raises where the budget cannot be divided
    if isinstance(model, PBTStopping):
        check_population(model, space, max(config.epochs for config in draws(space, DRAWS)), budget, where)
    if isinstance(model, ComparingRule):
        configs = draws(space, DRAWS)
        _check_rungs(model, configs, space.name, where)


def _check_rungs(rule: ComparingRule, configs: Sequence[RunConfig], space: str, where: str) -> None:
    longest = max(Grid.of(config).epochs for config in configs)
    if longest == 1:
        return  # nothing to stop, under any rule

    if not any(places(rule, grid_under(rule, config)) for config in configs):
        if rule.at == "epochs":
            raise InputError(
                f"{where}: grace: {rule.grace} is not allowed; the longest runs of {space} have {longest} epochs, so "
                f"no trial would ever be compared; give {longest - 1} or less"
            )
        raise InputError(
            f"{where}: grace: {rule.grace:g} of the {rule.at} is not allowed; no run of {space} is evaluated between "
            f"there and its end; give less (such as {FIRST_RUNGS[rule.at] / 2:g}), or a smaller "
            "training.batches_per_epoch"
        )
