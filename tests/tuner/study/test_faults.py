"""Faults: what is said of them, how often a trial is tried again, and that nothing reported is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # benchmarks/ is beside the packages, not one of them

from results.store.events import read_events
from tuner.study.faults import Watchdog, counted_as, fault_of, killed_actors, retries_for, shares_memory
from tuner.study.settings import StudyResources

MONITOR = """RuntimeError: Caught unexpected exception: 1 worker(s) were killed due to the node running low on memory. \
Memory on the node (IP: 10.0.0.2, ID: 9ecade) was 5.28GB used / 23.54GB limit (0.224495)
Considered workers: [
Selected to kill: (Actor(39832e11b5db9dc76812555501000000): job ID=01000000, pid=31423, actual memory used=1.32GB)
Not selected: (Actor(11111111b5db9dc76812555501000000): job ID=01000000, pid=31424, actual memory used=0.32GB)
]"""
DIED = "The actor died unexpectedly before finishing this task.\n\tclass_name: TrialActor\n\tpid: 7\n"
CUDA = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."


@pytest.mark.parametrize(
    ("text", "kind", "line"),
    [
        (MONITOR, "memory", "Ray's memory monitor killed the worker (5.28GB of 23.54GB used)"),
        (f"Traceback\n  File x\n{CUDA}", "memory", CUDA),
        ("MemoryError: ", "memory", "MemoryError:"),
        ("RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried", "memory", "allocate"),
        (f"{DIED}The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR", "killed", ""),
        (f"{DIED}The actor died because its node has died. Node Id: 12ab", "node", "node that it ran on was lost"),
        (
            "The actor 2dc3 is unavailable: The actor is temporarily unavailable: RpcError: RPC error: Socket closed",
            "node",
            "was lost, or the network to it",
        ),
        ("ValueError: a node of the graph has no value", "error", "ValueError: a node of the graph has no value"),
        ("", "error", "without a message"),
    ],
)
def test_faults_are_told_apart(text, kind, line):
    """What Ray and torch say becomes a kind and one line that a person understands."""
    fault = fault_of(text)
    assert fault.kind == kind
    assert line in fault.text
    assert "\n" not in fault.text


@pytest.mark.parametrize(
    ("gpus", "text", "shared"),
    [(1, CUDA, False), (2, CUDA.replace("CUDA", "cuda"), False), (1, "CUBLAS_STATUS_ALLOC_FAILED", False),
     (0.5, CUDA, True), (0, "MemoryError", True), (1, "MemoryError", True)],
)  # fmt: skip
def test_only_a_whole_card_is_shared_with_no_other_trial(gpus, text, shared):
    """The memory that ran out is a trial's own only on a GPU that it has alone; main memory is everybody's."""
    assert shares_memory(text, StudyResources(cpus_per_trial=1, gpus_per_trial=gpus, concurrent=2)) is shared


def test_faults_of_memory_and_nodes_are_counted_by_themselves():
    """Each with its own number of further attempts; all others together against --retries."""
    kinds = ("error", "killed", "hung", "start", "memory", "node")
    assert [counted_as(kind) for kind in kinds] == ["error"] * 4 + ["memory", "node"]
    assert [retries_for(kind, 3) for kind in kinds] == [3] * 4 + [1, 10]


def test_only_the_killed_worker_is_blamed():
    """Of the workers that Ray's memory monitor considered, those that it selected have failed."""
    assert killed_actors(MONITOR) == ["39832e11b5db9dc76812555501000000"]


def test_out_of_memory_is_tried_once_more_whatever_retries_says(toy):
    """With --retries 0 a trial that ran out of memory has a second attempt and no third; its message is kept."""
    study = toy.create("s", retries=0)
    job = study.ask()
    study.fail(job.trial, job.attempt, CUDA, kind="memory")
    again = study.ask()
    assert (again.trial, again.attempt) == (job.trial, 2)
    study.fail(again.trial, again.attempt, CUDA, kind="memory")
    assert (study.state.trials[job.trial].status, study.state.trials[job.trial].error) == ("failed", CUDA)


