"""What a stopping rule would have done to recorded runs: whether it stops the best one, the saving, the regret.

`replay` gives the rule the recorded epochs in the order in which they were reported. A trial that the rule stops gets
no more epochs; one that it pauses and promotes gets the epochs that came meanwhile. Runs that were stopped when they
were recorded take part up to their last epoch: others were compared with them, and their end is unknown.

`rank_correlations` measures how well a comparison at some point predicts the end: Spearman's correlation between the
values there and the best PERs of the same runs at their end, for all runs and within groups of similar horizon.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainable.bootstrap import interval, resamples
from tuner.simulation.curves import Bank, RecordedRun, Row, check_rule
from tuner.simulation.simulate import NOWHERE, MemoryLog, TableTrials, plan_entry, study_settings
from tuner.study.study import Job, Study

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)
"""Points at which correlations are calculated: fractions of each run's planned batches."""
LEAST_RANKED = 5
"""Least number of runs for a correlation."""
_SOON = 1.25
"""A fraction of a run counts as reached at an epoch that ends at most this much later."""
_MOST_GROUPS = 6
_DRAWS = 500


@dataclass(frozen=True)
class RuleReplay:
    """The effect of a rule on recorded runs in their order."""

    winner: str
    """The run with the lowest best PER of those that reached their end."""
    winner_per: float
    stopped: Mapping[str, tuple[int, str]]
    """Run -> (the batch at which it would have been stopped, why)."""
    runs: int
    spent: int
    """Batches that would have been trained."""
    saved: float
    """Fraction of the recorded batches that would have been saved."""
    best_per: float
    """The lowest PER that would have been found."""
    unknown: int
    """Runs that the rule would have continued beyond the point where they were stopped."""

    @property
    def regret(self) -> float:
        """The regret of the rule: the PER that it would have found, minus the best one."""
        return max(0.0, self.best_per - self.winner_per)


def replay(bank: Bank, rule: Mapping[str, Any]) -> RuleReplay:
    """Replay the rule over the bank in the recorded order. Raises InputError where values that it compares are
    missing."""
    check_rule(bank, rule)
    return _Replay(bank, rule).run()


