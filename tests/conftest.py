"""For every test."""

import atexit
import contextlib
import gc
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

NO_TORCH = importlib.util.find_spec("torch") is None

FORKED_RAY = tuple(map(int, version("ray").split(".")[:2])) >= (2, 60)
"""Whether the processes of this Ray may be forked; those of 2.50 end at once then."""

# Before anything imports torch: at these sizes more threads cost more than they bring, and threads that wait for a core
# of a busy machine spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The tests' own Ray asks nobody for a token, also where this user has one; clusters of a test have one of their own.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

# A runner that was started in the background has Ctrl-C ignored, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How fast the machine is decides no test: no example has a time limit, and slow drawing is no failure. Nor does chance:
# the examples are the same in every run. `pytest --hypothesis-profile explore` draws other ones.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("tests", settings.get_profile("explore"), derandomize=True)
settings.load_profile("tests")


LONGEST = (
    "tests/cluster/test_hosts.py",
    "tests/tuner/backend/test_nodes.py",
    "tests/tuner/campaign/test_campaign.py",
    "tests/tuner/launch/test_search.py",
    "tests/tuner/front/test_searching.py",
    "tests/test_chaos.py",
    "tests/test_package.py",
    "tests/tuner/testing/test_hearers.py",
    "tests/tuner/callbacks/test_loggers.py",
    "tests/tuner/launch/test_data_changes.py",
    "tests/trainable/data/test_synthetic.py",
    "tests/tuner/planned/test_lineage.py",
    "tests/test_benchmarks.py",
    "tests/trainable/test_loop.py",
    "tests/results/test_report_browser.py",
    "tests/test_fuzz.py",
    "tests/results/store/test_sealed.py",
    "tests/tuner/study/test_warm_start.py",
    "tests/tuner/planned/test_confirm.py",
    "tests/tuner/study/test_faults.py",
    "tests/tuner/study/test_pausing.py",
    "tests/tuner/backend/test_packing.py",
    "tests/tuner/study/test_searcher_kinds.py",
    "tests/test_mutants.py",
    "tests/results/store/test_tables.py",
    "tests/tuner/launch/test_changes.py",
    "tests/trainable/test_keeping.py",
    "tests/tuner/backend/test_jobs.py",
    "tests/tuner/backend/test_local.py",
    "tests/tuner/backend/test_private.py",
    "tests/test_before_rooms.py",
)
"""The files that take longest, the longest first: begun last, one of them would keep a worker busy alone at the end."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest files come first.

    A worker of pytest-xdist gets whole files (`--dist loadfile`), so it has one Ray at a time, and what a file's tests
    have in common is made once.
    """
    if hasattr(config, "workerinput"):
        place = {name: number for number, name in enumerate(LONGEST)}
        items.sort(key=lambda item: place.get(Path(item.location[0]).as_posix(), len(place)))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected stays to the end: the garbage collector need not look through it, now or later.

    Not even once, before: the little that is garbage among it stays too.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # libraries that count what is left at the very end would call it leaks
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Where torch is not installed (`make test-python TORCH=no`), a file that needs it is skipped, and says so."""
    report = yield
    if NO_TORCH and report.failed and "No module named 'torch'" in str(report.longrepr):
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, "needs torch")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The same for a test that needs torch in a file that does not."""
    report = yield
    if NO_TORCH and call.excinfo is not None and "No module named 'torch'" in str(call.excinfo.value):
        report.outcome = "skipped"
        report.longrepr = (str(report.fspath), 0, "needs torch")
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """The same for a search of real trials, whose workers say it and not the test."""
    trains = "tiny_data" in getattr(item, "fixturenames", ())
    if NO_TORCH and trains and item.get_closest_marker("ray") is not None:
        pytest.skip("needs torch")