def test_a_lost_node_costs_no_retry(toy):
    """Nodes that are lost say nothing about the trial: its retries stay; but not for ever."""
    study = toy.create("s", retries=0)
    for attempt in range(1, 11):
        job = study.ask()
        assert (job.trial, job.attempt) == (0, attempt)
        study.fail(job.trial, job.attempt, "the node that it ran on was lost", kind="node")
    study.close()
    study = toy.resume("s")  # a replay counts as the driver did
    job = study.ask()
    assert (job.trial, job.attempt) == (0, 11)
    study.fail(job.trial, job.attempt, "the node that it ran on was lost", kind="node")
    assert study.state.trials[0].status == "failed"


def run_to_its_end(toy, study, job):
    """Report epoch after epoch until the study says stop."""
    epochs = iter(range(job.epochs_logged + 1, 10))
    while study.report(job.trial, job.attempt, toy.curve(job.config, next(epochs))) == "continue":
        pass


def test_a_trial_that_needed_more_memory_than_its_neighbours_left_comes_last_and_alone(toy):
    """Its second attempt waits until nothing else is to be started or runs, and nothing starts beside it."""
    study = toy.create("s", budget={"trials": 3, "hours": None}, stopping={"kind": "none"})
    first, second = study.ask(), study.ask()
    study.fail(first.trial, first.attempt, "MemoryError: ", kind="memory")
    third = study.ask()
    assert third.trial == 2
    assert study.ask() is None
    for job in (second, third):
        run_to_its_end(toy, study, job)
    last = study.ask()
    assert (last.trial, last.attempt) == (0, 2)
    assert study.ask() is None


def test_nothing_starts_beside_a_trial_that_needs_the_memory_for_itself(toy):
    """It runs alone because the time was over; then the driver learns that it had slept, so that there is time again:
    the next trial starts when the lone one has ended.
    """
    now = 0.0
    settings = {"budget": {"trials": 5, "hours": 1.0, "then": "finish"}, "stopping": {"kind": "none"}}
    study = toy.create("s", clock=lambda: now, **settings)
    first, second = study.ask(), study.ask()
    study.fail(first.trial, first.attempt, "MemoryError: ", kind="memory")
    run_to_its_end(toy, study, second)
    now = 3601.0
    alone = study.ask()
    assert (alone.trial, alone.attempt) == (0, 2)
    study.slept(3000.0)
    assert study.trials_left == 3
    assert study.ask() is None
    run_to_its_end(toy, study, alone)
    assert study.ask().trial == 2


def test_a_line_lost_in_the_middle_of_the_log_costs_that_event_and_no_more(toy):
    """The start of a trial is overwritten with noise: the study still resumes and says so; the number is not used
    twice, and every other trial is as it was.
    """
    study = toy.create("s")
    toy.drive(study, events=30)
    study.close()
    log = toy.folder / "s" / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if b'"trial_started"' in line and b'"trial":1,' in line)
    lines[at] = b"#" * (len(lines[at]) - 1) + b"\n"
    log.write_bytes(b"".join(lines))
    again = toy.resume("s")
    assert any("is no event" in problem for problem in again.problems)
    assert again.state.lost == {1}
    assert 1 not in again.state.trials
    toy.drive(again)
    assert set(again.state.trials) == set(range(12)) - {1}
    before = {n: t.pers for n, t in study.state.trials.items() if n != 1}
    assert all(again.state.trials[n].pers.items() >= pers.items() for n, pers in before.items())


