"""What a kind of searcher is, and how Optuna has a space's samples.

The contract is in the docstring of `Method`; every kind in `samplers.METHODS` keeps it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypedDict, TypeVar

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from search_spaces import Dimension, Space
from search_spaces.space import LENGTH

optuna.logging.set_verbosity(optuna.logging.WARNING)

S = TypeVar("S")
MAX_DRAWS = 200
"""How often a proposal that breaks a declared constraint is drawn again."""


def distribution(dimension: Dimension) -> BaseDistribution:
    """The Optuna distribution of a sampled dimension: that of its coordinate where Optuna has none for its samples."""
    if dimension.kind == "choice":
        return CategoricalDistribution(dimension.choices)
    if not dimension.native:
        return FloatDistribution(0.0, 1.0)
    low, high = dimension.ends
    if dimension.kind in ("int", "log_int"):
        return IntDistribution(int(low), int(high), log=dimension.kind == "log_int", step=int(dimension.q or 1))
    return FloatDistribution(low, high, log=dimension.kind == "log_uniform", step=dimension.q)


def coded(dimension: Dimension, sample: Any) -> Any:
    """A sample as Optuna has it: itself, or its coordinate."""
    return sample if dimension.kind == "choice" or dimension.native else dimension.to_unit(sample)


def coded_at(dimension: Dimension, u: float) -> Any:
    """The sample at coordinate `u`, as Optuna has it."""
    return coded(dimension, dimension.from_unit(u))


def unit_of(dimension: Dimension, code: Any) -> float:
    """The coordinate of a number as Optuna has it."""
    return dimension.to_unit(code) if dimension.native else float(code)


class OptunaParams(TypedDict):
    """The parameters of a trial, as arguments of Optuna's `create_trial`."""

    params: dict[str, Any]
    distributions: dict[str, BaseDistribution]


def optuna_params(space: Space, params: Mapping[str, Any]) -> OptunaParams:
    """Samples as Optuna has them."""
    here = [d for d in space.dimensions if d.name in params]
    length = {LENGTH: params[LENGTH]} if LENGTH in params else {}
    return {
        "params": {d.name: coded(d, params[d.name]) for d in here} | length,
        "distributions": {d.name: distribution(d) for d in here}
        | {name: CategoricalDistribution(space.lengths) for name in length},
    }


class Method(ABC, Generic[S]):
    """A kind of searcher over a space, with its settings; the base of all.

    Its contract, which the suite `tuner.testing.searchers` checks clause by clause: every proposal is a point of
    the space that keeps the constraints; what it proposes is a function of the seed, the number of the trial
    and the trials that were reported, in the order of their ends, so that a searcher that is made anew from the
    log goes on as the live one; it draws from no global random generator; it takes trials that it did not
    propose, withdrawn proposals and any end of a trial; it changes nothing that it is given; `left` counts down
    to 0 where there is an end.

    `draws` is how many draws a proposal may take from the model; the rest are random. (A model may insist on a region
    that a constraint forbids.)
    """

    draws = 50

    def __init__(self, space: Space, settings: S, seed: int) -> None:
        self.space, self.settings, self.seed = space, settings, seed

    @abstractmethod
    def sampler(self, study: optuna.Study, ended: Sequence[FrozenTrial], number: int, seed: int) -> BaseSampler:
        """The sampler of a draw for trial `number`; `ended` are the reported trials, in the order of their ends."""

    def view(self, study: optuna.Study) -> optuna.Study:
        """The study that the sampler sees."""
        return study

    def born(self) -> dict[str, Any]:
        """Optuna's attributes of a trial that ended before the study began."""
        return {}

    def refused(self, study: optuna.Study, trial: optuna.trial.Trial) -> None:
        """A draw violated a constraint: it is ignored."""
        study.tell(trial, state=TrialState.FAIL)

    def added(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """A trial was added that this process did not draw: it was replayed, or is a start point."""

    def left(self, pending: Sequence[Mapping[str, Any]]) -> int | None:
        """How many more proposals there are besides `pending` start points; None where there is no end."""
        return None


class GivenSamples(BaseSampler):
    """Returns given samples, and asks another sampler for the rest."""

    def __init__(self, given: Mapping[str, Any], other: BaseSampler) -> None:
        self._given, self._other = given, other

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """None: every sample is given alone."""
        return {}

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: Any) -> dict[str, Any]:
        """None."""
        return {}

    def sample_independent(self, study: optuna.Study, trial: FrozenTrial, name: str, kind: BaseDistribution) -> Any:
        """The given sample, or the other sampler's."""
        if name in self._given:
            return self._given[name]
        return self._other.sample_independent(study, trial, name, kind)
