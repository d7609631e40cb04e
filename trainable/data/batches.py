"""The utterances of each batch, and how they get to the device.

Micro-batch m of a run is a function of (seed, m), so that a resumed run is equal to one that was never interrupted. A
pass goes through every usable training utterance exactly once: the permutation of (seed, pass) is cut into chunks of
about `bucket_batches * batch_size`; within a chunk utterances are sorted by length and cut into batches, so that little
is padded; then the pass's batches are shuffled. A pass is cut evenly, into the fewest batches of at most `batch_size`,
because a last batch of one or two utterances would take a whole optimizer step of noise.

With `data.days_per_batch` there are no passes: micro-batch m is drawn from (seed, m), as in the '25 reference
(Neuroprosthetics-Lab/nejm-brain-to-text): that many days, none twice, and about as many utterances of each, with
replacement. Days with few utterances are then seen as often as the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from search_spaces.config import RunConfig
from trainable.data.dataset import Split
from trainable.data.feasible import bins_needed

PASS, CUT, STEP, AUGMENT, WEIGHTS, DAYS = range(6)
"""The streams of random numbers of one seed."""

RESIDENT_SHARE = 0.3
"""A split is kept on the GPU if it needs no more than this fraction of the memory that this process may still use."""

EVALUATION_BINS = 65536
"""Most bins, padding included, in a batch of evaluation."""


_card_share = 1.0


def limit_memory(share: float) -> None:
    """Limit this process to `share` (0 to 1) of its GPU's memory, so that the others have theirs."""
    global _card_share
    _card_share = share
    torch.cuda.set_per_process_memory_fraction(share)


def room_on_card(device: torch.device) -> float:
    """Bytes of the GPU's memory that are free and within this process's share."""
    free, total = torch.cuda.mem_get_info(device)
    return min(free, _card_share * total - torch.cuda.memory_allocated(device))


def card_share() -> float:
    """This process's share of its GPU, 0 to 1."""
    return _card_share


def derive_seed(seed: int, stream: int, number: int) -> int:
    """A 63-bit seed for item `number` of a stream; streams and items are independent of one another."""
    return int(np.random.SeedSequence([seed, stream, number]).generate_state(1, np.uint64)[0]) >> 1


