"""Training throughput beside the reference's, in one run on one machine.

    python benchmarks/training.py                                # two small models on a CPU, full size on a GPU
    python benchmarks/training.py --data data/paper              # on these data; else synthetic ones are made first
    python benchmarks/training.py --curve 2000                   # and the PER as training goes on, two seeds each

For each model size and precision: utterances per second of the reference recipe (`benchmarks/reference.py`) and of
`trainable` with the same settings, end to end: training steps, and the evaluation of the validation split that follows
every 100 steps. Then what each of our measures brings, by leaving it out ("x first" below 1: slower without it), where
the time goes, how much is padding, and the memory.

All contestants take turns, so that other work on the machine slows all of them down alike; let steps times rounds be a
pass over the data or more: batches by length differ in cost. On a CPU the clock is the process's CPU
time, with one thread; on a GPU it is wall time, and the reference keeps torch's defaults, which let cuDNN use TF32.
At full size the contestants together need some 40 GB on the card.

`torch.compile` is not used. It cannot trace packed sequences, so the decoder as a whole fails after 20 s of trying; the
smoothing alone compiles in 9 s and gets 1.6 times as fast, but is 1 % of a CPU step: no gain that could be measured end
to end (4.46 s either way for 48 steps of 2 x 128). `--compile` measures that again, as on a GPU it has not been.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import gc
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

if __package__:
    from benchmarks.reference import Recipe, Reference, edit_distance
else:  # run as a program, from its own folder
    from reference import Recipe, Reference, edit_distance  # type: ignore[import-not-found,no-redef]

from search_spaces.config import RunConfig
from trainable import evaluation, loop, model
from trainable.compute import products
from trainable.compute.measures import MEASURES
from trainable.compute.precision import choose_device
from trainable.data import batches, synthetic
from trainable.data.batches import Sampler
from trainable.data.dataset import Dataset, open_dataset

SIZES = {
    "tiny": Recipe(hidden=8, layers=2, kernel=8, batch_size=16),
    "small": Recipe(hidden=128, layers=2, kernel=16, batch_size=32),
    "medium": Recipe(hidden=256, layers=3, batch_size=64),
    "full": Recipe(),
}
EVALUATE_EVERY = 100
TF32 = {"strict": False, "fp32": None, "tf32": True}
"""Ways to compute in fp32 -> `training.tf32`."""


@dataclass
class Contestant:
    """Something that trains: `step` returns how many utterances it used, `evaluate` the PER of the validation split."""

    name: str
    step: Callable[[], int]
    evaluate: Callable[[], float]
    utterances: int = 0
    seconds: float = 0.0
    turns: list[float] = field(default_factory=list)
    """Seconds for each utterance, one number for each turn."""
    evaluations: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What was chosen on a card, and why."""

    def train(self, steps: int, clock: Callable[[], float]) -> None:
        """Some steps, timed."""
        began = clock()
        utterances = sum(self.step() for _ in range(steps))
        seconds = clock() - began
        self.utterances += utterances
        self.seconds += seconds
        self.turns.append(seconds / utterances)

    def validate(self, clock: Callable[[], float]) -> None:
        """An evaluation, timed."""
        began = clock()
        self.evaluate()
        self.evaluations.append(clock() - began)

    def end_to_end(self, batch_size: int) -> float:
        """Utterances per second with an evaluation every 100 steps."""
        utterances = EVALUATE_EVERY * batch_size
        return utterances / (utterances * self.seconds / self.utterances + mean(self.evaluations))


def config_of(
    recipe: Recipe, device: str, precision: str, bucket_batches: int = 16, seed: int = 0, graphs: str = "auto"
) -> RunConfig:
    """The recipe as a configuration of ours; precision "strict" is fp32 without TF32, "tf32" has it everywhere."""
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
                "precision": "fp32" if precision in TF32 else precision,
                "tf32": TF32.get(precision),
                "graphs": graphs,
                "seed": seed,
            },
        }
    )


def beside(contestant: Contestant, first: Contestant) -> np.ndarray:
    """Speed of `contestant` as a multiple of that of `first`: lower quartile, median and upper quartile of the turns.

    Each turn is compared with the other's turn beside it, so that what slows the machine down slows both.
    """
    return np.quantile(np.array(first.turns) / np.array(contestant.turns), [0.25, 0.5, 0.75])


Patch = Callable[[], Callable[[], None]]


