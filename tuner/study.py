"""One search: the event log, and everything that is a function of it.

`StudyState` is filled by `apply`, event by event: live events and replayed ones go through the same lines, so a
resumed search is in the state in which it was left. `Study` decides (which trial next, whether it goes on) and writes
each decision to the log before anyone acts on it. It knows nothing of Ray: whoever has workers calls `ask`, `report`
and `end`.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from results.events import LOG_NAME, EventLog, read_events
from search_spaces import InputError, RunConfig, Space
from search_spaces.config import to_dict
from tuner import budgets, checkpoints, faults, objectives, population
from tuner.stopping import Curve, Decision, History, Point, decide, probe_epochs, promotable

if TYPE_CHECKING:
    from tuner.searcher import OptunaSearcher

FINAL = ("completed", "stopped", "diverged", "failed")
"""The states that a trial does not leave; `running` and `interrupted` ones go on when the study is resumed."""
OPEN = ("running", "interrupted", "paused")
"""The others; a `paused` trial waits at a rung and goes on if it is promoted."""

STOPPED_BY_HAND = "stopped by hand"
"""The reason of a trial's end that somebody asked for."""

_PER_ATTEMPT = ("event", "seq", "time", "elapsed", "host", "trial", "attempt", "from_epoch")


@dataclass
class TrialState:
    """What the log says of one trial."""

    number: int
    seed: int
    origin: str
    params: dict[str, Any]
    config: RunConfig
    started_with: dict[str, Any] = field(default_factory=dict)
    """The fields of its `trial_started` event that every attempt repeats."""
    attempt: int = 0
    status: str = "running"
    error: str | None = None
    faults: Counter[str] = field(default_factory=Counter)
    """Attempts that died, by `faults.counted_as`."""
    alone: bool = False
    """Whether it ran out of memory beside others, so that its next attempt waits for an empty machine."""
    pers: dict[int, float | None] = field(default_factory=dict)
    last_row: dict[str, Any] = field(default_factory=dict)
    rungs: dict[int, float] = field(default_factory=dict)
    """The PER at each rung it was compared at."""
    compared: dict[int, tuple[int, bool | None]] = field(default_factory=dict)
    """Epoch -> (rung, passed), where it was compared: it is not compared again when the epoch is repeated."""
    stop_logged: str | None = None
    started: float = 0.0
    seconds: float = 0.0
    """Wall seconds of its epochs, over all attempts."""
    gpu_seconds: float = 0.0
    """Over the attempts that have ended."""

    @property
    def epoch(self) -> int:
        """The last epoch that was reported; 0 before the first."""
        return max(self.pers, default=0)

    @property
    def inherited(self) -> int:
        """The epoch of another trial that it goes on from; 0 where it began anew."""
        return int(self.started_with.get("from_trial_epoch") or 0)

    @property
    def final(self) -> bool:
        """Whether it has ended for good."""
        return self.status in FINAL

    @property
    def best(self) -> tuple[float, int] | None:
        """(best PER, its epoch); None before the first PER that is a number."""
        known = [(per, epoch) for epoch, per in self.pers.items() if per is not None]
        return min(known) if known else None

    def objective(self, name: str) -> float | None:
        """The value the searcher minimises: `best_per` or `last_per`."""
        if name == "last_per":
            return self.pers.get(self.epoch)
        return self.best[0] if self.best else None


@dataclass(frozen=True)
class Job:
    """One attempt at a trial, as a worker gets it."""

    trial: int
    attempt: int
    config: RunConfig
    epochs_logged: int
    """Epochs already in the log: a checkpoint further on reports the missing one again before it trains."""
    probes: tuple[tuple[int, int], ...] = ()
    """(epoch, batches) of the cooldown probes that the stopping rule wants."""
    rungs: tuple[int, ...] = ()
    """Epochs at which the rule may end it."""
    pauses: bool = False
    """Whether it may pause it there, which takes a checkpoint."""
    inherited: int = 0
    """Epochs of another trial that it goes on from."""

    def __str__(self) -> str:
        return f"trial {self.trial}"


