"""The options of a search, as `tuner search`, `tuner resume` and `tuner.search` pass them on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Request:
    """The options of `tuner search`; None means "from the space", or on resume "unchanged"."""

    results_dir: Path
    data: Path
    trials: int | None = None
    hours: float | None = None
    gpu_hours: float | None = None
    batches: int | None = None
    utterances: int | None = None
    target_per: float | None = None
    no_improvement: int | None = None
    then: str | None = None
    seed: int = 0
    searcher: str | None = None
    objectives: str | None = None
    stopping: str | None = None
    start: tuple[str, ...] = ()
    warm_start: tuple[str, ...] = ()
    retries: int | None = None
    cpus: int | None = None
    cpus_per_trial: float | None = None
    gpus_per_trial: float | Literal["auto"] | None = None
    """"auto": as many trials on a GPU as a measurement finds best; only for a new search."""
    concurrent: int | None = None
    address: str | None = None
    custom: Mapping[str, float] | None = None
    """Custom Ray resources for each trial."""
    force_unlock: bool = False
    hung_after: float | None = None
    give_up_after: float | None = None
    """The search ends after this many minutes without a node of the cluster that can run a trial."""
    stage_data: bool = False
    """Send the data to every node of the cluster."""
    checkpoint_every: str | None = None
    best_weights: str | None = None
    checkpoint_budget: int | None = None
    log: tuple[str, ...] = ()
    notify: tuple[str, ...] = ()
    notify_on: str | None = None
    storage: str | None = None
    part_of: str | None = None
    """The command that goes on with what the study is a step of, which says the next steps itself."""


RESOURCES = ("cpus_per_trial", "gpus_per_trial", "concurrent", "custom")
RETRIES = 1
