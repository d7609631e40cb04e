"""Checkpoints: one dictionary of plain values and tensors, written in one step, read without executing code.

schema     1
config     the configuration, `search_spaces.config.to_dict`
data       fingerprint, features, classes, days of the data set
epoch, batch            done so far
model      weights
average    None, or {"updates", "model"}: averaged weights; where the best of several count, {"averages": by name the
           same, "chosen": the name of the best at the last epoch, or "raw"}
optimizer, scaler       their states
report     the last epoch's row
best       {"per", "epoch"} so far, None before the first finite PER

The file is torch's zip archive, so every record has a CRC-32. torch does not check it; `load` does.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from search_spaces.common import atomic
from search_spaces.config import RunConfig
from search_spaces.errors import InputError
from search_spaces.wording import reason_of
from trainable.model import Decoder

SCHEMA = 1
EPOCH_RECORD = "archive/tuner/epoch"
"""A record that `save` adds to the archive, so that the epoch can be read without reading gigabytes."""
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


class DamagedCheckpoint(InputError):
    """A truncated file, one whose checksums are wrong, or one that is not a checkpoint."""


def save(path: str | Path, state: Mapping[str, Any], previous: Path | None = None) -> None:
    """Write `state` to `path`; a reader sees the old file or the new one, at any time and after any crash.

    With `previous`, the old file is kept under that name; a crash between the two renamings leaves it there and no
    `path`. Raises OSError where it cannot be written; the old file is then unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.file(path, sync_name=True, old_name=previous) as temporary, temporary.open("w+b") as file:
        _write(file, state)


def _write(file: Any, state: Mapping[str, Any]) -> None:
    try:
        torch.save(dict(state), file)
    except RuntimeError as error:  # torch's archive writer hides the error of the file system
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(EPOCH_RECORD, str(state.get("epoch", "")))


def epoch_of(path: str | Path) -> int | None:
    """The epoch of a checkpoint, from its directory only; None where an older program wrote it, or it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return int(archive.read(EPOCH_RECORD))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def load(path: str | Path) -> dict[str, Any]:
    """The state in `path`, tensors on the CPU, after its checksums were verified.

    Raises `InputError` if it is missing or not a checkpoint of this program; `DamagedCheckpoint`, a subclass, if it is
    truncated or its checksums are wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: checkpoint does not exist")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if (bad := archive.testzip()) is not None:
                    raise ValueError(f"the checksum of {bad} is wrong")
        with warnings.catch_warnings(action="ignore"):  # about foreign files, which the error below names
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a foreign file can fail in any way: IndexError, struct.error, ...
        reason = reason_of(error)
        raise DamagedCheckpoint(f"{path}: truncated, or not a checkpoint of this program ({reason})") from None
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
        raise InputError(f"{where}: {', '.join(wrong)} missing or of a wrong type; the checkpoint is not complete")
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
    """The weights that were evaluated: the averaged ones if there are any, else the raw ones; the best of several."""
    average = state["average"]
    if average is not None and "averages" in average:
        average = average["averages"].get(average["chosen"])
    weights = average["model"] if average is not None and average["updates"] > 0 else state["model"]
    return dict(weights)


def for_evaluation(state: Mapping[str, Any], *, half: bool = False) -> dict[str, Any]:
    """`state` with only the evaluated weights: kept of the best epoch, for `load_model` (training cannot be resumed).

    With `half` they are float16, except tensors with values too large for it; `load_model` gives float32 again.
    """
    weights = best_weights(state)
    if half:
        weights = {name: _halved(tensor) for name, tensor in weights.items()}
    return {**state, "model": weights, "average": None, "optimizer": {}, "scaler": {}}


def _halved(tensor: torch.Tensor) -> torch.Tensor:
    halved = tensor.half() if tensor.is_floating_point() else tensor
    return halved if bool(halved.isfinite().all()) else tensor


def on_host(state: Any) -> Any:
    """A copy of a nest of dictionaries, lists and tensors, the tensors in host memory, so that training can continue.

    A tensor that occurs twice is copied once.
    """
    copies: dict[int, torch.Tensor] = {}

    def copied(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            if id(value) not in copies:
                copies[id(value)] = value.detach().to("cpu", copy=True)
            return copies[id(value)]
        if isinstance(value, Mapping):
            return {key: copied(item) for key, item in value.items()}
        return type(value)(map(copied, value)) if isinstance(value, list | tuple) else value

    return copied(state)


def size_of(state: Any) -> int:
    """Bytes of the tensors in a nest of dictionaries and lists."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, Mapping):
        state = list(state.values())
    return sum(map(size_of, state)) if isinstance(state, list | tuple) else 0


def load_model(state: Mapping[str, Any]) -> Decoder:
    """The trained decoder with its evaluated weights, on the CPU, in evaluation mode."""
    data = state["data"]
    model = Decoder(config_of(state), data["features"], len(data["classes"]), len(data["days"]))
    load_weights(model, best_weights(state))
    return model.eval()


def load_weights(model: Decoder, weights: Mapping[str, torch.Tensor], where: str = "checkpoint") -> None:
    """Put `weights` into `model`; raises `InputError` if they belong to another model."""
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise InputError(f"{where}: its weights do not fit the model of its configuration") from None