def plan_pass(bins: np.ndarray, batch_size: int, bucket_batches: int, seed: int, number: int) -> list[np.ndarray]:
    """Pass `number` over utterances of these lengths: batches of positions in `bins`, each longest first.

    Every position occurs once; `ceil(n / batch_size)` batches whose sizes differ by at most one.
    """
    rng = np.random.default_rng(derive_seed(seed, PASS, number))
    count = -(-len(bins) // batch_size)
    batches = []
    edges = np.linspace(0, len(bins), count + 1).round().astype(np.int64)
    order = rng.permutation(len(bins))
    for first in range(0, count, bucket_batches):
        last = min(first + bucket_batches, count)
        chunk = order[edges[first] : edges[last]]
        chunk = chunk[np.argsort(-bins[chunk], kind="stable")]
        batches += np.split(chunk, edges[first + 1 : last] - edges[first])
    return [batches[i] for i in rng.permutation(count)]


def draw_days(day: np.ndarray, batch_size: int, days: int, seed: int, number: int) -> np.ndarray:
    """Micro-batch `number` over utterances of these days: positions in `day`, int64 [batch_size].

    `days` different days; each has batch_size / days utterances, rounded up or down, drawn with replacement.
    """
    rng = np.random.default_rng(derive_seed(seed, DAYS, number))
    chosen = rng.choice(np.unique(day), size=days, replace=False)
    sizes = np.full(days, batch_size // days)
    sizes[rng.permutation(days)[: batch_size % days]] += 1
    drawn = [rng.choice(np.flatnonzero(day == one), size=size) for one, size in zip(chosen, sizes, strict=True)]
    return np.concatenate(drawn)


class Sampler:
    """The training batches of a run. Left out: utterances without labels, longer than `data.max_bins`, infeasible."""

    def __init__(self, split: Split, config: RunConfig) -> None:
        wanted = split.label_lengths > 0
        if config.data.max_bins is not None:
            wanted &= split.bins <= config.data.max_bins
        slack = split.bins - bins_needed(split, config.model.kernel, config.model.stride)
        self.rows = np.flatnonzero(wanted & (slack >= 0))
        self.infeasible = int(np.sum(wanted & (slack < 0)))
        self._bins, self._slack, self._day = split.bins, slack, split.day[self.rows]
        self._config = config
        self._pass: tuple[int, list[np.ndarray]] = (-1, [])

    def micro_batch(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the split and bins to cut from each one's start, int64 [batch] both, longest first after the cut.

        Cuts are up to `augmentation.random_cut` bins, uniformly, but never so many that the label no longer fits.
        """
        training = self._config.training
        rows = self.rows[self._positions(number)]
        cut = np.zeros(len(rows), dtype=np.int64)
        if self._config.augmentation.random_cut > 0:
            rng = np.random.default_rng(derive_seed(training.seed, CUT, number))
            cut = rng.integers(0, self._config.augmentation.random_cut, size=len(rows), endpoint=True)
            cut = np.minimum(cut, self._slack[rows])
            order = np.argsort(cut - self._bins[rows], kind="stable")
            rows, cut = rows[order], cut[order]
        return rows, cut

    def shapes(self) -> tuple[np.ndarray, int]:
        """Of the first pass: the longest utterance of each micro-batch in bins, int64 [n], and the largest batch.

        The longest of all utterances, without a cut, is among the lengths.
        """
        count = -(-len(self.rows) // self._config.training.batch_size)
        drawn = [self.micro_batch(number) for number in range(count)]
        longest = [int((self._bins[rows] - cut).max()) for rows, cut in drawn]
        return np.array([*longest, self._bins[self.rows].max()]), max(len(rows) for rows, _ in drawn)

    def _positions(self, number: int) -> np.ndarray:
        """The micro-batch as positions in `rows`, longest first."""
        training, days = self._config.training, self._config.data.days_per_batch
        bins = self._bins[self.rows]
        if days is not None:
            drawn = draw_days(self._day, training.batch_size, days, training.seed, number)
            return drawn[np.argsort(-bins[drawn], kind="stable")]
        per_pass = -(-len(self.rows) // training.batch_size)
        planned = self._pass  # read once: a thread that prefetches may be at another pass
        if planned[0] != number // per_pass:
            bucket = self._config.data.bucket_batches
            planned = self._pass = (
                number // per_pass,
                plan_pass(bins, training.batch_size, bucket, training.seed, number // per_pass),
            )
        return planned[1][number % per_pass]


@dataclass(frozen=True)
class Batch:
    """Utterances of one split, padded to the longest, longest first."""

    rows: np.ndarray
    """int64 [batch], which utterances of the split."""
    features: Tensor
    """float32 [batch, time, features] on the device, 0 beyond an utterance's end."""
    bins: Tensor
    """int64 [batch] on the CPU."""
    day: Tensor
    """int64 [batch] on the device."""
    labels: Tensor
    """int64 [sum of label lengths] on the device."""
    label_lengths: Tensor
    """int64 [batch] on the CPU."""


class Loader:
    """Makes batches of one split on `device`.

    On a CPU features are copied from the memory map, row by row. On CUDA a split that fits is kept on the GPU and
    batches are gathered there; one that does not goes through pinned memory, without waiting for the copy (and, in
    training, one batch ahead: `Prefetch`).
    """

    def __init__(self, split: Split, device: torch.device) -> None:
        self.split, self.device = split, device
        self._resident: Tensor | None = None
        if device.type == "cuda":
            size = int(split.bins.sum()) * split.width * split.matrix.itemsize
            if size <= RESIDENT_SHARE * room_on_card(device):
                parts = [split.features(i) for i in range(len(split))]
                self._resident = torch.from_numpy(np.concatenate(parts)).to(device)
        self._offset = np.cumsum(split.bins) - split.bins

    @property
    def resident(self) -> bool:
        """Whether the split is kept on the GPU."""
        return self._resident is not None

    def batch(self, rows: np.ndarray, cut: np.ndarray | None = None) -> Batch:
        """The utterances `rows` [batch], longest first, without the first `cut` [batch] bins of each."""
        cut = np.zeros(len(rows), dtype=np.int64) if cut is None else cut
        bins = self.split.bins[rows] - cut
        lengths = self.split.label_lengths[rows]
        labels = np.concatenate([self.split.label(row) for row in rows])
        return Batch(
            rows=rows,
            features=self._features(rows, cut, bins),
            bins=torch.from_numpy(bins),
            day=self._move(torch.from_numpy(self.split.day[rows])),
            labels=self._move(torch.from_numpy(labels)),
            label_lengths=torch.from_numpy(lengths),
        )

    def in_order(self) -> Iterator[Batch]:
        """All utterances, longest first, for evaluation."""
        order = np.argsort(-self.split.bins, kind="stable")
        while len(order):
            size = max(1, EVALUATION_BINS // int(self.split.bins[order[0]]))
            yield self.batch(order[:size])
            order = order[size:]

    def _features(self, rows: np.ndarray, cut: np.ndarray, bins: np.ndarray) -> Tensor:
        time = int(bins.max())
        if self._resident is not None:
            start = self._move(torch.from_numpy(self._offset[rows] + cut))[:, None]
            position = torch.arange(time, device=self.device)
            inside = position < self._move(torch.from_numpy(bins))[:, None]
            index = torch.where(inside, start + position, 0)
            return self._resident[index].mul_(inside[:, :, None])
        features = np.zeros((len(rows), time, self.split.width), dtype=np.float32)
        for i, row in enumerate(rows):
            features[i, : bins[i]] = self.split.features(row)[cut[i] :]
        return self._move(torch.from_numpy(features))

    def _move(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)


class Prefetch:
    """Micro-batches of a run, one ahead: the next is read and copied while the GPU works on this one.

    A thread fills pinned memory and starts the copy on a stream of its own, for which the training stream waits on the
    GPU. The batches are those of `loader.batch(*sampler.micro_batch(number))`.
    """

    def __init__(self, sampler: Sampler, loader: Loader) -> None:
        self._sampler, self._loader = sampler, loader
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._stream = torch.cuda.Stream(loader.device) if loader.device.type == "cuda" else None
        self._ahead: tuple[int, Future[tuple[Batch, torch.cuda.Event | None]]] | None = None

    def batch(self, number: int) -> Batch:
        """Micro-batch `number`; the one after it is begun. Raises what reading the data raises."""
        if self._ahead is not None and self._ahead[0] == number:
            future = self._ahead[1]
        else:
            future = self._thread.submit(self._make, number)
        self._ahead = (number + 1, self._thread.submit(self._make, number + 1))
        batch, copied = future.result()
        if copied is not None:
            stream = torch.cuda.current_stream(self._loader.device)
            stream.wait_event(copied)
            for tensor in (batch.features, batch.day, batch.labels):
                tensor.record_stream(stream)  # its memory belongs to the copying stream
        return batch

    def _make(self, number: int) -> tuple[Batch, torch.cuda.Event | None]:
        rows, cut = self._sampler.micro_batch(number)
        if self._stream is None:
            return self._loader.batch(rows, cut), None
        with torch.cuda.stream(self._stream):
            batch = self._loader.batch(rows, cut)
            return batch, self._stream.record_event()