class TestWatchdog:
    """Silence, by a clock of the test's own."""

    def make(self, **limits):
        self.now = 0.0
        return Watchdog(**limits, clock=lambda: self.now)

    def test_a_silent_trial_is_overdue_after_many_times_its_usual_epoch(self):
        """Epochs of 10 s and a factor of 20: overdue after 200 s, not before."""
        dog = self.make(factor=20, floor=120, first=900)
        dog.begin("a")
        for _ in range(5):
            self.now += 10
            dog.heard("a")
        self.now += 199
        assert dog.overdue() == {}
        self.now += 2
        assert "no report for 201 s, 200 s are allowed" in dog.overdue()["a"]
        dog.let_go("a")
        assert dog.overdue() == {}

    def test_the_first_epoch_has_a_floor_of_its_own(self):
        """Before its first report a trial has 15 minutes, and 20 times what other trials' epochs take."""
        dog = self.make(factor=20, floor=120, first=900)
        dog.begin("a")
        self.now += 899
        assert dog.overdue() == {}
        self.now += 2
        assert "a" in dog.overdue()
        dog.heard("a")  # an epoch of 901 s
        dog.begin("b")
        self.now += 20 * 901 - 1
        assert dog.overdue() == {}

    def test_short_epochs_have_a_floor_too(self):
        """Epochs of 1 s: 120 s of silence are allowed, however short 20 times the usual epoch is."""
        dog = self.make(factor=20, floor=120, first=900)
        dog.begin("a")
        for _ in range(3):
            self.now += 1
            dog.heard("a")
        self.now += 120
        assert dog.overdue() == {}
        self.now += 1
        assert "no report for 121 s, 120 s are allowed" in dog.overdue()["a"]

    def test_only_the_last_epochs_say_what_is_usual(self):
        """The usual epoch is the median of an attempt's own last nine, or of the study's last 99 for a new attempt."""
        dog = self.make(factor=20, floor=120, first=900)
        dog.begin("a")
        for seconds, epochs in ((1, 120), (100, 5)):
            for _ in range(epochs):
                self.now += seconds
                dog.heard("a")
        assert dog.limit("a") == 2000  # 5 of the last 9
        assert dog.limit("b") == 900  # 5 of the last 99
        for _ in range(45):
            self.now += 100
            dog.heard("a")
        assert dog.limit("b") == 2000  # 50 of the last 99

    def test_zero_never_ends_anybody(self):
        """--hung-after 0 switches it off."""
        dog = self.make(factor=0)
        dog.begin("a")
        self.now += 10**9
        assert dog.overdue() == {}

    def looks(self, dog, seconds, key=None, every=10):
        """A driver that is awake for so long: it looks every second, and hears of an epoch `every` seconds."""
        for second in range(1, seconds + 1):
            self.now += 1
            dog.look()
            if key and second % every == 0:
                dog.heard(key)
            assert dog.overdue() == {}

    @pytest.mark.parametrize("first", ["heard", "overdue"])
    def test_what_the_driver_slept_counts_against_nobody(self, first):
        """Suspended for an hour: a trial that reports every 10 s is as far from its limit as before, whether the
        driver hears of it first when it wakes or not; its usual epoch time stays, and a silence from then on is found.
        """
        slept = []
        dog = self.make(factor=20, floor=120, first=900, slept=slept.append)
        dog.begin("a")
        self.looks(dog, 50, "a")
        self.looks(dog, 5)
        self.now += 3600
        dog.look()
        {"heard": lambda: dog.heard("a"), "overdue": dog.overdue}[first]()
        assert dog.overdue() == {}
        assert slept == [3600]
        assert dog.limit("a") == 200
        self.looks(dog, 200 if first == "heard" else 195)
        self.now += 1
        assert "no report for 201 s" in dog.overdue()["a"]
        assert slept == [3600]

    @pytest.mark.parametrize(("usual", "awake", "asleep"), [(0.5, 10.0, 10.5), (2.0, 20.0, 20.5)])
    def test_a_gap_is_a_sleep_beyond_the_lapse_and_ten_times_the_usual_gap(self, usual, awake, asleep):
        """Both are limits that may be reached; a sleep of which nobody is told counts for no attempt either."""
        slept = []
        for told in (slept.append, None):
            dog = self.make(factor=20, floor=120, first=900, lapse=10.0, slept=told)
            dog.begin("a")
            for gap in [*[usual] * 20, awake, *[usual] * 5, asleep]:
                self.now += gap
                dog.look()
            self.now = asleep + 900  # of which 900 s awake
            assert dog.overdue() == {}
            self.now += 0.5
            assert "a" in dog.overdue()
        assert slept == [asleep]

    def test_the_first_look_is_no_sleep(self):
        """However long the driver took to come to it, from whenever its clock counts."""
        slept = []
        dog = self.make(factor=20, slept=slept.append)
        self.now = 5000.0
        dog.begin("a")
        dog.look()
        self.now += 1.0
        dog.look()
        assert slept == []

    def test_a_driver_that_always_looks_seldom_still_finds_a_hung_trial(self):
        """Looks that are 12 s apart as a rule (a slow disk) are no sleep."""
        dog = self.make(factor=20, floor=120, first=900)
        dog.begin("a")
        for _ in range(74):
            self.now += 12
            dog.look()
            assert dog.overdue() == {}
        for _ in range(3):
            self.now += 12
            dog.look()
            found = dog.overdue()
        assert "a" in found


