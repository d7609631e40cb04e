"""Repeats: a few configurations with several seeds each, to measure how far a PER depends on the seed.

    python benchmarks/seeds.py                                          # what they say of `results.verdicts.luck`
    python benchmarks/seeds.py --data data/an4 data/small --seeds 6     # trains the seeds that are missing

`data/seeds.json` has `configurations` (data set -> name -> configuration as JSON) and `runs`: data set, phonemes behind
its PER, configuration, seed, and the PER of each epoch. The configurations are the run `quickstart` and three runs of
each of the banks as they were in November 2026, named by their numbers, chosen for PERs far apart and for a low cost.

Columns of what is printed: `seed s.d.` over the seeds of a configuration; `model`, what `luck.model` says of its mean
PER and the restlessness of its curves; `without curves`, what it says of the PER alone. The last line is the mean of
(s.d. / model)^2 over all degrees of freedom, which is 1 for a model that is right on average and less for a cautious
one, beside the same for the PER alone.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # as a program, this file's own folder comes first
from results.output import Sheet, render
from results.verdicts.luck import model, restlessness, sampled
from search_spaces import RunConfig

FILE = Path(__file__).parent / "data" / "seeds.json"


def record(data: Path, seeds: int, file: Path) -> None:
    """Train what is not in the file yet: one seed of all configurations of this data set, then the next."""
    import torch

    from trainable import train
    from trainable.data.dataset import open_dataset

    torch.set_num_threads(1)
    dataset, kept = open_dataset(data), json.loads(file.read_text())
    known = {(run["data"], run["configuration"], run["seed"]) for run in kept["runs"]}
    for seed in range(1, seeds + 1):
        for name, text in kept["configurations"].get(dataset.name, {}).items():
            if (dataset.name, name, seed) in known:
                continue
            sections = json.loads(text)
            sections["training"] |= {"seed": seed, "device": "cpu"}
            began = time.process_time()
            pers = [round(report.per, 6) for report in train(RunConfig.model_validate(sections), dataset)]
            phonemes = int(dataset.val.label_lengths.sum())
            run = {"data": dataset.name, "phonemes": phonemes, "configuration": name, "seed": seed, "pers": pers}
            kept["runs"].append(run)
            file.write_text(json.dumps(kept, separators=(",", ":")))
            took = time.process_time() - began
            print(f"{dataset.name} {name}, seed {seed}: {min(pers):.4f}, {took:.0f} CPU s", file=sys.stderr)


def spreads(file: Path = FILE) -> list[dict[str, Any]]:
    """A row for each configuration with several seeds: its mean PER, its s.d., and what the model says."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for run in json.loads(file.read_text())["runs"]:
        groups[run["data"], run["configuration"]].append(run)
    rows = []
    for (data, name), runs in groups.items():
        if len(runs) > 1:
            best = [min(run["pers"]) for run in runs]
            steps = [step for run in runs if (step := restlessness(run["pers"])) is not None]
            phonemes = runs[0]["phonemes"]
            row = {"data": data, "configuration": name, "seeds": len(runs), "mean": fmean(best)}
            row |= {"seed s.d.": stdev(best), "model": model(fmean(best), phonemes, fmean(steps) if steps else None)}
            rows.append(row | {"without curves": sampled(fmean(best), phonemes)})
    return rows


def ratio(rows: list[dict[str, Any]], column: str = "model") -> float:
    """The mean of (s.d. / model)^2 over all degrees of freedom."""
    degrees = sum(row["seeds"] - 1 for row in rows)
    return math.fsum((row["seeds"] - 1) * (row["seed s.d."] / row[column]) ** 2 for row in rows) / degrees


def main() -> None:
    """Train what is missing, then print what the repeats say."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="packed data sets: an4, small")
    parser.add_argument("--seeds", type=int, default=4, help="seeds of each configuration")
    parser.add_argument("--file", type=Path, default=FILE, help="the file of repeats")
    arguments = parser.parse_args()
    for data in arguments.data:
        record(data, arguments.seeds, arguments.file)
    rows = spreads(arguments.file)
    print(render(Sheet.of(rows)))
    print(f"(s.d. / model)^2: {ratio(rows):.2f}; without curves {ratio(rows, 'without curves'):.2f}")


if __name__ == "__main__":
    main()