class _Replay:
    """A study that gets the recorded epochs, as long as its trials run."""

    def __init__(self, bank: Bank, rule: Mapping[str, Any]) -> None:
        self.bank = bank
        order = list(dict.fromkeys(index for index, _ in bank.arrival))
        entries = [plan_entry(run) for run in bank.runs]
        settings = study_settings(rule, len(order), seed=0)
        self.table = TableTrials(bank, entries, lambda state, used, number: order[number])
        self.study = Study.create(NOWHERE, settings, [], MemoryLog(), source=self.table)
        self.study.observers.append(self._note)
        self.active: dict[int, Job] = {}
        self.waiting: dict[int, list[Row]] = {}
        self.reached: dict[int, Row] = {}
        self.reasons: dict[int, str] = {}
        self.best = math.inf

    def run(self) -> RuleReplay:
        for index, epoch in self.bank.arrival:
            while index not in self.waiting and self._take():
                pass
            self.waiting.setdefault(index, []).append(self.bank.runs[index].rows[epoch - 1])
            self._feed(index)
        while self._take():
            pass
        if not self.study.done:
            self.study.interrupt("there are no more recorded epochs")
        return self._result()

    def _take(self) -> bool:
        """Take the study's next job, if there is one: a new run, or one that continues."""
        job = self.study.ask()
        if job is None:
            return False
        index = self.table.run_of[job.trial]
        self.active[index] = job
        self.waiting.setdefault(index, [])
        self._feed(index)
        return True

    def _feed(self, index: int) -> None:
        waiting = self.waiting[index]
        while index in self.active and waiting:
            row, job = waiting.pop(0), self.active[index]
            self.reached[index] = row
            if row["per"] is not None:
                self.best = min(self.best, row["per"])
            if self.study.report(job.trial, job.attempt, row) != "continue":
                del self.active[index]
                self._take()  # a worker is free: a paused run may continue

    def _note(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "epoch" and event["decision"] != "continue":
            self.reasons[self.table.run_of[event["trial"]]] = event["reason"] or ""

    def _result(self) -> RuleReplay:
        runs = self.bank.runs
        winner = min((run for run in runs if run.complete), key=lambda run: run.best_per)
        ended = {i: row for i, row in self.reached.items() if i not in self.active}
        cut = {i: row for i, row in ended.items() if row["epoch"] < len(runs[i].rows) or not runs[i].complete}
        spent = sum(row["batch"] for row in self.reached.values())
        return RuleReplay(
            winner=winner.label,
            winner_per=winner.best_per,
            stopped={runs[i].label: (row["batch"], self.reasons.get(i, "")) for i, row in cut.items()},
            runs=len(runs),
            spent=spent,
            saved=1 - spent / self.bank.batches,
            best_per=self.best,
            unknown=len(self.active),
        )


def rank_correlations(bank: Bank) -> list[dict[str, Any]]:
    """Rows {at, group, runs, spearman, low, high}: the correlation of the order at a point with the order at the end.

    `at` is a share of each run's planned batches ("1/4"), or a number of batches that all runs share ("100 batches");
    `group` is "all" or the horizons of a group. Only runs that reached their end count, and of those that diverged
    the ones that were still running at that point (they are the worst at the end). `low` and `high` are the 95 %
    bootstrap interval over runs.
    """
    runs = [run for run in bank.runs if run.complete]
    groups = {"all": runs, **horizon_groups(runs)}
    rows = []
    for at, values_at in _points(runs):
        for name, members in groups.items():
            pairs = [(values_at(run), _end(run)) for run in members]
            known = [(value, end) for value, end in pairs if value is not None]
            found = _spearman([value for value, _ in known], [end for _, end in known])
            rows.append({"at": at, "group": name, "runs": len(known), **found})
    return rows


def horizon_groups(runs: Sequence[RecordedRun]) -> dict[str, list[RecordedRun]]:
    """The runs by horizon (by length where none is known): each one a group, or four of equal size if there are many.

    Empty where all runs have the same.
    """
    of = [run.horizon or run.config.training.batches for run in runs]
    distinct = sorted(set(of))
    if len(distinct) < 2:
        return {}
    if len(distinct) <= _MOST_GROUPS:
        edges = distinct[1:]
    else:
        edges = sorted({int(edge) for edge in np.quantile(of, [0.25, 0.5, 0.75])} - {distinct[0]})
    groups: dict[str, list[RecordedRun]] = {}
    for low, high in zip([distinct[0], *edges], [*edges, distinct[-1] + 1], strict=True):
        inside = sorted({length for length in of if low <= length < high})
        name = f"{inside[0]}" if len(inside) == 1 else f"{inside[0]} to {inside[-1]}"
        groups[name] = [run for run, length in zip(runs, of, strict=True) if low <= length < high]
    return groups


Value = tuple[float, float]


def _points(runs: Sequence[RecordedRun]) -> list[tuple[str, Any]]:
    """(name, run -> its value there or None) for shares of the run, then for batches that all runs share."""

    def at_batch(run: RecordedRun, batch: float) -> Value | None:
        """The value of the first epoch that ends at or soon after `batch`; None if there is none before the last."""
        row = next((row for row in run.rows[:-1] if row["batch"] >= batch), None)
        return None if row is None or row["batch"] > _SOON * batch else _value(row)

    points: list[tuple[str, Any]] = []
    for share in SHARES:
        top, bottom = share.as_integer_ratio()
        length = lambda run, share=share: at_batch(run, share * run.config.training.batches)  # noqa: E731
        points.append((f"{top}/{bottom}", length))
    step = max(run.step for run in runs)
    longest = max(run.batches for run in runs)
    for batch in (step * 2**k for k in range(12) if step * 2**k <= longest / 2):
        points.append((f"{batch} batches", lambda run, batch=batch: at_batch(run, batch)))
    return points


def _value(row: Row) -> Value:
    return tuple(math.inf if row.get(name) is None else float(row[name]) for name in ("per", "val_loss"))  # type: ignore[return-value]


def _end(run: RecordedRun) -> Value:
    return (math.inf if run.diverged else run.best_per, 0.0)


def _spearman(values: Sequence[Value], ends: Sequence[Value]) -> dict[str, float | None]:
    """Spearman's correlation with its bootstrap interval; None where there are too few or all are equal."""
    nothing: dict[str, float | None] = {"spearman": None, "low": None, "high": None}
    if len(values) < LEAST_RANKED:
        return nothing
    # Lexicographic pairs to numbers: only their order matters.
    places, last = _places(values), _places(ends)
    pair = np.array([[places[value] for value in values], [last[end] for end in ends]])
    picks = np.vstack([np.arange(len(values)), resamples(len(values), draws=_DRAWS)])
    left, right = (np.array([_ranks(drawn) for drawn in side[picks]]) for side in pair)
    left, right = left - left.mean(axis=1, keepdims=True), right - right.mean(axis=1, keepdims=True)
    scale = np.sqrt((left**2).sum(axis=1) * (right**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (left * right).sum(axis=1) / scale
    if not math.isfinite(found[0]):
        return nothing
    drawn = found[1:][np.isfinite(found[1:])]
    low, high = interval(drawn)
    return {"spearman": float(found[0]), "low": low, "high": high}


def _ranks(places: np.ndarray) -> np.ndarray:
    """float64 [n]: the rank of each of the places 0, 1, ...; equal ones share the mean of theirs."""
    counts = np.bincount(places)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def _places(values: Sequence[Value]) -> dict[Value, int]:
    return {value: place for place, value in enumerate(sorted(set(values)))}
