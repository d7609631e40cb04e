"""The Ray Tune adapter: Tune places trials on cores, GPUs and machines; the `Study` makes the decisions.

Tune's own state is never reused: every driver starts a new Tuner in a temporary folder. Trials have our numbers, and
checkpoints are in the study's folder under these numbers. Tune has one of its trials for each *attempt* at one of ours,
so retries and resumed trials are new trials for Tune. Its loggers, result files and console output are off.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from tuner.backend import start  # first: what Ray reads when it is imported is set there

# isort: split

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from search_spaces import InputError
from trainable.data.intact import DataChanged
from tuner.backend import cluster, ray_private
from tuner.backend.actor import TrialActor
from tuner.backend.by_hand import Inbox
from tuner.backend.session import Session
from tuner.backend.start import Resources, start_ray, stop_ray
from tuner.backend.worker import Place, Work, train_job
from tuner.study.faults import Watchdog, fault_of
from tuner.study.study import Study

__all__ = ["Resources", "run", "start_ray", "stop_ray"]


class SearchStopped(KeyboardInterrupt):
    """Raised inside Tune's loop to leave it at once; nothing is lost, because every decision is in the log."""


# Tune pickles the searcher and the scheduler; they find through this what cannot be pickled (the log, the state).
_session: Session | None = None


def _current() -> Session:
    assert _session is not None  # noqa: S101  Tune's loop runs inside `run` only
    return _session


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    """Leaves Tune's loop with the original error: Tune would wrap some errors and continue after others."""

    @functools.wraps(method)
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            return method(*arguments, **named)
        except Exception as error:
            _current().broken = error
            raise SearchStopped from error

    return call


class AskStudy(Searcher):
    """Tune's `Searcher`: gives Tune the study's jobs."""

    @_guarded
    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next attempt, None for "not now", FINISHED when nothing is left."""
        session = _current()
        study = session.study
        if study.done:
            return Searcher.FINISHED
        if len(study.state.running) >= session.concurrent:
            return None
        job = study.ask()
        if job is None:
            return Searcher.FINISHED if study.done else None
        session.jobs[trial_id] = job
        return {"place": session.place, "work": session.work, "job": job}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Does nothing: the study already has the result."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the log is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the log is the state."""


class TellStudy(FIFOScheduler):
    """Tune's `TrialScheduler`: passes each result to the study and carries out its decision."""

    @_guarded
    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """STOP or CONTINUE; the decision is in the log when this returns."""
        session = _current()
        study, job = session.study, session.jobs[trial.trial_id]
        session.watchdog.look()
        if "data" in result:
            elsewhere = result["data"] != os.uname().nodename
            raise DataChanged(f"on {result['data']}: {result['error']}" if elsewhere else result["error"])
        if "error" in result:
            fault = fault_of(result["error"])
            study.fail(job.trial, job.attempt, result["error"], final=bool(result.get("final")), kind=fault.kind)
            return TrialScheduler.STOP
        row = json.loads(result["row"])
        session.watchdog.heard(trial.trial_id)
        decision = study.report(job.trial, job.attempt, row)
        return TrialScheduler.STOP if decision == "stop" else TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Free what the attempt holds, and soon the attempt itself (`Session.let_go`)."""
        session = _current()
        del session.jobs[trial.trial_id]
        session.forget(trial.trial_id)
        ray_private.free(trial)
        session.over.append((tune_controller, trial))

    @_guarded
    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """The worker process died, or could not be started."""
        _current().died(trial.trial_id, ray_private.error_of(trial))
        _current().over.append((tune_controller, trial))

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Remembers the trial, to know when a worker has started it and to end that worker if it hangs."""
        _current().trials[trial.trial_id] = trial


class _Leave(tune.Stopper):
    """Leaves Tune's loop when all is done (its last snapshot only takes time), or after a signal or a time limit."""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        session = _current()
        session.end_hung()
        session.let_go()
        if session.leave() or session.study.done:
            raise SearchStopped
        return False


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CRASHES = 3
"""How often in a row, without an epoch in between, Tune may raise before the search ends."""