SICK = """
import os, signal, sys, time
from pathlib import Path
from results.store.events import read_events
from tuner.backend import ray_backend
from tuner.study.faults import Watchdog
from tuner.study.study import Study

folder = Path(sys.argv[1])
silent = folder / "silent"

def work(job, place):
    for epoch in range(job.epochs_logged + 1, 4):
        if epoch == 2 and job.attempt == 1:
            if job.trial == 0:
                while not any(e["event"] == "epoch" for e in read_events(Path(place.folder, "events.jsonl"))[0]):
                    time.sleep(0.05)
                Path(place.folder, "silent").touch()
                os.kill(os.getpid(), signal.SIGSTOP)
            if job.trial == 1:
                raise MemoryError("no room")
            if job.trial == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            if job.trial == 3:
                raise RuntimeError("once")
        yield {"epoch": epoch, "batch": epoch, "per": 0.5, "val_loss": 1.0, "seconds": 0.01, "diverged": epoch == 3,
               "pid": os.getpid(), "host": os.uname().nodename}

def clock():  # a day has gone once that worker is silent: no other is ever silent for long, however slow the machine
    return time.monotonic() + 86400.0 * silent.exists()

resources = ray_backend.Resources(1, 0, 1)
limit = ray_backend.start_ray(None, 1, resources)
study = Study.resume(folder, {}, [])
dog = Watchdog(factor=3, floor=3600.0, first=1e9, lapse=1e9, clock=clock)
ray_backend.run(study, folder, resources, limit, work, watchdog=dog)
study.close()
ray_backend.stop_ray()
"""