class StudyState:
    """The state of a study as a replay of its events.

    Whoever only looks does without the `searching` part: no searcher is built, and Optuna is not imported.
    """

    def __init__(self, *, searching: bool = True) -> None:
        self._searching = searching
        self.settings: dict[str, Any] = {}
        self.trials: dict[int, TrialState] = {}
        self._open: dict[int, TrialState] = {}
        """Those that run or wait to: asked for at every turn, so not looked for among all."""
        self.history = History({"kind": "none"})
        """What the stopping rule sees."""
        self.spent = budgets.Spent()
        self.searcher: OptunaSearcher | None = None
        self.untold: set[int] = set()
        """Trials that the searcher is not told of: they are not in the space that a resume brought."""
        self.space: Space | None = None
        self.driver_seconds = 0.0
        """Wall time spent by drivers: the sum over sessions of their first to their last event."""
        self.stop_asked: set[int] = set()
        """Trials that somebody wants stopped (`tuner/by_hand.py`) and that have not ended."""
        self.session_seq = 0
        """The number of the event that began the last session."""
        self.lost: set[int] = set()
        """Trials of which a damaged log has events but no start: what they were is not known, their number is used."""
        self.epochs = 0
        """Epoch events so far, repeated ones included."""
        self.next_number = 0
        """Of the next trial."""
        self.heirs = 0
        """Trials that went on from another's checkpoint."""
        self.heir: dict[str, Any] | None = None
        """What the next trial replaces and goes on from, where that is settled (`tuner/population.py`)."""
        self._session_start = 0.0
        self._session_end = 0.0
        self.ended: str | None = None
        self.dropped: set[str] = set()
        """Best weights that were removed for want of room, as paths in the study's folder."""

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take in one event of the log."""
        handler = getattr(self, "_" + event["event"], None)
        if event["event"] in ("study_started", "study_resumed"):
            self.session_seq = event["seq"]
            self.driver_seconds += self._session_end - self._session_start
            self._session_start = self._session_end = event["time"]
        # The wall clock may be set back or forward under a session; logs of before have no other.
        elapsed = event.get("elapsed", event["time"] - self._session_start)
        self._session_end = max(self._session_end, self._session_start + elapsed)
        self.spent.apply(event)
        if event.get("trial") is not None:
            self.next_number = max(self.next_number, event["trial"] + 1)
            if event["event"] in ("epoch", "trial_ended") and event["trial"] not in self.trials:
                self.lost.add(event["trial"])
                return
        if handler is not None:
            handler(event)

    def _study_started(self, event: Mapping[str, Any]) -> None:
        self.settings = {key: value for key, value in event.items() if key not in ("event", "seq", "time", "elapsed")}
        self.history = History(event["stopping"])
        if event["space"] is not None:  # a planned study has no space and asks nobody
            self._make_searcher()

    def _searcher_of(self, trial: TrialState) -> OptunaSearcher | None:
        """The searcher, where it is told of this trial."""
        return None if trial.number in self.untold else self.searcher

    def _make_searcher(self) -> None:
        """The space and the searcher that the settings name, told of the trials so far."""
        self.space = Space.from_dict(self.settings["space"])
        if self._searching:
            from tuner.changes import retell
            from tuner.searcher import OptunaSearcher
            from tuner.warm_start import discounted

            count = len(objectives.names(self.settings))
            earlier = discounted(self.settings.get("warm_start", []), self.space)
            self.searcher = OptunaSearcher(self.space, self.settings["searcher"], self.settings["seed"], count, earlier)
            self.untold = retell(self.searcher, self.space, self)

    def _study_resumed(self, event: Mapping[str, Any]) -> None:
        self.ended = None
        changed = event.get("changed", {})
        for key, (_, new) in changed.items():
            self.settings[key] = new
        if changed.keys() & {"space", "searcher", "objective", "costs"}:
            self._make_searcher()
        if "stopping" in changed:
            waited = self.paused
            self.history = self.history.under(self.settings["stopping"])
            for trial in waited:  # the new rule lets them go on, to where it compares next
                trial.status = "interrupted"
                self._open[trial.number] = trial

    def _study_ended(self, event: Mapping[str, Any]) -> None:
        self.ended = event["reason"]

    def _checkpoints_dropped(self, event: Mapping[str, Any]) -> None:
        self.dropped.update(path for path in event["files"] if path.endswith(checkpoints.BEST))

    def _stop_requested(self, event: Mapping[str, Any]) -> None:
        if event["trial"] is not None:
            self.stop_asked.add(event["trial"])

    def _trial_started(self, event: Mapping[str, Any]) -> None:
        number = event["trial"]
        if number not in self.trials:
            self.trials[number] = TrialState(
                number=number,
                seed=event["seed"],
                origin=event["origin"],
                params=event["params"],
                config=RunConfig.model_validate(event["config"]),
                started=event["time"],
                started_with={k: v for k, v in event.items() if k not in _PER_ATTEMPT},
            )
            if event.get("from_trial") is not None:
                self.heirs, self.heir = self.heirs + 1, None
            self.history.begin(Curve.of_run(number, self.trials[number].config))
            if self.searcher is not None:
                self.searcher.started(number, event["params"])
        trial = self.trials[number]
        trial.attempt, trial.status, trial.error, trial.stop_logged = event["attempt"], "running", None, None
        self.history.unpause(number)
        self._open[number] = trial

    def _epoch(self, event: Mapping[str, Any]) -> None:
        self.epochs += 1
        trial = self.trials[event["trial"]]
        trial.pers[event["epoch"]] = event["per"]
        trial.seconds += event.get("seconds") or 0.0
        trial.last_row = dict(event)
        point, decision, compared = Point.of_row(event), event["decision"], event["rung"] is not None
        # A log of before `passed` was written has rules that stop at the first rung failed.
        passed = event.get("passed", decision != "stop")
        if compared:
            self._tell_rung(trial, point)
            trial.compared.setdefault(point.epoch, (event["rung"], passed))
        self.history.record(trial.number, point, decision, compared=compared, passed=passed)
        if decision != "continue":
            trial.stop_logged = event["status"]

    def _tell_rung(self, trial: TrialState, point: Point) -> None:
        """The value at a rung, which the searcher knows by its epoch or its percent of the horizon."""
        key, value = self.history.key(trial.number, point.epoch), self.history.value(point)
        step = point.epoch if key is None else key.at
        if value is not None and step not in trial.rungs:
            trial.rungs[step] = value[0]
            if searcher := self._searcher_of(trial):
                searcher.rung(trial.number, step, value[0])

    def _trial_ended(self, event: Mapping[str, Any]) -> None:
        trial = self.trials[event["trial"]]
        trial.status, trial.error = event["status"], event.get("error")
        trial.gpu_seconds += event.get("gpu_seconds") or 0.0
        if trial.status == "failed":
            trial.faults[faults.counted_as(event.get("fault", "error"))] += 1
            trial.alone = bool(event.get("alone"))
        if exploits := event.get("exploits"):
            self.heir = {"replaces": trial.number, **exploits}
        if trial.final and not event.get("retry") and (searcher := self._searcher_of(trial)):
            searcher.ended(trial.number, trial.status, objectives.values(trial, self.settings))
        if event.get("retry"):
            trial.status = "interrupted"
        if trial.status == "paused" or trial.status in FINAL:
            self._open.pop(trial.number, None)
        if trial.status in FINAL:
            self.history.end(trial.number, stopped=trial.status == "stopped")
            self.stop_asked.discard(trial.number)
            self.spent.ended(trial.number)

    @property
    def session(self) -> tuple[float, float]:
        """The driver's last session: the unix times of its first and its last event."""
        return self._session_start, self._session_end

    @property
    def running(self) -> list[TrialState]:
        """Trials that workers hold now."""
        return [trial for trial in self._open.values() if trial.status == "running"]

    @property
    def waiting(self) -> list[TrialState]:
        """Interrupted trials, lowest number first."""
        waiting = [trial for trial in self._open.values() if trial.status == "interrupted"]
        return sorted(waiting, key=lambda trial: trial.number)

    @property
    def paused(self) -> list[TrialState]:
        """Trials that wait at a rung."""
        return [self.trials[number] for number in self.history.paused]

    def outstanding(self, left: int) -> int:
        """Trials that have not had an epoch yet, the `left` that are not started included."""
        return left + sum(not trial.pers for trial in self._open.values())

    @property
    def leader(self) -> TrialState | None:
        """The trial with the lowest PER so far."""
        known = [trial for trial in self.trials.values() if trial.best]
        return min(known, key=lambda trial: trial.best or (np.inf, 0)) if known else None


