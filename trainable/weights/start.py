"""The weights that a run starts from (`training.init_from`): a checkpoint, or a public reference model's."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from search_spaces.config import RunConfig, flatten
from search_spaces.errors import InputError
from search_spaces.wording import reason_of, show
from trainable import checkpoint
from trainable.data.dataset import Dataset
from trainable.weights.given import Given, assumed_names, classes_of, config_of, days_of
from trainable.weights.references import reference_in

_SHAPES = (
    "hidden",
    "layers",
    "bidirectional",
    "kernel",
    "layer_norm",
    "learned_start",
    "residual",
    "head_layers",
    "head_kind",
    "head_norm",
    "head_activation",
)
"""Settings of the model that its weights are made for."""
_TOLD = (
    "data.features",
    "model.stride",
    "augmentation.smoothing_sd",
    "augmentation.smoothing_kernel",
    "augmentation.smoothing_even",
)
"""Settings that may differ from those the weights were trained with, and are told when they do."""


def read_given(path: str | Path) -> Given:
    """The weights in a file. Raises InputError, one line, for a file without weights of any `Kind`."""
    path = Path(path)
    content = _load(path)
    if isinstance(content, Mapping) and "schema" in content:
        return _own(path, checkpoint.check(content, str(path)))
    found = reference_in(path, content)
    if found is None:
        raise InputError(
            f"{path}: has no weights of this program, of the '24 reference (dayWeights, gru_decoder, ...) or of the "
            "'25 reference (day_weights, gru, h0, ...); give modelWeights, best_checkpoint or a checkpoint"
        )
    return found


def _load(path: Path) -> Any:
    if not path.is_file():
        what = "is a folder; give a file in it" if path.is_dir() else "does not exist"
        raise InputError(f"{path}: {what}, such as modelWeights, best_checkpoint or best.pt")
    # The '25 trainer keeps its loss as a number of numpy's, under the names of either major version.
    scalar = np.float64(0).__reduce__()[0]
    named = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    numbers: list[Any] = [np.dtype, *(type(np.dtype(kind)) for kind in ("f4", "f8")), *named]
    try:
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(numbers):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a foreign file can fail in any way
        raise InputError(f"{path}: truncated, or not a file of weights alone ({reason_of(error)})") from None


def _own(path: Path, state: Mapping[str, Any]) -> Given:
    config, data = checkpoint.config_of(state, str(path)), state["data"]
    flat = flatten(config)
    settings = {section: config.model_dump()[section] for section in ("model", "augmentation", "data")}
    return Given(
        path=path,
        kind="checkpoint",
        weights={name: value.float() for name, value in checkpoint.best_weights(state).items()},
        settings=settings,
        features=int(data["features"]),
        classes=tuple(data["classes"]),
        days=tuple(data["days"]) if flat["model.day_layers"] else 0,
    )


def start_weights(config: RunConfig, dataset: Dataset) -> tuple[dict[str, Tensor], list[str]]:
    """The weights that `training.init_from` gives a run on this data, and notes on what differs, a line each.

    Day layers are matched by the names of the days; a day that the file does not have starts from the identity.
    `dataset` has the features that the run uses. Raises InputError, one line, where the file does not fit the run.
    """
    assert config.training.init_from is not None  # noqa: S101  whoever asks has seen to it
    given = read_given(config.training.init_from)
    notes = [f"{given.path.name}: {note}" for note in (*given.notes, *assumed_names(given))]
    problems = _differences(given, config, dataset)
    if problems:
        raise InputError(
            f"training.init_from: {given.path} does not fit this run: {'; '.join(problems)}; "
            "give the same settings, or another file"
        )
    weights = {name: value for name, value in given.weights.items() if not name.startswith("day_")}
    if config.model.day_layers:
        of_days, told = _day_layers(given, dataset)
        weights |= of_days
        notes += told
    elif given.days:
        notes.append(f"{given.path.name}: its day layers are left out, because model.day_layers is false")
    theirs, ours = flatten(config_of(given)), flatten(config)
    notes += [
        f"{given.path.name}: trained with {path} {show(theirs[path])}, here {show(ours[path])}"
        for path in _TOLD
        if theirs[path] != ours[path]
    ]
    return weights, notes


def _differences(given: Given, config: RunConfig, dataset: Dataset) -> list[str]:
    theirs, ours = flatten(config_of(given)), flatten(config)
    if not ours["model.head_layers"] and not theirs["model.head_layers"]:
        shapes = [key for key in _SHAPES if not key.startswith("head_")]
    else:
        shapes = list(_SHAPES)
    found = [
        f"model.{key} is {show(theirs[f'model.{key}'])} there, {show(ours[f'model.{key}'])} here"
        for key in shapes
        if theirs[f"model.{key}"] != ours[f"model.{key}"]
    ]
    if given.features != dataset.n_features:
        found.append(f"it has {given.features} features, the data {dataset.n_features}")
    if isinstance(given.classes, tuple) and given.classes != dataset.classes:
        found.append(f"it has {len(given.classes)} classes, the data {dataset.n_classes}, with other names or order")
    elif isinstance(given.classes, int):
        try:
            classes_of(given, dataset)
        except InputError as error:
            found.append(str(error).partition(": ")[2].partition(";")[0])
    return found


def _day_layers(given: Given, dataset: Dataset) -> tuple[dict[str, Tensor], list[str]]:
    """Day layers for the data's days, and a note where some are new."""
    names = {day: i for i, day in enumerate(days_of(given, dataset))} if given.days else {}
    weight = torch.eye(given.features).repeat(len(dataset.days), 1, 1)
    bias = torch.zeros(len(dataset.days), 1, given.features)
    new = [day for day in dataset.days if day not in names]
    for place, day in enumerate(dataset.days):
        if day in names:
            weight[place], bias[place] = given.weights["day_weight"][names[day]], given.weights["day_bias"][names[day]]
    told = []
    if new:
        some = ", ".join(new[:3]) + (", ..." if len(new) > 3 else "")
        told = [
            f"{given.path.name}: has no day layer for {len(new)} of {len(dataset.days)} days ({some}); "
            "they start from the identity"
        ]
    return {"day_weight": weight, "day_bias": bias}, told
