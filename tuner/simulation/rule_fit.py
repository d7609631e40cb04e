"""Checks that a stopping rule fits its search, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from search_spaces import InputError, RunConfig, Space
from search_spaces.stopping import FIRST_RUNGS, ComparingRule, HyperbandStopping, OneEpochStopping, PBTStopping, Rule
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
    if isinstance(model, OneEpochStopping):
        _check_count(model, budget, where)
    if isinstance(model, PBTStopping):
        check_population(model, space, max(config.epochs for config in draws(space, DRAWS)), budget, where)
    if isinstance(model, ComparingRule | OneEpochStopping):
        configs = draws(space, DRAWS)
        _check_rungs(model, configs, space.name, where)


def _check_count(rule: OneEpochStopping, budget: StudyBudget, where: str) -> None:
    trials = budget.trials
    if not trials:
        raise InputError(
            f"{where}: one_epoch: lets the best {rule.keep} of all trials go on, and the budget has no number of "
            "trials; give --trials, or choose another rule"
        )
    if rule.keep >= trials:
        raise InputError(
            f"{where}: keep: {rule.keep} is not allowed with {trials} trials, none would be stopped; "
            f"give less than {trials}"
        )


def _check_rungs(rule: Rule, configs: Sequence[RunConfig], space: str, where: str) -> None:
    longest = max(Grid.of(config).epochs for config in configs)
    if longest == 1:
        return  # nothing to stop, under any rule

    def compares(bracket: int) -> bool:
        return any(places(rule, grid_under(rule, config, bracket), bracket) for config in configs)

    if not compares(0):
        assert isinstance(rule, ComparingRule)  # noqa: S101  one_epoch has a place in any longer run
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
    if isinstance(rule, HyperbandStopping):
        empty = [bracket for bracket in range(rule.brackets) if not compares(bracket)]
        if len(empty) > 1:  # Hyperband's own last bracket compares no trials
            raise InputError(
                f"{where}: brackets: {rule.brackets} is not allowed; the runs of {space} have rungs for "
                f"{rule.brackets - len(empty)} and one without; give {max(2, rule.brackets - len(empty) + 1)} or less, "
                "or a smaller grace or reduction"
            )
