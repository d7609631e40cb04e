"""The training loop: a generator of one `EpochReport` per epoch, stoppable after any of them and exactly resumable.

Random numbers are seeded anew at every step from (seed, batch), so a run's state is its weights, their average, the
optimizer and the number of batches done. On a CPU a run that was stopped and resumed gives the same bits as one that
was not; on CUDA cuDNN and atomic additions leave differences in the last digits.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, get_total_norm

from search_spaces.config import RunConfig, to_dict
from search_spaces.errors import InputError
from trainable import checkpoint
from trainable.augment import corrupt, hide
from trainable.averaging import (
    RAW,
    Average,
    average_state,
    averages_that_fit,
    chooses,
    evaluated_weights,
    load_averages,
    same_weights,
    settle,
    update_averages,
)
from trainable.choosing import Choice, all_are_evaluated, by_name, choose, measured, only, worth_a_pass
from trainable.compute.engine import Engine
from trainable.compute.measures import measures_on
from trainable.compute.precision import choose_device, flatten
from trainable.data.batches import AUGMENT, STEP, WEIGHTS, Batch, Loader, Prefetch, Sampler, derive_seed
from trainable.data.dataset import Dataset, with_features
from trainable.data.feasible import check_trainable
from trainable.evaluation import ctc_losses, evaluate
from trainable.model import Decoder
from trainable.optimizers import make_optimizer, set_rates
from trainable.schedules import lr_at
from trainable.weights.start import start_weights

LOWEST_SCALE = 1.0
"""fp16 gradients that overflow even when scaled by less than this count as divergence."""


@dataclass(frozen=True)
class EpochReport:
    """The results of one epoch; validation numbers are those of the evaluated weights: averaged, if averaging is on.

    Where the best of several weights counts (`averaging.decays`, `averaging.or_raw`), they are the best ones'.
    """

    epoch: int
    """From 1 on."""
    batch: int
    """Optimizer steps done."""
    per: float
    """Greedy corpus PER on the validation split."""
    per_raw: float
    """The same of the raw weights."""
    per_utterance_mean: float
    """Mean over utterances of each one's PER."""
    val_loss: float
    """Mean CTC loss on the validation split, reduced as in training."""
    train_loss: float
    """Mean loss of the epoch's steps."""
    lr: float
    """Rate of the epoch's last batch."""
    schedule_fraction: float
    """batch / horizon."""
    grad_norm: float
    """Mean over the epoch of the gradient norm before clipping."""
    blank_share: float
    """Fraction of validation frames whose most likely class is the blank; near 1 while the model outputs nothing."""
    average: str | None
    """The weights that `per` is of: "raw", "swa", or the decay of an EMA, such as "0.999"; None if diverged."""
    per_by_decay: list[dict[str, float]] | None
    """Of each EMA that was evaluated: its `decay` and `per`."""
    per_halves: float | None
    """`per`, had each half of the validation utterances been decoded by the weights that the other half chooses."""
    infeasible: int
    """Training utterances left out because CTC cannot align their labels."""
    seconds: float
    """Wall time of the epoch, evaluation included."""
    samples_per_second: float
    """Training utterances per second of training time."""
    peak_memory_mb: float
    """Most memory so far: reserved on the GPU, or resident in the process."""
    diverged: bool = False
    """Loss or gradient was not finite. The run ends with this report; its validation numbers are NaN."""
    notes: tuple[str, ...] = ()
    """Lines for the log: how a card computes, and why."""
    checkpoint: Callable[[], dict[str, Any]] = dataclasses.field(repr=False, compare=False, kw_only=True)
    """The whole state after this epoch (`trainable.checkpoint`). Valid until the generator is advanced."""

    def row(self) -> dict[str, Any]:
        """The numbers, by name, and which weights they are of."""
        left_out = ("diverged", "notes", "checkpoint")
        return {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name not in left_out
        }


