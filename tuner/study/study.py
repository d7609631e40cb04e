"""One search: which trial runs next, which continues, and the log of these decisions.

`Study` decides, and writes each decision to the log before it is carried out; `StudyState` (`tuner/study/state.py`) is
everything that is a function of the log. It does not use Ray: the backend calls `ask`, `report` and `fail`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from results.store.columns import STOPPED_BY_HAND
from results.store.events import EventLog, scan_events, without_settings
from results.store.made import refuse_short
from results.store.paths import StudyPaths
from results.store.telling import meet
from search_spaces import InputError, RunConfig
from search_spaces.stopping import ASHAStopping
from tuner.study import budgets, checkpoints, faults, heirs
from tuner.study.rules import ladder
from tuner.study.rules.stopping import Decision, Point, decide, hopeless, promotable
from tuner.study.settings import StudySettings
from tuner.study.sources import OwnTrials, TrialSource
from tuner.study.state import StudyState
from tuner.study.trial_state import FINAL, TrialState


@dataclass(frozen=True)
class Job:
    """One attempt at a trial, as a worker gets it."""

    trial: int
    attempt: int
    config: RunConfig
    epochs_logged: int
    """Epochs already in the log. A newer checkpoint reports its epoch again before training continues."""
    rungs: tuple[int, ...] = ()
    """Epochs at which the rule may end it."""
    pauses: bool = False
    """Whether it may pause it there, which needs a checkpoint."""
    inherited: int = 0
    """Epochs of another trial from which it continues."""

    def __str__(self) -> str:
        return f"trial {self.trial}"


@dataclass
class Past:
    """What the log of a study says."""

    state: StudyState
    seq: int
    """The number of its last event."""
    problems: list[str]
    """What is wrong with it, a line each."""


def read_past(folder: Path) -> Past:
    """Replay the log of a study, one event at a time. Raises InputError without one that begins with the settings."""
    path = StudyPaths(folder).log
    past = Past(StudyState(), 0, [])

    def events() -> Iterator[dict[str, Any]]:
        for event in scan_events(path, past.problems):
            if not past.seq and event["event"] != "study_started":
                break
            past.seq = event["seq"]
            yield event

    left_out = past.state.replay(events(), str(path))
    meet(past.problems)
    if not past.seq:
        raise InputError(without_settings(path))
    past.problems += left_out
    return past


class Log(Protocol):
    """What a study writes to: the event log on the disk, or one in memory (a simulated search)."""

    def append(self, event: str, **fields: Any) -> dict[str, Any]:
        """Write one event and return it as written."""

    def slept(self, seconds: float) -> None:
        """The driver was suspended for so long."""

    def close(self) -> None:
        """Write no more."""


class Study:
    """A search: it gives out attempts to run and takes their results.

    It runs a space with a searcher, or a `plan`: a list of {run, parent, origin, config} in order. A simulation gives
    another `source` of trials, and a `clock` whose seconds count for the time budget.

    `observers` are called with every event after it is on the disk (for example the progress display). The contract
    of such a hearer, which the suite `tuner.testing.hearers` checks clause by clause: it raises nothing, since
    that ends the search (`Background` sees to it, and to a thread of its own); it changes no event; it may be
    made for a study that has a history; it passes over kinds of events and fields that it does not know; where
    it has `close`, that can be called at any time and twice, and its threads end then.
    """

    def __init__(
        self,
        folder: Path,
        log: Log,
        observers: list[Callable[[dict[str, Any]], None]],
        source: TrialSource | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self._source: TrialSource = source or OwnTrials()
        self.state = StudyState(curve=self._source.curve)
        self.observers = observers
        self.problems: list[str] = []
        """What was wrong with the log that the study was rebuilt from, a line each."""
        self._log = log
        self._clock = clock
        self._session = clock()
        self._common = faults.CommonCause()
        self._most_at_once = 0
        """Most trials that ran at once in this session: paused ones are drained on half as many workers."""

    @classmethod
    def create(
        cls,
        folder: Path,
        settings: StudySettings,
        observers: list[Callable[[dict[str, Any]], None]],
        log: Log | None = None,
        source: TrialSource | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Study:
        """Begin a study: its settings are the first event of the log. The caller holds its lock."""
        study = cls(folder, log or EventLog(StudyPaths(folder).log), observers, source, clock)
        study._write("study_started", **settings.fields())
        return study

    @classmethod
    def resume(
        cls,
        folder: Path,
        changed: Mapping[str, Any],
        observers: list[Callable[[dict[str, Any]], None]],
        log: Log | None = None,
        past: Past | None = None,
    ) -> Study:
        """Rebuild a study from its log and continue; `changed` maps settings to [old, new] (`tuner.launch.changes`).

        `past` is what the log says, where it was read before.
        """
        refuse_short(folder)
        study = cls(folder, log or EventLog(StudyPaths(folder).log), observers)
        past = past or read_past(folder)
        study.state, study.problems = past.state, past.problems
        if study.state.heir is None:  # a driver that died may have copied a checkpoint for a trial that will not exist
            checkpoints.remove_states(folder, study.state.next_number)
        study._write("study_resumed", changed=dict(changed))
        for trial in study.state.running:
            # The driver died before it wrote this trial's end: a logged stop is carried out, others continue.
            study._end_attempt(trial, trial.stop_logged or "interrupted", error=None)
        study._end_asked()
        study._end_paused()
        return study

    @property
    def settings(self) -> StudySettings:
        """The settings in force: those of `study_started` with what resuming changed."""
        return self.state.settings

    @property
    def trials_left(self) -> int:
        """Trials of the budget that may still be started: none when a limit is reached.

        Under pbt, those that the searcher proposes, without trials that continue another.
        """
        if self.reached or self._finishing:
            return 0
        if self.state.lengths:
            return ladder.trials_left(self.state)
        budget = self.settings.budget.trials
        left = max(0, budget - self.state.next_number) if budget else 10**9
        return self.state.proposals_left(heirs.founders_left(self.state, left))

    @property
    def seconds_left(self) -> float:
        """Seconds of the wall-time budget that are left; infinite where there is none."""
        hours = self.settings.budget.hours
        if not hours:
            return float("inf")
        return hours * 3600 - self.state.driver_seconds - (self._clock() - self._session)

    @property
    def reached(self) -> str | None:
        """The limit that is reached, other than the number of trials (`budgets.reached`); None if trials may start."""
        return budgets.reached(self.settings.budget, self.state.spent, self.seconds_left)

    @property
    def leaves(self) -> bool:
        """Whether a limit is reached at which running trials are interrupted (`budgets.then`)."""
        reason = self.reached
        return reason is not None and budgets.then(self.settings.budget, reason) == "stop"

    @property
    def common_cause(self) -> str | None:
        """What every trial of this session died of, where it would end the next ones too (`faults.CommonCause`)."""
        return self._common.text

    @property
    def done(self) -> bool:
        """Whether the session is over and only `interrupt` remains: nothing runs or can start, or a limit is
        reached."""
        state = self.state
        if self.leaves or (self.common_cause and not state.running):
            return True
        heir = state.heir is not None and not self.reached
        return not (state.running or state.waiting or heir or self.trials_left or self._promotable() is not None)

    def _promotable(self) -> int | None:
        """The paused trial that continues next; None if there is none, or a limit is reached."""
        if not self.state.history.paused or self.reached:
            return None
        left, finishing = self.trials_left, self._finishing
        drain = 1.0 if finishing else getattr(self.state.history.rule, "drain", 0.0)  # a limit of cost is used up
        few = len(self.state.running) < max(1, self._most_at_once // 2)
        idle = not (left or self.state.waiting) and (few or self._hurries)
        thaw = (idle or self._wants_ends) and budgets.thaws(drain, self.state.spent)
        return promotable(self.state.history, self.state.outstanding(left), thaw=thaw)

    @property
    def _wants_ends(self) -> bool:
        """Whether paused trials come to their ends before the searcher proposes more: its model has too few (`ends`).

        Points of its design come first, and as many trials as a rung compares: a small budget has a design of one, and
        a first trial that is poor should get no whole run for nothing.
        """
        given = self.settings.searcher.as_dict()
        if self.state.completed >= given.get("ends", 0) or self.state.lengths:
            return False
        return self.state.next_number >= max(given["startup_trials"], getattr(self.state.history.rule, "reduction", 0))

    @property
    def _finishing(self) -> bool:
        """Whether the rest of a limit is kept for the paused trials (`finish`), so that no new one starts."""
        rule = self.state.history.rule
        if not (isinstance(rule, ASHAStopping) and rule.drain and self.state.history.paused):
            return False
        return budgets.share_left(self.settings.budget, self.state.spent, self.seconds_left) <= rule.finish

    @property
    def _hurries(self) -> bool:
        """Whether the paused trials continue on all workers at once: their time runs out."""
        timed = self.settings.budget.only("hours", "gpu_hours")
        return self._finishing and budgets.share_left(timed, self.state.spent, self.seconds_left) < 1

    def ask(self) -> Job | None:
        """The next attempt to run, written to the log; None if there is nothing to start now.

        Interrupted trials come first, lowest number first; then a paused one that the stopping rule promotes; with
        several lengths a longer run of what was best; then start points; then the searcher's proposals. A trial that
        ran out of memory beside others comes last, and runs alone. Under pbt the population is filled first, and a new
        trial may replace a paused one.
        """
        if self.leaves or self.common_cause or any(trial.alone for trial in self.state.running):
            return None
        waiting = [trial for trial in self.state.waiting if not trial.alone]
        if not waiting and self.state.heir is not None and not self.reached:
            return self._start_new()
        filling = heirs.size(self.state) and self.trials_left
        promoted = None if waiting or filling else self._promotable()
        if not waiting and promoted is None and not self.trials_left and not self.state.running:
            waiting = self.state.waiting
        if waiting or promoted is not None:
            trial = waiting[0] if promoted is None else self.state.trials[promoted]
            if promoted is not None and (job := self._exploit(trial)) is not None:
                return job
            return self._start(trial.number, trial.attempt + 1, max(trial.epoch, trial.inherited), trial.started_with)
        if not self.trials_left or (self.state.lengths and ladder.next_run(self.state) is None):
            return None
        return self._start_new()

    def _exploit(self, trial: TrialState) -> Job | None:
        """The attempt of a new trial that replaces a paused one; None if that one continues itself."""
        parent = heirs.parent(self.state, self.folder, trial.number)
        if parent is None:
            return None
        donor, epoch = parent
        exploits = {"from_trial": donor, "from_trial_epoch": epoch}
        self._end_attempt(trial, "stopped", error=f"exploits trial {donor} at epoch {epoch}", exploits=exploits)
        return self._start_new()

    def _start_new(self) -> Job:
        number = self.state.next_number
        begins = self.state.heir["from_trial_epoch"] if self.state.heir else 0
        return self._start(number, 1, begins, self._source.trial(self.state, number))

    def _start(self, number: int, attempt: int, epochs: int, fields: dict[str, Any]) -> Job:
        begins = checkpoints.saved_epoch(self.folder, number, epochs) if epochs else 0
        self._write("trial_started", trial=number, attempt=attempt, from_epoch=begins, **fields)
        self._most_at_once = max(self._most_at_once, len(self.state.running))
        config, rule = self.state.trials[number].config, self.state.history.rule
        rungs, pauses = checkpoints.rungs_of(rule, config, number)
        return Job(number, attempt, config, epochs, rungs, pauses, self.state.trials[number].inherited)

    def report(self, number: int, attempt: int, row: Mapping[str, Any], verdict: Decision | None = None) -> str:
        """Record an epoch and decide: "continue" or "stop". The decision is in the log when this returns.

        After "stop" the end of the attempt is in the log too: ended for good, or paused. An epoch that an earlier
        attempt reported is not decided again. `verdict` replaces the study's own rule (for the comparison with rules
        of other libraries).
        """
        self._common.worked()
        trial = self.state.trials[number]
        epoch = row["epoch"]
        final = epoch >= trial.config.epochs
        repeated = epoch in trial.pers
        rung, passed = trial.compared.get(epoch, (None, None))
        outside, verdict = verdict, Decision(rung=rung, passed=passed)
        status: str | None
        if row.get("diverged"):
            status, verdict = (
                "diverged",
                Decision(stop=True, reason=f"the loss or the gradient at epoch {epoch} is NaN or infinite"),
            )
        elif final:
            status, verdict = "completed", Decision(stop=True)
        else:
            if outside is not None:
                verdict = outside
            elif not repeated:
                verdict = decide(self.state.history, number, Point.of_row(row, self.state.history.metric))
            if number in self.state.stop_asked:
                verdict = replace(verdict, stop=True, pause=False, reason=STOPPED_BY_HAND)
            status = "stopped" if verdict.stop else "paused" if verdict.pause else None
        decision = "stop" if verdict.stop else "pause" if verdict.pause else "continue"
        fields = {key: value for key, value in row.items() if key != "diverged"}
        self._write(
            "epoch",
            trial=number,
            attempt=attempt,
            **fields,
            decision=decision,
            status=status,
            reason=verdict.reason,
            rung=verdict.rung,
            passed=verdict.passed,
        )
        if status is None:
            return "continue"
        self._end_attempt(trial, status, error=verdict.reason if status == "diverged" else None)
        if status == "paused" and (worst := hopeless(self.state.history)) is not None:
            most = f"more than max_paused={self.state.history.rule.max_paused} trials are paused"  # type: ignore[attr-defined]
            self._end_attempt(self.state.trials[worst], "stopped", error=f"{most}, and this one is the worst")
        self._end_paused()
        return "stop"

    def fail(self, number: int, attempt: int, error: str, *, final: bool = False, kind: str = "error") -> None:
        """Record that an attempt died. It is tried again from its checkpoint as often as `faults` allows for its
        kind."""
        trial = self.state.trials[number]
        if trial.status != "running" or trial.attempt != attempt:
            return
        allowed = faults.retries_for(kind, self.settings.retries)
        retry = not final and trial.faults[faults.counted_as(kind)] < allowed
        crowded = len(self.state.running) > 1 and faults.shares_memory(error, self.settings.resources)
        more = {"alone": True} if retry and kind == "memory" and crowded else {}
        self._end_attempt(trial, "failed", error=error, retry=retry, fault=kind, **more)
        if not retry:
            self._common.died(kind, error)
        self._end_paused()

    def slept(self, seconds: float) -> None:
        """The driver was suspended for this time: it does not count in the budget of hours or in the log's
        `elapsed`."""
        self._session += seconds
        self._log.slept(seconds)

    def let_go(self) -> None:
        """Record that the workers were lost; this is not the trials' fault, and `ask` returns them again."""
        for trial in self.state.running:
            self._end_attempt(trial, "interrupted", error=None)

    def interrupt(self, reason: str) -> None:
        """Write the end of the session: running trials are interrupted, and continue when the study is resumed."""
        self.let_go()
        self._write("study_ended", reason=reason)

    def stop_by_hand(self, number: int | None, request: str, by: str) -> None:
        """Record a request to stop the search (None) or a trial, which then ends as "stopped".

        A running trial ends at its next epoch. The backend stops the search.
        """
        self._write("stop_requested", trial=number, request=request, by=by)
        self._end_asked()

    def mark(self, of: int | None, note: str | None, add: Sequence[str], remove: Sequence[str], **about: Any) -> None:
        """Record a note or tags of a person on a trial, or on the study (None); no decision depends on them."""
        self._write("marked", of=of, note=note, add=list(add), remove=list(remove), **about)

    def run_at_once(self, concurrent: int, at_once: int, **about: Any) -> None:
        """Record that so many trials run at once from now on: `at_once` of those asked for fit. A resume keeps it."""
        before = self.settings.resources
        pair = [before.as_dict(), before.changed({"concurrent": concurrent}).as_dict()]
        self._write("study_changed", changed={"resources": pair}, at_once=at_once, **about)

    def drop_checkpoints(self, files: list[str], left: int, budget: int) -> None:
        """Record that checkpoint files (paths in the folder) are removed to save space, then remove them.

        `left` bytes remain, of `budget` bytes.
        """
        self._write("checkpoints_dropped", files=files, bytes=left, budget=budget)
        checkpoints.remove(self.folder, files)

    def _end_asked(self) -> None:
        for trial in [self.state.trials[number] for number in sorted(self.state.stop_asked)]:
            if trial.status != "running":  # it is not running, so it has no next epoch
                self._end_attempt(trial, "stopped", error=STOPPED_BY_HAND)

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    def _end_attempt(self, trial: TrialState, status: str, error: str | None, retry: bool = False, **more: Any) -> None:
        checkpoint = StudyPaths(Path()).trial(trial.number).best
        fields: dict[str, Any] = {"retry": True, **more} if retry else more
        # The time of an attempt counts once: that of a trial which is not running was counted when it was paused.
        counts = trial.last_row.get("attempt") == trial.attempt and trial.status == "running"
        self._write(
            "trial_ended",
            trial=trial.number,
            attempt=trial.attempt,
            status=status,
            error=error,
            checkpoint=str(checkpoint) if (self.folder / checkpoint).exists() else None,
            cpu_seconds=trial.last_row.get("cpu_seconds") if counts else 0.0,
            gpu_seconds=trial.last_row.get("gpu_seconds") if counts else 0.0,
            **fields,
        )
        if status in FINAL and not retry:
            checkpoints.remove_states(self.folder, trial.number)

    def _end_paused(self) -> None:
        """Stop the trials that are still paused when nothing else is left to do."""
        if self.state.history.paused and not self.reached and self.done:
            for trial in self.state.paused:
                self._end_attempt(trial, "stopped", error=None)

    def _write(self, kind: str, **fields: Any) -> None:
        event = self._log.append(kind, **{"host": os.uname().nodename, **fields})
        self.state.apply(event)
        for observer in self.observers:
            observer(event)
