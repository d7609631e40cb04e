"""Checkpoints: one dictionary of plain values and tensors, written whole or not at all, read without running code.

schema     1
config     the configuration, `search_spaces.config.to_dict`
data       fingerprint, features, classes, days of the data set
epoch, batch            done so far
model      weights
average    None, or {"updates", "model"}: averaged weights
optimizer, scaler       their states
report     the last epoch's row
best       {"per", "epoch"} so far, None before the first finite PER
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from search_spaces.config import RunConfig
from search_spaces.errors import InputError
from trainable.model import Decoder

SCHEMA = 1
KEYS: dict[str, type | tuple[type, ...]] = {
    "schema": int,
    "config": dict,
    "data": dict,
    "epoch": int,
    "batch": int,
    "model": dict,
    "average": (dict, type(None)),
    "optimizer": dict,
    "scaler": dict,
    "report": dict,
}


def save(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write `state` to `path`; whoever reads it, at any time and after any crash, sees the old file or the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load(path: str | Path) -> dict[str, Any]:
    """The state in `path`, tensors on the CPU. `InputError` if it is missing, truncated or not a checkpoint of ours."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: checkpoint does not exist")
    try:
        with warnings.catch_warnings(action="ignore"):  # about foreign files, which the line below tells of
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a foreign file read as instructions fails in any way: IndexError, struct.error, ...
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: truncated, or not a checkpoint of this program ({reason})") from None
    return check(state, str(path))


def check(state: Any, where: str) -> dict[str, Any]:
    """`state` if it has the form of a checkpoint; else an `InputError` that begins with `where`."""
    if not isinstance(state, Mapping) or "schema" not in state:
        raise InputError(f"{where}: not a checkpoint of this program")
    if state["schema"] != SCHEMA:
        raise InputError(
            f"{where}: schema: {state['schema']} is not allowed; this version of the program reads checkpoints of "
            f"schema {SCHEMA}"
        )
    wrong = [key for key, kind in KEYS.items() if not isinstance(state.get(key), kind)]
    wrong += [
        f"data.{key}" for key in ("fingerprint", "features", "classes", "days") if key not in state.get("data", {})
    ]
    if wrong:
        raise InputError(f"{where}: {', '.join(wrong)} missing or of a wrong type; not a whole checkpoint")
    return dict(state)


def config_of(state: Mapping[str, Any], where: str = "checkpoint") -> RunConfig:
    """The configuration a checkpoint was trained with."""
    try:
        return RunConfig.model_validate(state["config"])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{where}: config.{place}: {first['msg']}; made by another version of the program") from None


def best_weights(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The weights that were evaluated: the averaged ones if there are any, else the raw ones."""
    average = state["average"]
    weights = average["model"] if average is not None and average["updates"] > 0 else state["model"]
    return dict(weights)


def for_evaluation(state: Mapping[str, Any]) -> dict[str, Any]:
    """`state` with the evaluated weights alone: what is kept of the best epoch, for `load_model` (it cannot resume)."""
    return {**state, "model": best_weights(state), "average": None, "optimizer": {}, "scaler": {}}


def load_model(state: Mapping[str, Any]) -> Decoder:
    """The trained decoder with its evaluated weights, on the CPU, in evaluation mode."""
    data = state["data"]
    model = Decoder(config_of(state), data["features"], len(data["classes"]), len(data["days"]))
    load_weights(model, best_weights(state))
    return model.eval()


def load_weights(model: Decoder, weights: Mapping[str, torch.Tensor], where: str = "checkpoint") -> None:
    """Put `weights` into `model`; `InputError` if they are another model's."""
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise InputError(f"{where}: its weights are of another model than its configuration describes") from None