def wait_for(done: Callable[[], Any], moved: Callable[[], Any] = lambda: None, patience: float = 300) -> Any:
    """Wait until `done` gives something true, and return it.

    A slow machine fails no test: only when `moved`, which tells of progress (lines in a log, say), has given the same
    for `patience` seconds is it an AssertionError.
    """
    seen, since = moved(), time.monotonic()
    while not (found := done()):
        now = moved()
        if now != seen:
            seen, since = now, time.monotonic()
        assert time.monotonic() - since < patience, f"nothing moved for {patience:g} seconds; the last was {seen!r}"
        time.sleep(0.02)
    return found


def sizes_of(folder: Path) -> dict[str, int]:
    """Every file below a folder with its size: what grows while a search goes on."""
    found = {}
    for above, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # removed in this moment
                found[name] = found.get(name, 0) + Path(above, name).stat().st_size
    return found


def end_of(process: subprocess.Popen[str], folder: Path, patience: float = 300) -> SimpleNamespace:
    """Wait for a process that writes below `folder`, as long as something grows there: its status, out and err."""

    def ended() -> tuple[str, str] | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=1)
        return None

    try:
        out, err = wait_for(ended, lambda: sizes_of(folder), patience)
    except AssertionError as error:
        process.kill()
        raise AssertionError(f"{error}\n{process.communicate()}") from None
    return SimpleNamespace(status=process.returncode, out=out, err=err)


@pytest.fixture(scope="session")
def wait() -> Callable[..., Any]:
    """`wait_for`, which waits as long as something moves."""
    return wait_for


@pytest.fixture(scope="session")
def sizes() -> Callable[[Path], dict[str, int]]:
    """`sizes_of`, which tells whether the files in a folder grow."""
    return sizes_of


@pytest.fixture(scope="session")
def end() -> Callable[..., SimpleNamespace]:
    """`end_of`, which waits for a process as long as the files in its folder grow."""
    return end_of


@pytest.fixture(scope="session")
def warm_python() -> Generator[str, None, None]:
    """A program that stands in for `python` where its start is not what is tested: a command, a script or a worker of
    Ray begins in a process of its own, but with torch, Ray and the program imported (`tests/warm/`). It brings two of
    three seconds of a search. Where that is not possible it is `python` itself, for the processes of an older Ray too.
    """
    if NO_TORCH or not hasattr(os, "pidfd_open"):
        yield sys.executable
        return
    here = Path(__file__).parent / "warm"
    with tempfile.TemporaryDirectory(prefix="warm-") as folder:
        program = Path(folder, "python")
        words = [sys.executable, "-IS", here / "python.py", folder, sys.executable, "ray" if FORKED_RAY else "-"]
        program.write_text(f'#!/bin/sh\nexec {" ".join(map(str, words))} "$@"\n')
        program.chmod(0o755)
        command = [sys.executable, str(here / "server.py"), folder]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdin is not None and server.stdout is not None
            assert [server.stdout.readline() for _ in range(3)] == ["ready\n"] * 3
            yield str(program)
            server.stdin.close()


@pytest.fixture(scope="session")
def forked_ray(warm_python: str) -> bool:
    """Whether the processes of a Ray that `warm_python` starts are forked; else they are Pythons of their own."""
    return FORKED_RAY and warm_python != sys.executable


def gone_from(library: str, names: Mapping[str, str], found: Mapping[str, Any]) -> list[str]:
    """A line for each private name that a library no longer has: what is gone, and what it was used for.

    `names` are those of a module such as `tuner.backend.ray_private`; `found` has an object for the first part of each.
    """

    def there(name: str) -> bool:
        first, *parts = name.split(".")
        if not parts:
            return bool(found[first])
        now = found[first]
        for part in parts:
            if part not in dir(now):
                return False
            if part != parts[-1]:
                now = getattr(now, part)
        return True

    return [f"{library}: {name} is gone; used {why}" for name, why in names.items() if not there(name)]


@pytest.fixture(scope="session")
def gone() -> Callable[..., list[str]]:
    """`gone_from`, which looks for the private names of a library."""
    return gone_from
