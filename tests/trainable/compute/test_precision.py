"""The arithmetic as the configuration has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from search_spaces import InputError, load_run
from search_spaces.config import RunConfig
from trainable import train
from trainable.compute.precision import autocast_for, choose_device, flatten, gru_backend, set_tf32, weights_dtype
from trainable.data.dataset import Dataset
from trainable.model import Decoder

Make = Callable[..., RunConfig]
CUDA, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture(autouse=True)
def _flags_restored() -> Iterator[None]:
    flags = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    yield
    torch.backends.cudnn.allow_tf32 = flags[0]
    torch.set_float32_matmul_precision(flags[1])


def switches() -> tuple[bool, str]:
    return torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()


TORCHS_OWN = switches()
"""As torch has them when it is imported."""


@pytest.mark.parametrize(
    ("tf32", "expected"), [(None, TORCHS_OWN), (True, (True, "high")), (False, (False, "highest"))]
)
def test_tf32_is_torchs_own_unless_it_is_set(tf32: bool | None, expected: tuple[bool, str]) -> None:
    """On a card both switches are set, cuDNN's for the GRU and that of other products, whatever a trial before set."""
    assert TORCHS_OWN == (True, "highest")
    for before in (True, False):
        set_tf32(CUDA, before)
        set_tf32(CUDA, tf32)
        assert switches() == expected


def test_a_cpu_has_no_tf32(tiny: Dataset, config: Make) -> None:
    """Training on a CPU leaves torch's switches alone."""
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("high")
    next(train(config(training={"tf32": None}), tiny))
    assert switches() == (False, "high")


@pytest.mark.parametrize(
    ("precision", "on_card"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_a_card_rounds_the_weights_and_a_cpu_the_products(config: Make, precision: str, on_card: torch.dtype) -> None:
    """On a card autocast, which runs GRUs in fp16, is never used; on a CPU it is what lowers the precision."""
    settings = config(training={"precision": precision})
    assert weights_dtype(settings, CUDA) == on_card
    assert weights_dtype(settings, CPU) == torch.float32
    with autocast_for(settings, CPU):
        assert torch.is_autocast_enabled("cpu") == (precision != "fp32")
        assert precision == "fp32" or torch.get_autocast_dtype("cpu") == on_card
    with autocast_for(settings, CUDA):
        assert not torch.is_autocast_enabled("cuda")


needs_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")


@pytest.mark.gpu
@needs_card
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_card_gets_the_weights_of_a_gru_in_one_block(
    config: Make, dtype: torch.dtype, recwarn: pytest.WarningsRecorder
) -> None:
    """After `flatten` a layer's weights share one storage, have their values, and cuDNN takes them without a copy."""
    model = Decoder(config(), 6, 6, 2).to("cuda", dtype)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    flatten(model)
    assert all(map(torch.equal, before, model.parameters()))
    for layer in model.layers:
        assert len({parameter.untyped_storage().data_ptr() for parameter in layer.parameters()}) == 1
        x = torch.randn(5, 3, layer.input_size, device="cuda", dtype=dtype)
        with gru_backend(x):
            layer(x)
    assert not [warning for warning in recwarn if "contiguous" in str(warning.message)]


@pytest.mark.parametrize(("capability", "allowed"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_bf16_is_refused_on_a_card_that_has_none(monkeypatch, capability, allowed):
    """One line with the card's name and what to give instead; the card is a simulated one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    config = load_run("small", ["training.precision=bf16", "training.device=cuda"]).config
    if allowed:
        assert choose_device(config).type == "cuda"
        return
    with pytest.raises(InputError, match=r"Tesla T4 has 7\.5; give fp16 or fp32"):
        choose_device(config)
