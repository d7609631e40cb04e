"""What published recipes set: off it changes nothing, on it trains, resumes, counts and exports."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from search_spaces.config import RunConfig
from search_spaces.errors import InputError
from search_spaces.model_size import parameters
from search_spaces.parsing.feature_choice import SUBSETS, chosen_features
from trainable import train
from trainable.checkpoint import load, save
from trainable.data.batches import Loader
from trainable.data.dataset import Dataset, with_features
from trainable.decoder_file import ExportedDecoder, check, torchscript
from trainable.model import Decoder
from trainable.scoring import decode, fit_split, load_trained

Make = Callable[..., RunConfig]

EVERYTHING: dict[str, Any] = {
    "data": {"days_per_batch": 2, "features": "0:2,3:"},
    "model": {
        "day_dropout": 0.2, "residual": True, "learned_start": True, "head_layers": 2, "head_kind": "residual",
        "head_norm": "rms", "head_activation": "silu", "head_dropout": 0.1, "bidirectional": False,
    },
    "optimizer": {"kind": "adamw", "eps": 0.01, "day_eps": 0.1, "day_weight_decay": 0.01},
    "schedule": {
        "kind": "warmup_cosine", "peak_lr": 5e-3, "end_lr": 1e-4, "warmup_batches": 3, "warmup_shape": "linear_next",
        "drop_at": 0.5, "day_peak_lr": 2e-3, "day_end_lr": 1e-4,
    },
    "augmentation": {
        "speckle_features": 0.1, "speckle_frames": 0.1, "gain_noise": 0.05, "random_walk": 0.02, "smoothing_even": True,
    },
}  # fmt: skip
HEADS = [
    {"head_layers": 1, "head_kind": kind, "head_norm": norm, "head_activation": activation}
    for kind, norm, activation in (
        ("residual", "layer", "gelu"),
        ("residual", "none", "relu"),
        ("plain", "layer", "relu"),
        ("plain", "rms", "silu"),
    )
]

RECORDED = [
    (2.8556816577911377, 1.9732863664627076, 1.0),
    (1.9890100955963135, 1.9186038732528687, 1.0),
    (1.8549208641052246, 1.7273010611534119, 1.0),
]
"""Training loss, validation loss and PER of the version before, epoch after epoch."""


def test_off_is_as_it_always_was(tiny: Dataset, config: Make) -> None:
    """Losses and PERs are those that the version before these settings gave (to 1e-4, for other processors)."""
    settings = config(
        model={"dropout": 0.3, "layer_norm": True},
        augmentation={
            "white_noise": 0.2, "constant_offset": 0.1, "time_masks": 2, "time_mask_width": 0.11, "feature_masks": 1,
            "feature_mask_width": 0.2, "input_dropout": 0.1, "speckle": 0.05, "random_cut": 3,
        },
    )  # fmt: skip
    found = [(report.train_loss, report.val_loss, report.per) for report in train(settings, tiny)]
    assert found == [pytest.approx(row, rel=1e-4) for row in RECORDED]


def test_everything_on_resumes_to_the_last_bit(tiny: Dataset, config: Make, tmp_path: Path) -> None:
    """Interrupted after an epoch and resumed from its file, the rest is what it was."""
    settings = config(**EVERYTHING)
    whole = list(train(settings, tiny))
    weights = whole[-1].checkpoint()["model"]
    first = next(train(settings, tiny))
    assert first.train_loss == whole[0].train_loss
    save(tmp_path / "x.pt", first.checkpoint())
    rest = list(train(settings, tiny, resume_from=load(tmp_path / "x.pt")))
    assert [(r.train_loss, r.per) for r in rest] == [(r.train_loss, r.per) for r in whole[1:]]
    resumed = rest[-1].checkpoint()["model"]
    assert resumed.keys() == weights.keys()
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)


@pytest.mark.parametrize("model", [*HEADS, {"residual": True, "learned_start": True}], ids=str)
def test_every_kind_of_layer_learns(tiny: Dataset, config: Make, model: dict[str, Any]) -> None:
    """The loss falls by half within 60 batches, and every weight has moved."""
    settings = config(
        model={**model, "dropout": 0.0, "head_dropout": 0.0}, schedule={"peak_lr": 1e-2},
        training={"batches": 60, "batches_per_epoch": 20},
    )  # fmt: skip
    torch.manual_seed(0)
    reports = train(settings, tiny)
    first = next(reports)
    before = {name: value.clone() for name, value in first.checkpoint()["model"].items()}
    *_, last = reports
    assert last.train_loss < first.train_loss / 2
    assert all(not torch.equal(before[name], value) for name, value in last.checkpoint()["model"].items())


@pytest.mark.parametrize("model", [*HEADS, EVERYTHING["model"], {"learned_start": True, "residual": True}], ids=str)
def test_the_formula_counts_every_weight(config: Make, model: dict[str, Any]) -> None:
    """The number of weights of a configuration is known without making it."""
    settings = config(model=model, data={"features": "0:4"})
    assert parameters(settings, 6, 6, 2) == sum(p.numel() for p in Decoder(settings, 4, 6, 2).parameters())


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", ["residual", "plain"])
def test_an_export_has_everything_that_the_model_has(config: Make, bidirectional: bool, kind: str) -> None:
    """TorchScript of a decoder with all of it gives the model's logits; an even kernel, heads and starts are in it."""
    model = {**EVERYTHING["model"], "bidirectional": bidirectional, "head_kind": kind}
    decoder = Decoder(config(model=model, augmentation={"smoothing_even": True}), 6, 6, 2)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    decoder.eval()
    assert torchscript(decoder, 6, 2)[1] < 1e-5
    exported = ExportedDecoder(decoder)
    with torch.no_grad():
        exported.start.zero_()
    with pytest.raises(RuntimeError, match="differs from the model"):
        check(decoder, exported, 6, 2)


