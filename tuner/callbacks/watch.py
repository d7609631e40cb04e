"""A study, seen from any machine that can read its folder: its current state, or a live view until it ends.

Only the log and the lock are read, and of the log only what was added since the last time. Of a long log that is sealed
as it grows, the trials that have ended come from there (`results.store.sealed`).
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from results.output import clock, visible
from results.store.events import open_log, without_settings
from results.store.lines import LineScanner
from results.store.lock import is_held
from results.store.made import Damaged, Index, load_index, load_part, look, open_events
from results.store.paths import StudyPaths
from results.store.telling import said
from search_spaces import InputError
from search_spaces.checkpoints import size_text
from search_spaces.stopping import rule_text
from tuner.callbacks.display import summarise
from tuner.callbacks.progress import Progress, describe_end
from tuner.study import budgets, checkpoints
from tuner.study.state import StudyState

REFRESH_SECONDS = 1.0
"""Seconds between two reads of the log."""
GONE_SECONDS = 5.0
"""Seconds after which a study without a driver counts as abandoned: on a network file system the lock can disappear
before the last events arrive."""
ENDINGS = 4
"""Number of recently ended trials in the live view."""
RESTORED = ["trial", "seed", "origin", "status", "best_per", "best_epoch", "epochs", "train_seconds"]
"""Of a sealed trial's row, what `StudyState.restore` takes."""
_BLOCK = 1 << 20


