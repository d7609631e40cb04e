"""How many trials of a search share a card, measured before it begins and remembered (`--gpus-per-trial auto`)."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from search_spaces import InputError, RunConfig, Space
from search_spaces.common import atomic
from search_spaces.model_size import state_bytes
from trainable.data.dataset import Dataset
from tuner.backend import packing
from tuner.callbacks import observers
from tuner.launch.checks import check_writable, first_config
from tuner.simulation.virtual import draws
from tuner.study.request import Request

DRAWN = 200
"""Configurations among which the largest of a space is looked for, beside its start points."""
REMEMBERED = "sharing.json"
"""In the results folder: what was measured for which data, model size and card."""


def wanted(space: Space, request: Request) -> bool:
    """Whether the share of a card is to be measured: asked for, or nothing said on a machine with a card."""
    if request.gpus_per_trial is not None:
        return request.gpus_per_trial == "auto"
    on_cpu = space.fixed.get("training.device") == "cpu"
    return request.address is None and not on_cpu and any(Path("/dev").glob("nvidia[0-9]*"))


def largest(space: Space, starts: Sequence[Mapping[str, Any]], dataset: Dataset) -> RunConfig:
    """The configuration of the space that needs most memory, of its start points and of many draws.

    Counted are the state, and the activations: float32 [batch, frames, units] of each layer and direction, several of
    which are kept for the gradient. The share of a card that this one fits into fits all.
    """
    longest = max((int(split.bins.max()) for split in dataset.splits.values() if len(split)), default=1)

    def size(config: RunConfig) -> float:
        model, training = config.model, config.training
        units = model.hidden * model.layers * (2 if model.bidirectional else 1)
        activations = 4 * 10 * training.batch_size * longest / model.stride * units
        return activations + state_bytes(config, dataset.n_features, dataset.n_classes, len(dataset.days))

    started = [space.config(params, 0) for params in starts]
    return max([first_config(space, starts), *started, *draws(space, DRAWN)], key=size)


def measured_share(config: RunConfig, request: Request, fingerprint: str) -> tuple[float, list[dict[str, Any]]]:
    """The fraction of a GPU with which most trials of `config` run in an hour, and the measurements, for the log.

    What was measured before for these data, this model size and this card is not measured again. Raises InputError
    where there is no GPU to measure on.
    """
    import torch

    if request.address is not None:
        raise InputError("--gpus-per-trial auto: a cluster's GPUs cannot be measured from this machine; give a number")
    if config.training.device == "cpu":
        raise InputError(
            "--gpus-per-trial auto: the space trains on the CPU (training.device: cpu); leave the option out"
        )
    if not torch.cuda.is_available():
        raise InputError("--gpus-per-trial auto: there is no CUDA GPU on this machine; leave the option out")
    check_writable(request.results_dir)
    observers.check(request.log, request.notify, request.notify_on, request.storage)
    counts, cpus = _counts(request, torch.cuda.device_count()), request.cpus_per_trial or 1.0
    key = _key(config, fingerprint, torch.cuda.get_device_name(), torch.__version__, counts, cpus)
    before = _read(request.results_dir).get(key)
    if before is None:
        print(f"measuring {', '.join(map(str, counts))} trials on a GPU ...", file=sys.stderr)
        found = packing.measure(config, request.data, counts, cpus=cpus)
        before = {"measured": f"{datetime.now(UTC):%Y-%m-%d}", "rows": [each.as_dict() for each in found]}
        _write(request.results_dir, key, before)
        when = ""
    else:
        found = [packing.Packing(**row) for row in before["rows"]]
        when = f", measured {before['measured']}"
    best = packing.best_packing(found)
    Console(stderr=True).print(packing.table(found, f"trials on a GPU, {packing.mps_note()}{when}"))
    print(f"chosen: --gpus-per-trial {1 / best.count:g}, {best.count} on a GPU", file=sys.stderr)
    return 1 / best.count, [each.as_dict() for each in found]


def _counts(request: Request, cards: int) -> list[int]:
    """How many trials at once are tried on a card: no more than there are cores for, or than are to run."""
    most = int((request.cpus or len(os.sched_getaffinity(0))) / (request.cpus_per_trial or 1.0) / cards)
    if request.concurrent is not None:
        most = min(most, -(-request.concurrent // cards))
    return [count for count in packing.COUNTS if count <= max(1, most)]


def _key(config: RunConfig, fingerprint: str, card: str, torch: str, counts: Sequence[int], cpus: float) -> str:
    training = config.training
    parts = [
        *(fingerprint, card, torch, packing.mps_note(), list(counts), cpus, config.model.model_dump(mode="json")),
        *(training.batch_size, training.accumulation, training.precision, config.averaging.model_dump(mode="json")),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _read(results_dir: Path) -> dict[str, Any]:
    """What was measured before; a file that cannot be read is as none."""
    try:
        found = json.loads((results_dir / REMEMBERED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(results_dir: Path, key: str, entry: Mapping[str, Any]) -> None:
    text = json.dumps({**_read(results_dir), key: entry}, indent=1) + "\n"
    atomic.write(results_dir / REMEMBERED, text.encode(), advice="make room")
