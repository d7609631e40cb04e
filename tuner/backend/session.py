"""One run of a study on Ray: what Tune's searcher and scheduler share while its loop runs."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from tuner.backend import ray_private
from tuner.backend.worker import Place, Work
from tuner.study.faults import Fault, Watchdog, fault_of, killed_actors
from tuner.study.study import Job, Study


@dataclass
class Session:
    """A study that runs on Tune. The keys of jobs, trials, actors and hung attempts are Tune's ids of the attempts."""

    study: Study
    work: Work
    place: Place
    concurrent: int
    """How many trials run at once."""
    leave: Callable[[], bool]
    """Whether a signal, `tuner stop` or a limit asks to leave Tune's loop."""
    watchdog: Watchdog
    scratch: Path
    """For Tune's temporary files."""
    check_data: Callable[[], None]
    """Raises `DataChanged` where the data are no longer the study's."""
    jobs: dict[str, Job] = field(default_factory=dict)
    trials: dict[str, Any] = field(default_factory=dict)
    """Tune's own trial objects."""
    actors: dict[str, Any] = field(default_factory=dict)
    """The workers of the attempts."""
    hung: dict[str, str] = field(default_factory=dict)
    """Attempts whose worker was killed because it hung, with the message."""
    over: list[tuple[Any, Any]] = field(default_factory=list)
    """(Tune's controller, its trial) of attempts that are over and that it still keeps."""
    broken: Exception | None = None
    """The error that ended Tune's loop."""

    def died(self, key: str, error: str) -> None:
        """Report to the study that the worker of an attempt died: it hung and was killed, or it died by itself.

        Where the data file was truncated, which kills every process that maps it, this is not the trial's failure.
        """
        self.check_data()
        job, hung = self.jobs[key], self.hung.pop(key, None)
        fault = Fault("hung", hung) if hung else fault_of(error)
        self.forget(key)
        self.study.fail(job.trial, job.attempt, fault.text, kind=fault.kind)

    def forget(self, key: str) -> None:
        """Stop watching an attempt."""
        self.trials.pop(key, None)
        self.actors.pop(key, None)
        self.watchdog.let_go(key)

    def let_go(self) -> None:
        """Make Tune forget attempts that are over. One whose worker is still being stopped waits for the next time."""
        self.over = [kept for kept in self.over if not ray_private.forget(*kept)]

    def end_hung(self) -> None:
        """Kill the workers that have not reported for too long; Tune then hears that they died."""
        self.watchdog.look()
        for key, trial in self.trials.items():
            if (actor := ray_private.worker_of(trial)) is not None:
                self.actors[key] = actor
                if not self.watchdog.watched(key):
                    self.watchdog.begin(key)
        for key, text in self.watchdog.overdue().items():
            if key in self.hung:
                continue
            self.hung[key] = text
            ray.kill(self.actors[key])
            job = self.jobs[key]
            row = self.study.state.trials[job.trial].last_row
            if row.get("host") == os.uname().nodename and row.get("attempt") == job.attempt:
                with contextlib.suppress(
                    ProcessLookupError, PermissionError
                ):  # a stopped process does not handle signals
                    os.kill(row["pid"], signal.SIGKILL)

    def blame(self, text: str) -> None:
        """End the attempts that ran when Tune raised: failed for those that `text` names, interrupted for others."""
        killed = set(killed_actors(text))
        for key, actor in self.actors.items():
            if ray_private.id_of(actor) in killed:
                job, fault = self.jobs[key], fault_of(text)
                self.study.fail(job.trial, job.attempt, fault.text, kind=fault.kind)
        self.study.let_go()
        self.jobs, self.trials, self.actors, self.hung = {}, {}, {}, {}