@pytest.mark.parametrize(
    ("choice", "count", "expected"),
    [
        (None, 6, None),
        ("0:2", 6, [0, 1]),
        ("4:, :1", 6, [0, 4, 5]),
        ("3:5,4:6", 6, [3, 4, 5]),
        ("4", 512, [*range(64, 128), *range(320, 384)]),
        ("power,6v-ventral", 512, [*range(64), *range(256, 512)]),
    ],
)
def test_a_choice_of_features(choice: str | None, count: int, expected: list[int] | None) -> None:
    """Ranges as in Python and '25 subsets by name, joined; each column once, in the order of the data."""
    assert chosen_features(choice, count) == expected


def test_the_named_subsets_are_all_columns_once() -> None:
    """The four arrays together, and the two kinds together, are the 512 features."""
    for names in (("tx", "power"), ("6v-ventral", "4", "55b", "6v-dorsal")):
        assert sorted(c for name in names for span in SUBSETS[name] for c in span) == list(range(512))


@pytest.mark.parametrize(
    ("choice", "line"),
    [
        ("0:7", "0:7 is not in the data, which have the features 0:6"),
        ("tx", "tx means columns of 512 features, the data have 6; give A:B"),
    ],
)
def test_features_that_the_data_lack_are_refused(tiny: Dataset, config: Make, choice: str, line: str) -> None:
    """One line names the setting, the choice and what there is."""
    with pytest.raises(InputError) as caught:
        train(config(data={"features": choice}), tiny)
    (told,) = caught.value.problems
    assert told.startswith(f"data.features: {line}")


@pytest.mark.parametrize("choice", ["junk", "", "2:2", "5:2", "0:2,", "-1:3"])
def test_a_choice_that_means_nothing_is_refused(config: Make, choice: str) -> None:
    """In a run file already, before any data."""
    with pytest.raises(ValueError, match=r"is not allowed|has no features"):
        config(data={"features": choice})


def test_a_subset_trains_as_data_that_have_no_other_features(tiny: Dataset, config: Make, tmp_path: Path) -> None:
    """The same numbers as with a data set of those columns alone; the checkpoint decodes the whole data set."""
    columns = [0, 1, 4, 5]
    splits: Any = {
        name: dataclasses.replace(split, matrix=np.ascontiguousarray(split.matrix[:, columns]))
        for name, split in tiny.splits.items()
    }
    narrow = dataclasses.replace(tiny, n_features=4, **splits)
    settings = config(data={"features": "0:2,4:6"})
    chosen, alone = list(train(settings, tiny)), list(train(config(), narrow))
    assert [r.train_loss for r in chosen] == [r.train_loss for r in alone]
    save(tmp_path / "x.pt", chosen[-1].checkpoint())
    trained = load_trained(tmp_path / "x.pt")
    part = fit_split(trained, tiny, "val")
    assert part.features(0).shape[1] == 4
    assert decode(trained, part)[0] == decode(trained, narrow.val)[0]
    with pytest.raises(InputError, match=r"data\.features was 0:2,4:6, is None"):
        train(config(), tiny, resume_from=load(tmp_path / "x.pt"))


def test_all_features_are_a_view_of_the_file(tiny: Dataset) -> None:
    """Without a choice nothing is copied: the data set is the same object, its features views of the matrix."""
    assert with_features(tiny, None) is tiny
    assert np.shares_memory(tiny.train.features(0), tiny.train.matrix)
    some = with_features(tiny, "1:3")
    batch = Loader(some.train, torch.device("cpu")).batch(np.array([0]))
    np.testing.assert_array_equal(batch.features[0].numpy(), tiny.train.features(0)[:, 1:3])