@dataclass
class _Run:
    """The state of a run between two steps."""

    config: RunConfig
    dataset: Dataset
    device: torch.device
    model: Decoder
    engine: Engine
    optimizer: torch.optim.Optimizer
    averages: list[Average]
    scaler: torch.amp.GradScaler
    sampler: Sampler
    train_loader: Loader
    val_loader: Loader
    prefetch: Prefetch | None
    """Used where the training split does not fit on the GPU."""
    epoch: int = 0
    batch: int = 0
    best: dict[str, Any] | None = None
    chosen: str | None = None
    """The weights that counted at the last epoch, where the best of several are chosen."""


def train(config: RunConfig, dataset: Dataset, resume_from: Mapping[str, Any] | None = None) -> Iterator[EpochReport]:
    """Train `config` on `dataset`: an iterator of epoch reports that ends after `config.epochs` epochs.

    `resume_from` is a checkpoint dictionary of the same model and data; the run continues after its last epoch, and
    ends at once if that was the final one. Raises `InputError`, before any work, for data that cannot be trained on, a
    device or precision that this machine lacks, or a checkpoint or `training.init_from` that does not fit. Seeds
    torch's global generators at every step.
    """
    check_trainable(config, dataset)
    dataset = with_features(dataset, config.data.features)
    device = choose_device(config)
    fresh = config.training.init_from is not None and resume_from is None
    run = _start(config, dataset, device, start_weights(config, dataset)[0] if fresh else None)
    if resume_from is not None:
        _resume(run, resume_from)
    return _epochs(run)


def _start(
    config: RunConfig, dataset: Dataset, device: torch.device, weights: Mapping[str, Tensor] | None = None
) -> _Run:
    torch.manual_seed(derive_seed(config.training.seed, WEIGHTS, 0))
    model = Decoder(config, dataset.n_features, dataset.n_classes, len(dataset.days))
    if weights is not None:
        checkpoint.load_weights(model, weights, f"training.init_from: {config.training.init_from}")
    model.to(device)
    flatten(model)
    sampler, train_loader = Sampler(dataset.train, config), Loader(dataset.train, device)
    streamed = device.type == "cuda" and not train_loader.resident
    averages, notes = averages_that_fit(model, config.averaging, device)
    run = _Run(
        config=config,
        dataset=dataset,
        device=device,
        model=model,
        engine=Engine(config, model, device, sampler),
        optimizer=make_optimizer(model, config),
        averages=averages,
        scaler=torch.amp.GradScaler(device.type, enabled=config.training.precision == "fp16"),
        sampler=sampler,
        train_loader=train_loader,
        val_loader=Loader(dataset.val, device),
        prefetch=Prefetch(sampler, train_loader) if streamed else None,
    )
    run.engine.notes += notes
    return run


def _epochs(run: _Run) -> Iterator[EpochReport]:
    training = run.config.training
    while run.batch < training.batches:
        run.engine.begin_epoch(training.batches - run.batch)
        report = _train_epoch(run)
        yield report
        if report.diverged:
            return


def _train_epoch(run: _Run) -> EpochReport:
    training = run.config.training
    end = min(run.batch + training.batches_per_epoch, training.batches)
    check_every = measures_on(run.device).check_every
    began = time.perf_counter()
    losses: list[Tensor] = []
    norms: list[Tensor] = []
    utterances, finite = 0, True
    while run.batch < end and finite:
        loss, norm, count = _step(run, run.batch)
        losses.append(loss)
        norms.append(norm)
        utterances += count
        run.batch += 1
        if run.batch % check_every == 0 or run.batch == end:
            finite = _finite(run, losses[-check_every:], norms[-check_every:])
    train_loss = float(torch.stack(losses).mean())
    trained = time.perf_counter()
    run.epoch += 1
    choice = _validate(run) if finite else None
    if choice is not None and (run.best is None or choice.best.per < run.best["per"]):
        run.best = {"per": choice.best.per, "epoch": run.epoch}
    nan = math.nan
    row: dict[str, Any] = {
        "epoch": run.epoch,
        "batch": run.batch,
        **measured(run.averages, choice),
        "train_loss": train_loss,
        "lr": lr_at(run.config, run.batch - 1),
        "schedule_fraction": run.batch / run.config.horizon,
        "grad_norm": _mean_of_finite(norms) if finite else nan,
        "infeasible": run.sampler.infeasible,
        "seconds": time.perf_counter() - began,
        "samples_per_second": utterances / (trained - began),
        "peak_memory_mb": _peak_memory_mb(run.device),
    }
    notes, run.engine.notes = tuple(run.engine.notes), []
    return EpochReport(**row, diverged=not finite, notes=notes, checkpoint=lambda: _state(run, row))


