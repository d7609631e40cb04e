from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.config import RunConfig
from search_spaces.errors import InputError
from trainable.data.batches import Loader, Sampler, derive_seed, plan_pass
from trainable.data.dataset import Dataset, Split
from trainable.data.feasible import bins_needed, check_trainable, infeasible

Make = Callable[..., RunConfig]
MakeSplit = Callable[..., Split]
CPU = torch.device("cpu")

lengths = st.lists(st.integers(1, 500), min_size=1, max_size=200).map(np.array)


@given(lengths, st.integers(1, 70), st.integers(1, 9), st.integers(0, 2**63 - 1), st.integers(0, 5))
def test_a_pass_holds_every_utterance_once(bins: np.ndarray, size: int, bucket: int, seed: int, number: int) -> None:
    """Whatever the sizes: each utterance once, the fewest batches of at most batch_size, even, longest first."""
    batches = plan_pass(bins, size, bucket, seed, number)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(bins)))
    sizes = [len(batch) for batch in batches]
    assert len(batches) == -(-len(bins) // size)
    assert max(sizes) <= size and max(sizes) - min(sizes) <= 1
    assert all((np.diff(bins[batch]) <= 0).all() for batch in batches)


def test_a_pass_depends_on_seed_and_number_alone() -> None:
    """The same (seed, pass) gives the same batches; another seed or pass others."""
    bins = np.random.default_rng(0).integers(50, 400, 100)

    def flat(seed: int, number: int) -> list[int]:
        return np.concatenate(plan_pass(bins, 8, 4, seed, number)).tolist()

    assert flat(1, 2) == flat(1, 2)
    assert len({tuple(flat(seed, number)) for seed in (1, 2) for number in (0, 1)}) == 4


def padding(batches: list[np.ndarray], bins: np.ndarray) -> float:
    padded = sum(len(batch) * bins[batch].max() for batch in batches)
    return float(1 - bins.sum() / padded)


def test_buckets_save_padding_and_one_is_plain_random() -> None:
    """Sorting 16 batches together leaves a fraction of the padding; bucket_batches 1 cuts a random permutation."""
    bins = np.random.default_rng(0).integers(50, 500, 960)
    random, bucketed = plan_pass(bins, 32, 1, 0, 0), plan_pass(bins, 32, 16, 0, 0)
    assert padding(random, bins) > 0.4
    assert padding(bucketed, bins) < 0.06
    means = [bins[batch].mean() for batch in random]
    assert np.std(means) < 1.5 * bins.std() / np.sqrt(32)


def test_short_and_long_batches_come_mixed() -> None:
    """The order of a pass's batches has nothing to do with their lengths."""
    bins = np.random.default_rng(0).integers(50, 500, 3200)
    longest = np.array([bins[batch].max() for batch in plan_pass(bins, 32, 100, 0, 0)])
    assert abs(np.corrcoef(longest[:-1], longest[1:])[0, 1]) < 0.3


def test_every_utterance_trains_once_a_pass(tiny: Dataset, config: Make) -> None:
    """Micro-batches run through pass after pass without gaps, each a function of its number alone."""
    sampler = Sampler(tiny.train, config())
    for number in range(2):
        rows = np.concatenate([sampler.micro_batch(3 * number + i)[0] for i in range(3)])
        assert sorted(rows.tolist()) == list(range(24))
    again = Sampler(tiny.train, config())
    assert again.micro_batch(5)[0].tolist() == sampler.micro_batch(5)[0].tolist()
    assert again.micro_batch(1)[0].tolist() == sampler.micro_batch(1)[0].tolist()


def test_a_batch_may_have_a_few_days_in_equal_parts(split: MakeSplit, config: Make) -> None:
    """With `days_per_batch` a batch has so many days, as even as can be, and rare days as often as the others."""
    part = split([[1, 2]] * 40 + [[3]] * 3)
    part = dataclasses.replace(part, day=np.array([i % 4 for i in range(40)] + [4, 4, 4]))
    sampler = Sampler(part, config(data={"days_per_batch": 3}))
    seen = np.zeros(5, dtype=int)
    for number in range(300):
        rows, _ = sampler.micro_batch(number)
        days, counts = np.unique(part.day[rows], return_counts=True)
        assert len(rows) == 8 and sorted(counts.tolist()) == [2, 3, 3]
        assert (np.diff(part.bins[rows]) <= 0).all()
        seen[days] += 1
    assert seen.sum() == 900 and seen.min() > 0.8 * 180
    again = Sampler(part, config(data={"days_per_batch": 3}))
    assert again.micro_batch(7)[0].tolist() == sampler.micro_batch(7)[0].tolist()
    assert again.micro_batch(7)[0].tolist() != sampler.micro_batch(8)[0].tolist()


def test_days_without_usable_utterances_are_not_drawn(
    split: MakeSplit, config: Make, dataset: Callable[..., Dataset]
) -> None:
    """Only days that have something to train on count, and more than there are is refused."""
    part = dataclasses.replace(split([[1, 2], [], [3], [4]]), day=np.array([0, 1, 2, 2]))
    sampler = Sampler(part, config(data={"days_per_batch": 2}))
    assert all(set(part.day[sampler.micro_batch(n)[0]]) == {0, 2} for n in range(20))
    data = dataset(part, part)
    with pytest.raises(InputError, match=r"data\.days_per_batch: 3 is not allowed; .* has 2 days .* give 2 or less"):
        check_trainable(config(data={"days_per_batch": 3}), data)


def test_unusable_utterances_are_left_out_and_the_infeasible_counted(split: MakeSplit, config: Make) -> None:
    """Unlabelled, too long and infeasible utterances never train; only the last are counted as infeasible."""
    labels = [[1, 2], [], [1, 2, 3], [1, 1], [2, 3, 4, 5], [4]]
    part = split(labels, bins=[40, 40, 90, 10, 14, 7])
    sampler = Sampler(part, config(data={"max_bins": 80}))
    # kernel 8, stride 2: 10 bins make 2 frames, but 1 1 needs 3; 14 make 4 for 4 labels; 7 make none.
    assert sampler.rows.tolist() == [0, 4]
    assert sampler.infeasible == 2


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (8, 2), (7, 4), (3, 16)])
def test_the_bins_a_label_needs_are_exactly_enough(split: MakeSplit, kernel: int, stride: int) -> None:
    """`bins_needed` bins are feasible by the data room's count, and one bin fewer is not."""
    labels = [[1], [1, 1], [1, 2, 2, 2], [3, 3], [3, 1, 3]]
    needed = bins_needed(split(labels), kernel, stride)
    assert not infeasible(split(labels, bins=needed.tolist()), kernel, stride).any()
    if needed.min() > 1:
        assert infeasible(split(labels, bins=(needed - 1).tolist()), kernel, stride).all()


