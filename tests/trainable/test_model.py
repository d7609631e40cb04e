from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from search_spaces.config import RunConfig
from trainable.layers.gru import gru
from trainable.model import Decoder, gaussian_taps, output_frames

Make = Callable[..., RunConfig]


def utterances(lengths: list[int], features: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Random features [batch, time, features], zero beyond each end, with their lengths and days."""
    torch.manual_seed(0)
    x = torch.randn(len(lengths), max(lengths), features)
    for row, length in enumerate(lengths):
        x[row, length:] = 0
    return x, torch.tensor(lengths), torch.arange(len(lengths)) % 2


def moved(model: Decoder) -> Decoder:
    """The model with every parameter away from its start, so that nothing is hidden by an identity or a zero."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("lengths", [[57, 40, 23, 8], [23, 57, 8, 40]])
def test_padding_never_reaches_a_result(
    config: Make, bidirectional: bool, layer_norm: bool, lengths: list[int]
) -> None:
    """An utterance has the same logits alone as among longer ones, in whatever order they stand."""
    model = moved(Decoder(config(model={"bidirectional": bidirectional, "layer_norm": layer_norm}), 6, 6, 2))
    x, bins, day = utterances(lengths)
    logits, frames = model(x, bins, day)
    for row, length in enumerate(lengths):
        alone, count = model(x[row : row + 1, :length], bins[row : row + 1], day[row : row + 1])
        assert int(frames[row]) == int(count[0]) == (length - 8) // 2 + 1
        torch.testing.assert_close(logits[row, : int(count[0])], alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (8, 2), (8, 8), (3, 5), (8, 3)])
