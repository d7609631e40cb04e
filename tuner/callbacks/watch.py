"""A study, seen from any machine that can read its folder: its current state, or a live view until it ends.

Only the log and the lock are read, and of the log only what was added since the last time.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from results.output import clock, visible
from results.store.events import open_log, without_settings
from results.store.lines import LineScanner
from results.store.lock import is_held
from results.store.made import look
from results.store.paths import StudyPaths
from results.store.telling import said
from search_spaces import InputError
from tuner.callbacks import standing
from tuner.callbacks.progress import Progress, describe_end
from tuner.study.state import StudyState

REFRESH_SECONDS = 1.0
"""Seconds between two reads of the log."""
GONE_SECONDS = 5.0
"""Seconds after which a study without a driver counts as abandoned: on a network file system the lock can disappear
before the last events arrive."""
ENDINGS = 4
"""Number of recently ended trials in the live view."""
_BLOCK = 1 << 20


class Tail:
    """Reads the events of a growing log; each call to `new` continues where the last one ended.

    A last line without a newline is left for the next call: it is still being written, or it is incomplete and the next
    driver removes it. `problems` has a line for each line that is not an event. `restarts` counts how often the log
    became shorter than what was read (another study replaced it): reading then begins again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.restarts = 0
        self._begin()

    def _begin(self) -> None:
        self.problems: list[str] = []
        self._offset = 0
        self._scanner = LineScanner(str(self.path), self.problems)

    def new(self) -> Iterator[dict[str, Any]]:
        """The events added since the last call. Raises InputError if the log is gone or cannot be read."""
        with open_log(self.path) as file:
            if file.seek(0, 2) < self._offset:
                self.restarts += 1
                self._begin()
            file.seek(self._offset)
            rest = b""
            while block := file.read(_BLOCK):
                *lines, rest = (rest + block).split(b"\n")
                self._offset += sum(len(line) + 1 for line in lines)
                yield from self._scanner.scan(line + b"\n" for line in lines)


class Watched:
    """A study that is followed: its state, updated by `look`."""

    def __init__(self, folder: Path) -> None:
        if not StudyPaths(folder).log.is_file():
            raise InputError(f"{folder}: there is no such study; 'tuner best' lists what there is")
        self.folder = folder
        self.state = StudyState(searching=False)
        self.held = False
        self.busiest = 1
        """The largest number of trials at once in this session."""
        self.last_event = 0.0
        self._tail = Tail(StudyPaths(folder).log)
        self._restarts = 0
        self._left_out: list[str] = []

    def look(self, observer: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Apply the new events; `observer` is called with each one after it was applied."""
        # The lock first: a driver that releases it after this has then written all its events.
        self.held = is_held(self.folder)
        for event in self._tail.new():
            if self._tail.restarts != self._restarts:
                self._restarts, self.state = self._tail.restarts, StudyState(searching=False)
            if event["event"] in ("study_started", "study_resumed"):
                self.busiest = 1
            elif not self.state.begun:
                raise InputError(self._lost() or [without_settings(self._tail.path), *self.problems])
            if left_out := self.state.replay([event], str(self._tail.path)):
                self._left_out += left_out
                continue
            self.last_event = event["time"]
            if event["event"] == "trial_started":
                self.busiest = max(self.busiest, len(self.state.running))
            if observer is not None:
                observer(event)
        if not self.state.begun:
            waits = f"{self._tail.path}: the log has no complete event yet; try again when the search is running"
            raise InputError(self._lost() or [waits, *self.problems])

    @property
    def problems(self) -> list[str]:
        """What was met in the log that is no event, and what it lacks of what its tables were made from."""
        found = [*self._lost(), *self._tail.problems, *self._left_out]
        said(found)
        return found

    def _lost(self) -> list[str]:
        found = look(self.folder)
        return [] if found is None else [found.text]

    @property
    def elapsed(self) -> float:
        """Wall seconds of the driver's session, up to now while it runs."""
        begin, end = self.state.session
        return max(0.0, (time.time() if self.held and not self.state.ended else end) - begin)

    def driver(self) -> str:
        """Whether a driver runs the study, as text."""
        ago = clock(time.time() - self.last_event)
        if self.state.ended:
            return f"ended ({self.state.ended}) {ago} ago"
        if self.held:
            return standing.running_on(self.state.settings.host, self.last_event)
        return f"none; the last one died {ago} ago; continue with: tuner resume {self.folder.name}"


def summary(watched: Watched) -> dict[str, Any]:
    """The facts that `tuner status` shows, as plain JSON types; seconds are wall time of the drivers."""
    found = standing.of_state(watched.folder.name, watched.state, watched.held)
    return standing.whole(found, watched.folder, watched.held, watched.last_event, watched.problems)


def describe(watched: Watched) -> str:
    """The summary as a few lines of text."""
    found = standing.of_state(watched.folder.name, watched.state, watched.held)
    return standing.text(found, summary(watched), watched.driver())


def glance(folder: Path) -> standing.Glance | None:
    """What the driver of a long log wrote of itself last; None where no driver runs the study, or it has not."""
    return standing.glance(folder) if is_held(folder) else None


def watch(watched: Watched, console: Console, sleep: Callable[[float], None] = time.sleep) -> int:
    """Show the study until it ends; returns 0, or 1 if its driver died.

    In a terminal a live view, elsewhere one line for each trial that ends.
    """
    if console.is_terminal:
        _watch_long(watched.folder, console, sleep)
    # It prints plain lines when it is given events, which only the view without a terminal does.
    plain = Console(file=console.file, force_terminal=False)
    progress = Progress(plain, lambda: watched.state, 1, lambda: watched.elapsed)
    endings: deque[str] = deque(maxlen=ENDINGS)
    _look(watched, endings)
    live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
    if live is None and not watched.state.ended:
        print(describe(watched), file=console.file, flush=True)
    alone = 0.0
    with live or contextlib.nullcontext():
        while not watched.state.ended and alone < GONE_SECONDS:
            if live is not None:
                live.update(_view(watched, progress, endings), refresh=True)
            sleep(REFRESH_SECONDS)
            if live is None:
                watched.look(progress.event)
            else:
                _look(watched, endings)
            alone = 0.0 if watched.held else alone + REFRESH_SECONDS
    print(describe(watched), file=console.file, flush=True)
    return 0 if watched.state.ended else 1


def _watch_long(folder: Path, console: Console, sleep: Callable[[float], None]) -> None:
    """Show a study with a long log by its driver's word, as long as there is one."""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while (seen := glance(folder)) is not None:
            live.update(Text(seen.text([])), refresh=True)
            sleep(REFRESH_SECONDS)


def _look(watched: Watched, endings: deque[str]) -> None:
    """Apply the new events, and describe the last trials that ended (only those: a long log has thousands)."""
    ended: deque[dict[str, Any]] = deque(maxlen=ENDINGS)
    watched.look(lambda event: ended.append(event) if event["event"] == "trial_ended" else None)
    endings.extend(describe_end(event, watched.state) for event in ended)


def _view(watched: Watched, progress: Progress, endings: Iterable[str]) -> RenderableType:
    progress.concurrent = watched.busiest
    lines = [Text(visible(line), style="dim", no_wrap=True, overflow="ellipsis") for line in endings]
    return Group(progress.render(), *lines, Text(f"driver: {watched.driver()}", style="dim"))
