"""Weights of the public reference models: read, equal in their logits, and every misfit one line."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.config import RunConfig
from search_spaces.errors import InputError
from tests.trainable.weights.references import Model24, Model25, smooth25, stirred, write24, write25
from trainable import train
from trainable.checkpoint import load, save
from trainable.data.dataset import Dataset
from trainable.model import Decoder
from trainable.scoring import decode, fit_split, load_reference
from trainable.weights.given import config_of
from trainable.weights.start import read_given, start_weights

Make = Callable[..., RunConfig]
DAYS = ["monday", "tuesday"]
SIZES = {"features": 6, "classes": 6, "hidden": 12, "layers": 2, "days": 2}


def utterance(length: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, length, 6, generator=torch.Generator().manual_seed(seed))


def ours(path: Path, double: bool = False) -> Decoder:
    """The decoder that a file gives, in evaluation mode."""
    given = read_given(path)
    model = Decoder(config_of(given), given.features, 6, 2)
    model.load_state_dict(given.weights)
    return (model.double() if double else model).eval()


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("sd", "taps"), [(2.0, 20), (1.5, 20), (2.0, 9)])
@torch.no_grad()
def test_the_24_reference_has_the_same_logits(tmp_path: Path, bidirectional: bool, sd: float, taps: int) -> None:
    """To 1e-6 in float32: with its windows reordered and its own smoothing kernel, utterance by utterance."""
    theirs = stirred(Model24(**SIZES, bidirectional=bidirectional, sd=sd, taps=taps))
    model = ours(write24(tmp_path, theirs))
    for length in (8, 9, 41, 60):
        for day in (0, 1):
            x, number = utterance(length), torch.tensor([day])
            logits, frames = model(x, torch.tensor([length]), number)
            expected = theirs(x, number)
            assert int(frames[0]) == expected.shape[1]
            torch.testing.assert_close(logits, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("sd", "size"), [(2.0, 100), (1.0, 100), (3.3, 100)])
@torch.no_grad()
def test_the_25_reference_has_the_same_logits(tmp_path: Path, sd: float, size: int) -> None:
    """To 1e-6 in float32: its smoothing, its patches, its learned first state."""
    theirs = stirred(Model25(**SIZES))
    model = ours(write25(tmp_path, theirs, DAYS, smooth_kernel_std=sd, smooth_kernel_size=size))
    for length in (8, 9, 41, 60):
        for day in (0, 1):
            x, number = utterance(length), torch.tensor([day])
            logits, frames = model(x, torch.tensor([length]), number)
            expected = theirs(smooth25(x, sd, size), number)
            assert int(frames[0]) == expected.shape[1]
            torch.testing.assert_close(logits, expected, atol=1e-6, rtol=1e-5)


def test_what_the_files_say_is_found(tmp_path: Path) -> None:
    """Sizes from the shapes; the stride, the smoothing and the days from the settings beside the weights."""
    given = read_given(write24(tmp_path / "24", Model24(**SIZES, sd=1.5, stride=3)))
    assert (given.kind, given.features, given.classes, given.days) == ("24", 6, 6, 2)
    model, augmentation = given.settings["model"], given.settings["augmentation"]
    assert (model["hidden"], model["layers"], model["kernel"], model["stride"]) == (12, 2, 8, 3)
    assert model["bidirectional"] and not model["learned_start"]
    assert augmentation == {"smoothing_sd": 1.5, "smoothing_kernel": 20, "smoothing_even": True}
    given = read_given(write25(tmp_path / "25", Model25(**SIZES, stride=4), ["a", "b"]))
    assert (given.kind, given.classes, given.days, given.notes) == ("25", 6, ("a", "b"), ())
    assert given.settings["model"]["stride"] == 4 and given.settings["model"]["learned_start"]
    assert given.settings["augmentation"]["smoothing_kernel"] == 9
    off = write25(tmp_path / "off", Model25(**SIZES), DAYS, smooth_data=False)
    assert read_given(off).settings["augmentation"]["smoothing_sd"] == 0


@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module._orig_mod."])
def test_compiled_and_parallel_training_leave_prefixes(tmp_path: Path, prefix: str) -> None:
    """`torch.compile` and data-parallel training put a word before every name; it is taken off."""
    path = write25(tmp_path, stirred(Model25(**SIZES)), DAYS, prefix=prefix)
    assert ours(path).start is not None


def test_a_fork_may_keep_all_day_layers_in_one_tensor(tmp_path: Path) -> None:
    """`day_weights` [days, features, features] and `day_biases` [days, features] are the same day layers."""
    path = write25(tmp_path, stirred(Model25(**SIZES)), DAYS, prefix="")
    expected = read_given(path).weights
    state = torch.load(path, weights_only=False)
    weights = state["model_state_dict"]
    for name in ("day_weights", "day_biases"):
        weights[name] = torch.stack([weights.pop(f"{name}.{i}") for i in range(2)])
    weights["day_biases"] = weights["day_biases"][:, 0]
    torch.save(state, path)
    assert all(torch.equal(read_given(path).weights[name], value) for name, value in expected.items())


def test_without_settings_beside_them_the_defaults_are_told(tmp_path: Path, tiny: Dataset) -> None:
    """Stride 4 is assumed, the days have no names: a note each."""
    path = write24(tmp_path / "24", Model24(**SIZES, stride=4))
    path.with_name("args").unlink()
    _, notes = load_reference(path, tiny)
    assert notes[0] == "there is no args beside modelWeights; model.stride 4 is assumed"
    assert "no names of days and classes" in notes[-1] and any("last frame" in note for note in notes)
    path = write25(tmp_path / "25", Model25(**SIZES, stride=4), DAYS)
    path.with_name("args.yaml").unlink()
    _, notes = load_reference(path, tiny)
    assert "there is no args.yaml beside best_checkpoint; model.stride 4" in notes[0] and len(notes) == 2


class Evil:
    """What nobody must run."""

    def __reduce__(self) -> Any:
        return (print, ("run!",))


def wrong_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Name -> (a file that is no reference model, words of its one line)."""
    found = {}

    def keep(name: str, words: str, content: Any = None, raw: bytes | None = None) -> None:
        path = folder / name
        path.write_bytes(raw) if raw is not None else torch.save(content, path)
        found[name] = (path, words)

    good = Model24(**SIZES).state_dict()
    keep("text", "not a file of weights alone", raw=b"hello")
    keep("pickle", "not a file of weights alone", raw=pickle.dumps(Evil()))
    keep("code", "not a file of weights alone", {"model_state_dict": Evil()})
    keep("list", "has no weights of this program", [1, 2])
    keep("other", "has no weights of this program", {"layer.weight": torch.zeros(2, 2)})
    keep("layers", "weights that the '24 reference does not have: post.weight", {**good, "post.weight": torch.zeros(2)})
    keep("cut", "looks like the '24 reference, but lacks its output.bias",
         {k: v for k, v in good.items() if not k.startswith("fc_")})  # fmt: skip
    short = {k: v for k, v in good.items() if "l1_reverse" not in k}
    keep("short", "layers.1.bias_hh_l0_reverse", short)
    keep("odd", "no whole number of bins", {**good, "gru_decoder.weight_ih_l0": torch.zeros(36, 47)})
    keep("wide", "day_bias is (2, 1, 5)", {**good, "dayBias": torch.zeros(2, 1, 5)})
    keep(
        "box", "gaussianSmoother.weight is no Gaussian", {**good, "gaussianSmoother.weight": torch.ones(6, 1, 20) / 20}
    )
    found["missing"] = (folder / "nothing", "does not exist")
    found["folder"] = (folder, "is a folder")
    return found


