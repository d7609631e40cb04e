"""What clusters do to a search, on hosts of our own (`benchmarks/hosts.py`): run by `benchmarks/chaos.py --hosts N`.

Each case begins with a search on a head without cores and N - 1 hosts of a core each, and ends with the study complete:
where the search does not get there by itself, what its messages say is done (Ray started again, the study resumed).
Hosts that lost their Ray, or their power, are replaced for the next case.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.hosts import SHARED, Host, Hosts, why_not
from results.store.events import read_events
from results.store.paths import StudyPaths

LIMIT = 420.0
"""Seconds that any wait may take."""
RUN = """
purpose: a run of many short epochs
model: {hidden: 12, layers: 1, dropout: 0.2, kernel: 8, stride: 4}
optimizer: {kind: adam, eps: 1.0e-8}
schedule: {kind: one_cycle, start_lr: 1.0e-4, peak_lr: 1.0e-2, end_lr: 1.0e-5}
averaging: {kind: ema, decay: 0.9}
training: {batches: 720, batches_per_epoch: 12, batch_size: 16, clip: 5}
"""
SPACE = """
purpose: a small space
base: run.yaml
dimensions:
  schedule.peak_lr: {log_uniform: [1.0e-3, 5.0e-2]}
start_points: [run.yaml]
stopping: {kind: none}
budget: {trials: 2}
"""


@dataclass
class Case:
    """What was done to a search on hosts, and what came of it."""

    name: str
    outcome: str = ""
    told: float | None = None
    """Seconds from the damage to the first line that told of it."""
    resumed: int = 0
    repeated: int = 0
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)


@dataclass
class Cluster:
    """The hosts of a case and its search."""

    hosts: Hosts
    study: str
    case: Case
    process: subprocess.Popen[str] | None = None
    driver: Host | None = None

    @property
    def output(self) -> Path:
        """What the search prints."""
        return self.hosts.folder / f"{self.study}.txt"

    def start(self, host: Host, *arguments: Any) -> None:
        """A search or its resume on a host."""
        with self.output.open("a") as output:
            common = ("--results", SHARED / "results", "--address", self.hosts.address)
            self.process, self.driver = host.tuner(*arguments, *common, output=output), host

    def search(self, host: Host, *more: Any) -> None:
        """Begin, and wait until every host that can trains."""
        given = ("space.yaml", "--data", SHARED / "data", "--study", self.study, "--checkpoint-every", "3 epochs")
        self.start(host, "search", *given, *more)
        able = len([h for h in self.live() if h.number])
        self.until(lambda: len({e["host"] for e in self.epochs()[-40:]}) >= min(2, able) and len(self.epochs()) > 5)

    def live(self) -> list[Host]:
        """Hosts that have power and a Ray."""
        return [self.hosts[n] for n in range(self.hosts.count) if self.hosts[n].up]

    def events(self) -> list[dict[str, Any]]:
        """The log, now."""
        log = StudyPaths(self.hosts.folder / "results" / self.study).log
        return read_events(log)[0] if log.exists() else []

    def epochs(self) -> list[dict[str, Any]]:
        """Its epochs."""
        return [event for event in self.events() if event["event"] == "epoch"]

    def said(self) -> str:
        """What the search printed so far."""
        return self.output.read_text()

    def until(self, holds: Callable[[], Any], limit: float = LIMIT) -> bool:
        """Wait for progress; False if the search ended before. AssertionError when the time is over."""
        end = time.monotonic() + limit
        while not holds():
            if self.process is None or self.process.poll() is not None:
                return bool(holds())
            assert time.monotonic() < end, f"nothing came of it in {limit:.0f} s"
            time.sleep(0.2)
        return True

    def trains(self) -> bool:
        """Wait until more epochs come, from here on; False if the search ended instead."""
        count = len(self.epochs())
        return self.until(lambda: len(self.epochs()) > count + 3)

    def told(self, words: str) -> None:
        """Wait for a line, and note how long it took."""
        began = time.monotonic()
        self.until(lambda: words in self.said())
        assert words in self.said(), f"not told: {words}"
        self.case.told = round(time.monotonic() - began, 1)

    def resume(self, host: Host) -> None:
        """On another host, say."""
        self.case.resumed += 1
        self.start(host, "resume", self.study)

    def finish(self) -> None:
        """To the end; AssertionError if it does not get there."""
        assert self.process is not None
        status = self.process.wait(LIMIT)
        lines = self.said().strip().splitlines()
        assert status == 0, f"ended with status {status}: {lines[-1] if lines else ''}"

    def end_driver(self) -> None:
        """SIGKILL to the driver."""
        assert self.process is not None and self.driver is not None
        self.driver.run(["pkill", "-9", "-f", "tuner (search|resume)"])
        self.process.wait(60)

    def replace(self) -> None:
        """A new host with a Ray."""
        host = self.hosts.add()
        self.hosts.begin(host)
        self.hosts.wait(host)


def _cut(number: int, seconds: float) -> Callable[[Cluster], None]:
    def act(c: Cluster) -> None:
        c.search(c.hosts[0])
        host = c.hosts[number] if number == 0 else [h for h in c.live() if h.number][-1]
        host.cut()
        mend_at = time.monotonic() + seconds
        if seconds > 60:
            c.told("to be tried again" if number else "nodes: ")
        time.sleep(max(0.0, mend_at - time.monotonic()))
        host.mend()
        if number == 0 and seconds > 60:  # every host's Ray ends: it is started again, as the line says
            time.sleep(45)
            for lost in [h for h in c.live() if h.number]:
                lost.end_ray()
                c.hosts.begin(lost)
                c.hosts.wait(lost)
            c.until(lambda: "can hold a trial again" in c.said())
        c.trains()

    return act


def _host_killed(c: Cluster) -> None:
    c.search(c.hosts[0])
    [h for h in c.live() if h.number][-1].kill()
    c.told("to be tried again")
    c.trains()


def _driver_moves(c: Cluster) -> None:
    workers = [h for h in c.live() if h.number]
    c.search(workers[0])
    c.end_driver()
    c.resume(workers[-1])
    c.trains()


def _gives_up(c: Cluster) -> None:
    c.search(c.hosts[0], "--give-up-after", 1)
    for host in [h for h in c.live() if h.number]:
        host.kill()
    c.told("nodes: ")
    assert c.process is not None
    assert c.process.wait(180) == 1, "did not give up"
    assert "gave up (--give-up-after 1)" in c.said()
    c.replace()
    c.resume(c.hosts[0])
    c.trains()


def _blind(c: Cluster) -> None:
    """A host that sees neither data nor results, with another version of a library."""
    import optuna

    (c.hosts.folder / "results").mkdir(exist_ok=True)
    odd = c.hosts.add(hidden=[SHARED / "data", SHARED / "results"])
    info = Path(optuna.__file__).parents[1] / f"optuna-{optuna.__version__}.dist-info"
    changed = re.sub(r"^Version: .*$", "Version: 1.2.3", (info / "METADATA").read_text(), flags=re.MULTILINE)
    (c.hosts.folder / "METADATA").write_text(changed)
    assert odd.run(["mount", "--bind", SHARED / "METADATA", info / "METADATA"]).returncode == 0
    c.hosts.begin(odd)
    c.hosts.wait(odd)
    c.start(c.hosts[0], "search", "space.yaml", "--data", SHARED / "data", "--study", c.study)
    assert c.process is not None
    status = c.process.wait(LIMIT)
    lines = [line for line in c.said().splitlines() if line.startswith("error:")]
    odd.kill()
    assert status == 2 and len(lines) == 3 and all(f"node {odd.address}: " in line for line in lines), c.said()
    assert not c.events()
    c.output.unlink()
    time.sleep(60)  # until the head believes that it is gone
    c.search(c.hosts[0])


def _submitted(c: Cluster) -> None:
    """`tuner submit`, then `ray job stop`, then a resume."""
    head = c.hosts[0]
    given = ("search", "space.yaml", "--data", SHARED / "data", "--study", c.study, "--results", SHARED / "results")
    address = f"http://{head.address}:8265"
    with c.output.open("w") as output:
        c.process = head.tuner("submit", "--address", address, "--python", sys.executable, "--", *given, output=output)
    c.until(lambda: len(c.epochs()) > 5)
    (job,) = set(re.findall(r"job (raysubmit_\w+):", c.said()))
    stopped = head.run([Path(sys.executable).with_name("ray"), "job", "stop", job, "--address", address])
    assert stopped.returncode == 0, stopped.stderr
    c.process.wait(LIMIT)
    assert c.events()[-1]["event"] == "study_ended", "the driver had no time to write its end"
    c.resume(head)
    c.trains()


CASES: dict[str, Callable[[Cluster], None]] = {
    "link cut for 10 s": _cut(1, 10),
    "link cut for 90 s": _cut(1, 90),
    "host killed": _host_killed,
    "head cut for 10 s": _cut(0, 10),
    "head cut for 90 s": _cut(0, 90),
    "driver killed, resumed on another host": _driver_moves,
    "no host left, --give-up-after": _gives_up,
    "no data, no results, another version": _blind,
    "tuner submit, ray job stop": _submitted,
}


def check(c: Cluster, before: list[dict[str, Any]]) -> list[str]:
    """What does not hold at the end: an epoch lost or with another PER, a trial without its end, a gap in the log."""
    events, problems = read_events(StudyPaths(c.hosts.folder / "results" / c.study).log)
    epochs = [event for event in events if event["event"] == "epoch"]
    last = {(e["trial"], e["epoch"]): e["per"] for e in epochs}
    wrong = [f"log: {problem}" for problem in problems]
    wrong += [f"lost: {e['trial']}/{e['epoch']}" for e in before if (e["trial"], e["epoch"]) not in last]
    wrong += [f"another PER: {e['trial']}/{e['epoch']}" for e in epochs if e["per"] != last[e["trial"], e["epoch"]]]
    ends = {e["trial"]: e["status"] for e in events if e["event"] == "trial_ended" and not e.get("retry")}
    if ends != {0: "completed", 1: "completed"} or len(last) != 120:
        wrong.append(f"trials ended as {ends} with {len(last)} epochs of 120")
    if "StackTrace" in c.said() or "Traceback" in c.said():
        wrong.append("a stack trace on the user's terminal")
    c.case.repeated = len(epochs) - len(last)
    return wrong


@contextlib.contextmanager
def _hosts(count: int, dashboard: bool) -> Iterator[Hosts]:
    from trainable.data.synthetic import make_synthetic

    with Hosts(dashboard=dashboard) as hosts:
        make_synthetic(hosts.folder / "data", "tiny")
        (hosts.folder / "run.yaml").write_text(RUN)
        (hosts.folder / "space.yaml").write_text(SPACE)
        made = [hosts.add() for _ in range(count)]
        hosts.begin(made[0], 0)
        hosts.wait(made[0])
        for host in made[1:]:
            hosts.begin(host)
        hosts.wait(*made[1:])
        yield hosts


def run_case(number: int, name: str, count: int) -> Case:
    """One case on `count` hosts of its own."""
    case, began = Case(name), time.monotonic()
    submits = CASES[name] is _submitted
    if submits and importlib.util.find_spec("aiohttp") is None:
        case.outcome = "left out: needs ray[default]"
        return case
    with _hosts(count, dashboard=submits) as hosts:
        c = Cluster(hosts, f"s{number}", case)
        try:
            CASES[name](c)
            before = c.epochs()
            c.finish()
            case.violations = check(c, before)
            case.outcome = "complete"
        except (AssertionError, RuntimeError, ValueError, OSError, subprocess.SubprocessError) as error:
            case.violations.append(f"{type(error).__name__}: {str(error)[-300:]}")
            if c.output.exists():
                print(c.said()[-3000:], file=sys.stderr)
        finally:
            with contextlib.suppress(AssertionError, subprocess.SubprocessError):
                c.end_driver()
    case.seconds = round(time.monotonic() - began, 1)
    return case


def main(count: int, names: list[str] | None = None, out: Path | None = None) -> int:
    """All cases, a line each; 1 if an invariant was violated, 2 if there can be no hosts here."""
    if (reason := why_not()) is not None:
        print(f"--hosts: {reason}", file=sys.stderr)
        return 2
    done = []
    for number, name in enumerate(names or CASES):
        case = run_case(number, name, count)
        done.append(case)
        verdict = "; ".join(case.violations) or case.outcome
        told = "" if case.told is None else f"told after {case.told:.0f} s, "
        line = f"{told}resumed {case.resumed}, {case.repeated} epochs repeated, {case.seconds:.0f} s: {verdict}"
        print(f"{name}: {line}", file=sys.stderr, flush=True)
    print(f"{'on hosts':<40} {'told after':>10} {'resumed':>8} {'repeated':>9} {'violations':>11}")
    for case in done:
        told = "-" if case.told is None else f"{case.told:.0f} s"
        wrong = case.outcome if case.outcome.startswith("left") else str(len(case.violations))
        print(f"{case.name:<40} {told:>10} {case.resumed:>8} {case.repeated:>9} {wrong:>11}")
    if out is not None:
        out.write_text(json.dumps([vars(case) for case in done]))
    return 1 if any(case.violations for case in done) else 0
