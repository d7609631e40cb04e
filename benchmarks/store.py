"""The results store at size: how fast events are appended, compacted and asked, beside its peers.

    python benchmarks/store.py                        # 10,000 trials x 100 epochs
    python benchmarks/store.py --trials 500 --no-peers

The events are of a made-up search. The first `--append` of them go through `EventLog.append`, one fsync each, which
is the rate a search sees; the rest are written to the file at once. Times are of this process unless said otherwise,
the best of three where a line says warm. Peers hold the first `--peer-trials` trials and are timed on those.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from results.output import Sheet, render
from results.store.events import EventLog
from search_spaces.config import RunConfig, to_dict

GROUPED = (
    "SELECT t.schedule_kind, t.model_hidden, e.epoch, avg(e.per) AS per, min(e.val_loss) AS loss, count(*) AS n "
    "FROM trials t JOIN epochs e USING (study, trial) GROUP BY ALL ORDER BY per LIMIT 20"
)
EACH_BEST = (
    "SELECT trial, min(per) AS per, arg_min(epoch, per) AS epoch FROM epochs GROUP BY trial ORDER BY per LIMIT 10"
)


def events(trials: int, epochs: int) -> Iterator[dict[str, Any]]:
    """A search's events: trials one after the other, curves that fall to a level of their own, every value noisy."""
    rng = random.Random(0)
    schedule = {"kind": "warmup_cosine", "peak_lr": 1e-3, "end_lr": 1e-5}
    config = to_dict(RunConfig.model_validate({"schedule": schedule}))
    yield {
        "event": "study_started",
        "study": "store",
        "space": {"name": "made_up"},
        "data": {"name": "none", "path": "none", "fingerprint": "0"},
        "searcher": {"kind": "random"},
        "stopping": {"kind": "none"},
        "objective": "best_per",
        "seed": 0,
        "budget": {"trials": trials, "hours": None},
        "resources": {"cpus_per_trial": 1, "gpus_per_trial": 0, "concurrent": 1},
    }
    for trial in range(trials):
        kind = rng.choice(["warmup_cosine", "linear"])
        config["schedule"].update(kind=kind, peak_lr=10 ** rng.uniform(-4, -2))
        config["model"]["hidden"] = rng.choice([64, 128, 256])
        config["training"]["seed"] = trial
        about = {"trial": trial, "attempt": 1, "host": "host"}
        yield {"event": "trial_started", **about, "seed": trial, "origin": "searched", "params": {}, "config": config}
        level = rng.uniform(0.15, 0.5)
        for epoch in range(1, epochs + 1):
            per = level + (1 - level) * 0.9**epoch + rng.gauss(0, 0.003)
            yield {
                "event": "epoch",
                **about,
                "epoch": epoch,
                "batch": 100 * epoch,
                "per": per,
                "per_raw": per + abs(rng.gauss(0, 0.002)),
                "per_utterance_mean": per + 0.005,
                "val_loss": 3 * per + rng.gauss(0, 0.01),
                "train_loss": 2 * per + rng.gauss(0, 0.01),
                "lr": 1e-3 * (1 - epoch / (epochs + 1)),
                "schedule_fraction": epoch / epochs,
                "grad_norm": rng.lognormvariate(0, 0.3),
                "blank_share": rng.uniform(0.6, 0.9),
                "infeasible": 0,
                "seconds": rng.uniform(2, 3),
                "samples_per_second": rng.uniform(200, 300),
                "peak_memory_mb": rng.uniform(500, 510),
                "decision": "continue",
                "reason": None,
                "rung": epoch if epoch in (10, 30) else None,
            }
        yield {
            "event": "trial_ended",
            **about,
            "status": "completed",
            "error": None,
            "checkpoint": None,
            "cpu_seconds": 250.0,
        }
    yield {"event": "study_ended", "reason": "budget"}


def write_log(path: Path, trials: int, epochs: int, appended: int) -> dict[str, Any]:
    """Make the log; the rate of `EventLog.append` and what it did to this process's memory."""
    stream = events(trials, epochs)
    before, begin = memory_mb(), time.perf_counter()
    with EventLog(path) as log:
        done = 0
        for event in stream:
            log.append(event.pop("event"), **event)
            done += 1
            if done == appended:
                break
        seconds, grown = time.perf_counter() - begin, memory_mb() - before
        count = log.last_seq
    with path.open("a", encoding="ascii") as file:
        for event in stream:
            count += 1
            line = {"event": event.pop("event"), "seq": count, "time": 1.7e9 + count, **event}
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
    return {"events": count, "appends per second": done / seconds, "memory grown while appending (MB)": grown}


