"""CUDA graphs: what is around them on a CPU, where "capturing" is doing the same work again, and on a card they too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from search_spaces.config import RunConfig
from trainable import EpochReport, loop, train
from trainable.compute import engine, graphs
from trainable.compute.graphs import Graphs, GraphsRefused, padded_lengths
from trainable.compute.measures import GRAPHED_HIDDEN, GRAPHED_STEPS, no_graphs, no_memory
from trainable.compute.shadow import Shadow
from trainable.data.batches import Sampler
from trainable.data.dataset import Dataset
from trainable.model import Decoder

Make = Callable[..., RunConfig]
STILL = {"model": {"dropout": 0.0}, "augmentation": {"input_dropout": 0.0, "white_noise": 0.1}}
needs_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")


def again(work: Callable[[], None]) -> Callable[[], None]:
    """The work itself in place of a graph of it."""
    with_gradients = torch.enable_grad()(work)
    with_gradients()
    return with_gradients


@pytest.fixture
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> list[Graphs]:
    """Runs on this CPU choose as on a card of their own; the list gets the graphs that they make."""
    made: list[Graphs] = []

    class Here(engine.Engine):
        def _choose(self, steps: int) -> None:
            self._device = torch.device("cuda")
            super()._choose(steps)
            self._device = torch.device("cpu")
            if self._graphs is not None:
                made.append(self._graphs)

    monkeypatch.setattr(loop, "Engine", Here)
    monkeypatch.setattr(graphs, "capturing", lambda: again)
    return made


def batch(lengths: list[int], width: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(len(lengths))
    bins = torch.tensor(lengths)
    x = torch.randn(len(lengths), max(lengths), width) * (torch.arange(max(lengths)) < bins[:, None])[:, :, None]
    return x, bins, torch.arange(len(lengths)) % 2


def test_lengths_are_few_rising_and_cover_all() -> None:
    """Every batch has a length that is not shorter, the longest is kept, and few that occur are all kept."""
    assert padded_lengths(np.array([5, 3, 5, 9])) == [3, 5, 9]
    longest = np.random.default_rng(0).integers(10, 220, size=500)
    found = padded_lengths(longest, 12)
    assert len(found) == 12 and found == sorted(set(found)) and found[-1] == longest.max()
    assert set(found) <= set(longest.tolist())


def test_lengths_are_chosen_for_little_padding() -> None:
    """Lengths that many batches have are kept, rare ones between them go; less is padded than with equal steps."""
    assert padded_lengths(np.array([10] * 50 + [11, 12] + [40] * 50 + [60]), 3) == [10, 40, 60]
    longest = np.random.default_rng(1).lognormal(4, 0.5, size=400).astype(int)

    def padding(lengths: list[int]) -> int:
        return int(sum(min(length for length in lengths if length >= each) - each for each in longest))

    steps = [int(edge) for edge in np.linspace(longest.min(), longest.max(), 13)[1:]]
    assert padding(padded_lengths(longest, 12)) < 0.6 * padding(steps)


def test_the_sampler_knows_the_shapes_of_its_batches(tiny: Dataset, config: Make) -> None:
    """The longest of each micro-batch of a pass after its cuts, the longest of all without, the largest batch."""
    for settings in (config(), config(augmentation={"random_cut": 5}), config(data={"days_per_batch": 1})):
        sampler = Sampler(tiny.train, settings)
        bins, largest = sampler.shapes()
        drawn = [sampler.micro_batch(number) for number in range(3)]
        assert bins.tolist() == [*(int((tiny.train.bins[rows] - cut).max()) for rows, cut in drawn), 56]
        assert largest == 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("variant", [{}, {"layer_norm": True}, {"learned_start": True, "residual": True}], ids=str)
def test_logits_and_gradients_are_the_plain_ones(config: Make, dtype: torch.dtype, variant: dict[str, Any]) -> None:
    """For batches of several lengths and sizes in any order, with leftovers of longer ones in their places."""
    torch.manual_seed(0)
    model = Decoder(config(model={**STILL["model"], **variant}), 6, 6, 2).train()
    plain, graphed = Shadow(model, dtype), Shadow(model, dtype, by_direction=True)
    held = Graphs(graphed, [8, 17, 25], 4, again)
    near = 1e-5 if dtype == torch.float32 else 0.05
    for lengths in ([57, 40, 23, 8], [20, 12, 3], [41], [23, 22, 22, 22], [57, 57], [9, 8, 8]):
        found = []
        for shadow, decode in ((plain, plain.decoder.decode), (graphed, held.decode)):
            shadow.begin_step()
            decoded = decode(*batch(lengths))
            assert decoded is not None
            logits, frames = decoded
            kept = [logits[row, : int(count)] for row, count in enumerate(frames)]
            sum(part.square().mean() for part in kept if len(part)).backward()  # type: ignore[union-attr]
            shadow.collect()
            found.append([frames, *(part.detach() for part in kept), *(total.clone() for total in shadow.sums)])
        assert len(found[0]) == len(found[1])
        for expected, actual in zip(*found, strict=True):
            assert expected.shape == actual.shape
            assert float((actual - expected).double().norm()) <= near * float(expected.double().norm()) + 1e-6


def test_a_batch_that_was_not_foreseen_is_left_to_plain_kernels(config: Make) -> None:
    """One that is longer or larger than any was said to be gives None, and nothing is captured for it."""
    held = Graphs(Shadow(Decoder(config(), 6, 6, 2), torch.float32, by_direction=True), [8], 2, again)
    assert held.decode(*batch([57])) is None
    assert held.decode(*batch([20, 20, 20])) is None
    assert not held._cores
    assert held.decode(*batch([20, 20])) is not None


def test_capturing_draws_no_random_numbers(config: Make) -> None:
    """Dropout of a step is the same whether its length was captured in it or before."""
    held = Graphs(Shadow(Decoder(config(model={"dropout": 0.5}), 6, 6, 2), torch.float32), [8, 17], 4, again)
    logits = []
    for _ in range(2):
        torch.manual_seed(5)
        decoded = held.decode(*batch([20, 20]))
        assert decoded is not None
        logits.append((decoded[0].detach().clone(), torch.rand(3)))
    assert all(map(torch.equal, *logits))


def run_of(settings: RunConfig, data: Dataset) -> list[EpochReport]:
    return list(train(settings, data))


def numbers(reports: list[EpochReport]) -> list[float]:
    return [value for each in reports for value in (each.train_loss, each.grad_norm, each.val_loss, each.per)]


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_run_with_graphs_is_the_plain_run(
    tiny: Dataset, config: Make, on_a_cpu: list[Graphs], accumulation: int
) -> None:
    """Losses, gradient norms and validation of whole epochs agree; the log says what was chosen and why, once."""
    settings = config(**STILL, training={"accumulation": accumulation, "graphs": "on"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "Engine", engine.Engine)
        plain = run_of(settings, tiny)
    graphed = run_of(settings, tiny)
    assert len(on_a_cpu) == 1 and len(on_a_cpu[0]._cores) >= 2
    assert numbers(graphed) == pytest.approx(numbers(plain), rel=1e-4)
    notes = [note for report in graphed for note in report.notes]
    assert notes == list(graphed[0].notes) and len(notes) == 1
    assert notes[0].startswith("computes in fp32 with CUDA graphs for ") and "training.graphs is on" in notes[0]


def test_a_resumed_run_with_graphs_is_the_same(tiny: Dataset, config: Make, on_a_cpu: list[Graphs]) -> None:
    """To the last bit, with dropout, though its graphs are captured at other steps."""
    settings = config(training={"graphs": "on"}, augmentation={"input_dropout": 0.1})
    whole = [report.checkpoint()["model"]["output.weight"].clone() for report in train(settings, tiny)]
    state = next(train(settings, tiny)).checkpoint()
    resumed = [report.checkpoint()["model"]["output.weight"].clone() for report in train(settings, tiny, state)]
    assert len(on_a_cpu) == 3
    assert all(map(torch.equal, resumed, whole[1:]))


@pytest.mark.parametrize("failing", [0, 1, 3])
def test_where_graphs_fail_the_run_goes_on_without(
    tiny: Dataset, config: Make, on_a_cpu: list[Graphs], monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """Memory that is short in the first or a later capture: plain kernels take over in that step, and it is told."""
    settings = config(**STILL, training={"graphs": "on"})
    expected = numbers(run_of(settings, tiny))
    calls: list[int] = []

    def short(work: Callable[[], None]) -> Callable[[], None]:
        calls.append(1)
        if len(calls) > failing:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.\nmore lines")
        return again(work)

    monkeypatch.setattr(graphs, "capturing", lambda: short)
    reports = run_of(settings, tiny)
    assert numbers(reports) == pytest.approx(expected, rel=1e-4)
    notes = [note for report in reports for note in report.notes]
    assert len(notes) == (1 if failing < 2 else 2) and len(calls) == failing + 1
    assert "plain kernels, no CUDA graphs" in notes[-1] and "CUDA out of memory" in notes[-1]
    assert "\n" not in notes[-1]


def test_too_little_memory_is_found_before_anything_is_captured(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the longest batch takes is compared with what is left for this trial."""
    captured: list[int] = []
    held = Graphs(
        Shadow(Decoder(config(), 6, 6, 2), torch.float32), [8, 25], 4, lambda work: captured.append(1) or work
    )
    monkeypatch.setattr(graphs, "_warm_up", lambda core, device: 2.0**30)
    monkeypatch.setattr(Graphs, "_room", lambda self, device: 3.0 * 2**30)
    with pytest.raises(GraphsRefused, match=r"need 2\.0 GB, more than 60% of the 3\.0 GB"):
        held.decode(*batch([20, 20]))
    assert not captured and not held.captured


