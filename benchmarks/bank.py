"""Record full training curves to judge early stopping on: every run of a space, none of them stopped.

    python benchmarks/bank.py --data data/an4 --out benchmarks/data/an4.parquet --runs 160

The file has a row for each epoch of each run: trial, epoch, batch, per, per_raw, val_loss, lr, the run's horizon and
configuration (JSON), and with `--seconds` the time. A run that is started again goes on after the last whole run in
`OUT.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

KEPT = ("epoch", "batch", "per", "per_raw", "val_loss", "train_loss", "lr", "schedule_fraction", "seconds")


def record(config: Any, dataset: Any) -> list[dict[str, Any]]:
    """The epochs of one run; values that are not numbers are None."""
    from trainable import train

    rows = []
    for report in train(config, dataset):
        row = {**{key: getattr(report, key) for key in KEPT}, "diverged": report.diverged}
        rows.append({k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()})
    return rows


def main() -> None:
    """Record the runs that are missing, then write the Parquet file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="a packed data set")
    parser.add_argument("--space", default="mixed_horizons", help="space to draw the runs from")
    parser.add_argument("--out", type=Path, required=True, help="Parquet file to write")
    parser.add_argument("--runs", type=int, default=160, help="runs in all")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws")
    parser.add_argument("--seconds", action="store_true", help="keep the time of each epoch, of a quiet machine")
    arguments = parser.parse_args()

    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch

    from search_spaces import load_space
    from search_spaces.config import to_dict
    from trainable.data.dataset import open_dataset
    from tuner.study.searchers.searcher import OptunaSearcher

    torch.set_num_threads(1)
    dataset, space = open_dataset(arguments.data), load_space(arguments.space)
    searcher = OptunaSearcher(space, {"kind": "random"}, arguments.seed)
    log = arguments.out.with_suffix(".jsonl")
    log.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    with log.open("a") as file:
        for trial in range(arguments.runs):
            params = searcher.propose(trial)
            if trial < len(done):
                continue
            config = space.config(params, arguments.seed * 100_000 + trial)
            began = time.monotonic()
            rows = record(config, dataset)
            run = {"trial": trial, "params": params, "config": to_dict(config), "epochs": rows}
            file.write(json.dumps(run) + "\n")
            file.flush()
            done.append(run)
            best = min((row["per"] for row in rows if row["per"] is not None), default=math.nan)
            took = time.monotonic() - began
            print(f"run {trial}: {rows[-1]['batch']} batches, best PER {best:.4f}, {took:.0f} s", file=sys.stderr)
    table = pa.Table.from_pylist(
        [
            {
                "trial": run["trial"],
                **{key: value for key, value in row.items() if arguments.seconds or key != "seconds"},
                "horizon": run["config"]["schedule"]["horizon"] or run["config"]["training"]["batches"],
                "params": json.dumps(run["params"]),
                "config": json.dumps(run["config"]),
            }
            for run in done
            for row in run["epochs"]
        ]
    )
    pq.write_table(table, arguments.out, compression="zstd")
    print(f"wrote {arguments.out}: {len(done)} runs, {table.num_rows} epochs")


if __name__ == "__main__":
    main()