def memory_mb() -> float:
    """Resident memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def warm(task: Callable[[], Any], times: int = 3) -> float:
    """Seconds of the fastest of `times` calls after one that is not counted."""
    task()
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        task()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def in_a_process(code: str, *arguments: str) -> tuple[float, float]:
    """Wall seconds and peak memory (MB) of a new interpreter that runs `code`."""
    tail = "\nimport resource\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)"
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code + tail, *arguments], check=True, capture_output=True, text=True)
    return time.perf_counter() - begin, float(done.stdout.split()[-1])


def own(root: Path, trials: int, epochs: int, appended: int) -> Iterator[tuple[str, float, str]]:
    """Our numbers: (what, value, unit)."""
    from results.best import best
    from results.query import query
    from results.store.tables import load_tables

    folder = root / "store"
    made = write_log(folder / "events.jsonl", trials, epochs, appended)
    yield "events", made["events"], ""
    yield "append, one fsync each", made["appends per second"], "1/s"
    yield "memory grown while appending", made["memory grown while appending (MB)"], "MB"
    yield "log", (folder / "events.jsonl").stat().st_size / 1e6, "MB"
    live = "import sys; from results.best import best; best(sys.argv[1])"
    yield "best, new process, log replayed", in_a_process(live, str(root))[0], "s"
    compaction = "import sys; from results.store.tables import compact; compact(sys.argv[1])"
    seconds, memory = in_a_process(compaction, str(folder))
    yield "compaction, new process", seconds, "s"
    yield "peak memory of the compaction", memory, "MB"
    yield "Parquet", sum(path.stat().st_size for path in folder.glob("*.parquet")) / 1e6, "MB"
    yield "best, new process", in_a_process(live, str(root))[0], "s"
    yield "best, warm", 1e3 * warm(lambda: best(root)), "ms"
    yield "best --where, warm", 1e3 * warm(lambda: best(root, where="model_hidden = 64")), "ms"
    yield "query: best of each trial, warm", 1e3 * warm(lambda: query(root, EACH_BEST)), "ms"
    yield "query: trials x epochs grouped, warm", 1e3 * warm(lambda: query(root, GROUPED)), "ms"
    yield "load every epoch into Arrow, warm", 1e3 * warm(lambda: load_tables(root, tables=["epochs"])), "ms"


def plain_duckdb(root: Path) -> Iterator[tuple[str, float, str]]:
    """The same SQL in a bare DuckDB on the same files."""
    import duckdb

    connection = duckdb.connect()
    for name in ("trials", "epochs"):
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{root / 'store' / name}.parquet')")
    for what, sql in (("best of each trial", EACH_BEST), ("trials x epochs grouped", GROUPED)):
        yield f"plain DuckDB: {what}, warm", 1e3 * warm(lambda sql=sql: connection.sql(sql).to_arrow_table()), "ms"


def optuna_rdb(root: Path, trials: int, epochs: int) -> Iterator[tuple[str, float, str]]:
    """The same curves as intermediate values in Optuna's SQLite storage."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = f"sqlite:///{root / 'optuna.db'}"
    study = optuna.create_study(study_name="store", storage=storage)
    curves = Curves(trials, epochs)
    begin = time.perf_counter()
    for curve in curves:
        trial = study.ask()
        for epoch, per in enumerate(curve, start=1):
            trial.report(per, epoch)
        study.tell(trial, min(curve))
    yield "Optuna RDB: reports", trials * epochs / (time.perf_counter() - begin), "1/s"
    yield "Optuna RDB: file", (root / "optuna.db").stat().st_size / 1e6, "MB"

    def read() -> int:
        loaded = optuna.load_study(study_name="store", storage=storage)
        return sum(len(trial.intermediate_values) for trial in loaded.trials)

    assert read() == trials * epochs
    yield "Optuna RDB: read every epoch", 1e3 * warm(read), "ms"


def ray_results(root: Path, trials: int, epochs: int) -> Iterator[tuple[str, float, str]]:
    """The same curves reported to Ray Tune with its default loggers, read back as a `ResultGrid`."""
    from ray import tune

    curves = list(Curves(trials, epochs))

    def replay(config: dict[str, Any]) -> None:
        for epoch, per in enumerate(curves[config["trial"]], start=1):
            tune.report({"epoch": epoch, "per": per})

    space = {"trial": tune.grid_search(list(range(trials)))}
    settings = tune.RunConfig(name="store", storage_path=str(root / "ray"), verbose=0)
    begin = time.perf_counter()
    tune.Tuner(replay, param_space=space, tune_config=tune.TuneConfig(reuse_actors=True), run_config=settings).fit()
    yield "Ray Tune: reports", trials * epochs / (time.perf_counter() - begin), "1/s"
    files = [path for path in (root / "ray").rglob("*") if path.is_file()]
    yield "Ray Tune: files", sum(path.stat().st_size for path in files) / 1e6, "MB"

    def read() -> int:
        grid = tune.Tuner.restore(str(root / "ray" / "store"), trainable=replay).get_results()
        return sum(len(result.metrics_dataframe) for result in grid)

    assert read() == trials * epochs
    yield "ResultGrid: read every epoch", 1e3 * warm(read, times=1), "ms"


class Curves:
    """The PER curves of the first trials, one list per trial."""

    def __init__(self, trials: int, epochs: int) -> None:
        self._trials, self._epochs = trials, epochs

    def __iter__(self) -> Iterator[list[float]]:
        pers = [event["per"] for event in events(self._trials, self._epochs) if event["event"] == "epoch"]
        return (pers[i : i + self._epochs] for i in range(0, len(pers), self._epochs))


def main() -> None:
    """Run it and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--append", type=int, default=20_000, help="events that go through EventLog.append")
    parser.add_argument("--peer-trials", type=int, default=100)
    parser.add_argument("--no-peers", action="store_true", help="leave Optuna and Ray out")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "results"
        root.mkdir()
        rows = list(own(root, given.trials, given.epochs, given.append))
        rows += plain_duckdb(root)
        if not given.no_peers:
            from results.store.tables import compact, load_tables

            peers = Path(temporary) / "peers"
            small = peers / "results"
            write_log(small / "store" / "events.jsonl", given.peer_trials, given.epochs, 0)
            compact(small / "store")
            rows.append(("with the peers' trials: load every epoch", 1e3 * warm(lambda: load_tables(small)), "ms"))
            rows += optuna_rdb(peers, given.peer_trials, given.epochs)
            rows += ray_results(peers, given.peer_trials, given.epochs)
    print(f"{given.trials} trials x {given.epochs} epochs; peers: {given.peer_trials} trials\n")
    print(render(Sheet(["what", "value", "unit"], rows), "markdown"))


if __name__ == "__main__":
    main()
