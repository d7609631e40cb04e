"""Runs the tests of a module with a change (`benchmarks/mutants.py`), each time in a process of its own.

Workers have a copy of the checkout each. A worker has imported the large libraries; for each change it forks a process
that imports the program anew, with the changed module, and runs the tests. The tests that run the changed line come
first, the fastest of them first, and the first failure ends the run.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import multiprocessing
import os
import queue
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a program, this file's own folder comes first
from benchmarks.changes import Mutant

WARM = [
    "torch",
    "numpy",
    "scipy.linalg",
    "scipy.special",
    "pyarrow.compute",
    "pyarrow.parquet",
    "duckdb",
    "optuna",
    "pydantic",
    "yaml",
    "click",
    "rich.table",
    "rapidfuzz",
    "psutil",
    "hypothesis",
    "pytest",
]
"""Imported once, before a process is forked for each mutant."""

MARGIN = 10.0
"""CPU seconds that a run may take beyond four times what the tests take as a rule; by the clock more."""


class Stop(Exception):
    """Nothing can be measured; the text says why."""


@dataclass
class Baseline:
    """What the tests of a module do while nothing is wrong."""

    seconds: float = 0.0
    cpu: float = 0.0
    durations: dict[str, float] = field(default_factory=dict)
    """Test -> seconds."""
    lines: dict[str, list[int]] = field(default_factory=dict)
    """Test -> lines of the module that it runs."""
    failed: str = ""

    def order(self, mutant: Mutant) -> list[str]:
        """Tests in the order to run them: those that run the changed lines, then the others; the fastest first."""
        first, last = mutant.lines
        runs = {test for test, lines in self.lines.items() if any(first <= line <= last for line in lines)}
        return sorted(self.durations, key=lambda test: (test not in runs, self.durations[test]))


class Watcher:
    """A pytest plugin: how long each test takes, the first that fails, and which lines of a file each runs."""

    def __init__(self, order: list[str], watch: str = "") -> None:
        self.failed: list[str] = []
        self.durations: dict[str, float] = {}
        self._place = {test: n for n, test in enumerate(order)}
        self._watch, self._cover = watch, None
        if watch:
            # Written in C: a trace function of our own made slow tests several times slower.
            from coverage import Coverage

            self._cover = Coverage(data_file=None, include=[watch], config_file=False, messages=False)

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Put the tests in order."""
        items.sort(key=lambda item: self._place.get(item.nodeid, len(self._place)))

    def pytest_collection_finish(self) -> None:
        """All files are imported: from here on lines are noted."""
        if self._cover is not None:
            self._cover.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins: lines are noted for it."""
        if self._cover is not None:
            self._cover.switch_context(nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """A test was set up, called or torn down."""
        self.durations[report.nodeid] = self.durations.get(report.nodeid, 0.0) + report.duration
        self._note(report)

    def pytest_collectreport(self, report: Any) -> None:
        """A file was imported."""
        self._note(report)

    def lines(self) -> dict[str, list[int]]:
        """Test -> the lines that it ran; those that run at import belong to none."""
        if self._cover is None:
            return {}
        self._cover.stop()
        found: dict[str, list[int]] = {}
        for line, tests in self._cover.get_data().contexts_by_lineno(self._watch).items():
            for test in filter(None, tests):
                found.setdefault(test, []).append(line)
        return found

    def _note(self, report: Any) -> None:
        if report.failed:
            self.failed.append(report.nodeid)


def run_tests(
    copy: Path, tests: Sequence[str], order: list[str], watch: str, limits: tuple[float, float]
) -> dict[str, Any]:
    """Run tests in a process of their own, forked from this one, up to `limits` in CPU and wall seconds.

    Returns {"end": "passed", "failed" or "endless", "by": test, ...} and, with `watch` (a module), what `Watcher` saw.
    """
    answer = copy.parent / f"{copy.name}.json"
    answer.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limits[0]),) * 2)
            status = _in_child(copy, tests, order, watch, answer)
        finally:
            os._exit(status)
    end, status = time.monotonic() + limits[1], None
    try:
        while status is None and time.monotonic() < end:
            found, code = os.waitpid(child, os.WNOHANG)
            status = os.waitstatus_to_exitcode(code) if found else None
            time.sleep(0.01)
    finally:
        with contextlib.suppress(ProcessLookupError):  # what it started, and itself where it is still there
            os.killpg(child, signal.SIGKILL)
        if status is None:
            os.waitpid(child, 0)
    if answer.exists():
        told: dict[str, Any] = json.loads(answer.read_text())
        return told
    return {
        "end": "endless",
        "by": "the limit of time" if status in (None, -signal.SIGKILL, -signal.SIGXCPU) else "a crash",
    }


def _in_child(copy: Path, tests: Sequence[str], order: list[str], watch: str, answer: Path) -> int:
    import pytest

    null = os.open(copy.parent / f"{copy.name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDONLY) if stream == 0 else null, stream)
    os.chdir(copy)
    sys.path[0] = str(copy)
    for name in ("benchmarks", "benchmarks.changes"):
        sys.modules.pop(name, None)
    os.environ["PYTHONPATH"] = str(copy)
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(copy.parent / f"{copy.name}.examples")
    if not watch:  # a changed module leaves no compiled file behind
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    watcher = Watcher(order, str(copy / watch) if watch else "")
    options = [
        *([] if watch else ["-x"]),
        "-q",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "--hypothesis-seed=0",
        "-m",
        "not ray",
    ]
    options += ["--basetemp", str(copy.parent / f"{copy.name}.tmp")]
    code = int(pytest.main([*options, *(f"tests/{test}" for test in tests)], plugins=[watcher]))
    told: dict[str, Any] = {
        "end": "failed" if code else "passed",
        "by": (watcher.failed or [f"pytest's status {code}"])[0],
    }
    if watch:
        told |= {
            "all_failed": watcher.failed,
            "durations": watcher.durations,
            "lines": watcher.lines(),
        }
    answer.write_text(json.dumps(told))
    return 0


def baseline(copy: Path, module: str, tests: Sequence[str]) -> Baseline:
    """The tests of a module with nothing changed."""
    began, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    told = run_tests(copy, tests, [], module, (1200, 3600))
    if told["end"] != "passed":  # perhaps because it was watched
        failed = [test.removeprefix("tests/") for test in told.get("all_failed", [])]
        again = run_tests(copy, failed, [], "", (1200, 3600)) if failed else told
        if again["end"] != "passed":
            log = (copy.parent / f"{copy.name}.log").read_text(errors="replace")
            return Baseline(failed=f"{again['by']} fails:\n{log[-3000:]}")
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    return Baseline(time.monotonic() - began, cpu, told["durations"], told["lines"])


def try_mutant(copy: Path, mutant: Mutant, tests: Sequence[str], base: Baseline) -> dict[str, Any]:
    """Make the change in the copy, run the tests, take it back."""
    path = copy / mutant.module
    text, info = path.read_bytes(), path.stat()
    path.write_bytes(mutant.source(text))
    try:
        limits = MARGIN + 4 * base.cpu, 6 * MARGIN + 10 * base.seconds
        return run_tests(copy, tests, base.order(mutant), "", limits)
    finally:
        path.write_bytes(text)
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))  # so that the compiled file is the right one again


def copied(root: Path, target: Path) -> Path:
    """A copy of what git knows of the checkout, and of new files that it does not ignore."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=root, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)
    return target