def test_cuts_never_make_a_label_infeasible(tiny: Dataset, config: Make) -> None:
    """Cuts reach the configured length where there is room, stop where there is none, and keep longest first."""
    settings = config(augmentation={"random_cut": 30})
    sampler = Sampler(tiny.train, settings)
    slack = tiny.train.bins - bins_needed(tiny.train, 8, 2)
    cuts = []
    for number in range(60):
        rows, cut = sampler.micro_batch(number)
        assert (cut >= 0).all() and (cut <= np.minimum(30, slack[rows])).all()
        assert (np.diff(tiny.train.bins[rows] - cut) <= 0).all()
        cuts.append(cut)
    pooled = np.concatenate(cuts)
    assert pooled.min() == 0 and len(np.unique(pooled)) > 15


def test_a_cut_may_be_as_long_as_it_is_said_to_be(tiny: Dataset, config: Make) -> None:
    """With random_cut 2, utterances with room lose 0, 1 or 2 bins, each about as often."""
    sampler = Sampler(tiny.train, config(augmentation={"random_cut": 2}))
    roomy = tiny.train.bins - bins_needed(tiny.train, 8, 2) >= 2
    pairs = [sampler.micro_batch(number) for number in range(60)]
    cuts = np.concatenate([cut[roomy[rows]] for rows, cut in pairs])
    values, counts = np.unique(cuts, return_counts=True)
    assert values.tolist() == [0, 1, 2]
    assert counts.min() > 0.8 * len(cuts) / 3


