"""Checks that a cluster has a node that can run a trial; a search without one waits, reports it, and may give up."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from search_spaces.errors import InputError

ASK_SECONDS = 5.0
"""Seconds between two requests to the head."""
PATIENCE = 20.0
"""Seconds without a node before the user is told; a short cut is not worth a word."""
GRACE = 60.0
"""Seconds that the driver has to leave by itself once it gave up: Ray may keep it waiting for a head that is gone."""


class NoNode(InputError):
    """The search gave up waiting for a node: a job that failed, not a wrong input."""

    exit_status = 1


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@dataclass
class NodeWatch:
    """Asks a cluster's head for the nodes that can run a trial, in a thread, and reports when there are none.

    A context manager: it asks while it is open. `look` is for the driver's loop.
    """

    study: str
    address: str
    """The address of the cluster, as the user gave it."""
    request: str
    """The resources of a trial, as text."""
    nodes: Callable[[], Sequence[Any]]
    """The nodes that can hold a trial and answer, each with an "address"; it may wait for ever for a head that is gone.
    """
    give_up_after: float | None = None
    """Seconds without a node after which `look` raises; None = never."""
    say: Callable[[str], None] = _say
    clock: Callable[[], float] = time.monotonic
    leave: Callable[[int], None] = os._exit
    _seen: float = field(default=0.0, init=False)
    """When there was a node the last time."""
    _answered: float = field(default=0.0, init=False)
    _asked: int = field(default=0, init=False)
    """Since there last was a node."""
    _known: list[str] = field(default_factory=list, init=False)
    _told: bool = field(default=False, init=False)
    _gave_up: float | None = field(default=None, init=False)
    _closed: threading.Event = field(default_factory=threading.Event, init=False)
    _mutex: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __enter__(self) -> NodeWatch:
        self._seen = self._answered = self.clock()
        for loop in (self._ask, self._tick):
            threading.Thread(target=loop, name="nodes", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._gave_up is None:  # else `tick` sees to it that the process ends: Ray's own end may wait for the head
            self._closed.set()

    def look(self) -> None:
        """Raises `NoNode` once the time to wait for a node is over."""
        if self._gave_up is not None:
            raise NoNode(self._given_up())

    def heard(self, nodes: Sequence[Any]) -> None:
        """What the head answered."""
        with self._mutex:
            self._answered = self.clock()
            if not nodes:
                return
            self._seen, self._asked, self._known = self._answered, 0, sorted({node["address"] for node in nodes})
            if self._told:
                self._told = False
                self.say(f"nodes: {', '.join(self._known)} can hold a trial again; the search continues")

    def tick(self) -> None:
        """Tell what is to be told, and give up when it is time."""
        with self._mutex:
            waited = self.clock() - self._seen
            if self._gave_up is not None:
                if self.clock() - self._gave_up > GRACE:
                    self.say(f"error: {self._given_up()}")
                    self.leave(1)
                return
            if waited > PATIENCE and not self._told:
                self._told = True
                self.say(self._waiting(waited))
            if self.give_up_after is not None and waited > self.give_up_after:
                self._gave_up = self.clock()

    def _ask(self) -> None:
        while not self._closed.is_set():
            with self._mutex:
                self._asked += 1
            try:
                self.heard(self.nodes())
            except Exception as error:  # no answer: `tick` reports it when it lasts
                logging.getLogger(__name__).debug("no answer: %s", error)
            self._closed.wait(ASK_SECONDS)

    def _tick(self) -> None:
        while not self._closed.wait(1.0):
            self.tick()

    @property
    def _headless(self) -> bool:
        return self.clock() - self._answered > PATIENCE / 2

    def _why(self, waited: float) -> str:
        was = f" (before: {', '.join(self._known)})" if self._known else ""
        if self._headless:
            return f"the cluster's head ({self.address}) has not answered for {waited:.0f} s{was}"
        return f"no node that can hold a trial ({self.request}) has answered for {waited:.0f} s{was}"

    def _waiting(self, waited: float) -> str:
        until = "The search waits for ever; --give-up-after MINUTES would end that. Ctrl-C leaves"
        if self.give_up_after is not None:
            until = f"The search leaves after {self.give_up_after / 60:g} minutes (--give-up-after). Ctrl-C leaves now"
        todo = (
            "start Ray on a node again with 'ray start --address=...' (one that was cut off for long ended its Ray); "
            "trials go on from their checkpoints"
        )
        if self._headless:
            todo = (
                "where a node was lost (its head may be slow to answer then), start Ray on a node again with "
                "'ray start --address=...'; else mend the network, or start the cluster again and resume (where the "
                "head stays away for a minute, Ray ends this process: nothing is lost)"
            )
        return (
            f"nodes: {self._why(waited)}, asked {self._asked} times. To go on: {todo}. {until}, "
            f"'tuner resume {self.study}' goes on"
        )

    def _given_up(self) -> str:
        minutes = (self.give_up_after or 0) / 60
        why = self._why(self.clock() - self._seen)
        return (
            f"gave up (--give-up-after {minutes:g}): {why}; what was reported is kept: start the cluster again, then "
            f"'tuner resume {self.study} --address ...'"
        )
