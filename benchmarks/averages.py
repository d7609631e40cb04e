"""Averages of the weights with windows of several lengths, tracked in the same runs: which is best, and when.

    python benchmarks/averages.py --data data/small --data data/an4 --out averages.jsonl --runs 54
    python benchmarks/averages.py --out averages.jsonl --tables

Each run is a random draw of a space (`mixed_horizons`) with a schedule kind and a length of its own. It tracks EMAs
whose windows of 1 / (1 - decay) batches are 1/96 to 1/3 of the run's horizon, the longer ones with and without the
warm-up of the decay. In 12,000 batches, the length of the recorded runs, 1/12 is a decay of 0.999 and 1/6 one of
0.9995. At each quarter of the schedule all of them and the raw weights are evaluated, and the errors of every
validation utterance are kept. A run that is started again goes on after the last whole run of the file.

`--tables` prints the comparisons: all are between weights of the same run at the same batch.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

SHARES = {"warm": (96, 48, 24, 12, 6, 3), "cold": (12, 6, 3)}
"""Horizon / window of the averages, with the warm-up of the decay and without it."""
KINDS = ("constant", "one_cycle", "warmup_cosine", "linear", "sgdr", "multistep")
LENGTHS = (200, 400, 800, 200, 400)
POINTS = 4
"""Evaluations of a run, evenly over its batches."""


def record(config: Any, dataset: Any) -> list[dict[str, Any]]:
    """At each evaluation point of a run: batch, lr, and the errors of each validation utterance by each weights.

    The list ends where the run diverges.
    """
    from search_spaces.config import EMAConfig
    from trainable import loop
    from trainable.averaging import make_averages, settle, update_averages
    from trainable.compute.precision import choose_device
    from trainable.evaluation import evaluate
    from trainable.schedules import lr_at

    run = loop._start(config, dataset, choose_device(config))
    averages = {}
    for way, shares in SHARES.items():
        decays = tuple(1 - 1 / max(1.5, config.horizon / share) for share in shares)
        made = make_averages(run.model, EMAConfig(decays=decays, warmup=way == "warm"))
        averages |= {f"{way} 1/{share}": average for share, average in zip(shares, made, strict=True)}
    rows, tracked = [], list(averages.values())
    ends = {round(config.training.batches * (point + 1) / POINTS) for point in range(POINTS)}
    run.engine.begin_epoch(config.training.batches)
    for batch in range(config.training.batches):
        loss, norm, _ = loop._step(run, batch)
        if not bool(loss.isfinite() and norm.isfinite()):
            break
        update_averages(tracked, run.model, batch)
        if batch + 1 in ends:
            settle(tracked, run.model)
            models = {"raw": run.model, **{name: average.model for name, average in averages.items()}}
            reduction = config.training.ctc_reduction
            found = {n: evaluate(m, run.val_loader, reduction, run.engine.autocast) for n, m in models.items()}
            errors = {name: each.errors.tolist() for name, each in found.items()}
            losses = {name: each.loss for name, each in found.items()}
            rows.append({"batch": batch + 1, "lr": lr_at(config, batch), "errors": errors, "losses": losses})
            run.engine.begin_epoch(config.training.batches)
    return rows


def draw(space: Any, number: int, data: str, seed: int) -> Any:
    """The configuration of run `number`: a random draw with the kind and the length whose turn it is."""
    from search_spaces.config import RunConfig, to_dict
    from search_spaces.parsing.sections import merge
    from tuner.study.searchers.searcher import OptunaSearcher

    kind, length = KINDS[number % len(KINDS)], LENGTHS[number // len(KINDS) % len(LENGTHS)]
    searcher = OptunaSearcher(space, {"kind": "random"}, seed)
    for trial in range(number * 1000, number * 1000 + 1000):
        config = space.config(searcher.propose(trial), seed * 100_000 + number)
        if config.schedule.kind == kind and config.training.batches == length:
            training = {"batches_per_epoch": length // POINTS}
            whole = merge(to_dict(config), {"averaging": {"kind": "none"}, "training": training})
            return RunConfig.model_validate(whole)
    raise RuntimeError(f"{data}: no draw of {kind} with {length} batches")


def run_all(given: argparse.Namespace) -> None:
    """Record the runs that are missing."""
    import torch

    from search_spaces import load_space
    from search_spaces.config import to_dict
    from trainable.data.dataset import open_dataset

    torch.set_num_threads(1)
    datasets, space = [open_dataset(path) for path in given.data], load_space(given.space)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    done = len(given.out.read_text().splitlines()) if given.out.exists() else 0
    turns = [datasets[0], datasets[0], datasets[-1]]
    with given.out.open("a") as file:
        for number in range(done, given.runs):
            dataset = turns[number // len(KINDS) % len(turns)]
            config, began = draw(space, number, dataset.name, given.seed), time.process_time()
            row = {"run": number, "data": dataset.name, "config": to_dict(config), "points": record(config, dataset)}
            lengths = dataset.val.label_lengths.tolist()
            file.write(json.dumps({**row, "seconds": time.process_time() - began, "phonemes": lengths}) + "\n")
            file.flush()
            last = row["points"][-1]["errors"] if row["points"] else {}
            ends = {name: sum(errors) / sum(lengths) for name, errors in last.items()}
            best = min(ends, key=lambda name: ends[name], default="diverged")
            seconds = time.process_time() - began
            print(
                f"run {number}: {config.schedule.kind}, {config.training.batches}: {best} {seconds:.0f} s", flush=True
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, action="append", default=[], help="packed data sets")
    parser.add_argument("--space", default="mixed_horizons", help="space to draw the runs from")
    parser.add_argument("--out", type=Path, required=True, help="file of the recorded runs")
    parser.add_argument("--runs", type=int, default=54, help="runs in all")
    parser.add_argument("--seed", type=int, default=7, help="seed of the draws")
    parser.add_argument("--tables", action="store_true", help="print what the recorded runs say")
    run_all(parser.parse_args())
