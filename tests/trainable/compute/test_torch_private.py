"""The private names of torch are where `trainable/compute/torch_private.py` looks for them.

After an upgrade of torch, a test here fails with the name that has moved and what it was used for.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from trainable.compute import torch_private

THIS = f"torch {torch.__version__}"


@pytest.fixture
def mkldnn():
    """The operators of torch that are there; its own object makes each when it is asked for."""
    wanted = [name.removeprefix("mkldnn.") for name in torch_private.NAMES if name.startswith("mkldnn.")]
    return SimpleNamespace(**{name: True for name in wanted if hasattr(torch.ops.mkldnn, name)})


@pytest.mark.parametrize("name", torch_private.NAMES)
def test_torch_still_has(name, mkldnn, gone):
    """Each name that the documentation of torch does not promise; the failure says what no longer works."""
    assert gone(THIS, {name: torch_private.NAMES[name]}, {"mkldnn": mkldnn, "torch": torch}) == []


def test_what_is_gone_is_one_line(gone):
    """The line that an upgrade gives: which name, and what it was used for."""
    name = "mkldnn._is_mkldnn_fp16_supported"
    assert gone("torch 4", {name: torch_private.NAMES[name]}, {"mkldnn": SimpleNamespace()}) == [
        f"torch 4: {name} is gone; used to know whether this CPU trains in fp16"
    ]


def test_every_cpu_has_fp32_and_one_without_mkldnn_nothing_else(monkeypatch):
    """fp32 is always there; of the others torch is asked, and where it has no such library they are not."""
    assert torch_private.cpu_has("fp32")
    for precision in ("bf16", "fp16"):
        asked = getattr(torch.ops.mkldnn, f"_is_mkldnn_{precision}_supported")
        assert torch_private.cpu_has(precision) == asked()
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert [torch_private.cpu_has(precision) for precision in ("fp32", "bf16", "fp16")] == [True, False, False]


def test_lists_of_tensors_are_treated_at_once():
    """Set to 0, copied with rounding, added up: each tensor in its own place."""
    sums = [torch.ones(3), torch.ones(2, 2)]
    torch_private.zero_all(sums)
    assert all(not tensor.any() for tensor in sums)
    torch_private.add_all(sums, [torch.full((3,), 2.0), torch.full((2, 2), 3.0)])
    assert [tensor.flatten()[0].item() for tensor in sums] == [2.0, 3.0]
    lowered = [torch.empty(3, dtype=torch.bfloat16), torch.empty(2, 2, dtype=torch.bfloat16)]
    torch_private.copy_all(lowered, [tensor + 1e-4 for tensor in sums])
    assert [tensor.flatten()[0].item() for tensor in lowered] == [2.0, 3.0]


def test_a_gru_on_a_cpu_keeps_its_weights():
    """Only cuDNN wants one block of memory."""
    layer = torch.nn.GRU(3, 4, bidirectional=True)
    before = [parameter.clone() for parameter in layer.parameters()]
    torch_private.flatten_weights(list(layer.parameters()), layer)
    assert all(map(torch.equal, before, layer.parameters()))