@pytest.mark.ray
def test_hung_killed_and_raising_trials_are_tried_again(toy, end, warm_python):
    """Real worker processes that stop, run out of memory, are killed and raise: each trial's second attempt goes on
    after the epoch that was reported, and the log says what had happened.
    """
    toy.create("s", retries=1, budget={"trials": 4, "hours": None}, stopping={"kind": "none"}).close()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    program = subprocess.Popen(
        [warm_python, "-c", SICK, str(toy.folder / "s")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    done = end(program, toy.folder)
    assert done.status == 0, done.err
    events, problems = read_events(toy.folder / "s" / "events.jsonl")
    assert not problems
    faults = {e["trial"]: (e["fault"], e["error"]) for e in events if e["event"] == "trial_ended" and e.get("retry")}
    assert {trial: kind for trial, (kind, _) in faults.items()} == {0: "hung", 1: "memory", 2: "killed", 3: "error"}
    assert "no report for" in faults[0][1]
    assert "MemoryError: no room" in faults[1][1]
    assert "RuntimeError: once" in faults[3][1]
    reported = [(e["trial"], e["epoch"]) for e in events if e["event"] == "epoch"]
    assert reported == [(trial, epoch) for trial in range(4) for epoch in (1, 2, 3)]
    assert [e["attempt"] for e in events if e["event"] == "epoch"] == [1, 2, 2] * 4


SLEEPY = """
import os, sys, time
from pathlib import Path
from tuner.backend import ray_backend
from tuner.study.faults import Watchdog
from tuner.study.study import Study

def work(job, place):
    for epoch in range(job.epochs_logged + 1, 10):
        time.sleep(0.3)
        yield {"epoch": epoch, "batch": epoch, "per": 0.5, "val_loss": 1.0, "seconds": 0.3, "diverged": False}

folder = Path(sys.argv[1])
real, slept = time.monotonic, folder / "slept"
time.monotonic = lambda: real() + 3600.0 * slept.exists()  # an hour longer than the test has for it
resources = ray_backend.Resources(1, 0, 3)
limit = ray_backend.start_ray(None, 3, resources)
study = Study.resume(folder, {}, [])
dog = Watchdog(factor=3, floor=900.0, first=1e9, lapse=900.0, clock=time.monotonic, slept=study.slept)
ray_backend.run(study, folder, resources, limit, work, watchdog=dog)
study.close()
ray_backend.stop_ray()
"""


@pytest.mark.ray
def test_trials_of_a_driver_that_was_suspended_are_not_hung(toy, wait, end):
    """SIGSTOP for what its clock says is an hour, where a quarter of one is a hung trial: no attempt fails, and the
    log's `elapsed` does not have the sleep.
    """
    toy.create("s", retries=0, budget={"trials": 3, "hours": None}, stopping={"kind": "none"}).close()
    log = toy.folder / "s" / "events.jsonl"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    driver = subprocess.Popen(
        [sys.executable, "-c", SLEEPY, str(toy.folder / "s")], env=environment, stderr=subprocess.PIPE, text=True
    )

    def all_begun():
        assert driver.poll() is None, driver.communicate()
        return {e["trial"] for e in read_events(log)[0] if e["event"] == "epoch" and e["epoch"] > 1} == {0, 1, 2}

    try:
        wait(all_begun, lambda: log.stat().st_size)
        driver.send_signal(signal.SIGSTOP)
        wait(lambda: psutil.Process(driver.pid).status() == psutil.STATUS_STOPPED)
        asleep = read_events(log)[0][-1]
        (toy.folder / "s" / "slept").touch()
        driver.send_signal(signal.SIGCONT)
        done = end(driver, toy.folder)
    finally:
        driver.kill()
    assert done.status == 0, done.err
    events, problems = read_events(log)
    assert not problems
    assert [e["error"] for e in events if e["event"] == "trial_ended"] == [None] * 3
    assert len([e for e in events if e["event"] == "epoch"]) == 27
    last = events[-1]
    assert 0 < last["elapsed"] - asleep["elapsed"] < 3600
    assert 0 < last["time"] - asleep["time"] < 3600


def test_the_checks_find_what_is_wrong(toy):
    """benchmarks/chaos.py names a lost epoch, a gap and another order of decisions: its checks can fail."""
    from benchmarks import chaos
    from results.store.tables import compact

    study = toy.create("s")
    toy.drive(study)
    study.close()
    folder = toy.folder / "s"
    compact(folder)
    whole, _ = read_events(folder / "events.jsonl")
    assert chaos.check(folder, whole, whole) == []
    lines = (folder / "events.jsonl").read_text().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if '"event":"epoch"' in line and '"rung":1' in line)
    (folder / "events.jsonl").write_text("".join(lines[:at] + lines[at + 1 :]))
    found = "\n".join(chaos.check(folder, whole, whole))
    for line in ("lost: trial", "was expected", "decision 0 differs", "a replay decides otherwise"):
        assert line in found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "RuntimeError: CUDA error: unspecified launch failure\nCUDA kernel errors might be reported later\n"
            "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.",
            "CUDA error: unspecified launch failure",
        ),
        ("RuntimeError: No CUDA GPUs are available", "No CUDA GPUs are available"),
        ("RuntimeError: cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", "CUDNN_STATUS_EXECUTION_FAILED"),
    ],
)
def test_a_card_that_fails_is_named_and_not_torch_s_advice(text, said):
    """One line with the card's own words; full memory of a card stays what it was."""
    fault = fault_of(text)
    assert fault.kind == "error" and fault.text.startswith(f"the card failed: {said}") and "\n" not in fault.text
    assert fault_of("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB").kind == "memory"
