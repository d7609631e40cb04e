"""The state of a study as a replay of its event log.

`StudyState` is filled by `apply`, event by event. Live and replayed events run through the same code, so a resumed
search has the state in which it ended. The decisions are made in `tuner/study/study.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from results.store.lines import OldEvent
from results.store.telling import meet
from search_spaces import InputError, RunConfig, Space
from search_spaces.config import to_dict
from search_spaces.measures import measure_of
from tuner.study import budgets, faults, objectives
from tuner.study.compact import KeptConfig, Unread
from tuner.study.rules import ladder
from tuner.study.rules.history import Curve, History, Point
from tuner.study.rules.rungs import RungKey
from tuner.study.settings import StudySettings
from tuner.study.trial_state import FINAL, PER_ATTEMPT, TrialState

if TYPE_CHECKING:
    from tuner.study.searchers.searcher import OptunaSearcher


class StudyState:
    """The state of a study as a replay of its events.

    For read-only use, give `searching=False`: no searcher is built, and Optuna is not imported. `curve` makes the curve
    of a trial (`sources.TrialSource.curve`).
    """

    def __init__(self, *, searching: bool = True, curve: Callable[[int, KeptConfig], Curve] = Curve.of_run) -> None:
        self._searching, self._curve = searching, curve
        self.settings = StudySettings()
        self.begun = False
        """Whether the log has had the settings."""
        self.trials: dict[int, TrialState] = {}
        self._open: dict[int, TrialState] = {}
        """Running and waiting trials; kept separately because they are needed in every turn."""
        self.history = History({"kind": "none"})
        """What the stopping rule sees."""
        self.spent = budgets.Spent()
        self.searcher: OptunaSearcher | None = None
        self._measure = "per"
        """The column of an epoch that the objective is made of."""
        self.untold: set[int] = set()
        """Trials that the searcher does not get: they are not in the space that came with a resume."""
        self.space: Space | None = None
        self.driver_seconds = 0.0
        """Wall time spent by drivers: the sum over sessions of their first to their last event."""
        self.stop_asked: set[int] = set()
        """Trials that `tuner stop` asked to stop (`tuner/backend/by_hand.py`) and that have not ended."""
        self.session_seq = 0
        """The number of the event that began the last session."""
        self.lost: set[int] = set()
        """Trials without a start in a damaged log: their configuration is unknown, their number is not used again."""
        self.epochs = 0
        """Epoch events so far, repeated ones included."""
        self.leader: TrialState | None = None
        """The trial with the lowest PER so far; the first on ties."""
        self.ended_trials = 0
        """Trials that have ended for good."""
        self.completed = 0
        """Those of them that came to their ends."""
        self.next_number = 0
        """The number of the next trial."""
        self.heirs = 0
        """Trials that continued from another's checkpoint."""
        self.heir: dict[str, Any] | None = None
        """What the next trial replaces and continues, once decided (`tuner/study/rules/population.py`)."""
        self._session_start = 0.0
        self._session_end = 0.0
        self.ended: str | None = None
        self.dropped: set[str] = set()
        """Best weights that were removed to save space, as paths in the study's folder."""

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take in one event of the log; kinds that are not known change nothing."""
        handler = _HANDLERS.get(event["event"])
        if event["event"] in ("study_started", "study_resumed"):
            self.session_seq = event["seq"]
            self.driver_seconds += self._session_end - self._session_start
            self._session_start = self._session_end = event["time"]
        # The wall clock may be changed during a session; older logs have no other clock.
        elapsed = event.get("elapsed", event["time"] - self._session_start)
        self._session_end = max(self._session_end, self._session_start + elapsed)
        self.spent.apply(event)
        if event.get("trial") is not None:
            self.next_number = max(self.next_number, event["trial"] + 1)
            if event["event"] in ("epoch", "trial_ended") and event["trial"] not in self.trials:
                self.lost.add(event["trial"])
                return
        if handler is not None:
            handler(self, event)

    def replay(self, events: Iterable[Mapping[str, Any]], name: str) -> list[str]:
        """Take in the events of a log that was written before; `name` is the log's, for messages.

        Returns a line for each that is damaged and left out: one without a checksum that cannot be taken in. Raises
        InputError for one that is as it was written and cannot: another version wrote it.
        """
        problems = []
        for event in events:
            try:
                self.apply(event)
            except InputError:
                raise
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                why = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
                what = f"{name}: event {event['seq']} ({event['event']})"
                if not isinstance(event, OldEvent):
                    raise InputError(
                        f"{what} cannot be read by this version ({why}); use the version that wrote it"
                    ) from error
                if event["event"] == "trial_started":
                    self.lost.add(event["trial"])
                problems.append(f"{what} is damaged ({why}); it is left out")
        meet(problems)
        return problems

    def _study_started(self, event: Mapping[str, Any]) -> None:
        self.settings, self.begun = StudySettings.read(event), True
        self._measure = self.spent.measure = measure_of(self.settings.objective)
        self.history = History(self.settings.stopping.as_dict())
        if self.settings.space is not None:  # a planned study has no space and no searcher
            self._make_searcher()

    def _searcher_of(self, trial: TrialState) -> OptunaSearcher | None:
        """The searcher, if it gets this trial."""
        return None if trial.number in self.untold else self.searcher

    def _make_searcher(self) -> None:
        """The space and the searcher of the settings, with the trials so far reported."""
        assert self.settings.space is not None  # noqa: S101  a planned study asks nobody
        self.space = Space.from_dict(self.settings.space)
        if self._searching:
            from tuner.study.searchers.telling import make_searcher

            self.searcher, self.untold = make_searcher(self.space, self.settings, self.trials)

    def _study_resumed(self, event: Mapping[str, Any]) -> None:
        self.ended = None
        changed = event.get("changed", {})
        self.settings = self.settings.changed({key: new for key, (_, new) in changed.items()})
        if changed.keys() & {"space", "searcher", "objective", "costs"}:
            self._make_searcher()
        if "stopping" in changed:
            waited = self.paused
            self.history = self.history.under(self.settings.stopping.as_dict())
            for trial in waited:  # under the new rule they continue to its next rung
                trial.status = "interrupted"
                self._open[trial.number] = trial

    def _study_changed(self, event: Mapping[str, Any]) -> None:
        self.settings = self.settings.changed({key: new for key, (_, new) in event["changed"].items()})

    def _study_ended(self, event: Mapping[str, Any]) -> None:
        self.ended = event["reason"]

    def _checkpoints_dropped(self, event: Mapping[str, Any]) -> None:
        self.dropped.update(event["files"])

    def _stop_requested(self, event: Mapping[str, Any]) -> None:
        if event["trial"] in self.trials:
            self.stop_asked.add(event["trial"])

    def _trial_started(self, event: Mapping[str, Any]) -> None:
        number = event["trial"]
        if number not in self.trials:
            self.trials[number] = TrialState(
                number=number,
                seed=event["seed"],
                origin=event["origin"],
                params=event["params"],
                kept=KeptConfig(RunConfig.model_validate(event["config"])),
                started=event["time"],
                about={k: v for k, v in event.items() if k not in (*PER_ATTEMPT, "params", "seed", "origin", "config")},
            )
            if event.get("from_trial") is not None:
                self.heirs, self.heir = self.heirs + 1, None
            self.history.begin(self._curve(number, self.trials[number].kept))
            if self.searcher is not None:
                self.searcher.started(number, event["params"])
        trial = self.trials[number]
        self.ended_trials -= trial.final
        self.completed -= trial.status == "completed"
        trial.attempt, trial.status, trial.error, trial.stop_logged = event["attempt"], "running", None, None
        self.history.unpause(number)
        self._open[number] = trial

    def _epoch(self, event: Mapping[str, Any]) -> None:
        self.epochs += 1
        trial = self.trials[event["trial"]]
        worse = trial.record(event["epoch"], event["per"])
        if self._measure != "per":
            trial.measure(event["epoch"], event.get(self._measure))
        self._lead(trial, worse)
        trial.seconds += event.get("seconds") or 0.0
        trial.last_row = dict(event)
        point, decision, compared = (
            Point.of_row(event, self.history.metric),
            event["decision"],
            event["rung"] is not None,
        )
        # In older logs, without `passed`, a rule stops at the first rung that a trial does not pass.
        passed = event.get("passed", decision != "stop")
        if compared:
            self._tell_rung(trial, point)
            trial.compared.setdefault(point.epoch, (event["rung"], passed))
        self.history.record(trial.number, point, decision, compared=compared, passed=passed)
        if decision != "continue":
            trial.stop_logged = event["status"]

    def _tell_rung(self, trial: TrialState, point: Point) -> None:
        """The objective's measure at a rung (for a PER, what the rule compares), for the searcher.

        It knows the rung by its epoch, or its percent of the horizon.
        """
        key, value = self.history.key(trial.number, point.epoch), self.history.value(point)
        step = point.epoch if key is None else key.at
        if value is not None and step not in trial.rungs:
            told = trial.measured.get(point.epoch) if self._measure != "per" else value[0]
            trial.rungs[step] = math.inf if told is None else told
            if searcher := self._searcher_of(trial):
                searcher.rung(trial.number, step, trial.rungs[step])

    def _trial_ended(self, event: Mapping[str, Any]) -> None:
        trial = self.trials[event["trial"]]
        self.ended_trials -= trial.final
        self.completed -= trial.status == "completed"
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
            self.ended_trials += 1
            self.completed += trial.status == "completed"
            trial.settle()

    def _lead(self, trial: TrialState, worse: bool) -> None:
        """Keep the leader; only where its own PER got worse, when an epoch was repeated, is it looked for among all."""
        if worse and trial is self.leader:
            known = [each for each in self.trials.values() if each.best]
            self.leader = min(known, key=_standing, default=None)
        elif trial.best is not None and (self.leader is None or _standing(trial) < _standing(self.leader)):
            self.leader = trial

    def sealable(self) -> dict[str, Any] | None:
        """What `restore` needs beside the rows of the trials that have ended, as plain JSON.

        None while a trial's stop is logged and not carried out: ask after the next event.
        """
        if any(trial.stop_logged for trial in self.running):
            return None
        ended = {number for number, trial in self.trials.items() if trial.final}
        leader = min((self.trials[n] for n in ended if self.trials[n].best), key=_standing, default=None)
        return {
            "rungs": [
                [*key, 0, sum(n in ended for n in at.rows), at.stopped] for key, at in self.history.rungs.items()
            ],
            "driver_seconds": self.driver_seconds,
            "session": [self._session_start, self._session_end],
            "epochs": self.epochs,
            "spent": {name: getattr(self.spent, name) for name in _SPENT},
            "leader": leader and [leader.number, leader.params, to_dict(leader.config)],
        }

    def restore(self, known: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> None:
        """Add trials that have ended and whose events were not applied: their rows of the table, and `sealable`.

        The events of all others, up to where that was asked, were. Enough to show the study, not to go on with it: the
        curves and the configurations of these trials are not read, but for the leader's.
        """
        for row in rows:
            best = None if row["best_per"] is None else (row["best_per"], row["best_epoch"])
            trial = TrialState(row["trial"], row["seed"], row["origin"], {}, KeptConfig(None), status=row["status"])
            trial.best, trial.pers, trial.seconds = best, Unread(row["epochs"] or 0), row["train_seconds"] or 0.0
            self.trials[trial.number] = trial
            self.ended_trials += 1
            self.next_number = max(self.next_number, trial.number + 1)
        if known["leader"] is not None:
            number, params, config = known["leader"]
            trial = self.trials[number]
            trial.params, trial.kept = params, KeptConfig(RunConfig.model_validate(config))
            self._lead(trial, worse=False)
        for at, unit, _, reached, stopped in known["rungs"]:  # the third is from when there were brackets
            rung = self.history.add_rung(RungKey(at, unit))
            rung.earlier, rung.stopped = reached, stopped
        self.trials = dict(sorted(self.trials.items()))
        self._session_start, self._session_end = known["session"]
        self.driver_seconds, self.epochs = known["driver_seconds"], known["epochs"]
        for name in _SPENT:
            setattr(self.spent, name, known["spent"][name])

    @property
    def lengths(self) -> tuple[float, ...]:
        """The lengths of its runs, where they have several (`tuner.study.rules.ladder`)."""
        return self.space.lengths if self.space is not None else ()

    @property
    def session(self) -> tuple[float, float]:
        """The driver's last session: the unix times of its first and its last event."""
        return self._session_start, self._session_end

    @property
    def running(self) -> list[TrialState]:
        """Trials that are running on workers now."""
        return [trial for trial in self._open.values() if trial.status == "running"]

    @property
    def waiting(self) -> list[TrialState]:
        """Interrupted trials, lowest number first."""
        waiting = [trial for trial in self._open.values() if trial.status == "interrupted"]
        return sorted(waiting, key=lambda trial: trial.number)

    @property
    def paused(self) -> list[TrialState]:
        """Trials that are paused at a rung."""
        return [self.trials[number] for number in self.history.paused]

    def proposals_left(self, left: int) -> int:
        """How many of `left` further trials the start points and the searcher can give: a grid has an end."""
        if self.searcher is None:
            return left
        begun = ladder.drawn(self) if self.lengths else self.next_number - self.settings.starts_from
        coming = self.settings.start_points[max(0, begun) :]
        more = self.searcher.left(coming)
        return left if more is None else min(left, len(coming) + more)

    def outstanding(self, left: int) -> int:
        """Trials that have not had an epoch yet, the `left` that are not started included."""
        return left + sum(not trial.pers for trial in self._open.values())


_SPENT = ("gpu_seconds", "batches", "utterances")


def _standing(trial: TrialState) -> tuple[tuple[float, int], int]:
    return trial.best or (math.inf, 0), trial.number


_HANDLERS: dict[str, Callable[[StudyState, Mapping[str, Any]], None]] = {
    "study_started": StudyState._study_started,
    "study_resumed": StudyState._study_resumed,
    "study_changed": StudyState._study_changed,
    "study_ended": StudyState._study_ended,
    "stop_requested": StudyState._stop_requested,
    "checkpoints_dropped": StudyState._checkpoints_dropped,
    "trial_started": StudyState._trial_started,
    "epoch": StudyState._epoch,
    "trial_ended": StudyState._trial_ended,
}
