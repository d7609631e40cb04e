"""Kills searches at random moments, resumes them, and checks that nothing was lost, doubled or decided otherwise.

    python benchmarks/chaos.py --rounds 30                        # for whoever doubts: --rounds 100
    python benchmarks/chaos.py --rounds 5 --kind node --seed 7    # one kind of fault, other moments
    python benchmarks/chaos.py --hosts 3                          # what clusters do, on hosts of our own (as root)

First a small search runs to its end undisturbed: a few trials, one at a time, on tiny synthetic data. Each round runs
the same search, waits for a moment drawn from the seed, does the round's damage, resumes where the driver is gone, and
compares the two logs:

driver-kill, driver-term   SIGKILL, SIGTERM to the driver
worker-kill                SIGKILL to the process that trains
torn-log                   SIGKILL to the driver, then half a line at the end of the log
parquet                    SIGTERM to the driver, then its Parquet files overwritten or cut short
checkpoint                 SIGKILL to the driver, then the newest checkpoint cut short or overwritten in the middle
full-disk                  the file system of the results (a small tmpfs) is filled up for some seconds
node                       SIGKILL to the Ray node that trains, of a cluster of two started with `ray start`
suspend                    SIGSTOP to the driver for 12 seconds, then SIGCONT
short-log                  SIGKILL to the driver, then the log cut short anywhere after its first line
swap-data                  other features are moved into the place of the data's; they are put back before the resume

Two rounds of three save the training state every third epoch only, so that epochs are repeated.

Each must keep: no epoch that had been reported is lost or has another PER; none is twice in the table; no trial is
forgotten; the order of (trial, epoch, decision, PER) is the undisturbed one's, to the last bit; a replay of the log
from scratch decides at every epoch as the log says; the log has no gap. Exit status 1 where one does not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is beside the packages, not one of them

from benchmarks import chaos_hosts
from benchmarks.damage import LIMIT, damage, mount
from benchmarks.ray_nodes import Nodes
from results.store.events import read_events
from results.store.paths import StudyPaths

RUN = """
purpose: a run of seven short epochs
model: {hidden: 12, layers: 1, dropout: 0.2, kernel: 8, stride: 4}
optimizer: {kind: adam, eps: 1.0e-8}
schedule: {kind: one_cycle, start_lr: 1.0e-4, peak_lr: 1.0e-2, end_lr: 1.0e-5}
augmentation: {white_noise: 0.1, time_masks: 1}
averaging: {kind: ema, decay: 0.9}
training: {batches: 84, batches_per_epoch: 12, batch_size: 16, clip: 5}
"""
SPACE = """
purpose: a small space
base: run.yaml
dimensions:
  schedule.peak_lr: {log_uniform: [1.0e-3, 5.0e-2]}
  averaging.kind: {choice: [none, ema]}
  augmentation.white_noise: {uniform: [0, 0.5]}
start_points: [run.yaml]
searcher: {kind: tpe, startup_trials: 3}
stopping: {kind: asha, grace: 1, reduction: 2}
budget: {trials: 6}
"""
KINDS = (
    *("driver-kill", "worker-kill", "torn-log", "checkpoint", "full-disk", "node", "driver-term", "parquet"),
    *("suspend", "short-log", "swap-data"),
)
EVERY = ("1 epochs", "3 epochs", "3 epochs")
"""How often a round's search saves its state: drawn for each round. After the last save epochs are repeated."""


@dataclass
class Round:
    """What was done and what came of it."""

    number: int
    kind: str
    after: int
    """Epochs in the log when the damage was done."""
    every: str = EVERY[0]
    """How often the state was saved."""
    resumed: int = 0
    repeated: int = 0
    """Epochs that were trained twice: from the last checkpoint on."""
    seconds: float = 0.0
    note: str = ""
    violations: list[str] = field(default_factory=list)