def _step(run: _Run, batch: int) -> tuple[Tensor, Tensor, int]:
    """One optimizer step: the loss, the gradient norm before clipping (both on the device), utterances used."""
    training = run.config.training
    set_rates(run.optimizer, run.config, batch)
    torch.manual_seed(derive_seed(training.seed, STEP, batch))
    generator = torch.Generator(run.device).manual_seed(derive_seed(training.seed, AUGMENT, batch))
    numbers = range(batch * training.accumulation, (batch + 1) * training.accumulation)
    drawn = [run.sampler.micro_batch(number) for number in numbers]
    utterances = sum(len(rows) for rows, _ in drawn)
    loss = torch.zeros((), device=run.device)
    run.engine.begin_step()
    for number, (rows, cut) in zip(numbers, drawn, strict=True):
        micro_batch = run.prefetch.batch(number) if run.prefetch else run.train_loader.batch(rows, cut)
        # Each utterance has the same weight in any micro-batch: k micro-batches equal one that is k times as large.
        part = _losses(run, micro_batch, generator).sum() / utterances
        run.engine.backward(run.scaler.scale(part))
        loss += part.detach()
    run.scaler.unscale_(run.optimizer)
    parameters = list(run.model.parameters())
    if training.clip is not None:
        norm = clip_grad_norm_(parameters, training.clip)
    else:
        norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
    run.scaler.step(run.optimizer)
    run.scaler.update()
    update_averages(run.averages, run.model, batch)
    return loss, norm, utterances


def _losses(run: _Run, batch: Batch, generator: torch.Generator) -> Tensor:
    """Augmented forward pass and CTC loss of each utterance, float32 [batch]."""
    augmentation = run.config.augmentation
    bins = batch.bins.to(run.device, non_blocking=True)
    features = corrupt(batch.features, bins, augmentation, generator)
    features = hide(run.model.smooth(features), bins, augmentation, generator)
    logits, frames = run.engine.decode(features, batch.bins, batch.day)
    return ctc_losses(logits, frames, batch, run.config.training.ctc_reduction)


def _finite(run: _Run, losses: list[Tensor], norms: list[Tensor]) -> bool:
    """Whether training can continue. With fp16 the scaler skips steps whose gradients overflow: only the loss
    counts."""
    if run.scaler.is_enabled():
        return bool(torch.stack(losses).isfinite().all()) and run.scaler.get_scale() >= LOWEST_SCALE
    return bool(torch.stack(losses + norms).isfinite().all())


def _mean_of_finite(norms: list[Tensor]) -> float:
    stacked = torch.stack(norms)
    return float(stacked[stacked.isfinite()].mean())


def _validate(run: _Run) -> Choice:
    """The validation split by the weights that matter at this epoch, each in one pass; which of them count."""
    engine, config = run.engine, run.config
    settle(run.averages, run.model)
    same = same_weights(run.averages)
    several = chooses(config.averaging)
    names = list(same)
    if several and not all_are_evaluated(config, run.dataset, run.epoch, 1 + len(names)):
        names = worth_a_pass(names, run.chosen)
    found = {}
    for name in (RAW, *names):
        weights = engine.weights_for_evaluation(evaluated_weights(run.averages, run.model, name))
        found[name] = evaluate(weights, run.val_loader, config.training.ctc_reduction, engine.autocast)
    found = by_name(found, same)
    choice = choose(found, run.dataset.val.label_lengths) if several else only(found, ([RAW, *names])[-1])
    run.chosen = choice.name if several else None
    return choice