class Tail:
    """Reads the events of a growing log; each call to `new` continues where the last one ended.

    A last line without a newline is left for the next call: it is still being written, or it is incomplete and the next
    driver removes it. `problems` has a line for each line that is not an event. `restarts` counts how often the log
    became shorter than what was read (another study replaced it): reading then begins again.
    """

    def __init__(self, path: Path, index: Index | None = None) -> None:
        """With `index`, the events after those that are sealed."""
        self.path = path
        self.restarts = 0
        self._begin()
        if index is not None:
            self._offset, self._scanner = index.size, index.scanner(str(path), self.problems)

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
        self.seq = 0
        """The number of the last event."""
        self._tail = Tail(StudyPaths(folder).log)
        self._restarts = 0
        self._left_out: list[str] = []
        self._sealed: Container[int] = ()
        """Trials of which no event was read."""

    def look(self, observer: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Apply the new events; `observer` is called with each one after it was applied."""
        # The lock first: a driver that releases it after this has then written all its events.
        self.held = is_held(self.folder)
        seen = self.seq
        if not self.state.begun:
            self._begin_sealed(observer)
        if not self._follow(seen, observer):  # a trial that is sealed goes on, which a driver does not do
            self.state, self._tail, self._sealed = StudyState(searching=False), Tail(self._tail.path), ()
            self._follow(max(seen, self.seq), observer)
        if not self.state.begun:
            waits = f"{self._tail.path}: the log has no complete event yet; try again when the search is running"
            raise InputError(self._lost() or [waits, *self.problems])

    def _follow(self, seen: int, observer: Callable[[dict[str, Any]], None] | None) -> bool:
        """Apply the events of the log that are new, and show those after `seen`; False where more must be read."""
        for event in self._tail.new():
            if self._tail.restarts != self._restarts:
                self._restarts, self.state, self._sealed = self._tail.restarts, StudyState(searching=False), ()
                seen = 0
            if event["event"] not in ("study_started", "study_resumed") and not self.state.begun:
                raise InputError(self._lost() or [without_settings(self._tail.path), *self.problems])
            if self._sealed and (event.get("trial") in self._sealed or "stopping" in event.get("changed", ())):
                return False
            if left_out := self.state.replay([event], str(self._tail.path)):
                self._left_out += left_out
                continue
            self._note(event, observer if event["seq"] > seen else None)
        leader = self.state.leader
        return leader is None or leader.kept.known  # after a repeated epoch the leader may be another sealed one

    def _note(self, event: dict[str, Any], observer: Callable[[dict[str, Any]], None] | None) -> None:
        if event["event"] in ("study_started", "study_resumed"):
            self.busiest = 1
        self.seq, self.last_event = event["seq"], event["time"]
        if event["event"] == "trial_started":
            self.busiest = max(self.busiest, len(self.state.running))
        if observer is not None:
            observer(event)

    def _begin_sealed(self, observer: Callable[[dict[str, Any]], None] | None) -> None:
        """Take the state from the sealed parts of the log, where it has them, and the events that are not sealed.

        The log has the last word: where they do not fit it or are damaged, nothing is done, and all of it is read.
        """
        log = StudyPaths(self.folder).log
        try:
            index = load_index(self.folder, self._left_out)
            if index is None or not index.about or not index.fits(log):
                return
            rows = load_part(self.folder, index, f"trials-{index.number}").select(RESTORED).to_pylist()
            events = open_events(log, index)
            state = StudyState(searching=False)
            for event in events or ():
                state.apply(event)
            state.restore(index.about, rows)
            last = float(index.about["time"])
        except Damaged as error:
            self._left_out.append(f"{error}; the log is read instead")
            return
        except (OSError, InputError, LookupError, TypeError, ValueError, AttributeError):
            return
        if events is None:
            return
        self.state, self._tail = state, Tail(log, index)
        self._sealed = frozenset(row["trial"] for row in rows)
        for event in events:
            self._note(event, observer)
        self.busiest = max(self.busiest, len(state.running))
        self.seq, self.last_event = index.seq, last

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
            return f"running on {self.state.settings.host}, last event {ago} ago"
        return f"none; the last one died {ago} ago; continue with: tuner resume {self.folder.name}"


def summary(watched: Watched) -> dict[str, Any]:
    """The facts that `tuner status` shows, as plain JSON types; seconds are wall time of the drivers."""
    state = watched.state
    settings, leader = state.settings, state.leader
    files = checkpoints.files_of(watched.folder)
    space, plan = settings.space, settings.plan
    # Without a driver nothing is running, whatever the log ends with.
    statuses = [t.status if watched.held or t.status != "running" else "interrupted" for t in state.trials.values()]
    return {
        "study": watched.folder.name,
        "what": f"space {space['name']}" if space else f"{len(plan)} planned runs" if plan else "recorded runs",
        "data": settings.data.name,
        "searcher": settings.searcher.kind,
        "stopping": settings.stopping.kind,
        "driver": "ended" if state.ended else "running" if watched.held else "gone",
        "reason": state.ended,
        "host": settings.host,
        "last_event": watched.last_event,
        "seconds": state.driver_seconds + watched.elapsed,
        "trials": len(state.trials),
        "budget": settings.budget.as_dict(),
        "statuses": dict(Counter(statuses)),
        "epochs": sum(len(t.pers) for t in state.trials.values()),
        "best_per": leader.best[0] if leader and leader.best else None,
        "best_trial": leader.number if leader else None,
        "best_epoch": leader.best[1] if leader and leader.best else None,
        "running": [
            {"trial": t.number, "epoch": t.epoch, "epochs": t.config.epochs, "per": t.last_row.get("per")}
            for t in (state.running if watched.held else ())
        ],
        "checkpoints": {"files": len(files), "bytes": sum(files.values()), **settings.checkpoints.as_dict()},
        "problems": watched.problems,
        "rungs": {key.name: len(came) for key, came in sorted(state.history.rungs.items())},
    }


def describe(watched: Watched) -> str:
    """The summary as a few lines of text."""
    state, facts = watched.state, summary(watched)
    budget = budgets.text(state.settings.budget)
    counts = ", ".join(f"{count} {status}" for status, count in sorted(facts["statuses"].items()))
    lines = [
        f"study {facts['study']}: {facts['what']}, data {facts['data']}, searcher {facts['searcher']}, "
        f"stopping {rule_text(state.settings.stopping.as_dict())}" + (f", budget {budget}" if budget != "-" else ""),
        f"driver: {watched.driver()}",
        f"trials: {facts['trials']} started ({counts or 'none'}), {facts['epochs']} epochs, "
        f"{clock(facts['seconds'])} of wall time",
    ]
    leader = state.leader
    if leader and leader.best:
        per, epoch = leader.best
        chosen = summarise(leader)
        lines.append(
            f"best so far: PER {per:.4f}, trial {leader.number}, epoch {epoch} of {leader.config.epochs}"
            + (f" ({chosen})" if chosen else "")
        )
    for row in facts["running"]:
        now = "" if row["per"] is None else f", PER {row['per']:.4f}"
        lines.append(f"running: trial {row['trial']} at epoch {row['epoch']} of {row['epochs']}{now}")
    kept = facts["checkpoints"]
    if kept["bytes"]:
        limit = f" of {size_text(kept['budget'])}" if kept.get("budget") else ""
        lines.append(f"checkpoints: {size_text(kept['bytes'])}{limit} in {kept['files']} files")
    if facts["rungs"]:
        lines.append(
            "rungs: " + "; ".join(f"{key}: {len(r)} reached" for key, r in sorted(state.history.rungs.items()))
        )
    return "\n".join(visible(line) for line in [*lines, *(f"problem: {line}" for line in watched.problems)])


def watch(watched: Watched, console: Console, sleep: Callable[[float], None] = time.sleep) -> int:
    """Show the study until it ends; returns 0, or 1 if its driver died.

    In a terminal a live view, elsewhere one line for each trial that ends.
    """
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


def _look(watched: Watched, endings: deque[str]) -> None:
    """Apply the new events, and describe the last trials that ended (only those: a long log has thousands)."""
    ended: deque[dict[str, Any]] = deque(maxlen=ENDINGS)
    watched.look(lambda event: ended.append(event) if event["event"] == "trial_ended" else None)
    endings.extend(describe_end(event, watched.state) for event in ended)


def _view(watched: Watched, progress: Progress, endings: Iterable[str]) -> RenderableType:
    progress.concurrent = watched.busiest
    lines = [Text(visible(line), style="dim", no_wrap=True, overflow="ellipsis") for line in endings]
    return Group(progress.render(), *lines, Text(f"driver: {watched.driver()}", style="dim"))
