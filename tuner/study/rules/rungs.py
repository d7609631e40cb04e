"""Where trials are compared, and the values they had there."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from pydantic import TypeAdapter

from search_spaces.config import RunConfig
from search_spaces.stopping import (
    ASHAStopping,
    ComparingRule,
    PBTStopping,
    Rule,
    Stopping,
    todays,
)
from tuner.study.rules.rates import Rates, planned_rates

Value = tuple[float, float]
"""(PER, validation loss), lower is better, compared in that order: while CTC outputs only blanks, every PER is 1.0, and
trials differ only in the loss. NaN counts as infinity, the worst value."""

WORST: Value = (math.inf, math.inf)

BANDWIDTHS = {"all": None, "horizon": 0.5, "annealed": 0.15}
"""The similarity of trials that are compared, by `among`: in doublings of the horizon, or in the fraction annealed. At
twice this distance a trial has the weight 0.14, at three times 0.01."""
BY_LOSS = ("val_loss", "either")
"""The metrics that look at the validation loss."""


def value_of(per: float | None, val_loss: float | None) -> Value:
    """The comparable value of an epoch; None and NaN become infinity."""

    def number(x: float | None) -> float:
        return math.inf if x is None or math.isnan(x) else float(x)

    return (number(per), number(val_loss))


class Grid(NamedTuple):
    """The epochs at which a trial is evaluated: everything that decides which of them are rungs."""

    batches: int
    """Optimizer steps of the whole run."""
    batches_per_epoch: int
    horizon: int
    """Length of the schedule in batches; that of the run where nothing else is known (a constant rate)."""
    ends: tuple[int, ...] | None = None
    """The batch at the end of each epoch, where epochs differ in length (a recorded curve)."""
    marks: tuple[float, ...] | None = None
    """The batch of each rung of a rule with `at: area` (`marked`); None where no learning rate is known."""

    @classmethod
    def of(cls, config: RunConfig) -> Grid:
        """The grid of a run."""
        return cls(config.training.batches, config.training.batches_per_epoch, config.horizon)

    @property
    def epochs(self) -> int:
        """Epochs in the whole run."""
        return len(self.ends) if self.ends is not None else -(-self.batches // self.batches_per_epoch)

    def batch(self, epoch: int) -> int:
        """Optimizer steps done at the end of `epoch` (from 1)."""
        if self.ends is not None:
            return self.ends[epoch - 1]
        return min(self.batches, epoch * self.batches_per_epoch)

    def epoch_at(self, batch: float) -> int:
        """The first epoch that ends at or after `batch`; the number of epochs + 1 if none does."""
        if self.ends is not None:
            return 1 + int(np.searchsorted(self.ends, batch - 1e-9))
        if batch > self.batches:
            return self.epochs + 1
        return max(1, math.ceil(batch / self.batches_per_epoch - 1e-9))


class RungKey(NamedTuple):
    """A place where trials are compared: an epoch, or whole percents of the horizon or the area."""

    at: int
    unit: str = "epoch"

    @property
    def name(self) -> str:
        """A short name for programs: `3`, `25%`."""
        return f"{self.at}" + ("" if self.unit == "epoch" else "%")

    def __str__(self) -> str:
        whole = {"percent": "horizon", "area": "area"}.get(self.unit)
        return f"{self.at} % of the {whole}" if whole else f"epoch {self.at}"


class _Columns(NamedTuple):
    """The columns of a rung, float64 [trials] each, in the order of arrival."""

    per: np.ndarray
    val_loss: np.ndarray
    position: np.ndarray
    better: np.ndarray
    """Weight of the others that are better."""
    others: np.ndarray
    """Weight of all others."""
    paused: np.ndarray
    """1 for a trial that is paused here, else 0."""
    trial: np.ndarray

    def first(self, count: int) -> _Columns:
        """Views of the first `count` rows."""
        return _Columns(*(column[:count] for column in self))

    def grown(self) -> _Columns:
        """Copies with room for twice as many rows."""
        return _Columns(*(np.concatenate([column, np.empty_like(column)]) for column in self))


class Rung:
    """The values recorded at one place, each with its trial, a position and whether that trial is paused.

    The position defines which trials are similar (`kernel`): with a bandwidth, a trial at distance d from another has
    the weight `exp(-(d / bandwidth)^2 / 2)` in a comparison; without, every trial has the weight 1. For each row the
    weights of the others and of the better ones are kept up to date, so that no scan in Python is needed.
    """

    def __init__(self, bandwidth: float | None = None, least: float = 1.0) -> None:
        self._bandwidth, self._least = bandwidth, least
        self.rows: dict[int, int] = {}
        """Trial -> row, in the order of arrival."""
        self.stopped = 0
        """How many trials were stopped here."""
        self.earlier = 0
        """Trials that came here and of which no row is held: only in a study that is looked at."""
        self._columns = _Columns(*(np.empty(16) for _ in _Columns._fields))
        """With room for more rows than there are."""

    @classmethod
    def of(cls, rule: Rule) -> Rung:
        """An empty rung of a rule."""
        return cls(bandwidth(rule), least_passing(rule))

    def __len__(self) -> int:
        return self.earlier + len(self.rows)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rung):
            return NotImplemented
        return self.rows == other.rows and all(map(np.array_equal, self._held, other._held))

    __hash__ = None  # type: ignore[assignment]

    @property
    def _held(self) -> _Columns:
        return self._columns.first(len(self.rows))

    @property
    def paused(self) -> int:
        """Number of trials that are paused here."""
        return int(self._held.paused.sum())

    @property
    def values(self) -> dict[int, Value]:
        """Trial -> value."""
        held = self._held
        return {trial: (float(held.per[row]), float(held.val_loss[row])) for trial, row in self.rows.items()}

    def _weights(self, position: float) -> np.ndarray:
        count = len(self.rows)
        if self._bandwidth is None:
            return np.ones(count)
        distance = (self._columns.position[:count] - position) / self._bandwidth
        weights: np.ndarray = np.exp(-(distance**2) / 2)
        return weights

    def standing(self, value: Value, position: float = 0.0) -> tuple[float, float]:
        """(weight of those better than `value`, weight of all), for a trial that would arrive here with `value`."""
        return self._standing(value, self._weights(position))

    def _standing(self, value: Value, weights: np.ndarray) -> tuple[float, float]:
        per, val_loss = self._columns.per[: len(weights)], self._columns.val_loss[: len(weights)]
        better = (per < value[0]) | ((per == value[0]) & (val_loss < value[1]))
        return float(weights[better].sum()), float(weights.sum())

    def add(self, trial: int, value: Value, position: float = 0.0, paused: bool = False) -> None:
        """Keep the first value of a trial here; a repeated epoch does not change it."""
        if trial in self.rows:
            return
        columns, row, weights = self._columns, len(self.rows), self._weights(position)
        better, others = self._standing(value, weights)
        per, val_loss = columns.per[:row], columns.val_loss[:row]
        worse = (per > value[0]) | ((per == value[0]) & (val_loss > value[1]))
        columns.better[:row] += weights * worse
        columns.others[:row] += weights
        if row == len(columns.trial):
            self._columns = columns = columns.grown()
        columns.per[row], columns.val_loss[row] = value
        columns.position[row], columns.paused[row], columns.trial[row] = position, paused, trial
        columns.better[row], columns.others[row] = better, others
        self.rows[trial] = row

    def set_paused(self, trial: int, paused: bool) -> None:
        """Set whether a trial is paused here."""
        self._columns.paused[self.rows[trial]] = paused

    def share_better(self, trial: int) -> float:
        """The weight of the trials here that are better than this one, over that of all."""
        held, row = self._held, self.rows[trial]
        return float(held.better[row] / (1 + held.others[row]))

    def promotable(self, reduction: float) -> int | None:
        """The best of the paused trials that pass by now (`passing`); on ties the first to arrive; None if there is
        none."""
        held, able = self._held, self._able(reduction)
        if not len(able):
            return None
        best_first = np.lexsort((able, held.val_loss[able], held.per[able]))
        return int(held.trial[able[best_first[0]]])

    def able(self, reduction: float) -> list[tuple[float, int, int]]:
        """(weight of better trials over that of all, row, trial) for each of the paused trials that pass by now."""
        held, able = self._held, self._able(reduction)
        standing = held.better[able] / (1 + held.others[able])
        return list(zip(standing.tolist(), able.tolist(), held.trial[able].astype(int).tolist(), strict=True))

    def _able(self, reduction: float) -> np.ndarray:
        held = self._held
        return np.flatnonzero((held.paused > 0) & (held.better < self.passing(held.others, reduction)))

    def passing(self, others: Any, reduction: float) -> Any:
        """The weight of better trials below which a trial passes, given the weight of all others: float or array.

        `max(least, floor((1 + others) / reduction))`; a small number is added so that rounding errors of the sum do not
        matter. `least_passing` has the `least` of a rule.
        """
        return np.maximum(self._least, np.floor((1 + others) / reduction + 1e-9))


def least_passing(rule: Rule) -> float:
    """How many trials pass a rung at least, however few have come there.

    One, so that a rule that stops never stops the best so far. None where the paused are drained in the end: waiting
    loses nobody, and the first trial at a rung, good or poor, gets no whole run before others can be compared with it.
    This is the promotion of Li et al. (2020): the best floor(n / reduction) of n.
    """
    return 0.0 if isinstance(rule, ASHAStopping) and rule.promote and rule.drain else 1.0


def read_rule(rule: Rule | Mapping[str, Any]) -> Rule:
    """A rule as its model; a key that an older log does not have gets the value that was used then.

    One that was retired since can only be read (`search_spaces.stopping.todays`).
    """
    if isinstance(rule, Rule):
        return rule
    before = {"rates": False} if rule["kind"] == "pbt" else {}
    found: Rule = TypeAdapter(Stopping).validate_python({**before, **todays(rule)})
    return found


def bandwidth(rule: Rule) -> float | None:
    """The bandwidth of the rule's comparisons, see `Rung`; None where every trial counts the same."""
    return BANDWIDTHS[rule.among] if isinstance(rule, ComparingRule) else None


