"""Training throughput beside the reference's, in one run on one machine.

    python benchmarks/training.py --data data/an4                       # two small models on a CPU
    python benchmarks/training.py --data data/paper --precision fp32 bf16 fp16     # full size on a GPU

For each model size: utterances per second of the reference recipe (`benchmarks/reference.py`) and of `trainable` with
the same settings, end to end: training steps, and the evaluation of the validation split that follows every 100 steps.
Then what each of our measures brings, by leaving it out, and where the time goes.

The rounds of all contestants alternate, so that other work on the machine slows all of them down alike; let steps times
rounds be a pass over the data or more: batches by length differ in cost. On a CPU the clock is the process's CPU
time, with one thread; on a GPU it is wall time.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

if __package__:
    from benchmarks.reference import Recipe, Reference
else:  # run as a program, from its own folder
    from reference import Recipe, Reference  # type: ignore[import-not-found,no-redef]

from search_spaces.config import RunConfig
from trainable import loop, model
from trainable.batches import Sampler
from trainable.data import Dataset, open_dataset
from trainable.evaluation import evaluate

SIZES = {
    "small": Recipe(hidden=128, layers=2, kernel=16, batch_size=32),
    "medium": Recipe(hidden=256, layers=3, batch_size=64),
    "full": Recipe(),
}
EVALUATE_EVERY = 100


@dataclass
class Contestant:
    """Something that trains: `step` returns how many utterances it used, `evaluate` does the validation split."""

    name: str
    step: Callable[[], int]
    evaluate: Callable[[], Any]
    utterances: int = 0
    seconds: float = 0.0
    evaluations: list[float] = field(default_factory=list)

    def round(self, steps: int, clock: Callable[[], float]) -> None:
        """Some steps and an evaluation."""
        began = clock()
        self.utterances += sum(self.step() for _ in range(steps))
        trained = clock()
        self.evaluate()
        self.seconds += trained - began
        self.evaluations.append(clock() - trained)

    def end_to_end(self, batch_size: int) -> float:
        """Utterances per second with an evaluation every 100 steps."""
        utterances = EVALUATE_EVERY * batch_size
        return utterances / (utterances * self.seconds / self.utterances + mean(self.evaluations))


def config_of(recipe: Recipe, device: str, precision: str, tf32: bool, bucket_batches: int = 16) -> RunConfig:
    """The recipe as a configuration of ours."""
    return RunConfig.model_validate(
        {
            "data": {"bucket_batches": bucket_batches},
            "model": {key: getattr(recipe, key) for key in ("hidden", "layers", "dropout", "kernel", "stride")},
            "optimizer": {"kind": "adam", "eps": recipe.eps, "weight_decay": recipe.weight_decay},
            "schedule": {"kind": "constant", "peak_lr": recipe.lr},
            "augmentation": {
                "white_noise": recipe.white_noise,
                "constant_offset": recipe.constant_offset,
                "smoothing_sd": recipe.smoothing_sd,
                "smoothing_kernel": recipe.smoothing_kernel,
            },
            "training": {
                "batches": 10**6,
                "batch_size": recipe.batch_size,
                "device": device,
                "precision": precision,
                "tf32": tf32,
            },
        }
    )


Patch = Callable[[], Callable[[], None]]


def ours(name: str, config: RunConfig, dataset: Dataset, patch: Patch | None = None) -> Contestant:
    """`trainable` with this configuration; `patch` leaves a measure out and returns what puts it back."""
    run = loop._start(config, dataset, loop.choose_device(config))
    autocast = loop.autocast_for(config, run.device)

    def patched(work: Callable[[], Any]) -> Any:
        restore = patch() if patch else None
        try:
            return work()
        finally:
            if restore:
                restore()

    def step() -> int:
        run.model.train()
        used = loop._step(run, run.batch)[2]
        run.batch += 1
        return used

    def evaluation() -> Any:
        return evaluate(run.model, run.val_loader, config.training.ctc_reduction, autocast)

    return Contestant(name, lambda: patched(step), lambda: patched(evaluation))


def swap(owner: Any, name: str, value: Any) -> Patch:
    """A patch that replaces an attribute."""

    def patch() -> Callable[[], None]:
        old = getattr(owner, name)
        setattr(owner, name, value)
        return lambda: setattr(owner, name, old)

    return patch


def left_out(recipe: Recipe, dataset: Dataset, device: str) -> list[Contestant]:
    """Ours, and ours without one measure at a time."""
    config = config_of(recipe, device, "fp32", tf32=False)
    contestants = [
        ours("all measures", config, dataset),
        ours("random batches, not by length", config_of(recipe, device, "fp32", False, bucket_batches=1), dataset),
    ]
    if device == "cpu":
        contestants += [
            ours("torch's GRU", config, dataset, swap(model, "gru", lambda layer, packed: layer(packed)[0])),
            ours("torch's dropout", config, dataset, swap(model.Decoder, "_dropout", _torch_dropout)),
            ours("smoothing by conv1d", config, dataset, swap(model, "_convolve", _conv1d)),
        ]
    return contestants


def _torch_dropout(decoder: model.Decoder, x: torch.Tensor, p: float) -> torch.Tensor:
    return F.dropout(x, p, training=decoder.training)


def _conv1d(x: torch.Tensor, taps: tuple[float, ...]) -> torch.Tensor:
    weight = torch.tensor(taps, dtype=x.dtype, device=x.device).view(1, 1, -1).expand(x.shape[2], 1, -1)
    return F.conv1d(x.transpose(1, 2), weight, padding="same", groups=x.shape[2]).transpose(1, 2)


def shares(recipe: Recipe, dataset: Dataset, device: str, steps: int, clock: Callable[[], float]) -> dict[str, float]:
    """Share of the time in data, forward (with augmentation and loss), backward, optimizer and evaluation."""
    run = loop._start(config_of(recipe, device, "fp32", False), dataset, torch.device(device))
    spent = dict.fromkeys(("data", "forward", "backward", "optimizer", "evaluation"), 0.0)
    generator = torch.Generator(run.device).manual_seed(0)
    run.model.train()
    for number in range(steps):
        marks = [clock()]
        batch = run.train_loader.batch(*run.sampler.micro_batch(number))
        marks.append(clock())
        loss = loop._losses(run, batch, generator).mean()
        marks.append(clock())
        run.optimizer.zero_grad()
        loss.backward()
        marks.append(clock())
        run.optimizer.step()
        marks.append(clock())
        for name, duration in zip(spent, np.diff(marks), strict=False):
            spent[name] += float(duration)
    began = clock()
    evaluate(run.model, run.val_loader, "target_mean", loop.autocast_for(run.config, run.device))
    spent["evaluation"] = (clock() - began) * steps / EVALUATE_EVERY
    total = sum(spent.values())
    return {name: value / total for name, value in spent.items()}


def padding_share(recipe: Recipe, dataset: Dataset, bucket_batches: int) -> float:
    """Share of the bins in one pass's batches that is padding."""
    sampler = Sampler(dataset.train, config_of(recipe, "cpu", "fp32", False, bucket_batches))
    count = -(-len(sampler.rows) // recipe.batch_size)
    bins = [dataset.train.bins[sampler.micro_batch(number)[0]] for number in range(count)]
    return 1 - sum(int(b.sum()) for b in bins) / sum(len(b) * int(b.max()) for b in bins)


def reference(recipe: Recipe, dataset: Dataset, device: str) -> Contestant:
    """The yardstick."""
    run = Reference(recipe, dataset.train, dataset.n_classes, len(dataset.days), device)
    return Contestant("reference", run.step, lambda: run.evaluate(dataset.val))


def race(contestants: list[Contestant], rounds: int, steps: int, clock: Callable[[], float]) -> None:
    """All contestants in turn, `rounds` times, after one step each to warm up."""
    for contestant in contestants:
        contestant.step()
    for _ in range(rounds):
        for contestant in contestants:
            contestant.round(steps, clock)


def show(title: str, contestants: list[Contestant], batch_size: int, console: Console) -> None:
    """A table of rates, each also as a multiple of the first."""
    table = Table(title=title)
    for column in ("", "training utterances/s", "evaluation s", "end to end utterances/s", "x first"):
        table.add_column(column, justify="left" if not column else "right")
    first = contestants[0].end_to_end(batch_size)
    for contestant in contestants:
        rate = contestant.end_to_end(batch_size)
        table.add_row(
            contestant.name,
            f"{contestant.utterances / contestant.seconds:.1f}",
            f"{mean(contestant.evaluations):.2f}",
            f"{rate:.1f}",
            f"{rate / first:.2f}",
        )
    console.print(table)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a packed data folder")
    parser.add_argument("--size", nargs="+", choices=SIZES, help="model sizes (small medium on a CPU, full on a GPU)")
    parser.add_argument("--precision", nargs="+", choices=("fp32", "bf16", "fp16"), default=["fp32"])
    parser.add_argument("--steps", type=int, default=10, help="training steps in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset, device, console = open_dataset(options.data), options.device, Console()
    cuda = device == "cuda"

    def clock() -> float:
        if not cuda:
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    for size in options.size or (["full"] if cuda else ["small", "medium"]):
        recipe = SIZES[size]
        shape = f"{recipe.layers} x {recipe.hidden}, kernel {recipe.kernel}, batches of {recipe.batch_size}"
        contestants = [reference(recipe, dataset, device)]
        for precision in options.precision:
            contestants.append(ours(f"trainable, {precision}", config_of(recipe, device, precision, False), dataset))
        if cuda:
            contestants.append(ours("trainable, tf32", config_of(recipe, device, "fp32", True), dataset))
        race(contestants, options.rounds, options.steps, clock)
        show(f"{size}: {shape}, on {device}", contestants, recipe.batch_size, console)
        measures = left_out(recipe, dataset, device)
        race(measures, options.rounds, options.steps, clock)
        show("leaving one measure out", measures, recipe.batch_size, console)
        parts = shares(recipe, dataset, device, options.steps, clock)
        console.print("time in " + ", ".join(f"{name} {share:.1%}" for name, share in parts.items()))
        padding = [padding_share(recipe, dataset, bucket) for bucket in (1, 16)]
        console.print(f"padding: {padding[0]:.1%} of the bins in random batches, {padding[1]:.1%} by length")
        if cuda:
            console.print(f"peak memory: {torch.cuda.max_memory_allocated() / 2**20:.0f} MB on the card")
        else:
            console.print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MB")


if __name__ == "__main__":
    main()
