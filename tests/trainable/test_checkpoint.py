from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.config import RunConfig
from search_spaces.errors import InputError
from trainable import train
from trainable.checkpoint import best_weights, for_evaluation, load, load_model, save
from trainable.data.dataset import Dataset

Make = Callable[..., RunConfig]


def same(a: Any, b: Any) -> bool:
    """Whether two nests of dictionaries, lists and tensors are equal to the last bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.fixture(scope="module")
def state(tiny: Dataset, config: Make) -> dict[str, Any]:
    """The checkpoint after an epoch of a run with EMA."""
    return next(train(config(averaging={"kind": "ema", "decay": 0.9}), tiny)).checkpoint()


def test_what_is_saved_is_what_is_loaded(state: dict[str, Any], tmp_path: Path) -> None:
    """A checkpoint survives the file to the last bit, and the folder is made where it is missing."""
    save(tmp_path / "new" / "last.pt", state)
    assert same(load(tmp_path / "new" / "last.pt"), state)
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["last.pt"]


def test_a_failed_save_leaves_the_old_file(
    state: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If writing breaks off, the checkpoint that was there is still whole and nothing else is left behind."""
    path = tmp_path / "last.pt"
    save(path, state)

    def broken(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="No space"):
        save(path, {**state, "epoch": 99})
    assert load(path)["epoch"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_one_line(state: dict[str, Any], tmp_path: Path, keep: float) -> None:
    """Wherever a file is cut off, loading says so in one line that names it."""
    path = tmp_path / "last.pt"
    save(path, state)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(InputError, match="truncated, or not a checkpoint") as caught:
        load(path)
    assert str(path) in str(caught.value) and len(caught.value.problems) == 1
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    """A path without a file is named."""
    with pytest.raises(InputError, match=r"nowhere\.pt: checkpoint does not exist"):
        load(tmp_path / "nowhere.pt")


class Hostile:
    """Runs a command when a pickle of it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_hostile_file_does_not_run(tmp_path: Path, how: str) -> None:
    """Code hidden in a file is not executed, and the file is refused."""
    path, mark = tmp_path / "evil.pt", tmp_path / "ran"
    if how == "torch":
        torch.save({"schema": 1, "config": Hostile(mark)}, path)
    else:
        path.write_bytes(pickle.dumps(Hostile(mark), protocol=2))
    with pytest.raises(InputError, match=r"evil\.pt"):
        load(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: [1, 2], "not a checkpoint of this program"),
        (lambda state: {"model": {}}, "not a checkpoint of this program"),
        (lambda state: {**state, "schema": 7}, "schema: 7 is not allowed"),
        (lambda state: {**state, "optimizer": None}, "optimizer missing or of a wrong type"),
        (lambda state: {key: state[key] for key in state if key != "model"}, "model missing"),
        (lambda state: {**state, "data": {"features": 6}}, r"data\.fingerprint"),
    ],
)
def test_a_foreign_file_is_refused(
    state: dict[str, Any], tmp_path: Path, change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    """A torch file that is not a checkpoint of ours, or only half of one, is named with what is wrong."""
    torch.save(change(state), tmp_path / "other.pt")
    with pytest.raises(InputError, match=said) as caught:
        load(tmp_path / "other.pt")
    assert str(caught.value).startswith(str(tmp_path / "other.pt"))


def test_the_evaluated_weights_are_the_averaged_ones(state: dict[str, Any]) -> None:
    """With an average, `best_weights` and `load_model` give its weights; without one, the raw ones."""
    averaged = best_weights(state)
    assert same(averaged, dict(state["average"]["model"])) and not same(averaged, dict(state["model"]))
    model = load_model(state)
    assert not model.training and same(dict(model.state_dict()), averaged)
    assert same(best_weights({**state, "average": None}), dict(state["model"]))
    assert same(best_weights({**state, "average": {"updates": 0, "model": {}}}), dict(state["model"]))


def test_what_is_kept_for_evaluation_gives_the_same_model(state: dict[str, Any], tmp_path: Path) -> None:
    """The stripped checkpoint is smaller, loads, holds the evaluated weights, and refuses to be resumed."""
    save(tmp_path / "last.pt", state)
    save(tmp_path / "best.pt", for_evaluation(state))
    assert (tmp_path / "best.pt").stat().st_size < 0.5 * (tmp_path / "last.pt").stat().st_size
    assert same(dict(load_model(load(tmp_path / "best.pt")).state_dict()), best_weights(state))


def test_weights_of_another_model_are_refused(state: dict[str, Any]) -> None:
    """A checkpoint whose weights do not fit its own configuration is one line, not a torch traceback."""
    other = {**state, "config": {**state["config"], "model": {**state["config"]["model"], "hidden": 7}}}
    with pytest.raises(InputError, match="weights do not fit the model"):
        load_model(other)
    broken = {**state, "config": {**state["config"], "model": {"hiden": 7}}}
    with pytest.raises(InputError, match=r"config\.model\.hiden"):
        load_model(broken)
