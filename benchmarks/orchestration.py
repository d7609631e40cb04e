"""What a search costs beside its training: trials whose epochs take no time, on this program and on its parts alone.

    python benchmarks/orchestration.py --trials 100 1000              # this program
    python benchmarks/orchestration.py --trials 100 --peers           # and plain Ray Tune and plain Optuna, in one run

For each number of trials: milliseconds per trial and trials per second from the first epoch to the last end, driver CPU
per reported epoch and per trial in the first and the last tenth of the search, growth of the driver's memory and of the
log, the time lost between two trials of one worker (from the end of the one to the first epoch of the next, both as
logged), and the time from the start of Ray to the first epoch. Two trials at a time, one epoch each (`--epochs` for
more), random search unless `--searcher tpe`. Memory is the highest so far: give one number of trials a call.

Then two figures that need a clock in the trials: the driver's CPU time for each second of a trial, with eight trials
at once whose epochs sleep for a second; and the time from the command `tuner search` to the first epoch of a real, tiny
training, everything imported anew. The driver is this process; Ray's own two (gcs, raylet) are not in its CPU time.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from tuner.study.settings import StudySettings

SPACE = """
purpose: a space whose trials cost nothing
base: small
fixed: {training.batches: EPOCHS, training.batches_per_epoch: 1}
dimensions:
  schedule.kind: {choice: [one_cycle, constant]}
  schedule.peak_lr: {log_uniform: [1.0e-3, 1.0e-1]}
  model.dropout: {uniform: [0, 0.5]}
searcher: {kind: SEARCHER}
stopping: {kind: none}
budget: {trials: 1}
"""


def no_work(job: Any, place: Any, sleep: float = 0.0) -> Iterator[dict[str, Any]]:
    """The rows of a trial that trains nothing; each epoch takes `sleep` seconds."""
    for epoch in range(job.epochs_logged + 1, job.config.epochs + 1):
        time.sleep(sleep)
        per = abs(job.config.schedule.peak_lr - 0.01) + 1 / epoch
        yield {
            "epoch": epoch, "batch": epoch, "per": per, "per_raw": per, "per_utterance_mean": per, "val_loss": per,
            "train_loss": per, "lr": 0.1, "schedule_fraction": 1.0, "grad_norm": 1.0, "blank_share": 0.5,
            "infeasible": 0, "seconds": sleep, "samples_per_second": 1.0, "peak_memory_mb": 1.0, "diverged": False,
            "cpu_seconds": 0.0, "gpu_seconds": 0.0, "pid": os.getpid(),
        }  # fmt: skip


def ours(
    trials: int, epochs: int, searcher: str, concurrent: int, sleep: float = 0.0, cpus: float = 1.0
) -> dict[str, float]:
    """A search by this program, `concurrent` trials of `cpus` cores at a time."""
    from results.store.lock import StudyLock
    from search_spaces import load_space
    from tuner.backend import ray_backend
    from tuner.callbacks.sealing import Sealing
    from tuner.study.study import Study

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trivial.yaml"
        path.write_text(SPACE.replace("EPOCHS", str(epochs)).replace("SEARCHER", searcher))
        space = load_space(path)
        settings = {
            "study": "trivial",
            "space": space.as_dict(),
            "data": {"path": folder, "name": "none", "fingerprint": "0"},
            "searcher": space.searcher.model_dump(mode="json"),
            "stopping": {"kind": "none"},
            "objective": "best_per",
            "seed": 0,
            "budget": {"trials": trials, "hours": None},
        }
        resources = ray_backend.Resources(cpus_per_trial=cpus, concurrent=concurrent)
        begun = time.perf_counter()
        limit = ray_backend.start_ray(None, max(1, round(concurrent * cpus)), resources)
        first: list[float] = []  # wall and CPU time at the first epoch
        gaps = Gaps()
        ends: list[float] = []  # CPU time at the end of each trial

        def note(event: dict[str, Any]) -> None:
            gaps.event(event)
            if event["event"] == "trial_ended":
                ends.append(time.process_time())
            if event["event"] == "epoch" and not first:
                first.extend((time.perf_counter(), time.process_time()))

        with StudyLock(Path(folder) / "trivial"):
            study = Study.create(Path(folder) / "trivial", StudySettings.read(settings), [note])
            study.observers.append(Sealing(study))
            memory, cpu = _memory(), time.process_time()
            ray_backend.run(study, Path(folder), resources, limit, functools.partial(no_work, sleep=sleep))
            seconds, ended = time.perf_counter() - first[0], time.process_time()
            grown = _memory() - memory
            study.close()
        ray_backend.stop_ray()
        log = (Path(folder) / "trivial" / "events.jsonl").stat().st_size
    row = {
        "ms_per_trial": 1000 * seconds / max(1, trials - 1),
        "trials_per_second": max(1, trials - 1) / seconds,
        "driver_cpu_ms_per_epoch": 1000 * (ended - cpu) / (trials * epochs),
        "first_tenth_cpu_ms_per_trial": _per_trial(ends[: max(2, len(ends) // 10)]),
        "last_tenth_cpu_ms_per_trial": _per_trial(ends[-max(2, len(ends) // 10) :]),
        "driver_memory_mb": grown,
        "log_kb_per_trial": log / 1000 / trials,
        "ms_between_trials": 1000 * median(gaps.seconds) if gaps.seconds else float("nan"),
        "first_epoch_seconds": first[0] - begun,
    }
    if sleep:
        row["driver_cpu_share"] = (ended - first[1]) / (sleep * (trials * epochs - 1))
    return row


def _per_trial(ends: list[float]) -> float:
    return 1000 * (ends[-1] - ends[0]) / (len(ends) - 1)


class Gaps:
    """Seconds from a trial's end to the first epoch of the next one in the same worker process."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._worker: dict[int, int] = {}  # trial -> pid
        self._ended: dict[int, float] = {}  # pid -> when its last trial ended

    def event(self, event: dict[str, Any]) -> None:
        """Take in an event of the log."""
        if event["event"] == "epoch":
            self._worker[event["trial"]] = event["pid"]
            if event["pid"] in self._ended:
                self.seconds.append(event["time"] - self._ended.pop(event["pid"]))
        elif event["event"] == "trial_ended":
            self._ended[self._worker.get(event["trial"], 0)] = event["time"]