@dataclass
class Place:
    """Where the searches run."""

    folder: Path
    data: Path
    nodes: Nodes | None = None
    trainers: list[int] = field(default_factory=list)
    """Numbers of the nodes that have a core."""
    one_by_one: threading.Lock = field(default_factory=threading.Lock)
    """Held by a round that needs the cluster."""

    def cluster(self) -> Nodes:
        """The cluster: a head without cores and two nodes with one each; a node that was killed is replaced."""
        if self.nodes is None:
            self.nodes = Nodes()
            self.nodes.start(0)
        self.trainers = [n for n in self.trainers if self.nodes.processes[n].poll() is None]
        while len(self.trainers) < 2:
            self.trainers.append(self.nodes.start(1))
        return self.nodes

    def end_node(self, pid: int) -> int:
        """Kill the node on which the process `pid` is, or was; returns its number."""
        nodes = self.cluster()
        above = {parent.pid for parent in psutil.Process(pid).parents()} if psutil.pid_exists(pid) else set()
        number = next((n for n in self.trainers if nodes.processes[n].pid in above), self.trainers[0])
        nodes.kill(number)
        return number


def said(place: Place, results: Path) -> str:
    """What the last command on these results has printed."""
    return (place.folder / f"{results.name}.txt").read_text()


def tuner(
    place: Place, results: Path, *arguments: Any, nodes: Nodes | None = None, machine: bool = True
) -> subprocess.Popen[str]:
    """`tuner` in the background, its output in a file beside the study."""
    environment = {**(nodes.environment if nodes else os.environ), "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    more = ["--address", nodes.address] if nodes else ["--cpus", "1"]
    more = more if machine else []
    with (place.folder / f"{results.name}.txt").open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "tuner", *map(str, arguments), "--results", str(results), *more],
            cwd=place.folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )


def search(
    place: Place, results: Path, nodes: Nodes | None = None, every: str = EVERY[0], data: Path | None = None
) -> subprocess.Popen[str]:
    """The search, begun; it saves its state `every` so many epochs."""
    given = ("space.yaml", "--data", data or place.data, "--study", "s", "--concurrent", 1, "--checkpoint-every", every)
    return tuner(place, results, "search", *given, nodes=nodes)


def events_of(study: Path) -> list[dict[str, Any]]:
    """What the log has, now."""
    return read_events(StudyPaths(study).log)[0] if StudyPaths(study).log.exists() else []


def epochs_of(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The epoch events."""
    return [event for event in events if event["event"] == "epoch"]


def wait_for(process: subprocess.Popen[str], study: Path, count: int) -> bool:
    """Wait for `count` epochs in the log; False if the search ended before."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        if len(epochs_of(events_of(study))) >= count:
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.02)
    raise TimeoutError("no epochs in time")


def story(events: list[dict[str, Any]]) -> list[tuple[int, int, str, float | None]]:
    """(trial, epoch, decision, PER) in order; an epoch that was repeated counts where it was first reported."""
    first: dict[tuple[int, int], tuple[int, int, str, float | None]] = {}
    for e in epochs_of(events):
        first.setdefault((e["trial"], e["epoch"]), (e["trial"], e["epoch"], e["decision"], e["per"]))
    return list(first.values())


def trials_of(events: list[dict[str, Any]]) -> dict[int, tuple[Any, ...]]:
    """Number -> (parameters, seed, final status)."""
    ends = {e["trial"]: e["status"] for e in events if e["event"] == "trial_ended" and not e.get("retry")}
    return {
        e["trial"]: (json.dumps(e["params"], sort_keys=True), e["seed"], ends.get(e["trial"]))
        for e in events
        if e["event"] == "trial_started"
    }


