"""What the checkpoints of a study say of their trials, for a log and tables that have lost it (`results.store.repair`).

A checkpoint holds its trial's configuration and the row of the epoch that it was written after.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from results.store.paths import StudyPaths
from search_spaces import InputError, RunConfig, Space
from tuner.study.trial_state import FINAL


def salvaged(
    folder: Path, settings: Mapping[str, Any] | None, known: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Events that checkpoints tell of, beside the `known` ones: starts of trials, and epochs, with the file's time.

    The last epoch of a trial that may go on is left out: it may never have been reported, and is trained again.
    """
    started = {event["trial"] for event in known if event["event"] == "trial_started"}
    ended = {e["trial"] for e in known if e["event"] == "trial_ended" and e["status"] in FINAL and not e.get("retry")}
    last: dict[int, int] = {}
    for event in known:
        if event["event"] == "epoch":
            last[event["trial"]] = max(last.get(event["trial"], 0), event["epoch"])
    for trial, files in StudyPaths(folder).trials.items():
        for path in (files.last, files.previous, files.best):
            state = _state(path)
            if state is None:
                continue
            about = {"trial": trial, "attempt": 1, "time": path.stat().st_mtime}
            if trial not in started:
                started.add(trial)
                yield {"event": "trial_started", **about, **_start(state["config"], settings)}
            if trial in ended or state["epoch"] <= last.get(trial, 0):
                row = {"rung": None, "passed": None, "decision": "continue", "status": None, "reason": None}
                yield {"event": "epoch", **about, **state["report"], **row}


def _state(path: Path) -> dict[str, Any] | None:
    from trainable.checkpoint import load  # loads torch, which only a study that lost something needs

    try:
        return load(path)
    except InputError:
        return None


def _start(config: Mapping[str, Any], settings: Mapping[str, Any] | None) -> dict[str, Any]:
    params: dict[str, Any] = {}
    if settings and settings.get("space"):
        params, _ = Space.from_dict(settings["space"]).params_of(RunConfig.model_validate(config))
    seed = config["training"]["seed"]
    return {"from_epoch": 0, "seed": seed, "origin": "searched", "params": params, "config": dict(config)}