def ours(
    name: str,
    config: RunConfig,
    dataset: Dataset,
    patch: Patch | None = None,
    prepare: Callable[[Any], None] = lambda run: None,
    look: bool = False,
) -> Contestant:
    """`trainable` with this configuration.

    To leave a measure out, `patch` changes something and returns what puts it back, and `prepare` changes the run;
    with `look` each step waits for its loss.
    """

    def patched(work: Callable[[], Any]) -> Any:
        restore = patch() if patch else None
        try:
            return work()
        finally:
            if restore:
                restore()

    run = patched(lambda: loop._start(config, dataset, choose_device(config)))
    prepare(run)

    def step() -> int:
        run.engine.begin_epoch(config.training.batches)
        loss, _, used = loop._step(run, run.batch)
        if look:
            loss.item()
        run.batch += 1
        return used

    def per() -> float:
        run.engine.begin_epoch(config.training.batches)
        weights = run.engine.weights_for_evaluation(run.model)
        return evaluation.evaluate(weights, run.val_loader, config.training.ctc_reduction, run.engine.autocast).per

    return Contestant(name, lambda: patched(step), lambda: patched(per), notes=run.engine.notes)


def swap(owner: Any, name: str, value: Any) -> Patch:
    """A patch that replaces an attribute."""

    def patch() -> Callable[[], None]:
        old = getattr(owner, name)
        setattr(owner, name, value)
        return lambda: setattr(owner, name, old)

    return patch


def swap_item(table: dict[str, Any], key: str, value: Any) -> Patch:
    """A patch that replaces an entry of a table."""

    def patch() -> Callable[[], None]:
        old, table[key] = table[key], value
        return lambda: table.update({key: old})

    return patch


OTHER_WAY = {
    ("conv1d", True): "smoothing by conv1d",
    ("conv1d", False): "smoothing by shifted sums",
    ("copied_windows", True): "windows copied before packing",
    ("copied_windows", False): "windows without a copy",
}


def left_out(recipe: Recipe, dataset: Dataset, device: str, precision: str, compiled: bool) -> list[Contestant]:
    """Ours, and ours without one measure at a time; on a card only the last has CUDA graphs, for their memory."""
    config = config_of(recipe, device, precision, graphs="off")
    contestants = [ours(f"all measures, {precision}", config, dataset), ours("the same again", config, dataset)]

    def without(name: str, patch: Patch | None = None, **more: Any) -> None:
        contestants.append(ours(name, more.pop("config", config), dataset, patch, **more))

    without("random batches, not by length", config=config_of(recipe, device, precision, 1, graphs="off"))
    for name, value in dataclasses.asdict(MEASURES[device]).items():
        if isinstance(value, bool):
            other = dataclasses.replace(MEASURES[device], **{name: not value})
            without(OTHER_WAY[name, not value], swap_item(MEASURES, device, other))
    without("optimizer not fused", prepare=_not_fused)
    without("evaluation one by one", swap(batches, "EVALUATION_BINS", 1))
    without("edit distance in Python", swap(evaluation, "error_counts", _python_distances))
    if device == "cpu":
        without("torch's GRU", swap(model, "gru", lambda layer, packed, start=None: layer(packed, start)[0]))
        if products.onednn():
            without("products by MKL", swap(products, "onednn", lambda: False))
    else:
        streamed = swap(batches, "RESIDENT_SHARE", 0.0)
        without("data not on the card, one batch ahead", streamed)
        without("data not on the card, not ahead", streamed, prepare=lambda run: setattr(run, "prefetch", None))
        without("a look at every loss", look=True)
        without("+ CUDA graphs", config=config_of(recipe, device, precision))
    if compiled:
        name = "_conv1d" if MEASURES[device].conv1d else "_convolve"
        without("+ torch.compile of the smoothing", swap(model, name, torch.compile(getattr(model, name))))
    return contestants


def _not_fused(run: Any) -> None:
    for group in run.optimizer.param_groups:
        group["fused"] = None


def _python_distances(references: list[list[int]], hypotheses: list[list[int]]) -> np.ndarray:
    return np.array([edit_distance(*pair) for pair in zip(references, hypotheses, strict=True)])