@functools.lru_cache(maxsize=4096)
def places(rule: Rule, grid: Grid) -> dict[int, RungKey]:
    """Epoch -> rung: the epochs at which a trial is compared, all before its last one.

    Where several fractions of the horizon fall on one epoch, it is the rung of the highest.
    """
    if isinstance(rule, PBTStopping):
        return {epoch: RungKey(epoch) for epoch in range(rule.interval, grid.epochs, rule.interval)}
    if not isinstance(rule, ComparingRule):
        return {}
    found: dict[int, RungKey] = {}
    for place, at in enumerate(_levels(rule, grid)):
        if rule.at == "epochs":
            key = RungKey(round(at))
            epoch = key.at
        else:
            key = RungKey(_percent(at), "percent" if rule.at == "horizon" else "area")
            epoch = grid.epoch_at(_batch(rule, grid, place, key.at / 100))
        if epoch < grid.epochs:
            found[epoch] = key
    return found


def _percent(level: float) -> int:
    return round(100 * level)


def _batch(rule: ComparingRule, grid: Grid, place: int, share: float) -> float:
    """The batch of a rung at a share of the horizon, or of the area: of the batches where no rate is known."""
    if rule.at == "horizon":
        return share * grid.horizon
    return grid.marks[place] if grid.marks is not None else share * grid.batches


