"""How long training stands still for a checkpoint: written at once, or copied and written in the background.

    python benchmarks/checkpoints.py --set model.hidden=1024 model.layers=3 --epochs 8
    python benchmarks/checkpoints.py --run speechBaseline4 --data data/paper --folder /shared/scratch   # a card

The same run is trained three times, epoch by epoch in turn: without checkpoints, with its whole state and its best
weights written at once after every epoch, and with both in the background. Shown are medians over the epochs: `stall`,
seconds until training may go on; `epoch`, the seconds of the next epoch, which the background writer slows on a busy
CPU; `whole`, the seconds until epoch and file are both done. Then what `--checkpoint-every auto` makes of it: how many
states were written, and the share of all seconds that training stood still for them. At last the seconds to read a
state back, checksums included. Without --data a small synthetic data set is made first.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from search_spaces import RunConfig, load_run
from search_spaces.common.trial_paths import TrialPaths
from trainable import train
from trainable.checkpoint import load, size_of
from trainable.data.dataset import Dataset, open_dataset
from trainable.keeping import Keeper

CONTESTANTS: dict[str, dict[str, Any]] = {
    "none": {},
    "at once": {"every": "1 epochs", "small": 2**60},
    "background": {"every": "1 epochs", "small": 0},
}


def epochs_of(config: RunConfig, data: Dataset, folder: Path, how: dict[str, Any]) -> Iterator[dict[str, float]]:
    """Seconds of each epoch but the first, with a checkpoint before it."""
    keeper = Keeper(folder, **how) if how else None
    reports = train(config, data)
    report = next(reports)
    while True:
        began = time.perf_counter()
        if keeper:
            keeper.keep(report)
        stalled = time.perf_counter()
        try:
            report = next(reports)
        except StopIteration:
            return
        trained = time.perf_counter()
        if keeper:
            keeper.flush()
        yield {"stall": stalled - began, "epoch": trained - stalled, "whole": time.perf_counter() - began}


def automatic(config: RunConfig, data: Dataset, folder: Path) -> dict[str, float]:
    """What `auto` does with a state that counts as large: {"epochs", "written", "share"}."""
    keeper, stalled, written, last = Keeper(folder, small=0), 0.0, 0, None
    began = time.perf_counter()
    epochs = 0
    for report in train(config, data):
        before = time.perf_counter()
        keeper.keep(report)
        stalled += time.perf_counter() - before
        epochs += 1
        stamp = TrialPaths(folder).last.stat().st_mtime_ns if TrialPaths(folder).last.exists() else None
        written += stamp != last
        last = stamp
    keeper.flush()
    return {"epochs": epochs, "written": written, "share": stalled / (time.perf_counter() - began)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="small", help="the configuration: a run's name or file")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="change values of it")
    parser.add_argument("--data", type=Path, help="a packed data folder")
    parser.add_argument("--folder", type=Path, help="write the checkpoints there [default: a temporary folder]")
    parser.add_argument("--epochs", type=int, default=8, help="epochs of each contestant")
    parser.add_argument("--batches", type=int, default=8, help="batches of an epoch")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--quick", action="store_true", help="a tiny model: shows that it runs")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    changes = ["averaging.kind=ema", "averaging.decay=0.99", *given.set]
    if given.quick:
        given.epochs, given.batches = 3, 1
        changes += ["model.hidden=8", "model.layers=1", "training.batch_size=8"]
    changes += [f"training.batches={given.epochs * given.batches}", f"training.batches_per_epoch={given.batches}"]
    config = load_run(given.run, changes).config
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        if given.data is None:
            from trainable.data.synthetic import make_synthetic

            given.data = folder / "data"
            make_synthetic(given.data, "tiny" if given.quick else "small")
        rows = compare(config, open_dataset(given.data), folder)
    for row in rows:
        print(
            "  ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            )
        )
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, {given.threads} threads")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2) + "\n")


def compare(config: RunConfig, data: Dataset, folder: Path) -> list[dict[str, Any]]:
    """A row for each contestant with its medians and their ratios to those of `at once`; then `auto` and reading."""
    running = {name: epochs_of(config, data, folder / name, how) for name, how in CONTESTANTS.items()}
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
    for _ in range(config.epochs - 1):
        for name, epochs in running.items():
            taken[name].append(next(epochs))
    state = load(TrialPaths(folder / "at once").last)
    rows: list[dict[str, Any]] = [
        {
            "state_mb": size_of(state) / 1e6,
            "last_mb": TrialPaths(folder / "at once").last.stat().st_size / 1e6,
            "best_mb": TrialPaths(folder / "at once").best.stat().st_size / 1e6,
        }
    ]
    for name, each in taken.items():
        medians = {key: statistics.median(row[key] for row in each) for key in each[0]}
        ratios = {
            f"{key}_ratio": statistics.median(
                mine[key] / theirs[key] for mine, theirs in zip(each, taken["at once"], strict=True)
            )
            for key in ("stall", "whole")
        }
        rows.append({"checkpoint": name, **medians, **ratios})
    rows.append({"checkpoint": "auto", **automatic(config, data, folder / "auto")})
    before = time.perf_counter()
    load(TrialPaths(folder / "at once").last)
    rows.append({"read_seconds": time.perf_counter() - before})
    return rows


if __name__ == "__main__":
    main()
