"""TF32 as the configuration has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch

from search_spaces.config import RunConfig
from trainable import loop


@pytest.fixture(autouse=True)
def _flags_restored() -> Iterator[None]:
    flags = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    yield
    torch.backends.cudnn.allow_tf32 = flags[0]
    torch.set_float32_matmul_precision(flags[1])


@pytest.mark.parametrize("tf32", [True, False])
def test_tf32_is_on_only_where_it_is_asked_for(
    config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, tf32: bool
) -> None:
    """Before an epoch on a card both of torch's switches are set, cuDNN's for the GRU and that of matrix products."""
    seen = {}

    def train_epoch(run: object) -> SimpleNamespace:
        seen["cudnn"] = torch.backends.cudnn.allow_tf32
        seen["matmul"] = torch.get_float32_matmul_precision()
        return SimpleNamespace(diverged=True)

    monkeypatch.setattr(loop, "_train_epoch", train_epoch)
    torch.backends.cudnn.allow_tf32 = not tf32
    torch.set_float32_matmul_precision("highest" if tf32 else "high")
    run = SimpleNamespace(config=config(training={"tf32": tf32}), batch=0, device=SimpleNamespace(type="cuda"))
    assert len(list(loop._epochs(run))) == 1  # type: ignore[arg-type]
    assert seen == {"cudnn": tf32, "matmul": "high" if tf32 else "highest"}
