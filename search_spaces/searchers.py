"""The searchers that a space or `--searcher` can name, with their settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_STARTUP = "trials drawn at random before the model is used"


_ENDS = (
    "with a rule that pauses: after the first trials, paused ones continue before a new one starts, best first, until "
    "this many have come to their ends (or the share `drain` of the batches is trained): the model learns from ends"
)


class _Searcher(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class TPESearcher(_Searcher):
    """Tree-structured Parzen estimator (Bergstra et al. 2011): proposes what the best trials have."""

    kind: Literal["tpe"] = "tpe"
    startup_trials: int = Field(10, ge=0, description=_STARTUP)
    startup: Literal["spread", "random"] = Field(
        "spread", description="how those are drawn: as points spread evenly over the ranges, or independently"
    )
    multivariate: bool = Field(
        True, description="one model of the dimensions that all trials have, instead of one for each dimension"
    )
    group: bool = Field(
        False, description="with multivariate: also a model for each group of dimensions that occur together"
    )
    constant_liar: bool = Field(
        True, description="trials that have not come to a rung count as bad ones, so that workers keep apart"
    )
    order: Literal["rungs", "ends"] = Field(
        "rungs",
        description="what the best trials are: by all rungs, so that stopped, paused and running trials are compared "
        "with the others at the last rung they reached; or ends: completed trials before all others, as Optuna does",
    )
    ends: int = Field(8, ge=0, description=_ENDS)


class RandomSearcher(_Searcher):
    """Independent random draws."""

    kind: Literal["random"] = "random"


class GPSearcher(_Searcher):
    """Gaussian process of where trials end: for few and expensive trials in a space of up to about ten dimensions."""

    kind: Literal["gp"] = "gp"
    startup_trials: int = Field(6, ge=1, description="trials drawn spread over the ranges before the model is used")
    explore: float = Field(
        1.0,
        ge=0,
        description="standard deviations of the prediction that are taken off where the model is unsure, with one "
        "objective; 0 = each proposal has the lowest predicted value, and many are alike",
    )
    ends: int = Field(8, ge=0, description=_ENDS)
    most: int = Field(200, ge=10, description="most trials that the model is fitted to: the best half and the latest")


class CMAESSearcher(_Searcher):
    """CMA-ES (Hansen 2016) over the numbers without conditions: for many trials and settings that interact smoothly."""

    kind: Literal["cmaes"] = "cmaes"
    startup_trials: int = Field(10, ge=1, description=_STARTUP)
    population: int | None = Field(None, ge=4, description="trials of a generation; null = 4 + 3 ln(dimensions)")
    sigma: float = Field(0.2, gt=0, le=1, description="first step size, as a fraction of each range")


class QMCSearcher(_Searcher):
    """Scrambled Sobol points: like random search, but evenly spread (Bergstra and Bengio 2012)."""

    kind: Literal["qmc"] = "qmc"


class NSGA2Searcher(_Searcher):
    """NSGA-II (Deb et al. 2002): a genetic search for several objectives."""

    kind: Literal["nsga2"] = "nsga2"
    population: int = Field(20, ge=4, description="trials of a generation; the first is drawn at random")
    crossover: float = Field(0.9, ge=0, le=1, description="chance that a trial has two parents")
    mutation: float | None = Field(
        None, ge=0, le=1, description="chance that a setting is drawn anew; null = 1 / dimensions"
    )


class GridSearcher(_Searcher):
    """Every combination of choices and steps, each once; the search ends when all have been tried."""

    kind: Literal["grid"] = "grid"
    points: int | None = Field(
        None,
        ge=2,
        le=1000,
        description="values of a range without steps, evenly spread with both ends; null = all dimensions have steps",
    )
    shuffle: bool = Field(
        True, description="in an order shuffled by the seed, so that a part of the grid is spread over it"
    )


Searcher = Annotated[
    TPESearcher | RandomSearcher | GPSearcher | CMAESSearcher | QMCSearcher | NSGA2Searcher | GridSearcher,
    Field(discriminator="kind"),
]
SEARCHERS = ("tpe", "gp", "cmaes", "qmc", "random", "nsga2", "grid")
_BEFORE: dict[str, dict[str, Any]] = {
    "tpe": {
        "startup": "random",
        "multivariate": True,
        "group": True,
        "constant_liar": True,
        "order": "ends",
        "ends": 0,
    },
    "gp": {"startup_trials": 10, "ends": 0},
}
"""By kind, what was in force before a setting existed, where that is not its default."""


def stored(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a searcher in a log: those that an older log does not have are as they were then.

    >>> stored({"kind": "tpe", "startup_trials": 4})["group"]
    True
    """
    return {**_BEFORE.get(settings["kind"], {}), **settings}
