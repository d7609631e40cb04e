"""Early stopping: rules that are pure functions of the event log.

The contract of a rule, which the suite `tuner.testing.stopping` checks clause by clause: it is a function of the
history and the epoch alone, and changes neither, so that a resumed search decides as the live one; it stops or
pauses, never both, and only at the epochs that `places` names, all before a trial's last; it tells the rung, and for
a stop the reason in a line; it never stops a trial that nobody can be compared with, nor one that is ahead of all
others at every epoch; what is not a number is the worst there is; only a paused trial is named to go on, and every
search comes to an end.

`decide` gets the `History` of a study and the epoch that a trial has just reported, and decides whether it continues. A
rule has no state of its own. What each kind compares, and with what result:

`asha`       Asynchronous successive halving (Li et al. 2020). Rungs at grace x reduction^k. With weights w_i of the
             trials that have come to the rung (1, or how alike they are, see below), a trial passes if
             `sum of w_i over better ones < max(1, floor((1 + sum of w_i) / reduction))`: it ranks among the best
             floor(n / reduction), or none is better. One that does not pass is stopped; with `promote: true` it is
             paused, and goes on (the highest rung first, then the best value) as soon as it passes among those that
             have come since. At the end of the budget all that pass have continued; the rest is stopped. With `drain`
             the paused go on in the end, so that a rung lets nobody pass before `reduction` trials have come
             (`least_passing`): the first trial gets no whole run for being alone.
`median`     Vizier's rule (Golovin et al. 2017): stopped if its lowest value so far is worse than the median of the
             others' running averages there, that is if more than half of their weight is better. All that have come
             count, not only those that ran to their end.
`pbt`        Population Based Training (Jaderberg et al. 2017), see `tuner/study/rules/population.py`. A trial is
             paused at each multiple of `interval`, so that the population advances together; where one of the worst is
             to go on, a new trial goes on from one of the best in its place.
`none`       Every trial runs to its end.

Guards that comparing rules share: `min_curves` (no trial fails where fewer have come, by weight, itself included),
`protect` (who is among the study's best k by the lowest value so far passes), `patience` (stopped at the k-th rung
failed in a row).

`at: area` places the rungs at shares of the area under the trial's own learning rate (`rates.py`). `metric: either`
compares the PER and, among the trials with the same `training.ctc_reduction`, the validation loss: it fails only
where both fail.

`among: horizon` and `among: annealed` weigh the others by `exp(-(d / bandwidth)^2 / 2)` (`BANDWIDTHS`) with d the
distance in log2 of the horizon, or in `Curve.annealed` at the rung's batch. At an equal batch a trial that has already
annealed looks better than one with a long tail ahead; among its like it does not. While few alike have come the weights
add up to less than one better trial, and no trial is stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from search_spaces.stopping import (
    ASHAStopping,
    ComparingRule,
    PBTStopping,
)
from tuner.study.rules import population
from tuner.study.rules.history import Curve, History, Point
from tuner.study.rules.rungs import (
    BY_LOSS,
    Grid,
    Rung,
    RungKey,
    Value,
    places,
    read_rule,
    value_of,
)

RELAXED = 1.25
"""The factor by which the reduction is relaxed, again and again, to find the next paused trial of a drain."""

__all__ = [
    "Curve",
    "Decision",
    "Grid",
    "History",
    "Point",
    "Rung",
    "RungKey",
    "Value",
    "decide",
    "hopeless",
    "places",
    "promotable",
    "read_rule",
    "value_of",
]


@dataclass(frozen=True)
class Decision:
    """The decision on a trial after an epoch. At most one of `stop` and `pause` is true."""

    stop: bool = False
    pause: bool = False
    """Its attempt ends, and `promotable` may name it later."""
    rung: int | None = None
    """The epoch, if it was compared there."""
    passed: bool | None = None
    """Whether it passed the rung; a trial that did not may still continue (patience)."""
    reason: str | None = None


def decide(history: History, trial: int, point: Point) -> Decision:
    """Whether a trial continues after the epoch `point`, which is not recorded yet.

    Only for an epoch before its last, and not one that was recorded before.
    """
    return RULES[history.rule.kind](history, history.curves[trial], point)  # type: ignore[attr-defined]


def _halving(history: History, curve: Curve, point: Point) -> Decision:
    rule, key = history.rule, history.key(curve.trial, point.epoch)
    value = history.value(point)
    if key is None:
        return Decision()
    rungs = [(history.rung(key), value, "")]
    if rule.metric in BY_LOSS:  # type: ignore[attr-defined]
        losses = (history.loss_rung(key, curve), point.loss, " by validation loss")
        rungs = [losses] if rule.metric == "val_loss" else [(*rungs[0][:2], " by PER"), losses]  # type: ignore[attr-defined]
    failed, texts, most = True, [], 0.0
    for rung, at, by in rungs:
        better, others = rung.standing(at, history.position(curve, point))
        kept = float(rung.passing(others, rule.reduction))  # type: ignore[attr-defined]
        failed, most = failed and better >= kept, max(most, others)
        texts.append(f"rank {1 + better:.4g} of {1 + others:.4g}{by}")
    passed = f"{kept:.0f} continued" if kept else "nobody goes on before more have come"
    text = f"{' and '.join(texts)} at {key}; {passed}"
    return _guarded(history, curve, point, failed=failed, others=most, text=text)


def _median(history: History, curve: Curve, point: Point) -> Decision:
    key = history.key(curve.trial, point.epoch)
    value = history.value(point)
    if key is None:
        return Decision()
    best = min(curve.best, value)
    better, others = history.rung(key).standing(best, history.position(curve, point))
    text = f"its best is worse than the running means of {better:.3g} of {others:.3g} others at {key}"
    return _guarded(history, curve, point, failed=better > others / 2, others=others, text=text)


def _guarded(history: History, curve: Curve, point: Point, *, failed: bool, others: float, text: str) -> Decision:
    """The decision at a rung after the guards."""
    rule = history.rule
    assert isinstance(rule, ComparingRule)  # noqa: S101  only such rules get here
    best = min(curve.best, history.value(point))
    if not failed or 1 + others < rule.min_curves or history.protected(curve.trial, best):
        return Decision(rung=point.epoch, passed=True)
    fails = curve.fails + 1
    if fails < rule.patience:
        return Decision(rung=point.epoch, passed=False, reason=f"{text}; {fails} of {rule.patience} rungs in a row")
    pause = isinstance(rule, ASHAStopping) and rule.promote
    return Decision(stop=not pause, pause=pause, rung=point.epoch, passed=False, reason=text)


def _pbt(history: History, curve: Curve, point: Point) -> Decision:
    if history.key(curve.trial, point.epoch) is None:
        return Decision()
    return Decision(pause=True, rung=point.epoch)


def _none(history: History, curve: Curve, point: Point) -> Decision:
    return Decision()


RULES: dict[str, Callable[[History, Curve, Point], Decision]] = {
    "asha": _halving,
    "median": _median,
    "pbt": _pbt,
    "none": _none,
}
"""What decides, by the rule's kind."""


