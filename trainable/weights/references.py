"""Reads the weights of the public reference models.

'24   cffan/neural_seq_decoder and its forks: `modelWeights`, a state dictionary; the settings in `args` beside it
'25   Neuroprosthetics-Lab/nejm-brain-to-text and its forks: `best_checkpoint`, whose `model_state_dict` it is; the
      settings and the sessions in `args.yaml` beside it

What is in the files, and what becomes of it:

- GRU, day layers and output have the same mathematics, so the weights are the decoder's, under other names.
- A window of the '24 model lies feature after feature, one of the '25 model and of this program bin after bin: the
  columns of the first layer's input weights are reordered.
- The '24 model keeps its smoothing taps, an even number of them: `augmentation.smoothing_even`. Its `inpLayer`s are
  initialised and never used; they are left out.
- The '25 model smooths before the model, with those taps of a Gaussian that are above 0.01.
- Its first state `h0` is learned and shared by the layers: `model.learned_start`.

Nothing in a file is run: torch reads the weights with `weights_only`, `trainable.data.pickles` the settings of '24.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from search_spaces.errors import InputError
from search_spaces.parsing.yaml_file import read_yaml
from search_spaces.wording import reason_of
from trainable.data.pickles import load_plain
from trainable.model import gaussian_taps
from trainable.weights.given import Given, check_complete

STRIDE = 4
"""Both references' own; used where no settings are beside the weights."""
SMOOTHING_SD, SMOOTHING_SIZE, LEAST_TAP = 2.0, 100, 0.01
"""The '25 reference's smoothing: s.d. and size of its kernel, and the tap below which its code drops one."""
MOST_ARGS_BYTES = 4 << 20

_NAMES = {
    "24": {"dayWeights": "day_weight", "dayBias": "day_bias", "fc_decoder_out.": "output.", "gru_decoder.": "gru."},
    "25": {"day_weights": "day_weight", "day_biases": "day_bias", "out.": "output.", "gru.": "gru.", "h0": "start"},
}
_UNUSED = {"24": ("inpLayer", "gaussianSmoother."), "25": ()}


DIFFERENCES: dict[str, tuple[str, ...]] = {
    "24": (
        "the last frame of an utterance counts here; the reference leaves it out",
        "an utterance is decoded by itself here; the reference's backward layers begin in the padding of its batch",
    ),
    "25": (),
}
"""What is computed in another way than in the reference's own evaluation."""


def reference_in(path: Path, content: Any) -> Given | None:
    """The weights of a reference model in what a file holds; None where it holds none. Raises InputError, one line."""
    found = _state_dict(content)
    names = set(found)
    if {"dayWeights", "dayBias"} <= names:
        return _converted(path, "24", found)
    if "h0" in names and any(name.startswith("day_weights") for name in names):
        return _converted(path, "25", _stacked(found))
    return None


def _state_dict(content: Any) -> dict[str, Tensor]:
    """The state dictionary in a file, without the prefixes of `torch.compile` and of data-parallel training."""
    if isinstance(content, Mapping):
        for key in ("model_state_dict", "state_dict", "model"):
            if isinstance(content.get(key), Mapping):
                content = content[key]
                break
    if not isinstance(content, Mapping):
        return {}
    return {
        str(name).replace("_orig_mod.", "").replace("module.", ""): value
        for name, value in content.items()
        if isinstance(value, Tensor)
    }


