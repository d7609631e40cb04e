"""Whole searches in virtual time over recorded curves, under the same loop as the real thing.

`simulate` drives a real `Study` (ask, report, pause, end) with a log in memory: W virtual workers take jobs, an event
queue hands back their next epochs in the order of virtual time (the recorded seconds of each epoch, or its batches
where no seconds were recorded), and the study decides as it does live. Nothing is random but the order of the trials.

Two ways to draw trials. In *table* mode the bank's runs are taken without replacement in a random order given by the
repeat's seed: random search over a finite table. With a searcher, each proposal becomes the *nearest unused run* of
the bank (`TablePoints`), and the searcher is told that run's parameters and values: every curve is a recorded one,
so the bank's best PER is the same target for all. Near the table's end there is little left to choose from, so a
searcher shows its merit in the first half. With a *surrogate* (`surrogate.py`) it has the point that it proposes.

What is counted: batches of every epoch run. A trial that was paused and goes on costs its new batches only.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from search_spaces import RunConfig
from search_spaces.config import to_dict
from tuner.simulation.curves import Bank, RecordedRun, Row, check_rule
from tuner.simulation.points import TablePoints
from tuner.simulation.surrogate import Surrogate, SurrogateTrials
from tuner.study.compact import KeptConfig
from tuner.study.rules.stopping import Curve, Decision
from tuner.study.settings import StudySettings
from tuner.study.state import StudyState
from tuner.study.study import Job, Study

Foreign = Callable[[int, Row, bool], bool]
"""A rule from elsewhere: (trial number, its epoch, whether the trial ends here anyway) -> stop it?"""
NO_STOPPING: dict[str, Any] = {"kind": "none"}
TABLE: dict[str, Any] = {"kind": "random"}
NOWHERE = Path("/nonexistent")
"""The folder of a study in memory: by custom there is none of that name, so no checkpoint is found or removed."""


class MemoryLog:
    """An event log in memory: `time` is the virtual time; nothing is kept but the count."""

    def __init__(self) -> None:
        self.now = 0.0
        self.last_seq = 0

    def append(self, event: str, **fields: Any) -> dict[str, Any]:
        """The event, numbered; non-finite numbers must be None already, as they are in a bank."""
        self.last_seq += 1
        return {"event": event, "seq": self.last_seq, "time": self.now, **fields}

    def slept(self, seconds: float) -> None:
        """Nobody sleeps in virtual time."""

    def close(self) -> None:
        """Nothing to close."""


class Trace(NamedTuple):
    """How a search went, float64 [epochs run] each, in the order of virtual time."""

    batches: np.ndarray
    """Spent so far."""
    time: np.ndarray
    best: np.ndarray
    """Best PER so far."""
    started: np.ndarray
    """Trials so far."""
    stopped: np.ndarray


@dataclass(frozen=True)
class Search:
    """One simulated search."""

    seed: int
    trace: Trace
    spent: int
    """Batches in all."""
    winner: str
    """The run with the lowest best PER of those that were started, by its whole curve."""
    winner_stopped: bool
    """Whether it did not come to its end; of several with the same PER, whether none did."""
    stopped: Mapping[str, int]
    """Run -> its last epoch, for those that did not come to their end."""
    drawn: frozenset[str]
    """The runs that were started."""

    @property
    def started(self) -> int:
        """How many runs were started."""
        return len(self.drawn)

    @property
    def best_per(self) -> float:
        """The lowest PER that the search saw."""
        return float(self.trace.best[-1])

    def batches_to(self, per: float) -> float:
        """Batches spent when a PER of at most `per` had been seen; infinity if it never was."""
        hit = int(np.argmax(self.trace.best <= per))
        return float(self.trace.batches[hit]) if self.trace.best[hit] <= per else float("inf")


def simulate(
    bank: Bank,
    rule: Mapping[str, Any],
    *,
    searcher: Mapping[str, Any] = TABLE,
    workers: int = 8,
    trials: int | None = None,
    seed: int = 0,
    foreign: Foreign | None = None,
) -> Search:
    """One search over the bank's whole runs with a stopping rule (the settings of a `Stopping`).

    The same seed gives every rule the same order of trials. `foreign` decides in place of `rule`. Raises InputError
    where the bank lacks what the rule or the searcher needs.
    """
    check_rule(bank, rule)
    return _Table(bank, searcher).search(rule, workers, trials, seed, foreign)


def repeats(
    bank: Bank,
    rule: Mapping[str, Any],
    count: int,
    *,
    searcher: Mapping[str, Any] = TABLE,
    workers: int = 8,
    trials: int | None = None,
    foreign: Callable[[int], Foreign] | None = None,
    surrogate: Surrogate | None = None,
) -> Iterator[Search]:
    """`count` searches with seeds 0, 1, ...; `foreign` makes a fresh rule for each seed.

    With a `surrogate` of the bank the searcher has the point that it proposes, and not the nearest recorded run.
    """
    check_rule(bank, rule)
    table = _Table(bank, searcher, surrogate)
    for seed in range(count):
        yield table.search(rule, workers, trials, seed, foreign(seed) if foreign else None)


class _Table:
    """A bank made ready: what each run is to a study, worked out once for all repeats."""

    def __init__(self, bank: Bank, searcher: Mapping[str, Any], surrogate: Surrogate | None = None) -> None:
        self.bank = bank
        self.searcher = searcher
        self.surrogate = surrogate
        self.timed = all(row["seconds"] is not None for run in bank.runs for row in run.rows)
        self.entries = [plan_entry(run) for run in bank.runs]
        self.points = None if searcher["kind"] == "random" else TablePoints(bank)

    def search(
        self, rule: Mapping[str, Any], workers: int, trials: int | None, seed: int, foreign: Foreign | None
    ) -> Search:
        count = trials or len(self.bank.runs)
        if self.surrogate is None:
            count = min(count, len(self.bank.runs))
        log = MemoryLog()
        searched = self.surrogate is not None or self.points is not None
        settings = study_settings(rule, count, seed, self.searcher, self.bank.space if searched else None)
        table: TableTrials | SurrogateTrials
        if self.surrogate is not None:
            table = SurrogateTrials(self.surrogate)
        elif self.points is None:
            order = random_order(self.bank, seed)
            table = TableTrials(self.bank, self.entries, lambda state, used, number: order[number])
        else:
            table = TableTrials(self.bank, self.entries, self.points.draw)
        study = Study.create(NOWHERE, settings, [], log, source=table)
        return _Loop(self.timed, table, study, log, foreign).run(workers, seed)


def random_order(bank: Bank, seed: int) -> list[int]:
    """The indices of the runs in the order in which a search without a searcher takes them."""
    order: list[int] = np.random.default_rng(seed).permutation(len(bank.runs)).tolist()
    return order


class TableTrials:
    """The runs of a bank as the trials of a study in memory.

    `draw(state, used, number)` is the index of the run that trial `number` is; `used` are those of the trials so far.
    """

    def __init__(
        self, bank: Bank, entries: Sequence[dict[str, Any]], draw: Callable[[StudyState, Collection[int], int], int]
    ) -> None:
        self.bank, self._entries, self._draw = bank, entries, draw
        self.run_of: dict[int, int] = {}
        """Trial -> index of its run."""

    def trial(self, state: StudyState, number: int) -> dict[str, Any]:
        """The run as the fields of a `trial_started` event."""
        self.run_of[number] = self._draw(state, self.run_of.values(), number)
        return self._entries[self.run_of[number]]

    def curve(self, number: int, config: RunConfig | KeptConfig) -> Curve:
        """By its own configuration, else by the learning rates that were recorded, if any."""
        curve, run = Curve.of_run(number, config), self.run(number)
        return curve if run.own_config else Curve(number, curve.grid, given_rates=run.rates)

    def run(self, trial: int) -> RecordedRun:
        """The run that a trial is."""
        return self.bank.runs[self.run_of[trial]]


class _Loop:
    """Virtual workers around one study."""

    def __init__(
        self,
        timed: bool,
        table: TableTrials | SurrogateTrials,
        study: Study,
        log: MemoryLog,
        foreign: Foreign | None,
    ) -> None:
        self.timed, self.table, self.study, self.log, self.foreign = timed, table, study, log, foreign
        self.queue: list[tuple[float, int, Job]] = []
        self.order = itertools.count()
        self.reached: dict[int, int] = {}
        self.trace: list[tuple[float, ...]] = []
        self.spent = self.stopped = 0
        self.best = float("inf")

    def run(self, workers: int, seed: int) -> Search:
        idle = workers
        while True:
            while idle and (job := self.study.ask()) is not None:
                self.reached.setdefault(job.trial, 0)
                self._begin_epoch(job)
                idle -= 1
            if not self.queue:
                break
            self.log.now, _, job = heapq.heappop(self.queue)
            if self._report(job):
                self._begin_epoch(job)
            else:
                idle += 1
        if not self.study.done:
            self.study.interrupt("nothing is left to start")
        return self._result(seed)

    def _begin_epoch(self, job: Job) -> None:
        row, batches = self._next(job)
        duration: float = row["seconds"] if self.timed else batches
        heapq.heappush(self.queue, (self.log.now + duration, next(self.order), job))

    def _next(self, job: Job) -> tuple[Row, int]:
        """The trial's next epoch and its batches."""
        rows = self.table.run(job.trial).rows
        epoch = self.reached[job.trial]
        return rows[epoch], rows[epoch]["batch"] - (rows[epoch - 1]["batch"] if epoch else 0)

    def _report(self, job: Job) -> bool:
        """Whether the attempt goes on after its next epoch."""
        row, batches = self._next(job)
        run = self.table.run(job.trial)
        self.reached[job.trial] = row["epoch"]
        self.spent += batches
        if row["per"] is not None:
            self.best = min(self.best, row["per"])
        verdict = None
        if self.foreign is not None:
            last = row["epoch"] == len(run.rows)
            stop = self.foreign(job.trial, row, last) and not last
            verdict = Decision(stop=stop, reason="stopped by a rule from elsewhere" if stop else None)
        goes_on = self.study.report(job.trial, job.attempt, row, verdict) == "continue"
        if not goes_on and row["epoch"] < len(run.rows):
            self.stopped += 1
        self.trace.append((self.spent, self.log.now, self.best, len(self.reached), self.stopped))
        return goes_on

    def _result(self, seed: int) -> Search:
        runs = {number: self.table.run(number) for number in self.reached}
        lowest = min(run.best_per for run in runs.values())
        winners = [number for number, run in runs.items() if run.best_per == lowest]
        cut = {number for number, run in runs.items() if self.reached[number] < len(run.rows)}
        return Search(
            seed=seed,
            trace=Trace(*np.array(self.trace, dtype=np.float64).T),
            spent=self.spent,
            winner=runs[winners[0]].label,
            winner_stopped=cut.issuperset(winners),
            stopped={runs[number].label: self.reached[number] for number in sorted(cut)},
            drawn=frozenset(run.label for run in runs.values()),
        )


def plan_entry(run: RecordedRun) -> dict[str, Any]:
    """The run as an entry of a study's plan."""
    params, seed = dict(run.params or {}), run.config.training.seed
    return {"run": run.label, "origin": "recorded", "params": params, "seed": seed, "config": to_dict(run.config)}


def study_settings(
    rule: Mapping[str, Any],
    trials: int,
    seed: int,
    searcher: Mapping[str, Any] = TABLE,
    space: Mapping[str, Any] | None = None,
) -> StudySettings:
    """The settings of a study that lives in memory and has a stopping rule and a number of trials."""
    return StudySettings.read(
        {
            "study": "simulated",
            "space": space,
            "searcher": searcher,
            "stopping": rule,
            "seed": seed,
            "budget": {"trials": trials},
        }
    )