@pytest.mark.parametrize(
    ("precision", "hidden", "share", "steps", "said"),
    [
        ("bf16", 1024, 1.0, 10_000, None),
        ("fp16", 1024, 1.0, 10_000, None),
        ("fp32", 1024, 1.0, 10_000, "in fp32 on a card of its own they pay up to 512 units, this model has 1024"),
        ("fp32", 128, 1.0, 10_000, None),
        ("bf16", 1024, 0.25, 10_000, "in bf16 where trials share a card they pay up to 512 units"),
        ("bf16", 128, 0.25, 10_000, None),
        ("fp32", 128, 0.25, 10_000, None),
        ("bf16", 1024, 1.0, 299, "from 300 steps on, and 299 are left"),
    ],
)
def test_graphs_where_they_pay(
    config: Make, precision: str, hidden: int, share: float, steps: int, said: str | None
) -> None:
    """By precision, width, whether trials share the card, and the steps to go; a reason where they do not."""
    settings = config(model={"hidden": hidden}, training={"precision": precision})
    reason = no_graphs(settings, share, steps)
    assert (reason is None) == (said is None) and (said or "") in (reason or "")
    assert no_graphs(config(training={"graphs": "off"}), share, steps) == "training.graphs is off"
    assert no_graphs(config(model={"hidden": 2048}, training={"graphs": "on"}), share, 1) is None


