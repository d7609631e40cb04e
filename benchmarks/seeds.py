"""Record repeats: a few configurations with several seeds each, to measure how far a PER depends on the seed.

    python benchmarks/seeds.py --data data/an4 data/small --seeds 4      # adds to benchmarks/data/seeds.jsonl
    python benchmarks/seeds.py                                           # what the repeats say, and the constants

A line of the file is a run: data set, phonemes behind its PER, configuration (a name), seed, and the PER of each epoch.
The configurations are recorded runs scaled down as `tuner lineage --scale 0.02` does, the run `quickstart`, and some of
the runs of the banks beside the file, chosen evenly over their PER among those that cost little.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "data" / "seeds.jsonl"
SCALED = ("speechBaseline4", "run15_warmup_cosine_safe")
LONGER = ("speechBaseline4",)
"""Runs that are repeated at twice the scaled length too."""
BANKS = {"an4": (6, 18, 26), "small": (32, 112, 127)}
"""Data set -> the runs of its bank that are repeated."""
SCALE = 0.02


def configurations(dataset: Any) -> dict[str, Any]:
    """Name -> `RunConfig`, for a data set that is one of BANKS."""
    import pyarrow.parquet as pq

    from search_spaces import RunConfig, load_run, to_dict
    from search_spaces.recorded import shrink
    from tuner.planned.lineage import fit_windows

    found = {"quickstart": load_run("quickstart").config}
    for name in SCALED:
        config = shrink(load_run(name, ["training.precision=fp32"]).config, SCALE, len(dataset.train))
        config, _ = fit_windows(config, dataset)
        found[name] = config
        if name in LONGER:
            longer = to_dict(config)
            longer["training"]["batches"] *= 2
            found[f"{name} twice"] = RunConfig.model_validate(longer)
    bank = FILE.with_name("an4.parquet" if dataset.name == "an4" else "synthetic.parquet")
    rows = pq.read_table(bank, columns=["trial", "config"]).to_pylist()
    configs = {row["trial"]: row["config"] for row in rows}
    for trial in BANKS[dataset.name]:
        found[f"bank {trial}"] = RunConfig.model_validate_json(configs[trial])
    return found


def record(data: Path, seeds: int, log: Path) -> None:
    """Train what is not in the log yet: the first seed of all configurations, then the second, and so on."""
    import torch

    from search_spaces import RunConfig, to_dict
    from trainable import train
    from trainable.data.dataset import open_dataset

    torch.set_num_threads(1)
    dataset = open_dataset(data)
    known = {(row["data"], row["configuration"], row["seed"]) for row in read(log)}
    for seed in range(1, seeds + 1):
        for name, config in configurations(dataset).items():
            if (dataset.name, name, seed) in known:
                continue
            sections = to_dict(config)
            sections["training"] |= {"seed": seed, "device": "cpu"}
            began = time.process_time()
            pers = [report.per for report in train(RunConfig.model_validate(sections), dataset)]
            row = {
                "data": dataset.name,
                "phonemes": int(dataset.val.label_lengths.sum()),
                "configuration": name,
                "seed": seed,
                "batches": config.training.batches,
                "pers": [round(per, 6) for per in pers],
            }
            with log.open("a") as file:
                file.write(json.dumps(row) + "\n")
            took = time.process_time() - began
            print(f"{dataset.name} {name}, seed {seed}: {min(pers):.4f}, {took:.0f} CPU s", file=sys.stderr, flush=True)


def read(log: Path) -> list[dict[str, Any]]:
    """The runs of the file; none where there is no file."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def main() -> None:
    """Record what is missing, then print what the repeats say."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="packed data sets: an4, small")
    parser.add_argument("--seeds", type=int, default=4, help="seeds of each configuration")
    parser.add_argument("--out", type=Path, default=FILE, help="the file of repeats")
    arguments = parser.parse_args()
    for data in arguments.data:
        record(data, arguments.seeds, arguments.out)


if __name__ == "__main__":
    main()
