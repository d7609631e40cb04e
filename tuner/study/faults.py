"""The faults of an attempt at a trial, their messages, and how often the trial is tried again.

docs/faults.md has the whole table. Everything here depends only on the log and on error texts, so that a replay counts
as the driver did; the exceptions are `Watchdog` and `PatientLog`, which watch a clock and a disk.
"""

from __future__ import annotations

import errno
import re
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from results.store.events import EventLog
from results.store.lock import StudyLock
from search_spaces import InputError
from tuner.study.ray_messages import SIGNS, said
from tuner.study.settings import HUNG_AFTER, StudyResources

MEMORY_RETRIES = 1
"""Out of memory (GPU, machine, or Ray's monitor): one more attempt with the same settings, in a new process."""
NODE_RETRIES = 10
"""A lost node is not the trial's fault; but a trial whose nodes are always lost has to end."""


UNUSUAL = 10.0
"""How many times the usual gap between two looks a sleep is, where the looks are far apart (a slow disk)."""


@dataclass(frozen=True)
class Fault:
    """Why an attempt died: its kind, and one line for the tables and the user."""

    kind: str
    """error, killed, memory, node, hung or start."""
    text: str


ALIKE = 2
"""Trials that die of one cause before anybody has reported: the next would too."""


@dataclass
class CommonCause:
    """Notices that every trial of a session dies of the same cause: no card, wrong data, a missing library.

    Only trials that were given up count, for faults that are their own (not a lost node, nor memory that others share);
    once any trial has reported an epoch, a cause is that of its trial.
    """

    _causes: list[str] = field(default_factory=list)
    _worked: bool = False

    def worked(self) -> None:
        """An epoch was reported."""
        self._worked = True

    def died(self, kind: str, error: str) -> None:
        """A trial was given up."""
        if kind in ("error", "start"):
            self._causes.append(fault_of(error).text)

    @property
    def text(self) -> str | None:
        """The cause, where `ALIKE` trials have died of it and nothing else has happened; else None."""
        alike = len(self._causes) >= ALIKE and len(set(self._causes)) == 1
        return self._causes[0] if alike and not self._worked else None


_MEMORY = re.compile(
    r"\bMemoryError\b|OutOfMemoryError|CUDA out of memory|can't allocate memory|not enough memory|"
    r"Cannot allocate memory|CUBLAS_STATUS_ALLOC_FAILED"
)


_CARD = re.compile(r"(CUDA error: (?!out of memory).*|CUDNN_STATUS_\w+.*|No CUDA GPUs are available.*)")
"""What torch says where a card or its driver fails; lines with general advice follow."""


def fault_of(text: str) -> Fault:
    """The fault, from the error text of a worker or of Ray."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    last = lines[-1] if lines else "the worker process ended without a message"
    card = _CARD.search(text)
    if card and not said("actor died", text):
        return Fault("error", f"the card failed: {card[1]} (nvidia-smi and dmesg on its machine may say why)")
    if said("memory monitor", text):
        used = said("memory used", text)
        how = f" ({used[1]} of {used[2]} used)" if used else ""
        return Fault("memory", f"out of memory: Ray's memory monitor killed the worker{how}")
    if _MEMORY.search(last):
        return Fault("memory", last)
    if said("actor silent", text):  # the first sign of a node that lost power
        return Fault("node", "the node that it ran on was lost, or the network to it")
    if said("actor died", text):
        if said("node lost", text):
            return Fault("node", "the node that it ran on was lost")
        if said("not started", text) or "__init__" in last:
            return Fault("start", f"the worker could not be started: {last}")
        return Fault("killed", "the worker process was killed or crashed (by hand, or because memory was full)")
    if said("connection cut", text):  # the first sign of a lost node: the connection breaks
        return Fault("node", "the connection to its node was lost")
    return Fault("error", last)


def retries_for(kind: str, retries: int) -> int:
    """Further attempts that a trial has after faults of this kind; `retries` is the user's --retries.

    error, killed, hung and start are counted together, against --retries; memory and node each by themselves.
    """
    return {"memory": MEMORY_RETRIES, "node": NODE_RETRIES}.get(kind, retries)


def shares_memory(text: str, resources: StudyResources) -> bool:
    """Whether other trials share the memory that ran out: not if the trial has a whole GPU to itself."""
    return resources.gpus_per_trial < 1 or not re.search("cuda|cublas", text, re.IGNORECASE)


def counted_as(kind: str) -> str:
    """The name under which faults of this kind are counted."""
    return kind if kind in ("memory", "node") else "error"


def killed_actors(text: str) -> list[str]:
    """The ids of the actors that Ray's memory monitor says it selected to kill."""
    return SIGNS["selected to kill"].findall(text)