def driver_share(trials: int, epochs: int, sleep: float, concurrent: int = 8) -> dict[str, float]:
    """Driver CPU for each second of a trial, while `concurrent` trials with epochs of `sleep` seconds run."""
    row = ours(trials, epochs, "random", concurrent, sleep, cpus=0.25)
    return {"concurrent": concurrent, "epoch_seconds": sleep, "driver_cpu_share": row["driver_cpu_share"]}


TINY_RUN = """
purpose: one epoch of one batch
model: {hidden: 8, layers: 1, kernel: 8, stride: 4}
schedule: {kind: constant, peak_lr: 1.0e-3}
training: {batches: 1, batches_per_epoch: 1, batch_size: 8, device: cpu}
"""
TINY_SPACE = """
purpose: a space over it
base: tiny.yaml
dimensions: {schedule.peak_lr: {log_uniform: [1.0e-3, 1.0e-2]}}
stopping: {kind: none}
budget: {trials: 1}
"""


def from_the_command() -> dict[str, float]:
    """Seconds from `tuner search` to its first epoch in the log, and to its end."""
    from results.store.events import read_events
    from trainable.data.synthetic import make_synthetic

    with tempfile.TemporaryDirectory() as folder:
        make_synthetic(Path(folder) / "data", "tiny")
        (Path(folder) / "tiny.yaml").write_text(TINY_RUN)
        (Path(folder) / "space.yaml").write_text(TINY_SPACE)
        begun = time.time()
        command = [sys.executable, "-m", "tuner", "search", "space.yaml", "--data", "data", "--study", "one"]
        subprocess.run(
            [*command, "--results", "results", "--gpus-per-trial", "0"], cwd=folder, check=True, capture_output=True
        )
        ended = time.time()
        events, _ = read_events(Path(folder) / "results" / "one" / "events.jsonl")
    first = next(event["time"] for event in events if event["event"] == "epoch")
    return {"command_to_first_epoch_seconds": first - begun, "command_to_end_seconds": ended - begun}