def by_area(rule: Rule) -> bool:
    """Whether the rungs are at shares of the area under the learning rate."""
    return isinstance(rule, ComparingRule) and rule.at == "area"


def marked(grid: Grid, rule: Rule, rates: Rates | None) -> Grid:
    """The grid with the batches at which the rungs of a rule with `at: area` are; any other rule leaves it as it is.

    They are at shares of the area under the trial's own learning rate, over its whole run.
    """
    if not isinstance(rule, ComparingRule) or not by_area(rule) or rates is None:
        return grid
    levels = _levels(rule, grid)
    return grid._replace(marks=tuple(rates.batch_at(_percent(level) / 100) for level in levels))


def grid_under(rule: Rule, config: RunConfig) -> Grid:
    """The grid of a run as a rule sees it."""
    return marked(Grid.of(config), rule, planned_rates(config) if by_area(rule) else None)


def _levels(rule: ComparingRule, grid: Grid) -> list[float]:
    """The rungs in the rule's own unit, rising: grace x reduction^k of a halving rule, else grace + interval x k."""
    end = grid.epochs if rule.at == "epochs" else 1.0
    levels: list[float] = []
    most, at = None, float(rule.grace)
    if isinstance(rule, ASHAStopping):
        most = rule.max_rungs
    step = getattr(rule, "interval", None) or (1 if rule.at == "epochs" else 0.05)
    while at < end - 1e-9 and (most is None or len(levels) < most):
        levels.append(at)
        at = at * rule.reduction if isinstance(rule, ASHAStopping) else at + step
    return levels


def rung_key(rule: Rule, grid: Grid, epoch: int) -> RungKey | None:
    """The rung that `epoch` is for a trial with this grid; None if it is none."""
    return places(rule, grid).get(epoch)