def test_there_is_a_frame_for_every_window_that_fits(config: Make, kernel: int, stride: int) -> None:
    """Frames are floor((bins - kernel) / stride) + 1; an utterance shorter than the kernel has none."""
    model = Decoder(config(model={"kernel": kernel, "stride": stride}), 6, 6, 2).eval()
    for length in (20, kernel, kernel + stride, kernel + stride - 1):
        x, bins, day = utterances([length])
        logits, frames = model(x, bins, day)
        assert frames.tolist() == [(length - kernel) // stride + 1]
        assert logits.shape == (1, int(frames[0]), 6)
    assert output_frames(torch.tensor([kernel - 1, 0]), kernel, stride).tolist() == [0, 0]


def test_an_utterance_shorter_than_the_kernel_disturbs_nobody(config: Make) -> None:
    """It gets 0 frames, alone or in a batch, and the others' logits stay as they are."""
    model = moved(Decoder(config(), 6, 6, 2))
    x, bins, day = utterances([30, 5])
    logits, frames = model(x, bins, day)
    assert frames.tolist() == [12, 0]
    torch.testing.assert_close(logits[:1], model(x[:1], bins[:1], day[:1])[0])
    assert model(x[1:, :5], bins[1:], day[1:])[1].tolist() == [0]


def test_it_is_the_model_that_its_parts_describe(config: Make) -> None:
    """In double precision the decoder equals smoothing, day layer, softsign, windows, nn.GRU and linear by hand."""
    model = moved(Decoder(config(), 6, 6, 2)).double()
    x, bins, day = utterances([40, 31])
    x = x.double()
    logits, frames = model(x, bins, day)
    taps = torch.tensor(gaussian_taps(1.0, 6), dtype=torch.float64)
    whole = nn.GRU(48, 12, num_layers=2, bidirectional=True).double()
    for layer, source in enumerate(model.layers):
        for name, value in source.named_parameters():
            getattr(whole, name.replace("l0", f"l{layer}")).data.copy_(value)
    for row in range(2):
        signal = x[row, : int(bins[row])]
        smooth = F.conv1d(signal.t()[:, None], taps.view(1, 1, -1), padding=3)[:, 0].t()
        affine = smooth @ model.day_weight[day[row]] + model.day_bias[day[row]]
        soft = affine / (1 + affine.abs())
        windows = torch.stack([soft[2 * t : 2 * t + 8].flatten() for t in range(int(frames[row]))])
        expected = model.output(whole(windows[:, None])[0][:, 0])
        torch.testing.assert_close(logits[row, : int(frames[row])], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kernel", [5, 6, 20, 21, 1])
def test_smoothing_is_symmetric_in_time(config: Make, kernel: int) -> None:
    """An impulse keeps its place and its sum, and comes out symmetric, also with an even kernel."""
    taps = gaussian_taps(2.0, kernel)
    assert len(taps) % 2 == 1 and math.fsum(taps) == pytest.approx(1.0)
    assert taps == taps[::-1] and max(taps) == taps[len(taps) // 2]
    model = Decoder(config(augmentation={"smoothing_sd": 2.0, "smoothing_kernel": kernel}), 6, 6, 2)
    x = torch.zeros(1, 61, 6)
    x[0, 30] = 1.0
    y = model.smooth(x)
    torch.testing.assert_close(y, y.flip(1))
    assert float(y[0, :, 0].sum()) == pytest.approx(1.0, abs=1e-5)
    assert int(y[0, :, 0].argmax()) == 30


def test_smoothing_has_the_width_that_is_asked_for() -> None:
    """The taps fall like a Gaussian of the given s.d.; 0 turns smoothing off."""
    taps = gaussian_taps(2.0, 21)
    assert taps[12] / taps[10] == pytest.approx(math.exp(-0.5))
    assert gaussian_taps(0.0, 20) == (1.0,)


def test_day_layers_start_as_the_identity_and_belong_to_their_day(config: Make) -> None:
    """Untrained, all days give the same logits; changing one day's layer changes that day's utterances alone."""
    model = Decoder(config(), 6, 6, 2).eval()
    x, bins, _ = utterances([30, 30])
    x[1] = x[0]
    before = model(x, bins, torch.tensor([0, 1]))[0]
    torch.testing.assert_close(before[0], before[1])
    with torch.no_grad():
        model.day_weight[1].mul_(0.5)
        model.day_bias[1].add_(0.1)
    after = model(x, bins, torch.tensor([0, 1]))[0]
    assert torch.equal(after[0], before[0])
    assert not torch.allclose(after[1], before[1], atol=1e-3)
    without = Decoder(config(model={"day_layers": False}), 6, 6, 2)
    assert not [name for name, _ in without.named_parameters() if "day" in name]


def test_recurrent_weights_start_orthogonal(config: Make) -> None:
    """Each [3 hidden, hidden] recurrent matrix has orthonormal columns; input matrices lie in Xavier's range."""
    model = Decoder(config(), 6, 6, 2)
    for layer in model.layers:
        for name, parameter in layer.named_parameters():
            if "weight_hh" in name:
                torch.testing.assert_close(parameter.t() @ parameter, torch.eye(12), atol=1e-5, rtol=0)
            elif "weight_ih" in name:
                edge = math.sqrt(6 / sum(parameter.shape))
                assert 0.9 * edge < float(parameter.detach().abs().max()) <= edge


@pytest.mark.parametrize(
    "section",
    [
        {"model": {"dropout": 0.5}},
        {"model": {"dropout": 0.0, "day_dropout": 0.5}},
        {"model": {"dropout": 0.0, "head_layers": 1, "head_dropout": 0.5}},
        {"augmentation": {"input_dropout": 0.5}},
        {"augmentation": {"speckle_features": 0.5}},
        {"augmentation": {"speckle_frames": 0.5}},
    ],
    ids=str,
)
def test_dropout_acts_in_training_only(config: Make, section: dict[str, dict[str, float]]) -> None:
    """Every dropout and speckle changes the logits from draw to draw in training, and none in evaluation."""
    off = {"model": {"dropout": 0.0}, "augmentation": {"input_dropout": 0.0}}
    model = Decoder(config(**{**off, **section}), 6, 6, 2)
    x, bins, day = utterances([30, 20])
    model.train()
    assert not torch.equal(model(x, bins, day)[0], model(x, bins, day)[0])
    model.eval()
    assert torch.equal(model(x, bins, day)[0], model(x, bins, day)[0])
    still = Decoder(config(**off), 6, 6, 2).train()
    assert torch.equal(still(x, bins, day)[0], still(x, bins, day)[0])


def test_dropout_keeps_the_mean_and_its_rate(config: Make) -> None:
    """The share of zeros is the rate, and what is left is scaled up so that the mean stays."""
    model = Decoder(config(augmentation={"input_dropout": 0.3}), 6, 6, 2).train()
    torch.manual_seed(0)
    y = model._windows(torch.ones(20, 250, 6), torch.full((20,), 120)).data
    assert float((y == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert y.unique().tolist() == pytest.approx([0.0, 1 / 0.7])


def test_dropout_of_the_day_layer_is_the_same_in_every_window(config: Make) -> None:
    """A bin of a feature that is dropped is 0 in all windows that have it; the rest is scaled: the mean stays."""
    settings = {"model": {"day_dropout": 0.3, "day_layers": False}, "augmentation": {"smoothing_sd": 0.0}}
    model = Decoder(config(**settings), 6, 6, 2).train()
    seen: list[Tensor] = []
    model._windows = lambda x, frames: seen.append(x) or Decoder._windows(model, x, frames)
    torch.manual_seed(0)
    model(torch.ones(20, 250, 6), torch.full((20,), 250), torch.zeros(20, dtype=torch.int64))
    assert float((seen[0] == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert seen[0].unique().tolist() == pytest.approx([0.0, 0.5 / 0.7])


@pytest.mark.parametrize("lengths", [[200, 120, 60], [60, 200, 120]])
def test_speckle_hides_whole_inputs_or_whole_frames(config: Make, lengths: list[int]) -> None:
    """An input is 0 in all frames of its utterance or in none, a frame in all inputs or in none; nothing is scaled."""
    bins = torch.tensor(lengths)
    for name in ("speckle_features", "speckle_frames"):
        model = Decoder(config(augmentation={name: 0.3}), 6, 6, 2).train()
        torch.manual_seed(0)
        packed = model._windows(torch.ones(3, 200, 6), output_frames(bins, 8, 2))
        assert set(packed.data.unique().tolist()) == {0.0, 1.0}
        assert float((packed.data == 0).float().mean()) == pytest.approx(0.3, abs=0.1)
        padded, frames = pad_packed_sequence(packed, batch_first=True)
        masks = [padded[row, : int(count)] for row, count in enumerate(frames)]
        if name == "speckle_features":
            assert all(torch.all(mask == mask[:1]) for mask in masks)
            assert not torch.equal(masks[0][0], masks[1][0])
        else:
            assert all(torch.all(mask == mask[:, :1]) for mask in masks)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_residual_layer_adds_its_input(config: Make, layer_norm: bool) -> None:
    """Each layer after the first gives its input plus its own (normed) output; a silent layer passes its input on."""
    settings = {"layers": 3, "layer_norm": layer_norm}
    model = moved(Decoder(config(model={**settings, "residual": True}), 6, 6, 2)).double()
    x, bins, day = utterances([40])
    logits = model(x.double(), bins, day)[0]
    affine = model.smooth(x.double())[0] @ model.day_weight[0] + model.day_bias[0]
    windows = (affine / (1 + affine.abs())).unfold(0, 8, 2).transpose(1, 2).flatten(1)[:, None]
    for i, layer in enumerate(model.layers):
        result = layer(windows)[0]
        result = model.norms[i](result) if layer_norm else result
        windows = result if i == 0 else windows + result
    torch.testing.assert_close(logits[0], model.output(windows[:, 0]), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_reaches_no_result_with_everything_on(config: Make, bidirectional: bool) -> None:
    """With a head, residual layers, a learned start and an even kernel, an utterance has its own logits in a batch."""
    model = {"bidirectional": bidirectional, "residual": True, "learned_start": True, "head_layers": 2}
    decoder = moved(Decoder(config(model=model, augmentation={"smoothing_even": True}), 6, 6, 2))
    x, bins, day = utterances([23, 57, 8, 40])
    logits, frames = decoder(x, bins, day)
    for row, length in enumerate(bins.tolist()):
        alone, _ = decoder(x[row : row + 1, :length], bins[row : row + 1], day[row : row + 1])
        torch.testing.assert_close(logits[row, : int(frames[row])], alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel", [2, 6, 20])
def test_an_even_kernel_may_stay_even(config: Make, kernel: int) -> None:
    """With `smoothing_even` an even kernel is conv1d with padding "same", half a bin late; an odd one stays."""
    settings = {"smoothing_sd": 2.0, "smoothing_kernel": kernel, "smoothing_even": True}
    model = Decoder(config(augmentation=settings), 6, 6, 2)
    assert len(model.taps) == kernel and model.taps == model.taps[::-1]
    x = utterances([61])[0]
    taps = torch.tensor(model.taps).view(1, 1, -1).expand(6, 1, -1)
    expected = F.conv1d(x.transpose(1, 2), taps, padding="same", groups=6).transpose(1, 2)
    torch.testing.assert_close(model.smooth(x), expected)
    assert gaussian_taps(2.0, kernel + 1, even=True) == gaussian_taps(2.0, kernel + 1)
    assert gaussian_taps(0.0, kernel, even=True) == (1.0,)


def packed_input(dtype: torch.dtype) -> PackedSequence:
    torch.manual_seed(2)
    x = torch.randn(7, 4, 5, dtype=dtype)
    return pack_padded_sequence(x, torch.tensor([7, 7, 4, 1]))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_fast_gru_is_torchs_gru(bidirectional: bool) -> None:
    """Outputs and all gradients equal those of nn.GRU on sequences of different lengths, to 1e-12 in double."""
    torch.manual_seed(0)
    layer = nn.GRU(5, 3, bidirectional=bidirectional).double()
    packed = packed_input(torch.float64)
    weight = torch.randn(int(packed.batch_sizes.sum()), 3 * (1 + bidirectional), dtype=torch.float64)
    results = []
    for run in (lambda p: layer(p)[0], lambda p: gru(layer, p)):
        x = packed.data.clone().requires_grad_()
        layer.zero_grad()
        output = run(packed._replace(data=x)).data
        (output * weight).sum().backward()
        results.append([output, x.grad, *(p.grad.clone() for p in layer.parameters())])
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_fast_gru_begins_where_it_is_told_to(bidirectional: bool) -> None:
    """With a first state, outputs and all gradients, the state's too, are those of nn.GRU with that state."""
    torch.manual_seed(0)
    ways = 2 if bidirectional else 1
    layer = nn.GRU(5, 3, bidirectional=bidirectional).double()
    packed = packed_input(torch.float64)
    weight = torch.randn(int(packed.batch_sizes.sum()), 3 * ways, dtype=torch.float64)
    first = torch.randn(1, 1, 3, dtype=torch.float64)
    results = []
    for fast in (False, True):
        x, start = packed.data.clone().requires_grad_(), first.clone().requires_grad_()
        layer.zero_grad()
        given = packed._replace(data=x)
        output = gru(layer, given, start) if fast else layer(given, start.expand(ways, 4, -1).contiguous())[0]
        (output.data * weight).sum().backward()
        results.append([output.data, x.grad, start.grad, *(p.grad.clone() for p in layer.parameters())])
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_the_fast_gru_leaves_its_weights_alone() -> None:
    """A pass changes no parameter and no input, in the extreme of a single frame too."""
    layer = nn.GRU(5, 3, bidirectional=True)
    for frames in (1, 4):
        packed = pack_padded_sequence(torch.randn(frames, 1, 5), torch.tensor([frames]))
        before = [tensor.detach().clone() for tensor in (packed.data, *layer.parameters())]
        gru(layer, packed).data.sum().backward()
        assert all(map(torch.equal, before, (packed.data, *layer.parameters())))


def test_the_fast_gru_keeps_what_packing_remembers() -> None:
    """Unsorted sequences come back in their own order."""
    layer = nn.GRU(5, 3)
    x = torch.randn(7, 3, 5)
    packed = pack_padded_sequence(x, torch.tensor([2, 7, 4]), enforce_sorted=False)
    actual, lengths = pad_packed_sequence(gru(layer, packed))
    expected, _ = pad_packed_sequence(layer(packed)[0])
    assert lengths.tolist() == [2, 7, 4]
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lowered_precision_is_close_and_trains(config: Make, dtype: torch.dtype) -> None:
    """Under autocast the logits are float32, near those of full precision but not equal, and every weight learns."""
    model = Decoder(config(), 6, 6, 2).eval()
    x, bins, day = utterances([40, 31])
    exact = model(x, bins, day)[0]
    with torch.autocast("cpu", dtype=dtype):
        lowered = model(x, bins, day)[0]
    assert lowered.dtype == torch.float32 and not torch.equal(lowered, exact)
    torch.testing.assert_close(lowered, exact, atol=0.05, rtol=0.05)
    lowered.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
@pytest.mark.parametrize("changes", [{}, {"residual": True, "learned_start": True, "head_layers": 1}], ids=str)
def test_a_card_gives_the_cpus_logits(config: Make, changes: dict[str, object]) -> None:
    """On CUDA (cuDNN) the logits are those of the CPU to 1e-4, for padded batches too."""
    model = moved(Decoder(config(model=changes), 6, 6, 2))
    x, bins, day = utterances([57, 40, 23, 8])
    expected, frames = model(x, bins, day)
    actual, _ = model.cuda()(x.cuda(), bins, day.cuda())
    for row, count in enumerate(frames.tolist()):
        torch.testing.assert_close(actual[row, :count].cpu(), expected[row, :count], rtol=1e-4, atol=1e-4)