def _stacked(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """'25 weights with the day layers of all days in one tensor each, as some forks have them."""
    stacked = {name: value for name, value in found.items() if not name.startswith(("day_weights.", "day_biases."))}
    for name in ("day_weights", "day_biases"):
        days = sorted((int(key.rpartition(".")[2]), key) for key in found if key.startswith(f"{name}."))
        if days:
            stacked[name] = torch.stack([found[key] for _, key in days])
    if "day_biases" in stacked:
        biases = stacked["day_biases"]
        stacked["day_biases"] = biases.reshape(len(biases), 1, -1)
    return stacked


def _converted(path: Path, kind: Literal["24", "25"], found: dict[str, Tensor]) -> Given:
    weights, surplus = _renamed(kind, found)
    try:
        model = _sizes(weights)
        weights, features, classes = _reordered(kind, weights, model)
    except KeyError as error:
        raise InputError(f"{path}: looks like the '{kind} reference, but lacks its {error.args[0]}") from None
    except (IndexError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{path}: looks like the '{kind} reference, but its shapes do not fit together ({reason_of(error)})"
        ) from None
    if surplus:
        raise InputError(
            f"{path}: has weights that the '{kind} reference does not have: {', '.join(surplus[:4])}"
            f"{', ...' if len(surplus) > 4 else ''}; a model with other layers cannot be read"
        )
    args, notes = _args_24(path) if kind == "24" else _args_25(path)
    count = len(weights["day_weight"])
    days = args.pop("days", None)
    if days is not None and len(days) != count:
        raise InputError(f"{path}: has day layers of {count} days, args.yaml beside it names {len(days)} sessions")
    smoothing = _smoothing_24(path, found) if kind == "24" else _smoothing_25(args)
    given = Given(
        path=path,
        kind=kind,
        weights=weights,
        settings={
            "model": {**model, "stride": args.get("stride", STRIDE)},
            "augmentation": smoothing,
        },
        features=features,
        classes=classes,
        days=days or count,
        notes=(*notes, *DIFFERENCES[kind]),
    )
    check_complete(given)
    return given


def _renamed(kind: str, found: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The weights under our names, GRU layers apart, and the names that have no place in our model."""
    weights, surplus = {}, []
    for name, value in found.items():
        if name.startswith(_UNUSED[kind]):
            continue
        for theirs, ours in _NAMES[kind].items():
            if name == theirs or (theirs.endswith(".") and name.startswith(theirs)):
                weights[ours + name[len(theirs) :]] = value.float()
                break
        else:
            surplus.append(name)
    return weights, surplus


def _sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The settings of the model that the shapes give."""
    layers = sum(name.startswith("gru.weight_hh_l") and not name.endswith("_reverse") for name in weights)
    features, inputs = weights["day_weight"].shape[1], weights["gru.weight_ih_l0"].shape[1]
    if inputs % features:
        raise ValueError(f"{inputs} inputs of the GRU are no whole number of bins of {features} features")
    return {
        "hidden": int(weights["gru.weight_hh_l0"].shape[1]),
        "layers": layers,
        "bidirectional": "gru.weight_ih_l0_reverse" in weights,
        "kernel": inputs // features,
        "day_layers": True,
        "learned_start": "start" in weights,
    }


def _reordered(kind: str, weights: dict[str, Tensor], model: Mapping[str, Any]) -> tuple[dict[str, Tensor], int, int]:
    """The weights with one GRU module for each layer and windows bin after bin; numbers of features and of classes."""
    features = int(weights["day_weight"].shape[1])
    result = {}
    for name, value in weights.items():
        if not name.startswith("gru."):
            result[name] = value
            continue
        part, _, place = name.removeprefix("gru.").rpartition("_l")
        layer, _, reverse = place.partition("_")
        if kind == "24" and part == "weight_ih" and layer == "0":
            value = value.view(-1, features, model["kernel"]).transpose(1, 2).flatten(1)
        result[f"layers.{layer}.{part}_l0" + (f"_{reverse}" if reverse else "")] = value
    return result, features, len(weights["output.bias"])


def _args_24(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The stride from the pickle `args` beside the weights, and notes."""
    file = path.with_name("args")
    if not file.is_file():
        return {}, [f"there is no {file.name} beside {path.name}; model.stride {STRIDE} is assumed"]
    args = load_plain(file, MOST_ARGS_BYTES)
    args = args if isinstance(args, dict) else {}
    return _stride(args.get("strideLen"), file)


def _args_25(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The stride, the smoothing and the names of the days from `args.yaml` beside the weights, and notes."""
    file = path.with_name("args.yaml")
    if not file.is_file():
        return {}, [
            f"there is no {file.name} beside {path.name}; model.stride {STRIDE} and the published smoothing are "
            "assumed, and the days have no names"
        ]
    args = read_yaml(file, str(file))

    def section(*names: str) -> Mapping[str, Any]:
        inside: Any = args
        for name in names:
            inside = inside.get(name) if isinstance(inside, Mapping) else None
        return inside if isinstance(inside, Mapping) else {}

    smoothing = section("dataset", "data_transforms")
    sessions = section("dataset").get("sessions")
    without = section("model").get("patch_size") == 0
    found, notes = _stride(1 if without else section("model").get("patch_stride"), file)
    if isinstance(sessions, list) and all(isinstance(name, str) for name in sessions):
        found["days"] = tuple(sessions)
    off = smoothing.get("smooth_data") is False
    found["sd"] = 0.0 if off else smoothing.get("smooth_kernel_std", SMOOTHING_SD)
    found["size"] = smoothing.get("smooth_kernel_size", SMOOTHING_SIZE)
    return found, notes


def _stride(value: Any, file: Path) -> tuple[dict[str, Any], list[str]]:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return {"stride": value}, []
    return {}, [f"{file} does not say the stride; model.stride {STRIDE} is assumed"]


def _smoothing_24(path: Path, found: Mapping[str, Tensor]) -> dict[str, Any]:
    """The smoothing whose taps are in the weights."""
    if "gaussianSmoother.weight" not in found:
        return {"smoothing_sd": SMOOTHING_SD, "smoothing_kernel": 20, "smoothing_even": True}
    taps = found["gaussianSmoother.weight"].double().reshape(-1, found["gaussianSmoother.weight"].shape[-1])[0]
    size = len(taps)
    if size == 1:
        return {"smoothing_sd": 0.0, "smoothing_kernel": 1, "smoothing_even": True}
    # The logarithm of a Gaussian falls with the square of the distance from the middle.
    edge, inner = (size - 1) / 2, size // 2 - (size - 1) / 2
    fall = float((taps[size // 2] / taps[0]).log()) if bool((taps > 0).all()) else math.nan
    sd = round(math.sqrt((edge**2 - inner**2) / (2 * fall)), 4) if fall > 0 else math.nan
    wanted = torch.tensor(gaussian_taps(sd, size, even=True)) if math.isfinite(sd) else torch.zeros(1)
    if len(wanted) != size or not torch.allclose(wanted.double(), taps, atol=1e-5):
        raise InputError(f"{path}: gaussianSmoother.weight is no Gaussian; smoothing of another kind cannot be read")
    return {"smoothing_sd": sd, "smoothing_kernel": size, "smoothing_even": True}


def _smoothing_25(args: Mapping[str, Any]) -> dict[str, Any]:
    """The smoothing of the '25 reference: of a Gaussian cut off at four s.d., the taps above `LEAST_TAP`."""
    sd, size = float(args.get("sd", SMOOTHING_SD)), int(args.get("size", SMOOTHING_SIZE))
    if sd <= 0:
        return {"smoothing_sd": 0.0, "smoothing_kernel": 1, "smoothing_even": False}
    radius = int(4 * sd + 0.5)
    taps = [math.exp(-0.5 * (place / sd) ** 2) for place in range(-radius, radius + 1)]
    kept = sum(tap / math.fsum(taps) > LEAST_TAP for tap in taps)
    return {"smoothing_sd": sd, "smoothing_kernel": min(kept, size), "smoothing_even": False}