def plain_ray(trials: int, epochs: int, concurrent: int, reuse: bool) -> dict[str, float]:
    """Ray Tune as it comes, with its own searcher, loggers and snapshots."""
    import ray
    from ray import tune

    class Trivial(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.rate = config["rate"]

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.rate = new_config["rate"]
            return True

        def step(self) -> dict[str, Any]:
            return {"per": self.rate, "done": self.iteration + 1 >= epochs}

        def save_checkpoint(self, checkpoint_dir: str) -> None: ...
        def load_checkpoint(self, checkpoint: Any) -> None: ...

    ray.init(address="local", num_cpus=concurrent, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    times: list[float] = []

    class First(tune.Callback):
        def on_trial_result(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(Trivial, {"cpu": 1}),
            param_space={"rate": tune.loguniform(1e-3, 1e-1)},
            tune_config=tune.TuneConfig(num_samples=trials, reuse_actors=reuse, metric="per", mode="min"),
            run_config=tune.RunConfig(storage_path=folder, verbose=0, callbacks=[First()]),
        )
        cpu = time.process_time()
        tuner.fit()
        used = time.process_time() - cpu
        ended = time.perf_counter()
    ray.shutdown()
    return {
        "ms_per_trial": 1000 * (ended - times[0]) / max(1, trials - 1),
        "driver_cpu_ms_per_epoch": 1000 * used / (trials * epochs),
    }


def plain_optuna(trials: int, epochs: int, searcher: str) -> dict[str, float]:
    """Optuna alone with a journal file, in one process, one trial at a time."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial: Any) -> float:
        rate = trial.suggest_float("rate", 1e-3, 1e-1, log=True)
        trial.suggest_float("dropout", 0, 0.5)
        trial.suggest_categorical("kind", ["one_cycle", "constant"])
        for epoch in range(epochs):
            trial.report(rate, epoch)
        return rate

    with tempfile.TemporaryDirectory() as folder:
        backend = optuna.storages.journal.JournalFileBackend(str(Path(folder) / "journal"))
        sampler = optuna.samplers.RandomSampler(0) if searcher == "random" else optuna.samplers.TPESampler(seed=0)
        study = optuna.create_study(storage=optuna.storages.JournalStorage(backend), sampler=sampler)
        begun, cpu = time.perf_counter(), time.process_time()
        study.optimize(objective, n_trials=trials)
        seconds, used = time.perf_counter() - begun, time.process_time() - cpu
    return {"ms_per_trial": 1000 * seconds / trials, "driver_cpu_ms_per_epoch": 1000 * used / (trials * epochs)}


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--searcher", choices=["random", "tpe"], default="random")
    parser.add_argument("--concurrent", type=int, default=2)
    parser.add_argument("--peers", action="store_true", help="measure plain Ray Tune and plain Optuna too")
    parser.add_argument("--only-searches", action="store_true", help="without the two figures that need a clock")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--quick", action="store_true", help="a few trials: shows that it runs, measures nothing")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []

    def add(**row: Any) -> None:
        rows.append(row)
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)

    if given.quick:
        add(trials=4, who="this program", **ours(4, 1, given.searcher, 2, sleep=0.1, cpus=0.25))
    for trials in [] if given.quick else given.trials:
        add(trials=trials, who="this program", **ours(trials, given.epochs, given.searcher, given.concurrent))
        if given.peers:
            add(trials=trials, who="plain Optuna, journal", **plain_optuna(trials, given.epochs, given.searcher))
            # Fresh actors take seconds each: a few dozen are enough to see it.
            for who, count, reuse in (("actors reused", trials, True), ("defaults", min(trials, 40), False)):
                row = plain_ray(count, given.epochs, given.concurrent, reuse)
                add(trials=count, who=f"plain Ray Tune, {who}", **row)
    if not given.quick and not given.only_searches:
        add(who="this program", **driver_share(24, 10, 1.0))
    if not given.only_searches:
        add(who="this program", **from_the_command())
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
