"""Batches one ahead: on a CPU through the same thread as on a card, where the copy has its stream as well."""

from __future__ import annotations

import dataclasses
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from search_spaces.config import RunConfig
from trainable import loop, train
from trainable.data.batches import Batch, Loader, Prefetch, Sampler
from trainable.data.dataset import Dataset

Make = Callable[..., RunConfig]
CPU = torch.device("cpu")
CUTS = {"random_cut": 5}


def same(a: Batch, b: Batch) -> bool:
    """Whether two batches agree to the last bit."""
    pairs = [(getattr(a, field.name), getattr(b, field.name)) for field in dataclasses.fields(Batch)]
    return all(torch.equal(torch.as_tensor(x).cpu(), torch.as_tensor(y).cpu()) for x, y in pairs)


def test_prefetched_batches_are_the_samplers(tiny: Dataset, config: Make) -> None:
    """In order, across passes, and after a jump (a resumed run begins anywhere): the batch asked for, bit for bit."""
    sampler, loader = Sampler(tiny.train, config(augmentation=CUTS)), Loader(tiny.train, CPU)
    prefetch = Prefetch(sampler, loader)
    for number in [*range(10), 42, 43, 7, 7]:
        assert same(prefetch.batch(number), loader.batch(*sampler.micro_batch(number)))


def test_a_pass_planned_by_the_thread_does_not_reach_the_other(tiny: Dataset, config: Make) -> None:
    """While the thread is in the next pass, the training thread still draws from its own."""
    settings = config(training={"batch_size": 8})
    sampler, alone = Sampler(tiny.train, settings), Sampler(tiny.train, settings)
    wrong: list[int] = []

    def draw(numbers: range) -> None:
        wrong.extend(n for n in numbers if sampler.micro_batch(n)[0].tolist() != expected[n])

    expected = [alone.micro_batch(n)[0].tolist() for n in range(60)]
    threads = [threading.Thread(target=draw, args=(range(first, 60, 2),)) for first in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_training_with_prefetch_is_training_without(
    tiny: Dataset, config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses, PER and weights of a run with accumulation are the same bits when its batches come one ahead."""
    settings = config(augmentation=CUTS, training={"accumulation": 2, "batch_size": 5})
    start = loop._start

    def ahead(*arguments: Any) -> Any:
        run = start(*arguments)
        run.prefetch = Prefetch(run.sampler, run.train_loader)
        return run

    def outcome() -> list[tuple[float, float, torch.Tensor]]:
        reports = train(settings, tiny)
        return [(r.train_loss, r.per, r.checkpoint()["model"]["output.weight"].clone()) for r in reports]

    plain = outcome()
    monkeypatch.setattr(loop, "_start", ahead)
    for a, b in zip(plain, outcome(), strict=True):
        assert a[:2] == b[:2] and torch.equal(a[2], b[2])


def test_what_goes_wrong_in_the_thread_is_raised(tiny: Dataset, config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data file that cannot be read any more ends the training with its own error, not with a hang."""
    loader = Loader(tiny.train, CPU)
    prefetch = Prefetch(Sampler(tiny.train, config()), loader)

    def broken(*_: Any) -> Batch:
        raise OSError("the disk is gone")

    monkeypatch.setattr(loader, "batch", broken)
    with pytest.raises(OSError, match="the disk is gone"):
        prefetch.batch(0)


def test_the_thread_goes_with_its_run(tiny: Dataset, config: Make) -> None:
    """Worker processes serve hundreds of trials: a run that is let go leaves no thread behind."""
    prefetch = Prefetch(Sampler(tiny.train, config()), Loader(tiny.train, CPU))
    prefetch.batch(0)
    (thread,) = prefetch._thread._threads
    assert thread.is_alive()
    del prefetch
    gc.collect()
    thread.join(timeout=300)
    assert not thread.is_alive()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
def test_a_card_gets_the_same_batches_ahead(tiny: Dataset, config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no room for the split on the card, batches copied ahead on a second stream are those of a CPU."""
    monkeypatch.setattr("trainable.data.batches.RESIDENT_SHARE", 0.0)
    sampler, card = Sampler(tiny.train, config(augmentation=CUTS)), Loader(tiny.train, torch.device("cuda"))
    prefetch, expected = Prefetch(sampler, card), Loader(tiny.train, CPU)
    assert not card.resident
    for number in range(40):
        batch = prefetch.batch(number)
        busy = torch.randn(512, 512, device="cuda") @ torch.randn(512, 512, device="cuda")
        batch.features.add_(0 * busy[0, 0])
        assert same(batch, expected.batch(*sampler.micro_batch(number)))
