"""Stop a search, or one of its trials, from any machine that can write to the study's folder.

A request is a small file in `<study>/requests`. The driver checks this folder about once a second, writes a
`stop_requested` event to the log (which is the answer, and is replayed), removes the file and stops. So no port and no
signal to another machine is needed, and a request is carried out exactly once, even after a crash.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.store.paths import StudyPaths
from search_spaces import InputError
from search_spaces.common import atomic
from tuner.callbacks.watch import Watched
from tuner.study.study import Study
from tuner.study.trial_state import FINAL

LOOK_SECONDS = 1.0
"""Seconds between two checks by the driver; on a network file system a request may arrive some seconds later."""


@dataclass(frozen=True)
class StopRequest:
    """A request to stop the whole search, or trial `trial`."""

    id: str
    trial: int | None
    by: str
    """user@host."""
    seq: int
    """The last event at the time of the request: it is for the search that was running then, not for a later one."""


class Inbox:
    """The driver's side: `look` answers the requests since the last call."""

    def __init__(self, study: Study, clock: Callable[[], float] = time.monotonic) -> None:
        self._study = study
        self._folder = StudyPaths(study.folder).requests
        self._clock = clock
        self._next = 0.0
        self.leave = False
        """Whether there was a request to stop the whole search."""

    def look(self) -> bool:
        """Carry out the requests; returns `leave`. Does nothing between two checks that are due."""
        if self._clock() >= self._next:
            self._next = self._clock() + LOOK_SECONDS
            with contextlib.suppress(OSError):  # no folder, or one that is unavailable for a moment
                for path in sorted(self._folder.glob("*.json")):
                    self._answer(path)
        return self.leave

    def _answer(self, path: Path) -> None:
        try:
            request = StopRequest(**json.loads(path.read_bytes()))
        except (ValueError, TypeError):
            path.unlink(missing_ok=True)
            return
        state = self._study.state
        if request.trial is not None:
            trial = state.trials.get(request.trial)
            if trial is not None and trial.status not in FINAL and request.trial not in state.stop_asked:
                self._study.stop_by_hand(request.trial, request.id, request.by)
        elif request.seq >= state.session_seq and not self.leave:
            self._study.stop_by_hand(None, request.id, request.by)
            self.leave = True
        path.unlink(missing_ok=True)


def ask(folder: Path, trial: int | None, seq: int) -> Path:
    """Leave a request in a study's folder; returns its file. Raises InputError if it cannot be written."""
    request_id = f"{time.time_ns()}-{secrets.token_hex(4)}"
    request = {"id": request_id, "trial": trial, "by": f"{getpass.getuser()}@{os.uname().nodename}", "seq": seq}
    path = StudyPaths(folder).requests / f"{request_id}.json"
    try:
        path.parent.mkdir(exist_ok=True)
        atomic.write(path, json.dumps(request))  # so that the driver never reads a partial request
    except OSError as error:
        raise InputError(
            f"{path.parent}: cannot write there ({error.strerror}); run this where the folder can be written"
        ) from error
    return path


def stop(folder: Path, trial: int | None, seconds: float, sleep: Callable[[float], None] = time.sleep) -> str:
    """Ask the driver of the study in `folder` to stop it, or one trial, and wait for that; returns what happened.

    The outcome is "ended" (the search has ended, or the trial), "asked" (not within `seconds`) or "waits" (no driver
    runs; the next one will end the trial). Raises InputError where there is nothing to stop.
    """
    watched = Watched(folder)
    events: list[dict[str, Any]] = []
    watched.look(events.append)
    _check(watched, trial)
    path = ask(folder, trial, watched.seq)
    if trial is not None and not watched.held:
        return "waits"
    end = time.monotonic() + seconds
    while True:
        gone = not path.exists()  # before the look: what answered it is then in the log
        watched.look(events.append)
        if trial is None and not watched.held:
            path.unlink(missing_ok=True)  # nobody is left to answer
            return "ended"
        if trial is not None and watched.state.trials[trial].status in FINAL:
            return "ended"
        if time.monotonic() >= end:
            return "asked"
        if gone and not any(event.get("request") == path.stem for event in events):
            path = ask(folder, trial, watched.seq)  # the driver was only starting; this is the search it meant
        sleep(0.2)


def _check(watched: Watched, trial: int | None) -> None:
    name, state = watched.folder.name, watched.state
    if trial is None and not watched.held:
        raise InputError(f"{name}: no search is running this study; 'tuner status {name}' shows its state")
    if trial is not None and trial not in state.trials:
        raise InputError(f"--trial {trial}: {name} has no such trial; it has started {len(state.trials)} so far")
    if trial is not None and state.trials[trial].status in FINAL:
        raise InputError(f"--trial {trial}: has ended already ({state.trials[trial].status}); there is nothing to stop")