def _work(copy: Path, asked: Any, told: Any) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # through the clearing up of `run_tests`
    for work, argument in iter(asked.get, None):
        told.put((argument, work(copy, *argument)))


class Workers:
    """Processes that work in a copy of the checkout each; `warm` modules are imported before they are forked."""

    def __init__(self, root: Path, folder: Path, jobs: int) -> None:
        for name in WARM:
            importlib.import_module(name)
        first = copied(root, folder / "0")
        self.copies = [first, *(shutil.copytree(first, folder / str(n)) for n in range(1, jobs))]
        forks = multiprocessing.get_context("fork")
        self._asked, self._told = forks.Queue(), forks.Queue()
        self._workers = [
            forks.Process(target=_work, args=(copy, self._asked, self._told), daemon=True) for copy in self.copies
        ]
        for worker in self._workers:
            worker.start()

    def ask(self, work: Callable[..., Any], *argument: Any) -> None:
        """Have `work(copy, *argument)` done, after what was asked before."""
        self._asked.put((work, argument))

    def next(self) -> tuple[tuple[Any, ...], Any]:
        """The next result, whatever was asked first: (argument, what the work returned)."""
        while True:
            with contextlib.suppress(queue.Empty):
                told: tuple[tuple[Any, ...], Any] = self._told.get(timeout=5)
                return told
            if dead := [worker for worker in self._workers if not worker.is_alive()]:
                raise Stop(f"a worker ended with status {dead[0].exitcode}")

    def share_compiled(self) -> None:
        """Give every copy the files that the others have compiled."""
        for source in self.copies:
            for path in source.rglob("__pycache__/*.pyc"):
                for target in self.copies:
                    place = target / path.relative_to(source)
                    if not place.exists():
                        place.parent.mkdir(exist_ok=True)
                        shutil.copy2(path, place)

    def stop(self) -> None:
        """End them. Python drops what a signal raises at the wrong moment, so they are told until they have ended."""
        for worker in self._workers:
            while worker.is_alive():
                worker.terminate()
                worker.join(1)


def run_all(
    chosen: Sequence[Mutant], tests: Mapping[str, Sequence[str]], root: Path, jobs: int
) -> Iterator[tuple[Mutant, dict[str, Any]]]:
    """Try every mutant, in `jobs` processes, with `tests` of its module; results as they come (`run_tests`).

    Raises Stop where a test fails with nothing changed.
    """
    with tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as folder:
        workers = Workers(root, Path(folder), jobs)
        try:
            modules = dict.fromkeys(mutant.module for mutant in chosen)
            for module in sorted(modules, key=lambda module: -sum(mutant.module == module for mutant in chosen)):
                workers.ask(baseline, module, tests[module])
            for _ in range(len(modules) + len(chosen)):
                (asked, *_), told = workers.next()
                if isinstance(asked, Mutant):
                    yield asked, told
                    continue
                if told.failed:
                    raise Stop(f"{asked}: with nothing changed {told.failed}")
                print(f"{asked}: {len(told.durations)} tests in {told.seconds:.0f} s", file=sys.stderr, flush=True)
                workers.share_compiled()
                for mutant in chosen:
                    if mutant.module == asked:
                        workers.ask(try_mutant, mutant, tests[asked], told)
        finally:
            workers.stop()
