from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from search_spaces.config import AugmentationConfig
from trainable.augment import corrupt, hide

BINS = torch.tensor([200, 200, 150, 90])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(fill: float = 1.0) -> Tensor:
    """[4, 200, 32], constant, zero beyond each end."""
    x = torch.full((4, 200, 32), fill)
    for row, length in enumerate(BINS.tolist()):
        x[row, length:] = 0
    return x


def settings(**values: Any) -> AugmentationConfig:
    return AugmentationConfig(**values)


def test_nothing_changes_where_nothing_is_asked() -> None:
    """With every strength at 0 the features come back as they went in."""
    off = settings()
    assert torch.equal(hide(corrupt(batch(), BINS, off, generator()), BINS, off, generator()), batch())


def test_white_noise_has_its_strength_in_every_bin() -> None:
    """Noise has mean 0 and the s.d. asked for, differs from bin to bin, and leaves the padding at 0."""
    y = corrupt(batch(), BINS, settings(white_noise=0.7), generator())
    assert float((y[0] - 1).std()) == pytest.approx(0.7, rel=0.05)
    assert float((y[0] - 1).mean()) == pytest.approx(0.0, abs=0.05)
    assert torch.all(y[3, 90:] == 0)


def test_a_constant_offset_is_one_number_for_each_utterance_and_feature() -> None:
    """The offset does not change within an utterance, differs between features and utterances, and has its s.d."""
    y = corrupt(batch(), BINS, settings(constant_offset=0.5), generator())
    assert torch.all(y[0] == y[0, :1])
    assert not torch.equal(y[0, 0], y[1, 0])
    drawn = torch.stack([y[row, 0] for row in range(4)]) - 1
    assert float(drawn.std()) == pytest.approx(0.5, rel=0.2)
    assert torch.all(y[2, 150:] == 0)


def test_time_masks_hide_whole_bins_within_the_utterance() -> None:
    """A masked bin is 0 in all features; masks are at most `time_mask_width` of the utterance long, each."""
    widest = 0
    for seed in range(40):
        y = hide(batch(), BINS, settings(time_masks=1, time_mask_width=0.1), generator(seed))
        hidden = (y == 0).all(dim=2)
        assert torch.equal(hidden, (y == 0).any(dim=2))
        inside = hidden[3, :90]
        assert int((inside[1:] != inside[:-1]).sum()) <= 2  # one stretch
        assert int(inside.sum()) <= 9
        widest = max(widest, int(inside.sum()))
    assert widest == 9


@pytest.mark.parametrize(
    ("share", "bins", "widest"), [(0.15, 100, 15), (0.07, 100, 7), (0.3, 90, 27), (0.151, 100, 16)]
)
def test_the_widest_mask_is_the_share_exactly(share: float, bins: int, widest: int) -> None:
    """A share that is a whole number of bins is not rounded above it (0.15 of 100 are 15); another is rounded up."""
    length = torch.full((2000,), bins)
    y = hide(torch.ones(2000, bins, 1), length, settings(time_masks=1, time_mask_width=share), generator())
    assert int((y == 0).sum(dim=1).max()) == widest


def test_many_time_masks_hide_about_their_share() -> None:
    """20 masks of up to 7.5 % hide about half of an utterance, as in the published recipe, each utterance its own."""
    y = hide(batch(), BINS, settings(time_masks=20, time_mask_width=0.075), generator())
    hidden = (y == 0).all(dim=2)
    shares = [float(hidden[row, :length].float().mean()) for row, length in enumerate(BINS.tolist())]
    assert 0.3 < sum(shares) / 4 < 0.7
    assert not torch.equal(hidden[0], hidden[1])


def test_feature_masks_hide_whole_bands() -> None:
    """A masked feature is 0 in all bins; one mask is one band, at most `feature_mask_width` of the features wide."""
    widths = set()
    for seed in range(40):
        y = hide(batch(), BINS, settings(feature_masks=1, feature_mask_width=0.25), generator(seed))
        hidden = (y[0] == 0).all(dim=0)
        assert torch.equal(hidden, (y[0] == 0).any(dim=0))
        assert int((hidden[1:] != hidden[:-1]).sum()) <= 2
        widths.add(int(hidden.sum()))
    assert widths == set(range(9))


def test_speckle_hides_single_values() -> None:
    """Each bin of each feature is set to 0 with the probability asked for, and nothing is scaled."""
    y = hide(batch(), BINS, settings(speckle=0.2), generator())
    assert float((y[0] == 0).float().mean()) == pytest.approx(0.2, abs=0.02)
    assert set(y[0].unique().tolist()) == {0.0, 1.0}


def test_a_random_walk_drifts_over_time() -> None:
    """Its variance grows by that of a step with every bin, for each feature of each utterance; padding stays 0."""
    x = torch.zeros(64, 200, 32)
    y = corrupt(x, torch.full((64,), 200), settings(random_walk=0.5), generator())
    for bin_ in (0, 24, 199):
        assert float(y[:, bin_].std()) == pytest.approx(0.5 * (bin_ + 1) ** 0.5, rel=0.1)
    steps = y[:, 1:] - y[:, :-1]
    assert float(steps.std()) == pytest.approx(0.5, rel=0.02)
    assert torch.all(corrupt(batch(), BINS, settings(random_walk=0.5), generator())[3, 90:] == 0)


def test_a_random_walk_may_go_over_the_features() -> None:
    """As the '25 code has it: the sum over the features before it, new in every bin."""
    over = settings(random_walk=0.5, random_walk_over="features")
    y = corrupt(torch.zeros(64, 200, 32), torch.full((64,), 200), over, generator())
    assert float(y[:, :, 31].std()) == pytest.approx(0.5 * 32**0.5, rel=0.05)
    assert float((y[:, :, 1:] - y[:, :, :-1]).std()) == pytest.approx(0.5, rel=0.02)


def test_gain_noise_is_one_matrix_for_each_utterance() -> None:
    """Features become features @ (1 + noise): linear, the same matrix in all bins, another in each utterance."""
    torch.manual_seed(0)
    x = torch.randn(4, 200, 32)
    for row, length in enumerate(BINS.tolist()):
        x[row, length:] = 0
    y = corrupt(x.clone(), BINS, settings(gain_noise=0.3), generator())
    matrices = [torch.linalg.lstsq(x[row, :90], y[row, :90]).solution for row in range(4)]
    for row, length in enumerate(BINS.tolist()):
        torch.testing.assert_close(x[row] @ matrices[row], y[row], atol=1e-3, rtol=1e-3)
        assert torch.all(y[row, length:] == 0)
    noise = torch.stack(matrices) - torch.eye(32)
    assert float(noise.std()) == pytest.approx(0.3, rel=0.1) and float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert not torch.allclose(matrices[0], matrices[1], atol=0.1)


@pytest.mark.parametrize(
    "values",
    [
        {"white_noise": 0.5, "constant_offset": 0.2},
        {"random_walk": 0.1, "gain_noise": 0.1},
        {"speckle": 0.1, "time_masks": 3, "feature_masks": 2},
    ],
)
def test_draws_are_the_generators_alone(values: dict[str, Any]) -> None:
    """The same seed gives the same features whatever the global generator does; another seed gives others."""
    config = settings(**values)

    def draw(seed: int) -> Tensor:
        torch.rand(3)
        source = generator(seed)
        return hide(corrupt(batch(), BINS, config, source), BINS, config, source)

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