def _caught() -> list[int]:
    """The signals that a search handles: only in the main thread, and not those that nohup ignores."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]


def _fit(session: Session, request: Mapping[str, float]) -> None:
    """Tune's loop, started again when Tune raises, as it does when Ray's memory monitor kills a worker, whatever
    `max_failures` says. Killed trials have failed; the others continue from their checkpoints.
    """
    crashes = 0
    while True:
        epochs = session.study.state.epochs
        try:
            _make_tuner(request, session.scratch).fit()
            return
        except Exception as error:
            crashes = 1 if session.study.state.epochs > epochs else crashes + 1
            text = f"{type(error).__name__}: {error}"
            session.blame(text)
            if crashes >= CRASHES or session.broken is not None:
                raise
            print(f"Ray Tune ended with an error and is started again: {fault_of(text).text}", file=sys.stderr)


class _Silent(tune.ProgressReporter):
    """Tune's own reporter for notebooks clears what the cell has printed."""

    def should_report(self, trials: list[Any], done: bool = False) -> bool:
        """Never reports: `tuner.callbacks.progress` shows the search."""
        return False

    def report(self, trials: list[Any], done: bool, *sys_info: str) -> None:
        """Nothing."""


def _make_tuner(request: Mapping[str, float], scratch: Path) -> tune.Tuner:
    return tune.Tuner(
        tune.with_resources(TrialActor, dict(request)),
        tune_config=tune.TuneConfig(
            search_alg=AskStudy(metric="training_iteration", mode="min"),
            scheduler=TellStudy(),
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            storage_path=str(scratch / "results"),
            name="tune",
            stop=_Leave(),
            verbose=0,
            progress_reporter=_Silent(),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=0),
        ),
    )


def run(
    study: Study,
    data: Path,
    resources: Resources,
    concurrent: int,
    work: Work = train_job,
    hurry: threading.Event | None = None,
    watchdog: Watchdog | None = None,
    check_data: Callable[[], None] = lambda: None,
    look: Callable[[], None] = lambda: None,
) -> str:
    """Run a study until its budget is used up; returns why it ended: "interrupted", "budget" (all trials
    ended), "failed" (all died of one cause), or the other limit that was reached (`budgets.REASONS`).

    Ray must have been started. Raises InputError where the search itself cannot go on (no draw keeps the space's
    constraints, the log cannot be written). Ctrl-C, SIGTERM, SIGHUP or `tuner stop` ends it at once; what was
    reported is kept. `hurry` is set when a signal comes, for whoever waits for a disk meanwhile. `check_data` is called
    when a worker has died; like the workers, it raises `DataChanged` where the data are no longer the study's. What
    `look` raises, which is called in every round of the loop, ends the run.
    """
    global _session
    interrupted = False
    needs = resources.request()
    inbox = Inbox(study, concurrent=concurrent, room=lambda: cluster.room(needs))

    @_guarded
    def leave() -> bool:
        look()
        asked = inbox.look()
        _current().concurrent = inbox.concurrent
        return asked or interrupted or study.leaves

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if hurry is not None:
            hurry.set()
        if interrupted:
            raise SearchStopped
        interrupted = True

    place = Place(
        str(data.resolve()),
        str(study.folder.resolve()),
        resources.cpus_per_trial,
        resources.gpus_per_trial,
        study.settings.checkpoints.as_dict(),
        study.settings.data.fingerprint,
    )
    session = Session(study, work, place, concurrent, leave, watchdog or Watchdog(), start.scratch(), check_data)
    _session = session
    # Tune's default is to start one worker process after the other, ten seconds each.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(cluster.room(needs))
    request = {"cpu": resources.cpus_per_trial, "gpu": resources.gpus_per_trial, **resources.custom}
    handlers = {number: signal.signal(number, on_signal) for number in _caught()}
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    try:
        with contextlib.suppress(SearchStopped):
            _fit(session, request)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        _session = None
    if session.broken is not None:
        with contextlib.suppress(InputError):  # the log itself may be what cannot be written
            study.interrupt("failed")
        raise session.broken
    failed = "failed" if study.common_cause else None
    reason = "interrupted" if interrupted or inbox.leave else study.reached or failed or "budget"
    study.interrupt(reason)
    return reason
