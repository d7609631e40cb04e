"""What a stopping rule can see: the trials' curves and their values at each rung.

A `History` is filled by the same `record` call whether an epoch has just been reported or is replayed from the log, so
a resumed search compares with exactly the same values as before. It is small: a curve has seven numbers per epoch
without Python objects, a rung one row per trial.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from search_spaces.config import RunConfig
from search_spaces.stopping import ASHAStopping, Rule
from tuner.study.compact import KeptConfig
from tuner.study.rules.rates import Rates, planned_rates, recorded_rates
from tuner.study.rules.rungs import (
    BY_LOSS,
    WORST,
    Grid,
    Rung,
    RungKey,
    Value,
    by_area,
    marked,
    read_rule,
    rung_key,
    value_of,
)


class Point(NamedTuple):
    """One epoch of a trial."""

    epoch: int
    batch: int
    """Optimizer steps done."""
    per: float | None
    val_loss: float | None = None
    per_raw: float | None = None
    lr: float | None = None
    measure: float | None = None
    """The column that the rule compares, where it is none of these fields."""

    @classmethod
    def of_row(cls, row: Mapping[str, Any], metric: str = "per") -> Point:
        """The point of a worker's row, or of an `epoch` event; `metric` is what the rule compares."""
        fields = {name: row.get(name) for name in cls._fields if name != "measure"}
        return cls(**fields, measure=None if metric in OWN else row.get(metric))  # type: ignore[arg-type]

    def value(self, metric: str) -> Value:
        """What a rung holds by `metric`.

        For the metrics val_loss and either of rules that halve it is that of per: the losses are in rungs of their own
        (`History.losses`). Other rules compare `loss`.
        """
        if metric == "loss":
            return self.loss
        return value_of(getattr(self, OWN[metric]) if metric in OWN else self.measure, self.val_loss)

    @property
    def loss(self) -> Value:
        """(validation loss, PER), where the loss is compared."""
        return value_of(self.val_loss, self.per)


OWN = {
    **dict.fromkeys(("per", "val_loss", "either", "loss"), "per"),
    "per_raw": "per_raw",
}
"""What every point has of what a rule can compare: metric -> its field."""