def check(study: Path, whole: list[dict[str, Any]], before: list[dict[str, Any]]) -> list[str]:
    """The invariants that do not hold, a line each. `before` are the events at the moment of the damage."""
    from results.store.tables import load_tables

    events, problems = read_events(StudyPaths(study).log)
    wrong = [f"log: {problem}" for problem in problems]
    last = {(e["trial"], e["epoch"]): e["per"] for e in epochs_of(events)}
    for e in epochs_of(before):
        if (e["trial"], e["epoch"]) not in last:
            wrong.append(f"lost: trial {e['trial']} epoch {e['epoch']}")
    for e in epochs_of(events):
        if e["per"] != last[e["trial"], e["epoch"]]:
            wrong.append(f"another PER when repeated: trial {e['trial']} epoch {e['epoch']}")
    tables, notes = load_tables(study.parent, [study.name], ("epochs",))  # from the log, where they were not written
    wrong += [note for note in notes if "the log is" not in note]
    rows = tables["epochs"].select(["trial", "epoch", "per"]).to_pylist()
    table = Counter((row["trial"], row["epoch"]) for row in rows)
    wrong += [f"doubled in the table: trial {t} epoch {e}" for (t, e), count in table.items() if count > 1]
    if {(row["trial"], row["epoch"]): row["per"] for row in rows} != last:
        wrong.append("the epochs table is not the log's")
    if trials_of(events) != trials_of(whole):
        wrong.append("trials, or how they ended, differ from the undisturbed search's")
    if (here := story(events)) != (there := story(whole)):
        at = next((i for i, (a, b) in enumerate(zip(here, there, strict=False)) if a != b), min(len(here), len(there)))
        wrong.append(f"decision {at} differs: {here[at : at + 1]} instead of {there[at : at + 1]}")
    return wrong + replayed(events)


def replayed(events: list[dict[str, Any]]) -> list[str]:
    """Epochs at which a replay from scratch decides otherwise than the log says."""
    from tuner.study.rules.stopping import Point, decide
    from tuner.study.state import StudyState

    state, seen, wrong = StudyState(), set(), []
    for event in events:
        key = (event.get("trial"), event.get("epoch"))
        if event["event"] == "epoch" and key not in seen and event["status"] in (None, "stopped"):
            verdict = decide(state.history, event["trial"], Point.of_row(event, state.history.metric))
            if (verdict.stop, verdict.reason) != (event["decision"] == "stop", event["reason"]):
                wrong.append(f"a replay decides otherwise at trial {key[0]} epoch {key[1]}")
        seen.add(key)
        state.apply(event)
    return wrong


def one_round(number: int, kind: str, place: Place, whole: list[dict[str, Any]], rng: random.Random) -> Round:
    """Run, damage, resume, check."""
    began = time.monotonic()
    done = Round(number, kind, after=rng.randrange(1, len(epochs_of(whole))), every=rng.choice(EVERY))
    results = place.folder / f"round{number}"
    mounted = kind == "full-disk" and mount(results)
    if kind == "node":
        place.one_by_one.acquire()
    try:
        nodes = place.cluster() if kind == "node" else None
        if kind == "full-disk" and not mounted:
            done.note = "left out: mounting is not allowed here"
            return done
        study = results / "s"
        data = place.data
        if kind == "swap-data":
            data = shutil.copytree(place.data, place.folder / f"data{number}")
        process = search(place, results, nodes, done.every, data)
        if wait_for(process, study, done.after):
            time.sleep(rng.uniform(0, 0.3))  # somewhere within the next epoch
            before = events_of(study)
            pid = epochs_of(before)[-1]["pid"]
            more = {"pid": pid, "data": data, "said": lambda: said(place, results), "end_node": place.end_node}
            done.note = damage(kind, study, process, rng, **more)
            if kind == "short-log":
                before = events_of(study)
        else:
            before, done.note = events_of(study), "the search was over before"
        status = process.wait(LIMIT)
        while status != 0 and done.resumed < 3:
            if "results repair" in said(place, results):
                tuner(place, results, "results", "repair", "s", nodes=nodes, machine=False).wait(LIMIT)
                done.note += ", repaired"
            done.resumed += 1
            status = tuner(place, results, "resume", "s", nodes=nodes).wait(LIMIT)
        if status != 0:
            lines = said(place, results).strip().splitlines()
            done.violations.append(f"ended with status {status}: {lines[-1] if lines else ''}")
        else:
            done.violations = check(study, whole, before)
        after = events_of(study)
        done.repeated = len(epochs_of(after)) - len(story(after))
    finally:
        if kind == "node":
            place.one_by_one.release()
        if mounted:
            subprocess.run(["umount", "-l", str(results)], check=False)
    done.seconds = round(time.monotonic() - began, 1)
    if not done.violations and number > 1:  # the first one stays, to be laid beside the undisturbed one
        shutil.rmtree(results, ignore_errors=True)
    return done