NAMES = ["text", "pickle", "code", "list", "other", "layers", "cut", "short", "odd", "wide", "box", "missing", "folder"]


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_file_is_one_line(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It names the file and what is wrong, and nothing in it is run."""
    files = wrong_files(tmp_path)
    assert sorted(files) == sorted(NAMES)
    path, words = files[name]
    with pytest.raises(InputError) as caught:
        read_given(path)
    (line,) = caught.value.problems
    assert line.startswith(str(path)) and words in line and "\n" not in line
    assert "run!" not in capsys.readouterr().out


def test_other_days_or_classes_than_the_data_s_are_one_line(tmp_path: Path, tiny: Dataset) -> None:
    """Without names there must be as many days; with names, those of the data; as many classes in any case."""
    more = {**SIZES, "days": 3}
    cases = [
        (write24(tmp_path / "a", Model24(**more)), "has day layers of 3 days without names, in-memory has 2"),
        (write25(tmp_path / "b", Model25(**more), [*DAYS, "x", "y"]), "3 days, args.yaml beside it names 4"),
        (write24(tmp_path / "c", Model24(**{**SIZES, "classes": 41})), "has 41 classes, the blank included"),
    ]  # fmt: skip
    for path, words in cases:
        with pytest.raises(InputError, match=r"give|names") as caught:
            load_reference(path, tiny)
        assert len(caught.value.problems) == 1 and words in str(caught.value)
    trained, _ = load_reference(write25(tmp_path / "d", Model25(**SIZES), ["monday", "sunday"]), tiny)
    with pytest.raises(InputError, match="has no layer for day tuesday, only for monday, sunday"):
        fit_split(trained, tiny, "val")
    trained, _ = load_reference(write25(tmp_path / "e", Model25(**{**SIZES, "features": 5}), DAYS), tiny)
    with pytest.raises(InputError, match="6 features a bin; the checkpoint was trained on 5"):
        fit_split(trained, tiny, "val")


@torch.no_grad()
def test_a_reference_is_scored_on_its_days_by_name(tmp_path: Path, tiny: Dataset) -> None:
    """Sessions in another order than the data's: each utterance gets its own day's layer."""
    theirs = stirred(Model25(**SIZES))
    trained, notes = load_reference(write25(tmp_path, theirs, DAYS[::-1]), tiny)
    part = fit_split(trained, tiny, "val")
    hypotheses, precision = decode(trained, part)
    assert precision == "fp32" and len(notes) == 1
    for i in range(len(part)):
        x = torch.tensor(tiny.val.features(i))[None]
        path = theirs(smooth25(x), torch.tensor([1 - int(tiny.val.day[i])]))[0].argmax(1).unique_consecutive()
        assert hypotheses[i] == [int(c) for c in path if c != 0]


def fitting(config: Make, kind: str, **changes: Any) -> RunConfig:
    """A run whose model is that of the reference."""
    shared = {"hidden": 12, "layers": 2, "kernel": 8, "stride": 2}
    if kind == "24":
        model, smoothing = {**shared, "bidirectional": True}, {"smoothing_kernel": 20, "smoothing_even": True}
    else:
        model, smoothing = {**shared, "bidirectional": False, "learned_start": True}, {"smoothing_kernel": 9}
    sections = {"model": model, "augmentation": {"smoothing_sd": 2.0, **smoothing}}
    for section, values in changes.items():
        sections[section] = {**sections.get(section, {}), **values}
    return config(**sections)


@pytest.mark.parametrize("kind", ["24", "25"])
@pytest.mark.parametrize("averaging", ["none", "ema"])
def test_a_run_starts_from_a_reference(tiny: Dataset, config: Make, tmp_path: Path, kind: str, averaging: str) -> None:
    """Its first step has the reference's loss, its day layers are matched, and a resume does not need the file."""
    reference = stirred((Model24 if kind == "24" else Model25)(**SIZES))
    path = write24(tmp_path, reference) if kind == "24" else write25(tmp_path, reference, DAYS)
    still = {"model": {"dropout": 0.0}, "augmentation": {"white_noise": 0.0}}
    settings = fitting(
        config, kind, **still, training={"init_from": str(path)}, averaging={"kind": averaging},
        schedule={"kind": "constant", "peak_lr": 1e-12}, optimizer={"kind": "sgd"},
    )  # fmt: skip
    report = next(train(settings, tiny))
    trained, _ = load_reference(path, tiny)
    expected = trained.model.state_dict()
    found = report.checkpoint()["model"]
    assert all(torch.allclose(found[name], value, atol=1e-6) for name, value in expected.items())
    assert report.per == pytest.approx(report.per_raw)
    save(tmp_path / "x.pt", report.checkpoint())
    path.unlink()
    assert [r.epoch for r in train(settings, tiny, resume_from=load(tmp_path / "x.pt"))] == [2, 3]
    with pytest.raises(InputError, match="does not exist"):
        train(settings, tiny)


def test_a_run_starts_from_a_checkpoint_of_this_program(tiny: Dataset, config: Make, tmp_path: Path) -> None:
    """The weights that were evaluated are the start; a day that it never saw begins from the identity, and is told."""
    *_, last = train(config(averaging={"kind": "ema", "decay": 0.5}), tiny)
    save(tmp_path / "x.pt", last.checkpoint())
    averaged = last.checkpoint()["average"]["model"]
    later = dataclasses.replace(tiny, days=("tuesday", "friday"))
    settings = config(training={"init_from": str(tmp_path / "x.pt")})
    weights, notes = start_weights(settings, later)
    torch.testing.assert_close(weights["day_weight"][0], averaged["day_weight"][1])
    torch.testing.assert_close(weights["day_weight"][1], torch.eye(6))
    torch.testing.assert_close(weights["output.weight"], averaged["output.weight"])
    assert notes == ["x.pt: has no day layer for 1 of 2 days (friday); they start from the identity"]
    first = next(train(settings, tiny))
    assert first.train_loss < next(train(config(), tiny)).train_loss
    without = config(model={"day_layers": False}, training={"init_from": str(tmp_path / "x.pt")})
    weights, notes = start_weights(without, tiny)
    assert not any(name.startswith("day_") for name in weights) and "day layers are left out" in notes[0]


def test_what_differs_from_the_file_is_told(tiny: Dataset, config: Make, tmp_path: Path) -> None:
    """Another stride or smoothing is no obstacle: a note each."""
    path = write24(tmp_path, Model24(**SIZES))
    settings = fitting(config, "24", model={"stride": 4}, augmentation={"smoothing_even": False, "smoothing_sd": 1.0},
                       training={"init_from": str(path)})  # fmt: skip
    notes = start_weights(settings, tiny)[1]
    assert [note for note in notes if "trained with" in note] == [
        "modelWeights: trained with model.stride 2, here 4",
        "modelWeights: trained with augmentation.smoothing_sd 2, here 1",
        "modelWeights: trained with augmentation.smoothing_even true, here false",
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"hidden": 16}}, "model.hidden is 12 there, 16 here"),
        ({"model": {"layers": 3, "kernel": 4}}, "model.layers is 2 there, 3 here; model.kernel is 8 there, 4 here"),
        ({"model": {"bidirectional": False}}, "model.bidirectional is true there, false here"),
        ({"model": {"layer_norm": True}}, "model.layer_norm is false there, true here"),
        ({"model": {"head_layers": 1}}, "model.head_layers is 0 there, 1 here"),
        ({"model": {"learned_start": True}}, "model.learned_start is false there, true here"),
        ({"data": {"features": "0:4"}}, "it has 6 features, the data 4"),
    ],
    ids=str,
)
def test_a_file_that_does_not_fit_the_run_is_one_line(
    tiny: Dataset, config: Make, tmp_path: Path, changes: dict[str, dict[str, Any]], words: str
) -> None:
    """It names the setting, the file and every difference."""
    path = write24(tmp_path, Model24(**SIZES))
    settings = fitting(config, "24", **changes, training={"init_from": str(path)})
    with pytest.raises(InputError) as caught:
        train(settings, tiny)
    (line,) = caught.value.problems
    assert line.startswith(f"training.init_from: {path} does not fit this run: ") and words in line


def test_a_file_of_other_classes_does_not_start_a_run(tiny: Dataset, config: Make, tmp_path: Path) -> None:
    """41 phonemes are not the 6 of the data."""
    path = write24(tmp_path, Model24(**{**SIZES, "classes": 41}))
    with pytest.raises(InputError, match="has 41 classes, the blank included, in-memory has 6"):
        train(fitting(config, "24", training={"init_from": str(path)}), tiny)