class Log(Protocol):
    """What a study writes to: the event log on the disk, or one in memory (a simulated search)."""

    def append(self, event: str, **fields: Any) -> dict[str, Any]:
        """Keep one event and return it as it is kept."""

    def close(self) -> None:
        """Write no more."""


class Study:
    """A search that can be asked for work and told of results.

    What it runs is a space with a searcher, or a `plan`: a list of {run, parent, origin, config} taken in order.

    `observers` are called with every event after it is on the disk (the progress display, say).
    """

    def __init__(self, folder: Path, log: Log, observers: list[Callable[[dict[str, Any]], None]]) -> None:
        self.folder = folder
        self.state = StudyState()
        self.observers = observers
        self.problems: Sequence[str] = []
        """What was wrong with the log that the study was rebuilt from, a line each."""
        self._log = log
        self._session = time.monotonic()

    @classmethod
    def create(
        cls,
        folder: Path,
        settings: Mapping[str, Any],
        observers: list[Callable[[dict[str, Any]], None]],
        log: Log | None = None,
    ) -> Study:
        """Begin a study with the settings of a `study_started` event; hold its lock before."""
        study = cls(folder, log or EventLog(folder / LOG_NAME), observers)
        study._write("study_started", **settings)
        return study

    @classmethod
    def resume(
        cls,
        folder: Path,
        changed: Mapping[str, Any],
        observers: list[Callable[[dict[str, Any]], None]],
        log: Log | None = None,
    ) -> Study:
        """Rebuild a study from its log and go on; `changed` maps settings to [old, new] (see `tuner.changes`)."""
        study = cls(folder, log or EventLog(folder / LOG_NAME), observers)
        events, study.problems = read_events(folder / LOG_NAME)
        if not events or events[0]["event"] != "study_started":
            raise InputError(
                f"{folder}: the log does not begin with the study's settings, so it cannot be resumed; "
                "remove the folder and search again"
            )
        for event in events:
            study.state.apply(event)
        if study.state.heir is None:  # a driver that died may have copied a checkpoint for a trial that is not to be
            checkpoints.remove_states(folder, study.state.next_number)
        study._write("study_resumed", changed=dict(changed))
        for trial in study.state.running:
            # The driver died before it could write this trial's end: a logged stop is carried out, the rest goes on.
            study._end_attempt(trial, trial.stop_logged or "interrupted", error=None)
        study._end_asked()
        study._end_paused()
        return study

    @property
    def settings(self) -> dict[str, Any]:
        """The settings in force: those of `study_started` with what resuming changed."""
        return self.state.settings

    @property
    def trials_left(self) -> int:
        """Trials of the budget that have not been started and may be: none once a limit is reached.

        Under pbt those that the searcher is asked for, without the ones that go on from another trial.
        """
        if self.reached:
            return 0
        budget = self.settings["budget"]["trials"]
        left = max(0, budget - self.state.next_number) if budget else 10**9
        return population.founders_left(self.state, left)

    @property
    def seconds_left(self) -> float:
        """Seconds of the wall-time budget that are left; infinite where there is none."""
        hours = self.settings["budget"]["hours"]
        if not hours:
            return float("inf")
        return hours * 3600 - self.state.driver_seconds - (time.monotonic() - self._session)

    @property
    def reached(self) -> str | None:
        """The limit that is reached, other than the number of trials (`budgets.reached`); None if trials may start."""
        return budgets.reached(self.settings["budget"], self.state.spent, self.seconds_left)

    @property
    def leaves(self) -> bool:
        """Whether a limit is reached at which what runs is to be interrupted (`budgets.then`)."""
        reason = self.reached
        return reason is not None and budgets.then(self.settings["budget"], reason) == "stop"

    @property
    def done(self) -> bool:
        """Whether nothing is to be done any more but `interrupt`: nothing runs or is to start, or a limit says so."""
        state = self.state
        if self.leaves:
            return True
        heir = state.heir is not None and not self.reached
        return not (state.running or state.waiting or heir or self.trials_left or self._promotable() is not None)

    def _promotable(self) -> int | None:
        """The paused trial that goes on next; None if there is none, or a limit is reached."""
        if not self.state.history.paused or self.reached:
            return None
        return promotable(self.state.history, self.state.outstanding(self.trials_left))

    def ask(self) -> Job | None:
        """The next attempt to run, written to the log; None if there is nothing to start now.

        Interrupted trials come first, lowest number first; then a paused one that the stopping rule promotes; then
        start points; then what the searcher proposes. A trial that ran out of memory beside others comes last,
        and by itself. Under pbt the population is filled up first, and another trial may take a paused one's place.
        """
        if self.leaves or any(trial.alone for trial in self.state.running):
            return None
        waiting = [trial for trial in self.state.waiting if not trial.alone]
        if not waiting and self.state.heir is not None and not self.reached:
            return self._start_heir()
        filling = population.size(self.state) and self.trials_left
        promoted = None if waiting or filling else self._promotable()
        if not waiting and promoted is None and not self.trials_left and not self.state.running:
            waiting = self.state.waiting
        if waiting or promoted is not None:
            trial = waiting[0] if promoted is None else self.state.trials[promoted]
            if promoted is not None and (job := self._exploit(trial)) is not None:
                return job
            return self._start(trial.number, trial.attempt + 1, max(trial.epoch, trial.inherited), trial.started_with)
        if not self.trials_left:
            return None
        number = self.state.next_number
        return self._start(number, 1, 0, self._next_trial(number))

    def _exploit(self, trial: TrialState) -> Job | None:
        """The attempt of a new trial that takes the place of a paused one; None if that one goes on itself."""
        parent = population.parent(self.state, self.folder, trial.number)
        if parent is None:
            return None
        donor, epoch = parent
        exploits = {"from_trial": donor, "from_trial_epoch": epoch}
        self._end_attempt(trial, "stopped", error=f"exploits trial {donor} at epoch {epoch}", exploits=exploits)
        return self._start_heir()

    def _start_heir(self) -> Job:
        number, heir = self.state.next_number, dict(self.state.heir or {})
        return self._start(number, 1, heir["from_trial_epoch"], {**self._heir(number, heir["from_trial"]), **heir})

    def _heir(self, number: int, donor: int) -> dict[str, Any]:
        """What trial `number` is that goes on from `donor`."""
        space, seed = self.state.space, self._seed_of(number)
        assert space is not None  # noqa: S101  a planned study has no rule that gets here
        params = population.explore(self.state, space, donor, number)
        config = space.config(params, seed)
        weights = objectives.weights(config, self.settings["data"])
        return {"params": params, "seed": seed, "origin": "searched", **weights, "config": to_dict(config)}

    def _seed_of(self, number: int) -> int:
        return int(np.random.SeedSequence([self.settings["seed"], number, 2**31]).generate_state(1)[0])

    def _next_trial(self, number: int) -> dict[str, Any]:
        """What trial `number` is: the plan's entry, a start point, or a proposal of the searcher."""
        if self.settings.get("plan"):
            entry: dict[str, Any] = self.settings["plan"][number]
            weights = objectives.weights(RunConfig.model_validate(entry["config"]), self.settings["data"])
            return {"params": {}, "seed": entry["config"]["training"]["seed"], **weights, **entry}
        state, starts = self.state, self.settings.get("start_points", [])
        place = number - self.settings.get("starts_from", 0)
        assert state.space is not None and state.searcher is not None  # noqa: S101  set by study_started
        seed = self._seed_of(number)
        if place < len(starts):
            params, origin = starts[place], "start_point"
        else:
            params, origin = state.searcher.propose(number), "searched"
        config = state.space.config(params, seed)
        weights = objectives.weights(config, self.settings["data"])
        return {"params": params, "seed": seed, "origin": origin, **weights, "config": to_dict(config)}

    def _start(self, number: int, attempt: int, epochs: int, fields: dict[str, Any]) -> Job:
        begins = checkpoints.saved_epoch(self.folder, number, epochs) if epochs else 0
        self._write("trial_started", trial=number, attempt=attempt, from_epoch=begins, **fields)
        config, rule = self.state.trials[number].config, self.state.history.rule
        rungs, pauses = checkpoints.rungs_of(rule, config, number)
        probes, inherited = probe_epochs(rule, config, number), self.state.trials[number].inherited
        return Job(number, attempt, config, epochs, probes, rungs, pauses, inherited)

    def report(self, number: int, attempt: int, row: Mapping[str, Any], verdict: Decision | None = None) -> str:
        """Record an epoch and decide: "continue" or "stop". The decision is in the log when this returns.

        After "stop" the end of the attempt is in the log as well: for good, or paused. An epoch that an earlier
        attempt reported is not decided again: the trial went on from there, or was to. `verdict` takes the place of
        the study's own rule (the comparison with other libraries' rules).
        """
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
                Decision(stop=True, reason=f"the loss or the gradient at epoch {epoch} is not a number"),
            )
        elif final:
            status, verdict = "completed", Decision(stop=True)
        else:
            if outside is not None:
                verdict = outside
            elif not repeated:
                verdict = decide(self.state.history, number, Point.of_row(row))
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
        self._end_paused()
        return "stop"

    def fail(self, number: int, attempt: int, error: str, *, final: bool = False, kind: str = "error") -> None:
        """Record that an attempt died. It is tried again from its checkpoint as often as `faults` allows its kind."""
        trial = self.state.trials[number]
        if trial.status != "running" or trial.attempt != attempt:
            return
        allowed = faults.retries_for(kind, self.settings.get("retries", 0))
        retry = not final and trial.faults[faults.counted_as(kind)] < allowed
        crowded = len(self.state.running) > 1 and faults.shares_memory(error, self.settings["resources"])
        more = {"alone": True} if retry and kind == "memory" and crowded else {}
        self._end_attempt(trial, "failed", error=error, retry=retry, fault=kind, **more)
        self._end_paused()

    def let_go(self) -> None:
        """Record that the workers are gone through no fault of the trials, which are to be asked for again."""
        for trial in self.state.running:
            self._end_attempt(trial, "interrupted", error=None)

    def interrupt(self, reason: str) -> None:
        """Write the end of the session: what still runs is interrupted and goes on when the study is resumed."""
        self.let_go()
        self._write("study_ended", reason=reason)

    def stop_by_hand(self, number: int | None, request: str, by: str) -> None:
        """Record that somebody asked to stop the search (None) or a trial, which then ends as "stopped".

        A trial that a worker holds ends with its next epoch. Whoever has the workers leaves the search.
        """
        self._write("stop_requested", trial=number, request=request, by=by)
        self._end_asked()

    def drop_checkpoints(self, files: list[str], left: int, budget: int) -> None:
        """Record that checkpoint files (paths in the folder) are dropped for want of room, then remove them.

        `left` bytes stay, of `budget` bytes.
        """
        self._write("checkpoints_dropped", files=files, bytes=left, budget=budget)
        checkpoints.remove(self.folder, files)

    def _end_asked(self) -> None:
        for trial in [self.state.trials[number] for number in sorted(self.state.stop_asked)]:
            if trial.status != "running":  # nobody holds it, so it has no next epoch
                self._end_attempt(trial, "stopped", error=STOPPED_BY_HAND)

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    def _end_attempt(self, trial: TrialState, status: str, error: str | None, retry: bool = False, **more: Any) -> None:
        checkpoint = Path("checkpoints") / str(trial.number) / "best.pt"
        fields: dict[str, Any] = {"retry": True, **more} if retry else more
        # The time of an attempt counts once: that of a trial which nobody holds was counted when it was let go.
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
        """Once nothing else is to be done, the trials that still wait have been stopped."""
        if self.state.history.paused and not self.reached and self.done:
            for trial in self.state.paused:
                self._end_attempt(trial, "stopped", error=None)

    def _write(self, kind: str, **fields: Any) -> None:
        event = self._log.append(kind, **{"host": os.uname().nodename, **fields})
        self.state.apply(event)
        for observer in self.observers:
            observer(event)
