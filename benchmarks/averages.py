"""Averages of the weights with windows of several lengths, tracked in the same runs: which is best, and when.

    python benchmarks/averages.py --data data/small --data data/an4 --out averages.jsonl --runs 54
    python benchmarks/averages.py --out averages.jsonl --tables
    python benchmarks/averages.py --data data/small --cost

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
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

SHARES = {"warm": (96, 48, 24, 12, 6, 3), "cold": (12, 6, 3)}
"""Horizon / window of the averages, with the warm-up of the decay and without it."""
KINDS = ("constant", "one_cycle", "warmup_cosine", "linear", "sgdr", "multistep")
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


def draw(space: Any, number: int, lengths: list[int], seed: int) -> Any:
    """The configuration of run `number`: a random draw with the kind and the length whose turn it is."""
    from search_spaces.config import RunConfig, to_dict
    from search_spaces.parsing.sections import merge
    from tuner.study.searchers.searcher import OptunaSearcher

    kind, length = KINDS[number % len(KINDS)], lengths[number // len(KINDS) % len(lengths)]
    searcher = OptunaSearcher(space, {"kind": "random"}, seed)
    for trial in range(number * 1000, number * 1000 + 1000):
        config = space.config(searcher.propose(trial), seed * 100_000 + number)
        if config.schedule.kind == kind and config.training.batches == length:
            training = {"batches_per_epoch": length // POINTS}
            whole = merge(to_dict(config), {"averaging": {"kind": "none"}, "training": training})
            return RunConfig.model_validate(whole)
    raise RuntimeError(f"{space.name}: no draw of {kind} with {length} batches")


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
            config, began = draw(space, number, given.lengths, given.seed), time.process_time()
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


def cost(given: argparse.Namespace) -> None:
    """What a step costs with averages beside one without, in turns, on one thread; and a pass of evaluation."""
    import resource

    import torch
    from rich.console import Console

    from search_spaces.config import EMAConfig
    from trainable.data.dataset import open_dataset

    if __package__:
        from benchmarks.training import SIZES, config_of, ours, race, show
    else:  # run as a program, from its own folder
        from training import (  # type: ignore[import-not-found,no-redef]
            SIZES,
            config_of,
            ours,
            race,
            show,
        )

    torch.set_num_threads(1)
    dataset, console = open_dataset(given.data[0]), Console(width=120)

    def late(run: Any) -> None:
        for average in run.averages:
            average.updates = 20_000

    for size in given.size:
        recipe = SIZES[size]
        plain = config_of(recipe, "cpu", "fp32")
        one = plain.model_copy(update={"averaging": EMAConfig(decay=0.999)})
        several = plain.model_copy(update={"averaging": EMAConfig(decays=(0.99, 0.997, 0.999, 0.9995))})
        contestants = [
            ours("no average", plain, dataset),
            ours("no average again", plain, dataset),
            ours("decay 0.999", one, dataset),
            ours("four decays, first batches", several, dataset),
            ours("four decays, after 20,000", several, dataset, prepare=late),
        ]
        race(contestants, given.rounds, given.steps, time.process_time, 1)
        show(f"{size}: {recipe.layers} x {recipe.hidden}", contestants, recipe.batch_size, console)
        step = contestants[0].seconds / contestants[0].utterances * recipe.batch_size
        for name, config, from_batch in (("decay 0.999", one, 0), ("four", several, 0), ("four", several, 20_000)):
            spent = update_seconds(config, dataset, from_batch)
            console.print(
                f"{name} from batch {from_batch:,}: {1000 * spent:.2f} ms a batch, {spent / step:.1%} of a step"
            )
        weights = sum(p.numel() for p in decoder(plain, dataset).parameters())
        console.print(f"{weights:,} weights: {4 * weights / 2**20:.1f} MB for each average")
    console.print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MB, all together")


def update_seconds(config: Any, dataset: Any, from_batch: int, batches: int = 256) -> float:
    """CPU seconds that the averages of a configuration take a batch, from a batch of the run on."""
    from trainable.averaging import make_averages, update_averages

    model = decoder(config, dataset)
    averages = make_averages(model, config.averaging)
    update_averages(averages, model, 0)
    for average in averages:
        average.updates += from_batch
    began = time.process_time()
    for batch in range(batches):
        update_averages(averages, model, from_batch + batch)
    return (time.process_time() - began) / batches


def decoder(config: Any, dataset: Any) -> Any:
    """The decoder of a configuration."""
    from trainable.model import Decoder

    return Decoder(config, dataset.n_features, dataset.n_classes, len(dataset.days))


def tables(given: argparse.Namespace) -> None:
    """Print what the recorded runs say."""
    runs = [json.loads(line) for line in given.out.read_text().splitlines()]
    whole = [run for run in runs if len(run["points"]) == POINTS]
    kinds = Counter((run["data"], run["config"]["schedule"]["kind"] == "constant") for run in whole)
    print(f"{len(runs)} runs, {len(whole)} of them whole: {dict(kinds)}")
    groups: dict[str, list[dict[str, Any]]] = {
        "all": whole,
        "rate comes down": [run for run in whole if run["config"]["schedule"]["kind"] != "constant"],
        "constant rate": [run for run in whole if run["config"]["schedule"]["kind"] == "constant"],
    }
    for batches in sorted({run["config"]["training"]["batches"] for run in whole}):
        groups[f"{batches} batches"] = [run for run in whole if run["config"]["training"]["batches"] == batches]
    for data in sorted({run["data"] for run in whole}):
        groups[f"data {data}"] = [run for run in whole if run["data"] == data]
    groups = {name: members for name, members in groups.items() if members}
    names = list(whole[0]["points"][0]["errors"])
    for point in range(POINTS):
        print(f"\nafter {(point + 1) / POINTS:.0%} of the schedule: PER - PER of the raw weights, mean (s.e.)")
        for group, members in groups.items():
            gaps = {name: [pers(run, point)[name] - pers(run, point)["raw"] for run in members] for name in names}
            print(f"  {group} ({len(members)}): " + ", ".join(f"{n} {said(g)}" for n, g in gaps.items() if n != "raw"))
    pairs = [("warm 1/6", "warm 1/12"), ("cold 1/6", "cold 1/12"), ("cold 1/12", "warm 1/12"), ("cold 1/6", "warm 1/6")]
    for one, other in pairs:
        print(f"\n{one} - {other}, within runs: mean (s.e.), runs in which the first is better / worse")
        for group, members in groups.items():
            parts = []
            for point in range(POINTS):
                gaps = [pers(run, point)[one] - pers(run, point)[other] for run in members]
                won, lost = sum(g < 0 for g in gaps), sum(g > 0 for g in gaps)
                parts.append(f"{(point + 1) / POINTS:.0%} {said(gaps)} {won}/{lost}")
            print(f"  {group} ({len(members)}): " + "; ".join(parts))
    best_of(groups, names)


def best_of(groups: dict[str, list[dict[str, Any]]], names: list[str]) -> None:
    """Print what the best of several gains at the end, and how much of that is luck."""
    sets = {"raw + 4 warm": ["raw", "warm 1/96", "warm 1/48", "warm 1/24", "warm 1/12"], "all": names}
    for title, chosen in sets.items():
        print(f"\nbest of {title} at the end: PER - raw, the same chosen on the other half, luck; winners")
        for group, members in groups.items():
            gained, honest = [], []
            winners: Counter[str] = Counter()
            for run in members:
                lengths = np.array(run["phonemes"])
                errors = {name: np.array(run["points"][-1]["errors"][name]) for name in chosen}
                winner = min(chosen, key=lambda name: errors[name].sum())
                winners[winner] += 1
                even = np.arange(len(lengths)) % 2 == 0
                crossed = 0
                for half in (even, ~even):
                    other = min(chosen, key=lambda name: errors[name][~half].sum())
                    crossed += errors[other][half].sum()
                raw = errors["raw"].sum()
                gained.append((errors[winner].sum() - raw) / lengths.sum())
                honest.append((crossed - raw) / lengths.sum())
            luck = [h - g for h, g in zip(honest, gained, strict=True)]
            print(f"  {group} ({len(members)}): {said(gained)}, {said(honest)}, {said(luck)}; {dict(winners)}")


def pers(run: dict[str, Any], point: int) -> dict[str, float]:
    """PER by the name of the weights at an evaluation point."""
    total = sum(run["phonemes"])
    return {name: sum(errors) / total for name, errors in run["points"][point]["errors"].items()}


def said(values: list[float]) -> str:
    """Mean and standard error."""
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{np.mean(values):+.4f} ({error:.4f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, action="append", default=[], help="packed data sets")
    parser.add_argument("--space", default="mixed_horizons", help="space to draw the runs from")
    parser.add_argument("--out", type=Path, help="file of the recorded runs")
    parser.add_argument("--runs", type=int, default=54, help="runs in all")
    parser.add_argument("--lengths", type=int, nargs="+", default=[200, 400, 800], help="of the runs, in batches")
    parser.add_argument("--seed", type=int, default=7, help="seed of the draws")
    parser.add_argument("--tables", action="store_true", help="print what the recorded runs say")
    parser.add_argument("--cost", action="store_true", help="measure what averages cost on the first of the data sets")
    parser.add_argument("--size", nargs="+", default=["small"], help="with --cost: sizes of benchmarks/training.py")
    parser.add_argument("--steps", type=int, default=20, help="with --cost: training steps in a round")
    parser.add_argument("--rounds", type=int, default=3, help="with --cost: rounds")
    options = parser.parse_args()
    (cost if options.cost else tables if options.tables else run_all)(options)