@dataclass
class Watchdog:
    """Finds attempts that have not reported for too long.

    An attempt is overdue `factor` times its usual epoch time (the median of its own last epochs, else of the study's)
    after its last report, but never before `floor` seconds; before its first report, which may have to wait for a
    process, the data and a compiler, not before `first` seconds. With a factor of 0 no attempt is ever overdue.

    A running driver calls `look` all the time. A gap between two calls of more than `lapse` seconds, and of many times
    the usual gap, is time in which the driver itself did not run (SIGSTOP, a closed laptop, a paused virtual machine, a
    slow disk). No report could arrive then, so this time counts for no attempt; `slept` is called with it.
    """

    factor: float = HUNG_AFTER
    floor: float = 120.0
    first: float = 900.0
    clock: Callable[[], float] = time.monotonic
    lapse: float = 10.0
    """Seconds between two calls of a running driver: it calls at least every second if it is not delayed."""
    slept: Callable[[float], None] | None = None
    """Called with the seconds of each such gap."""
    _looked: float | None = None
    _gaps: deque[float] = field(default_factory=lambda: deque(maxlen=99))
    _since: dict[str, float] = field(default_factory=dict)
    _own: dict[str, list[float]] = field(default_factory=dict)
    _all: list[float] = field(default_factory=list)

    def look(self) -> None:
        """Call this first in every turn of the driver; see the class."""
        now = self.clock()
        gap = 0.0 if self._looked is None else now - self._looked
        if gap > self.lapse and gap > UNUSUAL * statistics.median(self._gaps):
            for key in self._since:
                self._since[key] += gap
            if self.slept is not None:
                self.slept(gap)
        self._gaps.append(gap)
        self._looked = now

    def begin(self, key: str) -> None:
        """A worker has started the attempt `key`."""
        self._since[key] = self.clock()

    def heard(self, key: str) -> None:
        """The attempt reported an epoch."""
        now = self.clock()
        for kept, most in ((self._own.setdefault(key, []), 9), (self._all, 99)):
            kept.append(now - self._since.get(key, now))
            del kept[:-most]
        self._since[key] = now

    def let_go(self, key: str) -> None:
        """The attempt `key` is over."""
        self._since.pop(key, None)
        self._own.pop(key, None)

    def watched(self, key: str) -> bool:
        """Whether the attempt has begun."""
        return key in self._since

    def limit(self, key: str) -> float:
        """Seconds without a report that are allowed for the attempt."""
        own = self._own.get(key)
        usual = statistics.median(own) if own else statistics.median(self._all) if self._all else 0.0
        return max(self.factor * usual, self.floor if own else self.first)

    def overdue(self) -> dict[str, str]:
        """Attempts that have not reported for too long, with a line on each."""
        if not self.factor:
            return {}
        now = self.clock()
        return {
            key: f"hung: no report for {now - since:.0f} s, {self.limit(key):.0f} s are allowed (--hung-after)"
            for key, since in self._since.items()
            if now - since > self.limit(key)
        }


class Unwritable(InputError):
    """The log could not be written for too long: a failed job, not wrong input."""

    exit_status = 1


_PASSES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EPERM, errno.EACCES)
"""Disk errors that may go away."""


class PatientLog:
    """An event log that waits while the disk is full, read-only or unavailable; another driver's lock ends it.

    While it waits nothing is decided, so nothing is lost: the workers continue training until they report. After
    `patience` seconds, or when `hurry` is set (Ctrl-C), it raises `Unwritable`, and from then on does not wait again.
    """

    def __init__(
        self,
        log: EventLog,
        lock: StudyLock | None = None,
        patience: float = 1800.0,
        say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    ) -> None:
        self.hurry = threading.Event()
        self.problems = log.problems
        self._log, self._lock, self._patience, self._say = log, lock, patience, say

    def append(self, event: str, **fields: Any) -> dict[str, Any]:
        """Write one event and return it as written, however long that takes; see the class for what it raises."""
        if not self._log.is_there():
            raise Unwritable(
                f"{self._log.path.parent}: the study's folder was deleted or moved while its search ran; put it back "
                "and resume the study, or search again"
            )
        if self._lock is not None:
            self._lock.check()
        begun, told = time.monotonic(), False
        while True:
            try:
                written = self._log.append(event, **fields)
            except InputError as error:
                why = error.__cause__
                if not isinstance(why, OSError) or why.errno not in _PASSES:
                    raise
                waited = time.monotonic() - begun
                if self.hurry.is_set() or waited > self._patience:
                    self._patience = 0.0
                    raise Unwritable(error.problems) from error
                if not told:
                    self._say(
                        f"results disk: {self._log.path.parent}: {why.strerror}: waiting up to "
                        f"{self._patience / 60:.0f} minutes, press Ctrl-C to leave; nothing is lost"
                    )
                    told = True
                self.hurry.wait(1.0)
            else:
                if told:
                    self._say(
                        f"results disk: written again after {time.monotonic() - begun:.0f} s, the search continues"
                    )
                return written

    def slept(self, seconds: float) -> None:
        """See `EventLog.slept`."""
        self._log.slept(seconds)

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        self._log.close()