@dataclass
class Curve:
    """One trial: its planned length and schedule, and its epochs so far.

    Made by `of_run` from a configuration, or by `of_points` from a recorded curve without one.
    """

    trial: int
    grid: Grid
    kept: KeptConfig | None = None
    """What it runs by, packed once it has ended; shared with the trial's state."""
    given_rates: tuple[Sequence[int], Sequence[float]] | None = None
    """Recorded rates, (batches, rates), where there is no configuration."""
    epoch: int = 0
    """The last epoch recorded; 0 before the first."""
    best: Value = WORST
    """The lowest value so far, by the rule's metric."""
    fails: int = 0
    """Rungs failed in a row."""
    ended: bool = False
    """Whether there will be no more epochs: it was stopped, failed for good or reached its end."""
    _points: array[float] = field(default_factory=lambda: array("d"), repr=False)
    _sums: tuple[int, float, float] = (0, 0.0, 0.0)
    _rates: Rates | None = field(default=None, repr=False)

    @classmethod
    def of_run(cls, trial: int, config: RunConfig | KeptConfig) -> Curve:
        """The curve of a trial with the configuration `config`, before its first epoch."""
        kept = config if isinstance(config, KeptConfig) else KeptConfig(config)
        run = kept.get()
        return cls(trial, Grid.of(run), kept)

    @classmethod
    def of_points(
        cls, trial: int, ends: Sequence[int], horizon: int | None = None, lr: Sequence[float] | None = None
    ) -> Curve:
        """The curve of a trial of which only the batch at each epoch's end is known, and possibly horizon and rates."""
        last = ends[-1]
        return cls(
            trial,
            Grid(last, ends[0], horizon or last, tuple(ends)),
            given_rates=None if lr is None else (ends, lr),
        )

    @property
    def config(self) -> RunConfig | None:
        """What it runs by; None for a recorded curve without."""
        return None if self.kept is None else self.kept.get()

    @property
    def like(self) -> Hashable:
        """The same for trials whose validation losses can be compared."""
        return None if self.config is None else self.config.training.ctc_reduction

    @property
    def epochs(self) -> int:
        """Epochs planned."""
        return self.grid.epochs

    @property
    def horizon(self) -> int:
        """Length of the schedule in batches."""
        return self.grid.horizon

    def rates(self) -> Rates | None:
        """By the configuration, else by the recorded rates; None where neither is known. Made once, at the first
        call."""
        if self._rates is None:
            if self.config is not None:
                self._rates = planned_rates(self.config)
            elif self.given_rates is not None:
                self._rates = recorded_rates(*self.given_rates)
        return self._rates

    def annealed(self, batch: float) -> float:
        """How far the rate has decreased from its highest so far, 0 to 1: `1 - rate / highest rate so far`.

        0 in a warm-up and at a constant rate, near 1 at the end of a decay, low again after a warm restart. The further
        the rate has decreased, the lower is the PER, whatever the final result (Tissue et al. 2024, arXiv 2408.11029,
        use the area under it). Where no rate is known: the fraction of the horizon done.
        """
        rates = self.rates()
        if rates is None:
            return min(1.0, batch / self.grid.horizon)
        top = float(np.interp(batch, rates.batches, rates.highest))
        return 1.0 - float(np.interp(batch, rates.batches, rates.rate)) / top if top > 0 else 0.0

    def rate_integral(self, batch: float) -> float:
        """The sum of the learning rates of the first `batch` batches; not a number where no rate is known."""
        rates = self.rates()
        return float(np.interp(batch, rates.batches, rates.area)) if rates is not None else math.nan

    def average(self, value: Value) -> Value:
        """The mean of all values so far and of `value`, which comes next."""
        n, pers, losses = self._sums
        return ((pers + value[0]) / (n + 1), (losses + value[1]) / (n + 1))

    def table(self) -> np.ndarray:
        """Every epoch so far: float64 [epochs, 7] with the fields of `Point` as columns; None is not a number."""
        return np.array(self._points).reshape(-1, len(Point._fields))

    @property
    def points(self) -> list[Point]:
        """Every epoch so far."""
        found = []
        for epoch, batch, *rest in self.table().tolist():
            found.append(Point(int(epoch), int(batch), *(None if math.isnan(x) else x for x in rest)))
        return found

    def add(self, point: Point, metric: str) -> None:
        """Take in the next epoch."""
        value = point.value(metric)
        self.best = min(self.best, value)
        n, pers, losses = self._sums
        self._sums = (n + 1, pers + value[0], losses + value[1])
        self.epoch = point.epoch
        self._points.extend(math.nan if x is None else x for x in point)