def _state(run: _Run, row: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint dictionary of `trainable.checkpoint`. Its tensors are the live ones, not copies."""
    if run.batch != row["batch"]:
        raise RuntimeError("the checkpoint of an epoch is no longer valid when the next epoch has begun")
    return {
        "schema": checkpoint.SCHEMA,
        "config": to_dict(run.config),
        "data": _data_facts(run.dataset),
        "epoch": run.epoch,
        "batch": run.batch,
        "model": run.model.state_dict(),
        "average": average_state(run.averages, run.chosen),
        "optimizer": run.optimizer.state_dict(),
        "scaler": run.scaler.state_dict(),
        "report": row,
        "best": run.best,
    }


def _data_facts(dataset: Dataset) -> dict[str, Any]:
    return {
        "fingerprint": dataset.fingerprint,
        "features": dataset.n_features,
        "classes": list(dataset.classes),
        "days": list(dataset.days),
    }


def _resume(run: _Run, state: Mapping[str, Any]) -> None:
    """Restore a checkpoint's state; raises `InputError` if it has another model, data set or training precision."""
    state = checkpoint.check(state, "checkpoint")
    facts, old = _data_facts(run.dataset), checkpoint.config_of(state)
    new, training = run.config, run.config.training
    problems = [
        f"data.{key} differs from that of {run.dataset.path}" for key in facts if state["data"][key] != facts[key]
    ]
    pairs = {
        "model": (old.model, new.model),
        "optimizer.kind": (old.optimizer.kind, new.optimizer.kind),
        "data.features": (old.data.features, new.data.features),
        "the day layers' own rate, eps or weight decay": (old.days_apart, new.days_apart),
        "averaging.kind": (old.averaging.kind, new.averaging.kind),
        "averaging.decays": (getattr(old.averaging, "decays", None), getattr(new.averaging, "decays", None)),
        "training.precision": (old.training.precision, training.precision),
    }
    problems += [f"{name} was {a}, is {b}" for name, (a, b) in pairs.items() if a != b]
    if not state["optimizer"]:
        problems.append("it holds weights for evaluation only")
    if state["batch"] != min(state["epoch"] * training.batches_per_epoch, old.training.batches):
        problems.append(f"batch {state['batch']} does not end epoch {state['epoch']} of this configuration")
    if problems:
        raise InputError(
            f"checkpoint: cannot be resumed: {'; '.join(problems)}; start from epoch 1, or give its own configuration"
        )
    checkpoint.load_weights(run.model, state["model"])
    held = state["average"] or {}
    if getattr(new.averaging, "decays", None) is not None:
        tracked = list(held.get("averages", ()))  # elsewhere there may have been less room for them, or more
        run.averages = averages_that_fit(run.model, new.averaging, run.device, tracked)[0]
    load_averages(run.averages, held)
    run.chosen = held.get("chosen")
    # The optimizer would otherwise share the checkpoint's tensors and change them. Its settings are those of the
    # configuration, which may differ from the checkpoint's.
    settings = [{k: v for k, v in group.items() if k != "params"} for group in run.optimizer.param_groups]
    run.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
    for group, own in zip(run.optimizer.param_groups, settings, strict=True):
        group.update(own)
    run.scaler.load_state_dict(state["scaler"])
    run.epoch, run.batch, run.best = state["epoch"], state["batch"], state.get("best")


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        # What a CUDA graph uses is reserved for it, but allocated only while it is captured.
        return torch.cuda.max_memory_reserved(device) / 2**20
    import resource  # not on Windows, where training on CUDA works without it

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
