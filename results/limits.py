"""How long a user's SQL may take, and how much memory."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from search_spaces.errors import InputError

SECONDS = 60.0
"""A query over a million epochs takes some."""
_EVERY = 0.2
_GRACE = 5.0
_SLACK = 512 << 20
"""Bytes for threads and libraries, beside a query's own."""


def default_memory() -> int:
    """Bytes: half of this machine's memory, and 4 GiB at most."""
    return min(4 << 30, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)


@contextlib.contextmanager
def stopped_after(seconds: float, stop: Callable[[], None]) -> Iterator[threading.Event]:
    """Call `stop` again and again when the block has taken `seconds`; the event that is given says that it has."""
    late, done = threading.Event(), threading.Event()

    def watch() -> None:
        if done.wait(seconds):
            return
        late.set()
        while not done.wait(_EVERY):  # one call is lost where nothing runs at that moment
            stop()

    thread = threading.Thread(target=watch, name="query limit", daemon=True)
    thread.start()
    try:
        yield late
    finally:
        done.set()
        thread.join()


@contextlib.contextmanager
def fenced(seconds: float, memory: int, too_long: str, too_much: str) -> Iterator[None]:
    """For a process of our own: what an engine does not count or cannot interrupt is held by the operating system.

    Memory beyond `memory` bytes for the engine and as much for what it gives is refused by the system; `InputError`
    with the line `too_much`. Some seconds after `seconds` the process prints `too_long` and leaves with status 2.
    """
    done = threading.Event()

    def leave() -> None:
        if not done.wait(seconds + _GRACE):
            print(f"error: {too_long}", file=sys.stderr, flush=True)
            os._exit(2)

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = _taken() + 2 * memory + _SLACK
    threading.Thread(target=leave, name="query limit", daemon=True).start()
    try:
        if hard == resource.RLIM_INFINITY or most < hard:
            resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
        yield
    except MemoryError as error:
        raise InputError(too_much) from error
    finally:
        done.set()
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _taken() -> int:
    """Bytes of private memory that this process has mapped; 0 where the system does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = Path("/proc/self/status").read_text()
        return int(text.split("VmData:")[1].split()[0]) * 1024
    return 0