class History:
    """The curves and rungs of a study under one rule."""

    def __init__(self, rule: Rule | Mapping[str, Any]) -> None:
        self.rule = read_rule(rule)
        self.curves: dict[int, Curve] = {}
        """Every trial, by its number."""
        self.rungs: dict[RungKey, Rung] = {}
        self.leaders: dict[int, Value] = {}
        """The best `protect` trials so far and their lowest values."""
        self.paused: dict[int, RungKey] = {}
        """Trials that are paused at a rung."""
        self.losses: dict[tuple[RungKey, Hashable], Rung] = {}
        """With the metrics val_loss and either: (rung, `Curve.like`) -> the validation losses there."""
        metric: str = getattr(self.rule, "metric", "per")
        self.metric = "loss" if metric == "val_loss" and not isinstance(self.rule, ASHAStopping) else metric
        """What the rule compares, as `Point.value` takes it."""
        self._among: str = getattr(self.rule, "among", "all")
        self._protect: int = getattr(self.rule, "protect", 0)

    def begin(self, curve: Curve) -> None:
        """A trial is about to start."""
        if by_area(self.rule):
            curve.grid = marked(curve.grid, self.rule, curve.rates())
            curve._rates = None  # 16 KB that can be made again
        self.curves[curve.trial] = curve

    def key(self, trial: int, epoch: int) -> RungKey | None:
        """The rung that `epoch` is for a trial; None if it is none."""
        return rung_key(self.rule, self.curves[trial].grid, epoch)

    def value(self, point: Point) -> Value:
        """The value of an epoch that the rule compares."""
        return point.value(self.metric)

    def rung(self, key: RungKey) -> Rung:
        """The rung at a place; an empty one where no trial has reached it yet."""
        found = self.rungs.get(key)
        return Rung.of(self.rule) if found is None else found

    def loss_rung(self, key: RungKey, curve: Curve) -> Rung:
        """The validation losses at a place of the trials that are like this one."""
        found = self.losses.get((key, curve.like))
        return Rung.of(self.rule) if found is None else found

    def best_passing(self, key: RungKey, reduction: float) -> int | None:
        """The best of the trials paused at a rung that pass by now; None if there is none.

        With the metrics val_loss and either the best is the one with the fewest better trials for their number, by the
        measure in which it is better placed.
        """
        if self.metric not in BY_LOSS:
            return self.rungs[key].promotable(reduction)
        rungs = [rung for (place, _), rung in self.losses.items() if place == key]
        if self.metric == "either":
            rungs.append(self.rungs[key])
        return min((each for rung in rungs for each in rung.able(reduction)), default=(math.inf, 0, None))[2]

    def add_rung(self, key: RungKey) -> Rung:
        """The rung at a place, which is made where no trial has reached it yet."""
        return self.rungs.setdefault(key, self.rung(key))

    def position(self, curve: Curve, point: Point) -> float:
        """The position of a trial among those it is compared with (`Rung`): log2 of its horizon, or how far it
        annealed."""
        if self._among == "horizon":
            return math.log2(curve.horizon)
        return curve.annealed(point.batch) if self._among == "annealed" else 0.0

    def protected(self, trial: int, value: Value) -> bool:
        """Whether a trial that has just had `value` is among the best `protect` of the study."""
        better = sum(other < value for number, other in self.leaders.items() if number != trial)
        return better < self._protect

    def record(
        self,
        trial: int,
        point: Point,
        decision: str = "continue",
        *,
        compared: bool = False,
        passed: bool | None = None,
    ) -> None:
        """Take in an epoch and what was decided after it. An epoch that was recorded before changes nothing.

        `decision` is that of the log: continue, stop or pause. `compared` says that the epoch was a rung, `passed`
        whether the trial was good enough there.
        """
        curve = self.curves[trial]
        if point.epoch <= curve.epoch:
            return
        key, value = self.key(trial, point.epoch) if compared else None, point.value(self.metric)
        if key is not None:
            if self.rule.compares_averages:
                value = curve.average(value)
            rung = self.add_rung(key)
            rung.add(trial, value, self.position(curve, point), decision == "pause")
            if self.metric in BY_LOSS:
                losses = self.losses.setdefault((key, curve.like), self.loss_rung(key, curve))
                losses.add(trial, point.loss, self.position(curve, point), decision == "pause")
            rung.stopped += decision == "stop"
            curve.fails = 0 if passed else curve.fails + 1
            if decision == "pause":
                self.paused[trial] = key
        curve.add(point, self.metric)
        curve.ended = curve.ended or decision == "stop"
        if self._protect and self.protected(trial, curve.best):
            self.leaders[trial] = curve.best
            if len(self.leaders) > self._protect:
                del self.leaders[max(self.leaders, key=lambda number: (self.leaders[number], number))]

    def unpause(self, trial: int, *, stopped: bool = False) -> None:
        """A paused trial continues, or is stopped at its rung."""
        key = self.paused.pop(trial, None)
        if key is not None:
            self.rungs[key].set_paused(trial, False)
            self.rungs[key].stopped += stopped
            if self.metric in BY_LOSS:
                self.losses[key, self.curves[trial].like].set_paused(trial, False)

    def end(self, trial: int, *, stopped: bool) -> None:
        """A trial has ended, wherever it was."""
        curve = self.curves[trial]
        curve.ended, curve._rates = True, None  # 16 KB that can be made again
        curve._points = array("d", curve._points)  # without the room for more
        self.unpause(trial, stopped=stopped)

    def under(self, rule: Rule | Mapping[str, Any]) -> History:
        """The same curves under another rule: each of its rungs has the trials that reached it; none failed or is
        paused."""
        other = History(rule)
        for number, curve in self.curves.items():
            other.begin(Curve(number, curve.grid, curve.kept, curve.given_rates))
            for point in curve.points:
                compared = point.per is not None and other.key(number, point.epoch) is not None
                other.record(number, point, compared=compared, passed=True)
            other.curves[number].ended = curve.ended
        return other
