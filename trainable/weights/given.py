"""Weights from a file under the names of `Decoder`, with what the file says of the model, its days and its classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from search_spaces.config import RunConfig
from search_spaces.errors import InputError
from trainable.data.dataset import Dataset
from trainable.model import Decoder

Kind = Literal["24", "25", "checkpoint"]
"""The public reference models of '24 and '25, or a checkpoint of this program."""


@dataclass(frozen=True)
class Given:
    """Weights from a file, under the names of `Decoder`, and what is known of them."""

    path: Path
    kind: Kind
    weights: dict[str, Tensor]
    settings: dict[str, dict[str, Any]]
    """Settings of the sections model and augmentation that the weights were made for."""
    features: int
    classes: tuple[str, ...] | int
    """Their names, or only how many, the blank included."""
    days: tuple[str, ...] | int
    """Their names, or only how many; 0 without day layers."""
    notes: tuple[str, ...] = ()
    """What was assumed or left out, a line each."""


def config_of(given: Given) -> RunConfig:
    """A configuration of the model that the weights are made for; its training is torch's arithmetic of fp32."""
    return RunConfig.model_validate({**given.settings, "schedule": {"kind": "constant", "peak_lr": 1.0}})


def days_of(given: Given, dataset: Dataset) -> tuple[str, ...]:
    """The names of the weights' days; where the file has none they are those of the data, if there are as many."""
    if not isinstance(given.days, int):
        return given.days
    if given.days in (0, len(dataset.days)):
        return dataset.days
    raise InputError(
        f"{given.path}: has day layers of {given.days} days without names, {dataset.path} has {len(dataset.days)}; "
        "give data of exactly these days, in their order"
        + (", or put the args.yaml of the training beside the weights" if given.kind == "25" else "")
    )


def classes_of(given: Given, dataset: Dataset) -> tuple[str, ...]:
    """The names of the weights' classes; where the file has none they are those of the data, if there are as many."""
    if not isinstance(given.classes, int):
        return given.classes
    if given.classes == dataset.n_classes:
        return dataset.classes
    raise InputError(
        f"{given.path}: has {given.classes} classes, the blank included, {dataset.path} has {dataset.n_classes}; "
        "give data with the same phonemes"
    )


def assumed_names(given: Given) -> list[str]:
    """A note where the names of days or classes are taken from the data, because the file has none."""
    found = [name for name, value in (("days", given.days), ("classes", given.classes)) if isinstance(value, int)]
    return [f"the file has no names of {' and '.join(found)}; they are taken in the order of the data"] if found else []


def check_complete(given: Given) -> None:
    """Every weight of the model is there in its shape."""
    days = given.days if isinstance(given.days, int) else len(given.days)
    classes = given.classes if isinstance(given.classes, int) else len(given.classes)
    model = Decoder(config_of(given), given.features, classes, days)
    wrong = _misfits(model, given.weights)
    if wrong:
        raise InputError(f"{given.path}: looks like the '{given.kind} reference, but {wrong}")


def _misfits(model: Decoder, weights: Mapping[str, Tensor]) -> str:
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    there = {name: tuple(value.shape) for name, value in weights.items()}
    missing, surplus = sorted(set(wanted) - set(there)), sorted(set(there) - set(wanted))
    other = [
        f"{name} is {there[name]}, not {wanted[name]}" for name in wanted if there.get(name) not in (None, wanted[name])
    ]
    told = [f"{', '.join(missing[:3])} missing"] if missing else []
    told += [f"{', '.join(surplus[:3])} has no place"] if surplus else []
    return "; ".join(told + other[:3])
