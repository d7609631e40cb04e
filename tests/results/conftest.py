"""Real study folders for the tests of results/: made of events, on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from results.store.events import read_events
from results.store.lines import lines_of

Event = dict[str, Any]
CONFIG = {
    "model": {"hidden": 128, "dropout": 0.4, "day_layers": True},
    "optimizer": {"kind": "adam", "eps": 0.1},
    "schedule": {"kind": "linear", "peak_lr": 0.02, "horizon": None},
    "training": {"batches": 300, "seed": 0},
}


def started(**fields: Any) -> Event:
    return {
        "event": "study_started",
        "study": "a",
        "space": {"name": "small", "dimensions": [{"name": "lr"}]},
        "data": {"name": "syn", "path": "data/syn", "fingerprint": "f0"},
        "code": {"version": "0.1", "git": "abc", "dirty": False},
        "packages": {"python": "3.11"},
        "host": "h",
        "searcher": {"kind": "tpe"},
        "stopping": {"kind": "asha", "grace": 1},
        "objective": "best_per",
        "seed": 7,
        "budget": {"trials": 4, "hours": None},
        "resources": {"cpus_per_trial": 2, "gpus_per_trial": 0.5, "concurrent": 1},
        **fields,
    }


def config(**changes: Any) -> dict[str, Any]:
    """CONFIG with values changed by `section_key`."""
    made = {section: dict(values) for section, values in CONFIG.items()}
    for name, value in changes.items():
        section, key = name.split("_", 1)
        made[section][key] = value
    return made


def trial(number: int, pers: Iterable[float | None], **fields: Any) -> list[Event]:
    """All events of a trial that reported `pers`; `fields` overrides status, origin, seed, config, attempt..."""
    attempt = fields.get("attempt", 1)
    seed = fields.get("seed", number)
    begin = {
        "event": "trial_started",
        "trial": number,
        "attempt": attempt,
        "seed": seed,
        "origin": fields.get("origin", "searched"),
        "params": {},
        "config": fields.get("config", CONFIG),
        "from_epoch": 0,
        "host": "h",
    }
    epochs = [epoch(number, e, per, attempt=attempt) for e, per in enumerate(pers, start=1)]
    end = {
        "event": "trial_ended",
        "trial": number,
        "attempt": attempt,
        "status": fields.get("status", "completed"),
        "error": fields.get("error"),
        "checkpoint": f"checkpoints/{number}/best.pt",
        "cpu_seconds": fields.get("cpu_seconds", 10.0),
        "gpu_seconds": fields.get("gpu_seconds", 2.0),
    }
    return [begin, *epochs, *([end] if fields.get("ended", True) else [])]


def epoch(number: int, index: int, per: float | None, **fields: Any) -> Event:
    return {
        "event": "epoch",
        "trial": number,
        "attempt": 1,
        "epoch": index,
        "batch": 100 * index,
        "per": per,
        "per_raw": per,
        "val_loss": None if per is None else 3 * per,
        "train_loss": 1.0,
        "lr": 0.01,
        "schedule_fraction": index / 10,
        "seconds": 2.0,
        "infeasible": 0,
        "host": "h",
        "decision": "continue",
        "reason": None,
        "rung": None,
        **fields,
    }


def numbered(events: Iterable[Mapping[str, Any]]) -> list[Event]:
    """Events as a log has them: kind, seq and time first."""
    return [
        {"event": event["event"], "seq": seq, "time": 1.7e9 + seq, **event} for seq, event in enumerate(events, start=1)
    ]


def write_log(folder: Path, events: Iterable[Mapping[str, Any]]) -> Path:
    """A study folder with this log; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in numbered(events))
    (folder / "events.jsonl").write_text(text, encoding="utf-8")
    return folder


def seal(folder: Path) -> bytes:
    """Write the log of a study with the checksums that EventLog would have given it; returns it."""
    log = b"".join(lines_of(read_events(folder / "events.jsonl")[0]))
    (folder / "events.jsonl").write_bytes(log)
    return log


class Studies:
    """The functions of this file, for tests to use through the fixture `studies`."""

    config = staticmethod(config)
    epoch = staticmethod(epoch)
    numbered = staticmethod(numbered)
    seal = staticmethod(seal)
    started = staticmethod(started)
    trial = staticmethod(trial)
    write_log = staticmethod(write_log)


@pytest.fixture(scope="session")
def studies() -> type[Studies]:
    return Studies


@pytest.fixture(scope="session")
def finished_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `results_dir` is a copy of: for tests that only read."""
    from results.store.tables import compact

    root = tmp_path_factory.mktemp("made") / "results"
    events = [
        started(),
        *trial(0, [0.9, 0.5, 0.4]),
        *trial(1, [0.8, 0.6], status="stopped", config=config(model_hidden=256)),
        *trial(2, [0.7, 0.3, 0.35], config=config(schedule_kind="one_cycle", schedule_peak_lr=0.004)),
        *trial(3, [None], status="diverged", error="loss is not a number"),
        {"event": "study_ended", "reason": "budget"},
    ]
    compact(write_log(root / "alpha", events))
    write_log(root / "beta", [started(space={"name": "tiny"}), *trial(0, [0.6, 0.55], ended=False)])
    return root


@pytest.fixture
def results_dir(finished_results: Path, tmp_path: Path) -> Path:
    """Two studies: `alpha`, ended and compacted, and `beta`, whose driver was killed before it compacted."""
    return shutil.copytree(finished_results, tmp_path / "results")


Make = Callable[..., Path]