def test_a_batch_is_its_utterances(tiny: Dataset) -> None:
    """Features, cuts, padding, days and labels are those of the rows asked for."""
    rows, cut = np.array([3, 0, 7]), np.array([2, 0, 5])
    order = np.argsort(cut - tiny.train.bins[rows], kind="stable")
    rows, cut = rows[order], cut[order]
    batch = Loader(tiny.train, CPU).batch(rows, cut)
    assert batch.bins.tolist() == (tiny.train.bins[rows] - cut).tolist()
    for i, row in enumerate(rows):
        length = int(batch.bins[i])
        assert np.array_equal(batch.features[i, :length].numpy(), tiny.train.features(row)[cut[i] :])
        assert not batch.features[i, length:].any()
    assert batch.day.tolist() == tiny.train.day[rows].tolist()
    assert batch.labels.tolist() == np.concatenate([tiny.train.label(row) for row in rows]).tolist()
    assert batch.label_lengths.tolist() == tiny.train.label_lengths[rows].tolist()


def test_a_batch_is_no_view_of_the_data(tiny: Dataset) -> None:
    """Augmentation may write into a batch: the data set stays as it is."""
    before = tiny.train.matrix.copy()
    Loader(tiny.train, CPU).batch(np.array([0])).features.fill_(9.0)
    assert np.array_equal(tiny.train.matrix, before)


def test_evaluation_sees_every_utterance_once(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """`in_order` covers the split, longest first, in batches of bounded size, also where one utterance exceeds it."""
    monkeypatch.setattr("trainable.data.batches.EVALUATION_BINS", 100)
    batches = list(Loader(tiny.val, CPU).in_order())
    rows = np.concatenate([batch.rows for batch in batches])
    assert sorted(rows.tolist()) == list(range(10))
    assert (np.diff(tiny.val.bins[rows]) <= 0).all()
    assert all(batch.features.shape[0] * batch.features.shape[1] <= 100 for batch in batches)
    monkeypatch.setattr("trainable.data.batches.EVALUATION_BINS", 1)
    assert len(list(Loader(tiny.val, CPU).in_order())) == 10


def test_seeds_of_different_purposes_differ() -> None:
    """No two of (seed, stream, number) share a derived seed, and each fits torch's generators."""
    derived = [derive_seed(seed, stream, number) for seed in range(5) for stream in range(5) for number in range(40)]
    assert len(set(derived)) == len(derived)
    assert all(0 <= value < 2**63 for value in derived)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
@pytest.mark.parametrize("share", [0.3, 0.0])
def test_a_card_gets_the_same_batches(tiny: Dataset, monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    """Gathered on the card or copied from pinned memory, a batch is what it is on the CPU."""
    monkeypatch.setattr("trainable.data.batches.RESIDENT_SHARE", share)
    rows, cut = np.array([0, 3]), np.array([2, 20])
    order = np.argsort(cut - tiny.train.bins[rows], kind="stable")
    expected = Loader(tiny.train, CPU).batch(rows[order], cut[order])
    actual = Loader(tiny.train, torch.device("cuda")).batch(rows[order], cut[order])
    assert torch.equal(actual.features.cpu(), expected.features)
    assert torch.equal(actual.labels.cpu(), expected.labels) and torch.equal(actual.day.cpu(), expected.day)