def promotable(history: History, outstanding: int, *, thaw: bool = False) -> int | None:
    """The paused trial that continues before a new one is started; None if there is none.

    `outstanding` counts the trials that have not reached their first rung yet, including those not yet started. With
    `thaw` one is found whenever one is paused, under a rule with `drain`: the first to pass as the reduction is
    relaxed.
    """
    rule = history.rule
    if not history.paused:
        return None
    if isinstance(rule, PBTStopping):
        return population.next_member(history)
    assert isinstance(rule, ASHAStopping)  # noqa: S101  no other rule pauses
    reduction = float(rule.reduction)
    found = _passing(history, reduction)
    while found is None and thaw and rule.drain and reduction > 1:
        reduction = max(1.0, reduction / RELAXED)
        found = _passing(history, reduction)
    return found


def _passing(history: History, reduction: float) -> int | None:
    """The best paused trial that passes with this reduction, at the highest rung that has one."""
    at_rungs = (history.best_passing(key, reduction) for key in sorted(history.rungs, reverse=True))
    return next((trial for trial in at_rungs if trial is not None), None)


def hopeless(history: History) -> int | None:
    """The paused trial that is stopped because more are paused than `max_paused`; None while there is room.

    Of those at the lowest rung, the last to pass as the reduction is relaxed; the first to be paused on ties.
    """
    rule = history.rule
    most = rule.max_paused if isinstance(rule, ASHAStopping) else None
    if most is None or len(history.paused) <= most:
        return None
    lowest = min(history.paused.values())
    waiting = [trial for trial, key in history.paused.items() if key == lowest]
    return max(waiting, key=lambda trial: history.rungs[lowest].share_better(trial))