def shares(
    recipe: Recipe, dataset: Dataset, device: str, precision: str, steps: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Share of the time in data, forward (with augmentation and loss), backward, optimizer and evaluation."""
    config = config_of(recipe, device, precision)
    run = loop._start(config, dataset, torch.device(device))
    run.engine.begin_epoch(config.training.batches)
    spent = dict.fromkeys(("data", "forward", "backward", "optimizer", "evaluation"), 0.0)
    generator = torch.Generator(run.device).manual_seed(0)
    for number in range(-1, steps):
        if number == 0:  # what came before was the warm-up
            spent = dict.fromkeys(spent, 0.0)
        marks = [clock()]
        batch = run.train_loader.batch(*run.sampler.micro_batch(max(number, 0)))
        marks.append(clock())
        run.engine.begin_step()
        loss = loop._losses(run, batch, generator).mean()
        marks.append(clock())
        run.engine.backward(loss)
        marks.append(clock())
        run.optimizer.step()
        marks.append(clock())
        for name, duration in zip(spent, np.diff(marks), strict=False):
            spent[name] += float(duration)
    began = clock()
    evaluation.evaluate(
        run.engine.weights_for_evaluation(run.model), run.val_loader, "target_mean", run.engine.autocast
    )
    spent["evaluation"] = (clock() - began) * steps / EVALUATE_EVERY
    total = sum(spent.values())
    return {name: value / total for name, value in spent.items()}


def padding_share(recipe: Recipe, dataset: Dataset, bucket_batches: int) -> float:
    """Share of the bins in one pass's batches that is padding."""
    sampler = Sampler(dataset.train, config_of(recipe, "cpu", "fp32", bucket_batches))
    count = -(-len(sampler.rows) // recipe.batch_size)
    bins = [dataset.train.bins[sampler.micro_batch(number)[0]] for number in range(count)]
    return 1 - sum(int(b.sum()) for b in bins) / sum(len(b) * int(b.max()) for b in bins)


def reference(recipe: Recipe, dataset: Dataset, device: str, seed: int = 0) -> Contestant:
    """The yardstick, with torch's default arithmetic: TF32 in cuDNN only."""
    run = Reference(recipe, dataset.train, dataset.n_classes, len(dataset.days), device, seed)

    def default(work: Callable[[], Any]) -> Any:
        torch.backends.cudnn.allow_tf32 = True
        torch.set_float32_matmul_precision("highest")
        return work()

    return Contestant("reference", lambda: default(run.step), lambda: default(lambda: run.evaluate(dataset.val)))


def race(contestants: list[Contestant], rounds: int, steps: int, clock: Callable[[], float], turn: int) -> None:
    """All contestants in turn, `turn` steps each, after one step each to warm up; after `steps` each evaluates."""
    for contestant in contestants:
        contestant.step()
    for _ in range(rounds):
        for done in range(0, steps, turn):
            for contestant in contestants:
                contestant.train(min(turn, steps - done), clock)
        for contestant in contestants:
            contestant.validate(clock)


def show(title: str, contestants: list[Contestant], batch_size: int, console: Console) -> list[dict[str, Any]]:
    """A table of rates, each also as a multiple of the first; and its rows.

    "x first" is end to end, over all turns; "turn by turn" is of training alone, the median and the middle half.
    """
    table = Table(title=title)
    for column in ("", "training/s", "evaluation s", "end to end/s", "x first", "turn by turn"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=not column)
    first = contestants[0].end_to_end(batch_size)
    rows = []
    for contestant in contestants:
        trained, rate = contestant.utterances / contestant.seconds, contestant.end_to_end(batch_size)
        evaluated = mean(contestant.evaluations)
        low, middle, high = beside(contestant, contestants[0])
        rows.append({"table": title, "who": contestant.name, "training": trained, "evaluation_seconds": evaluated,
                     "end_to_end": rate, "ratio": rate / first, "turns": len(contestant.turns),
                     "turn_by_turn": [low, middle, high]})  # fmt: skip
        numbers = (f"{trained:.1f}", f"{evaluated:.2f}", f"{rate:.1f}", f"{rate / first:.2f}")
        table.add_row(contestant.name, *numbers, f"{middle:.2f} ({low:.2f} to {high:.2f})")
    console.print(table)
    for contestant in contestants:
        for note in contestant.notes:
            console.print(f"{contestant.name}: {note}", highlight=False)
    return rows


def memory_on_card(make: Callable[[], Contestant], steps: int) -> float:
    """Most memory, MiB, that a contestant alone reserves on the card, its data and CUDA graphs included."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_reserved()
    contestant = make()
    for _ in range(steps):
        contestant.step()
    contestant.evaluate()
    return (torch.cuda.max_memory_reserved() - before) / 2**20


def curves(makers: dict[str, Callable[[int], Contestant]], steps: int, console: Console) -> list[dict[str, Any]]:
    """PER after each tenth of `steps`, for two seeds of each: whether a faster one learns as well."""
    rows = []
    for name, make in makers.items():
        for seed in (0, 1):
            contestant, pers = make(seed), []
            for _ in range(10):
                for _ in range(steps // 10):
                    contestant.step()
                pers.append(contestant.evaluate())
            console.print(f"PER of {name}, seed {seed}: {' '.join(f'{per:.4f}' for per in pers)}", highlight=False)
            rows.append({"table": "curve", "who": name, "seed": seed, "steps": steps, "per": pers})
    return rows


def _seeded(recipe: Recipe, dataset: Dataset, device: str, precision: str, seed: int) -> Contestant:
    return ours(f"trainable, {precision}", config_of(recipe, device, precision, seed=seed), dataset)


def measure(size: str, options: argparse.Namespace, dataset: Dataset, console: Console) -> list[dict[str, Any]]:
    """Everything for one model size."""
    recipe, device, steps = SIZES[size], options.device, options.steps
    cuda = device == "cuda"

    def clock() -> float:
        if not cuda:
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    shape = f"{recipe.layers} x {recipe.hidden}, kernel {recipe.kernel}, batches of {recipe.batch_size}"
    makers: dict[str, Callable[[int], Contestant]] = {
        "reference": lambda seed: reference(recipe, dataset, device, seed)
    }
    for precision in options.precision:
        makers[f"trainable, {precision}"] = functools.partial(_seeded, recipe, dataset, device, precision)
    contestants = [make(0) for make in makers.values()]
    turn = 5 if cuda else 1  # on a GPU each turn waits for the card
    race(contestants, options.rounds, steps, clock, turn)
    rows = show(f"{size}: {shape}, on {device}", contestants, recipe.batch_size, console)
    del contestants
    base = "bf16" if cuda and "bf16" in options.precision else options.precision[0]
    measures = left_out(recipe, dataset, device, base, options.compile)
    race(measures, options.rounds, steps, clock, turn)
    rows += show("leaving one measure out", measures, recipe.batch_size, console)
    del measures
    for precision in options.precision:
        parts = shares(recipe, dataset, device, precision, steps, clock)
        said = ", ".join(f"{name} {share:.1%}" for name, share in parts.items())
        console.print(f"time in {precision}: {said}", highlight=False)
        rows.append({"table": "time", "who": precision, **parts})
    padding = [padding_share(recipe, dataset, bucket) for bucket in (1, 16)]
    console.print(f"padding: {padding[0]:.1%} of the bins in random batches, {padding[1]:.1%} by length")
    if cuda:
        for name, make in makers.items():
            peak = memory_on_card(functools.partial(make, 0), steps)
            console.print(f"peak memory: {peak:.0f} MB on the card, {name}")
            rows.append({"table": "memory", "who": name, "mb": peak})
    else:
        console.print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MB, all together")
    return rows + (curves(makers, options.curve, console) if options.curve else [])


def make_data(folder: Path, device: str, quick: bool) -> Dataset:
    """Synthetic data: of the recordings' dimensions and lengths, a quarter as many, for a GPU; smaller for a CPU."""
    if quick or device == "cpu":
        return synthetic.make_synthetic(folder, "tiny" if quick else "small")
    size = dataclasses.replace(synthetic.SIZES["paper"], train=2400)
    return synthetic.generate(folder, size, 0, source={"kind": "synthetic", "size": "paper", "train": size.train})


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a packed data folder; else synthetic data are made")
    parser.add_argument("--size", nargs="+", choices=SIZES, help="model sizes (small medium on a CPU, full on a GPU)")
    parser.add_argument("--precision", nargs="+", choices=(*TF32, "bf16", "fp16"), help="[default: all on a GPU]")
    parser.add_argument("--steps", type=int, default=20, help="training steps in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--curve", type=int, metavar="STEPS", help="also train for so long and show the PER on the way")
    parser.add_argument("--compile", action="store_true", help="also with torch.compile of what it can compile")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--quick", action="store_true", help="tiny data and model: shows that it runs")
    options = parser.parse_args()
    cuda = options.device == "cuda"
    options.precision = options.precision or ([*TF32, "bf16", "fp16"] if cuda else ["fp32"])
    options.size = options.size or (["full"] if cuda else ["small", "medium"])
    if options.quick:
        options.size, options.steps, options.rounds = ["tiny"], 2, 1
    torch.set_num_threads(1)
    console = Console() if sys.stdout.isatty() else Console(width=120)
    with tempfile.TemporaryDirectory() as folder:
        made = None if options.data else make_data(Path(folder) / "data", options.device, options.quick)
        dataset = made or open_dataset(options.data)
        what = torch.cuda.get_device_name() if cuda else "CPU, one thread"
        console.print(f"torch {torch.__version__}, {what}; {len(dataset.train)} + {len(dataset.val)} utterances")
        rows = [row for size in options.size for row in measure(size, options, dataset, console)]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
