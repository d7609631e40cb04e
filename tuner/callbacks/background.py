"""Background work that a search never waits for: one thread that takes events from a queue.

Loggers and notifications run here. An error in them is one warning line and does not affect the search.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from results.store.events import scan_events
from results.store.paths import StudyPaths
from search_spaces.redact import redacted
from tuner.study.state import StudyState

WAITING = 100_000
"""Most events in the queue. A handler that is further behind is switched off."""


class Follower:
    """The state of a study for a handler in another thread; `created` is when the study was first started.

    When the study is resumed, the earlier events are read from the log in `folder`.
    """

    def __init__(self, folder: Path) -> None:
        self.state = StudyState(searching=False)
        self.created = 0.0
        self._folder = folder

    def take(self, event: Mapping[str, Any]) -> None:
        """Apply an event; before the first one, apply all earlier events of the log."""
        if not self.state.begun and event["seq"] > 1:
            for earlier in scan_events(StudyPaths(self._folder).log, []):
                if earlier["seq"] >= event["seq"]:
                    break
                self._apply(earlier)
        self._apply(event)

    def _apply(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "study_started":
            self.created = event["time"]
        self.state.apply(event)


def warn(line: str) -> None:
    """One line on standard error, without the keys of addresses in it."""
    print(f"warning: {redacted(line)}", file=sys.stderr, flush=True)


class Background:
    """An observer of a study that calls `handle` with each event, in order, in a thread of its own.

    The first exception of `handle` or `finish` is one warning line, and the handler is off from then on. `close` lets
    it handle the waiting events, calls `finish`, and gives up after `patience` seconds.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[Mapping[str, Any]], None],
        finish: Callable[[], None] = lambda: None,
        patience: float = 60.0,
    ) -> None:
        self.name = name
        self._handle = handle
        self._finish = finish
        self._patience = patience
        self._queue: queue.Queue[Mapping[str, Any] | None] = queue.Queue()
        self._off = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take an event; returns at once."""
        if self._off:
            return
        if self._queue.qsize() >= WAITING:
            self._off = True
            warn(f"{self.name}: {WAITING} events behind; it is switched off, the search continues")
            return
        self._queue.put(dict(event))

    def close(self) -> None:
        """Handle the waiting events, for at most `patience` seconds."""
        self._queue.put(None)
        end = time.monotonic() + self._patience
        self._thread.join(max(0.0, end - time.monotonic()))
        if self._thread.is_alive() and not self._off:
            warn(f"{self.name}: not finished after {self._patience:g} s; {self._queue.qsize()} events are left out")
        self._off = True

    def _work(self) -> None:
        while (event := self._queue.get()) is not None:
            if not self._off:
                self._try(lambda event=event: self._handle(event))  # type: ignore[misc]
        self._try(self._finish)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            if not self._off:
                self._off = True
                text = (str(error).splitlines() or [""])[0][:300]
                warn(f"{self.name}: {type(error).__name__}: {text}; it is switched off, the search continues")
