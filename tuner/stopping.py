"""Early stopping: pure rules over what the event log has recorded.

A rule sees the values that trials reported at a rung and says whether one more trial may go on. It keeps no state of
its own: `Rungs` is filled by the same `record` call whether an epoch has just been reported or is replayed from the
log, so a resumed search compares with exactly what it had compared with before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Value = tuple[float, float]
"""(PER, validation loss), lower is better, compared in that order: while CTC still emits only blanks every PER is 1.0,
and only the loss tells trials apart. What is not a number counts as infinity, the worst there is."""


def value_of(per: float | None, val_loss: float | None) -> Value:
    """The comparable value of an epoch; None and not-a-number are infinity."""

    def number(x: float | None) -> float:
        return math.inf if x is None or math.isnan(x) else float(x)

    return (number(per), number(val_loss))


@dataclass(frozen=True)
class Decision:
    """What to do with a trial after an epoch: `rung` is the epoch if it was compared there, else None."""

    stop: bool = False
    rung: int | None = None
    reason: str | None = None


@dataclass
class Rungs:
    """The values recorded at each rung: rung (epoch) -> trial -> value."""

    values: dict[int, dict[int, Value]] = field(default_factory=dict)

    def record(self, rung: int, trial: int, value: Value) -> None:
        """Keep the first value a trial reported at a rung; a repeated epoch does not change the past."""
        self.values.setdefault(rung, {}).setdefault(trial, value)

    def rank(self, rung: int, trial: int, value: Value) -> tuple[int, int]:
        """(rank from 1, number compared) of `value` among the trials at `rung`, itself included; ties rank together."""
        others = [other for number, other in self.values.get(rung, {}).items() if number != trial]
        return 1 + sum(other < value for other in others), 1 + len(others)


def rung_epochs(rule: Mapping[str, Any], epochs: int) -> list[int]:
    """The epochs at which a trial of `epochs` epochs is compared: grace x reduction^k, before its last one."""
    if rule["kind"] == "none":
        return []
    rungs: list[int] = []
    epoch = float(rule["grace"])
    while epoch < epochs and (rule.get("max_rungs") is None or len(rungs) < rule["max_rungs"]):
        rungs.append(round(epoch))
        epoch *= rule["reduction"]
    return rungs


def decide(rule: Mapping[str, Any], rungs: Rungs, trial: int, epoch: int, epochs: int, value: Value) -> Decision:
    """Whether a trial goes on after `epoch` of its `epochs`.

    `asha` is the stopping kind of asynchronous successive halving (Li et al. 2020): at a rung where n trials have
    reported, a trial goes on if it ranks among the best floor(n / reduction), or is the best so far while n is small.
    """
    if epoch not in rung_epochs(rule, epochs):
        return Decision()
    rank, compared = rungs.rank(epoch, trial, value)
    kept = max(1, int(compared // rule["reduction"]))
    if rank <= kept:
        return Decision(rung=epoch)
    return Decision(stop=True, rung=epoch, reason=f"rank {rank} of {compared} at epoch {epoch}; {kept} went on")
