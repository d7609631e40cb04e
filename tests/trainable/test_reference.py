from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks/ is beside the packages, not one of them

from benchmarks.reference import Recipe, Reference, copy_weights, edit_distance
from search_spaces.config import RunConfig
from trainable.data.dataset import Dataset
from trainable.decoding import error_counts
from trainable.loop import _start


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=["float32", "float64"]
)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_same_weights_give_the_references_logits_and_loss(
    tiny: Dataset, config: Callable[..., RunConfig], dtype: torch.dtype, tolerance: float, bidirectional: bool
) -> None:
    """Utterance by utterance, with an odd smoothing kernel, our decoder is the reference's to rounding."""
    settings = config(model={"bidirectional": bidirectional}, augmentation={"smoothing_sd": 2.0, "smoothing_kernel": 7})
    run = _start(settings, tiny, torch.device("cpu"))
    recipe = Recipe(
        hidden=12, layers=2, kernel=8, stride=2, smoothing_sd=2.0, smoothing_kernel=7, bidirectional=bidirectional
    )
    reference = Reference(recipe, tiny.train, tiny.n_classes, len(tiny.days), "cpu")
    ours, theirs = run.model.to(dtype).eval(), reference.model.to(dtype).eval()
    # Weights and taps of the double model were rounded to float32 alike on both sides, except for the taps here.
    theirs.taps.copy_(torch.tensor(ours.taps, dtype=dtype).view(1, 1, -1).expand_as(theirs.taps))
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    copy_weights(ours, theirs)
    for i in range(5):
        features, labels, bins, label_lengths, day = reference.batch(tiny.train, np.array([i]))
        logits, frames = ours(features.to(dtype), bins, day)
        expected = theirs(features.to(dtype), day)
        assert int(frames[0]) == expected.shape[1]
        torch.testing.assert_close(logits, expected, rtol=tolerance, atol=tolerance)
        loss = torch.nn.functional.ctc_loss(logits.log_softmax(2).transpose(0, 1), labels, frames - 1, label_lengths)
        wanted = reference.loss(expected, labels, bins, label_lengths)
        torch.testing.assert_close(loss, wanted, rtol=10 * tolerance, atol=10 * tolerance)


def test_the_reference_trains_and_counts_as_we_do(tiny: Dataset) -> None:
    """Its loss falls, its PER is a number, and its Python edit distance is ours."""
    recipe = Recipe(
        hidden=12, layers=2, kernel=8, stride=2, smoothing_kernel=7, batch_size=8, eps=1e-8, lr=0.01, white_noise=0.0
    )
    reference = Reference(recipe, tiny.train, tiny.n_classes, len(tiny.days), "cpu")
    before = reference.evaluate(tiny.val)
    assert [reference.step() for _ in range(60)] == [8] * 60
    assert 0 <= reference.evaluate(tiny.val) < before
    pairs = [([1, 2, 3], [1, 3]), ([], [1]), ([1, 2], [2, 1]), ([4, 4, 4], [4])]
    assert [edit_distance(a, b) for a, b in pairs] == error_counts(*zip(*pairs, strict=True)).tolist()