def test_every_precision_has_a_limit() -> None:
    """Both rows of the table know all precisions, and sharing a card never allows more than having it."""
    for precision in ("fp32", "bf16", "fp16"):
        assert GRAPHED_HIDDEN["shared"][precision] <= GRAPHED_HIDDEN["alone"][precision]
    assert GRAPHED_STEPS > 0


@pytest.mark.parametrize(("needed", "room", "allowed"), [(5, 10, True), (6, 10, True), (7, 10, False), (1, -3, False)])
def test_graphs_leave_memory_for_the_rest(needed: float, room: float, allowed: bool) -> None:
    """They take 60 % of what is left for a trial, no more; the reason names both in GB."""
    reason = no_memory(needed * 2**30, room * 2**30)
    assert (reason is None) == allowed
    assert allowed or f"they need {needed}.0 GB, more than 60% of the {room}.0 GB" in str(reason)


@pytest.mark.gpu
@needs_card
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_on_a_card_graphs_give_what_plain_kernels_give(
    tiny: Dataset, config: Make, precision: str, accumulation: int
) -> None:
    """Losses, norms and validation of whole epochs agree within the precision; the log says which was which."""
    results = {}
    for way in ("off", "on"):
        training = {
            "device": "cuda",
            "precision": precision,
            "accumulation": accumulation,
            "graphs": way,
            "tf32": False,
        }
        reports = run_of(config(**STILL, training={**training, "tf32": False}), tiny)
        results[way] = [value for each in reports for value in (each.train_loss, each.grad_norm, each.val_loss)]
        assert ("with CUDA graphs" in reports[0].notes[0]) == (way == "on"), reports[0].notes
        assert len([note for report in reports for note in report.notes]) == 1
    near = {"fp32": 1e-3, "bf16": 0.1, "fp16": 0.03}[precision]
    assert results["on"] == pytest.approx(results["off"], rel=near)


@pytest.mark.gpu
@needs_card
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_on_a_card_each_graph_has_the_plain_gradients(config: Make, dtype: torch.dtype) -> None:
    """Batch by batch, lengths in any order and again: logits and every gradient, with the pool of memory shared."""
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = False
    model = Decoder(config(model={"dropout": 0.0, "hidden": 64}), 6, 6, 2).cuda().train()
    plain, graphed = Shadow(model, dtype), Shadow(model, dtype, by_direction=True)
    held = Graphs(graphed, [8, 17, 25], 4)
    near = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.01}[dtype]
    for lengths in ([57, 40, 23, 8], [20, 12, 9], [41], [23, 22, 22, 22], [57, 57], [20, 12, 9]):
        x, bins, day = batch(lengths)
        found = []
        for shadow, decode in ((plain, plain.decoder.decode), (graphed, held.decode)):
            shadow.begin_step()
            decoded = decode(x.cuda(), bins, day.cuda())
            assert decoded is not None
            logits, frames = decoded
            kept = [logits[row, : int(count)] for row, count in enumerate(frames)]
            sum(part.square().mean() for part in kept).backward()  # type: ignore[union-attr]
            shadow.collect()
            found.append([*(part.detach().clone() for part in kept), *(total.clone() for total in shadow.sums)])
        for expected, actual in zip(*found, strict=True):
            assert float((actual - expected).norm()) <= near * float(expected.norm()) + 1e-5


@pytest.mark.gpu
@needs_card
def test_on_a_card_dropout_of_a_graph_follows_the_seed(config: Make) -> None:
    """The same seed gives the same logits, another one others, whether the graph was captured then or before."""
    held = Graphs(
        Shadow(Decoder(config(model={"dropout": 0.5}), 6, 6, 2).cuda(), torch.bfloat16, by_direction=True), [8, 17], 4
    )
    x, bins, day = batch([20, 20])
    logits = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        decoded = held.decode(x.cuda(), bins, day.cuda())
        assert decoded is not None
        logits.append(decoded[0].detach().clone())
    assert torch.equal(logits[0], logits[1]) and not torch.equal(logits[0], logits[2])
