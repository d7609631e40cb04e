"""A Ray of our own on this machine: started with patience, and what kept it from coming up said in one line."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import ray

from search_spaces.errors import InputError
from tuner.backend import ray_private
from tuner.backend.private import close_to_others, guard_token
from tuner.study.ray_messages import said

FILES = 4096
"""Open files that Ray's processes want to be allowed."""
FEW = 1024
"""With fewer, that is what is taken for the cause."""
PATIENCE = 180
"""Seconds that each of Ray's processes has to come up at the second try; Ray's own patience is 30."""


class RayNotThere(InputError):
    """The local Ray did not come up: a job that failed, not a wrong input."""

    exit_status = 1


@contextlib.contextmanager
def own_sigterm() -> Iterator[None]:
    """Ray's start sets a handler of SIGTERM that exits with status 15: ours stays, before and after a search too."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as leave:
        if leave.code == signal.SIGTERM:
            raise KeyboardInterrupt from leave
        raise
    finally:
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)


def start(scratch: Path, cpus: int | None, gpus: int | None, init: Callable[..., Any] = ray.init) -> None:
    """Start a Ray with `cpus` cores and `gpus` cards (None = those of the machine), its files in `scratch`.

    A machine that is busy gets a second try with more patience. Raises `RayNotThere` with the cause.
    """
    # Ray's memory monitor makes Tune raise when it kills a worker (a fresh Tuner goes on, at the cost of the running
    # epochs), and it counts what others on this machine use; the system's own limits stay.
    os.environ.setdefault(ray_private.MEMORY_MONITOR, "0")
    # Workers that Ray starts before anybody asks for one come too late for the first trials, and slow theirs down.
    os.environ.setdefault(ray_private.EARLY_WORKERS, "0")
    guard_token()
    allowed = open_files()
    folder = scratch / "ray"
    options: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "address": "local",
        "num_cpus": cpus or len(os.sched_getaffinity(0)),
        "num_gpus": gpus,
        "include_dashboard": False,
        "object_store_memory": 10**8,
        **ray_private.in_folder(folder),
    }
    for last in (False, True):
        try:
            with ray_private.only_what_runs_trials():
                init(**options)
        except Exception as error:  # of many kinds, plain Exception among them
            ray.shutdown()
            _end_processes(folder)
            cause = _cause(error, folder, allowed)
            if last or allowed < FEW:  # what is too few stays too few
                tried = "tried twice" if last else "tried once"
                raise RayNotThere(f"Ray could not be started on this machine, {tried}: {cause}") from error
            print(f"Ray did not come up ({cause}); tried again with more patience ...", file=sys.stderr, flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            ray_private.be_patient(PATIENCE)
        else:
            close_to_others(scratch)
            return


def _end_processes(folder: Path) -> None:
    """End what a start that failed has left: Ray itself ends such processes only when this one ends."""
    mine = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has just ended
            if any(str(folder) in argument for argument in process.cmdline()):
                process.kill()
                mine.append(process)
    psutil.wait_procs(mine, timeout=10)


def open_files() -> int:
    """Raise the limit on open files as far as this user may, up to `FILES`; returns what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= FILES:
        return FILES
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return soft
    return wanted


def _cause(error: Exception, folder: Path, allowed: int) -> str:
    """What kept Ray from starting, and what to do, in a line."""
    own = _own_words(folder)
    if allowed < FEW or said("too many files", own):
        return f"this process may open {allowed} files, Ray wants {FILES}: raise it with 'ulimit -n {FILES}'"
    if (free := shutil.disk_usage(folder.parent).free) < 2e8:
        return f"{folder.parents[1]} has {free / 1e6:.0f} MB free; make room there"
    first = (str(error).strip().splitlines() or [type(error).__name__])[0].replace(f"{folder}/", "")
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    busy = f"; the machine is busy (load {load:.0f} on {cores} cores): try when it is less so"
    return f"{first}{f'; Ray says: {own}' if own else ''}{busy if load > 2 * cores else ''}"


def _own_words(folder: Path) -> str:
    """The last error in the logs of Ray's own processes, without its time and place; "" if there is none."""
    found = ""
    for name in ("gcs_server", "raylet"):
        for path in sorted(folder.glob(f"session_2*/logs/{name}.*")):
            for line in path.read_text(errors="replace").splitlines():
                match = said("own error", line)
                if match or said("too many files", line):
                    found = (match[1] if match else line).strip()[:200]
    return found