def chaos(
    rounds: int, seed: int, kinds: list[str], keep: Path | None = None, parallel: int = 1
) -> tuple[list[Round], list[dict[str, Any]]]:
    """All rounds, and the events of the undisturbed search; a line for each on standard error."""
    from trainable.data.synthetic import make_synthetic

    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    (folder / "run.yaml").write_text(RUN)
    (folder / "space.yaml").write_text(SPACE)
    make_synthetic(folder / "data", "tiny")
    place = Place(folder, folder / "data")
    done: list[Round] = []
    stack = ExitStack()
    try:
        began = time.monotonic()
        if search(place, folder / "whole").wait(LIMIT) != 0:
            raise SystemExit((folder / "whole.txt").read_text())
        whole = events_of(folder / "whole" / "s")
        line = f"{len(trials_of(whole))} trials, {len(story(whole))} epochs, {time.monotonic() - began:.0f} s"
        print(f"undisturbed: {line}", file=sys.stderr, flush=True)

        def go(number: int) -> Round:
            kind = kinds[(number - 1) % len(kinds)]
            try:
                return one_round(number, kind, place, whole, random.Random(f"{seed} {number} {kind}"))
            except (
                OSError,
                ValueError,
                LookupError,
                AssertionError,
                psutil.Error,
                subprocess.SubprocessError,
            ) as error:
                return Round(number, kind, 0, violations=[f"{type(error).__name__}: {error}"])

        pool = stack.enter_context(ThreadPoolExecutor(parallel))
        for each in (future.result() for future in as_completed(pool.submit(go, n + 1) for n in range(rounds))):
            done.append(each)
            verdict = "; ".join(each.violations) or "as undisturbed"
            print(
                f"round {each.number}/{rounds} {each.kind} after epoch {each.after}, saved every {each.every} "
                f"({each.note}): "
                f"resumed {each.resumed}, {each.repeated} epochs repeated, {each.seconds:.0f} s: {verdict}",
                file=sys.stderr,
                flush=True,
            )
    finally:
        stack.close()
        if place.nodes is not None:
            place.nodes.close()
        if keep is not None:
            shutil.copytree(folder, keep, dirs_exist_ok=True)
        if not any(each.violations for each in done):
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"kept for a look: {folder}", file=sys.stderr)
    return done, whole


def summary(done: list[Round]) -> str:
    """A line for each kind."""
    lines = [f"{'kind':<12} {'rounds':>6} {'resumed':>8} {'repeated':>9} {'violations':>11}"]
    for kind in dict.fromkeys(each.kind for each in done):
        of = [each for each in done if each.kind == kind and not each.note.startswith("left out")]
        broken = sum(bool(each.violations) for each in of)
        sums = sum(each.resumed for each in of), sum(each.repeated for each in of)
        lines.append(f"{kind:<12} {len(of):>6} {sums[0]:>8} {sums[1]:>9} {broken:>11}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """The command line; 1 if an invariant was violated."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", choices=KINDS, help="may be given several times [default: all]")
    parser.add_argument("--parallel", type=int, default=1, metavar="N", help="rounds at once [default: 1]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rounds there")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy the logs there")
    parser.add_argument("--hosts", type=int, metavar="N", help="cut and kill N hosts of our own instead (root)")
    parser.add_argument("--case", action="append", choices=list(chaos_hosts.CASES), help="with --hosts [default: all]")
    given = parser.parse_args(arguments)
    if given.hosts:
        return chaos_hosts.main(given.hosts, given.case, given.json)
    done, whole = chaos(given.rounds, given.seed, given.kind or list(KINDS), given.keep, given.parallel)
    print(summary(done))
    if given.json:
        given.json.write_text(json.dumps({"rounds": [asdict(each) for each in done], "epochs": len(story(whole))}))
    return 1 if any(each.violations for each in done) else 0


if __name__ == "__main__":
    sys.exit(main())
