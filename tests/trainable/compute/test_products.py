"""Products by oneDNN and by MKL: the same numbers, chosen by the maker of the processor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from trainable.compute import products
from trainable.compute.products import BLOCK, product, product_of, sum_of_products
from trainable.layers.gru import gru

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs a torch with oneDNN")


@pytest.mark.parametrize("maker", ["AuthenticAMD", "GenuineIntel", ""])
def test_the_maker_of_the_processor_decides(monkeypatch: pytest.MonkeyPatch, maker: str) -> None:
    """oneDNN on AMD's processors, MKL on Intel's and where it is not known."""
    monkeypatch.setattr(products, "_maker", lambda: maker)
    products.onednn.cache_clear()
    try:
        assert products.onednn() == (maker == "AuthenticAMD" and torch.backends.mkldnn.is_available())
    finally:
        products.onednn.cache_clear()


def test_the_maker_is_read_from_the_kernel(tmp_path: Path) -> None:
    """The first processor's; nothing where the file is missing or says something else."""
    file = tmp_path / "cpuinfo"
    assert products._maker(file) == ""
    file.write_text("processor\t: 0\nvendor_id\t: AuthenticAMD\nprocessor\t: 1\nvendor_id\t: other\n")
    assert products._maker(file) == "AuthenticAMD"
    file.write_text("processor\t: 0\nCPU implementer\t: 0x41\n")
    assert products._maker(file) == ""


@needs_onednn
@pytest.mark.parametrize("sizes", [(1, 1, 1), (7, 5, 3), (64, 256, 768), (1, 12, 36), (300, 17, 2)], ids=str)
@pytest.mark.parametrize("least", [0, products.LEAST])
def test_both_ways_give_the_same_numbers(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, int, int], least: int
) -> None:
    """Whatever the layout of the two matrices, columns of a larger one too; double precision is always MKL's."""
    rows, inner, columns = sizes
    monkeypatch.setattr(products, "LEAST", least)
    torch.manual_seed(0)
    wide = torch.randn(rows, 2 * inner)
    lefts = (torch.randn(rows, inner), torch.randn(inner, rows).t(), wide[:, inner:])
    rights = (torch.randn(inner, columns), torch.randn(columns, inner).t())
    for a in lefts:
        for b in rights:
            exact = a.double() @ b.double()
            for by_onednn in (True, False):
                monkeypatch.setattr(products, "onednn", lambda chosen=by_onednn: chosen)
                found = product(a, b)
                assert found.shape == (rows, columns) and found.dtype == torch.float32
                torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-4)
                assert torch.equal(product(a.double(), b.double()), exact)
                bias = torch.randn(columns)
                torch.testing.assert_close(product(a, b, bias).double(), exact + bias, rtol=1e-5, atol=1e-4)
                summed = sum_of_products(a.t(), b)
                assert summed.shape == (rows, columns)
                torch.testing.assert_close(summed.double(), exact, rtol=1e-5, atol=1e-4)


@needs_onednn
def test_a_layer_whose_steps_are_all_small_multiplies_without_asking() -> None:
    """`torch.mm` where even the largest step is below the limit, which gives the bits of `product`; else `product`."""
    b = torch.randn(64, 128)
    rows = products.LEAST // b.numel()
    assert product_of(rows, b) is product
    assert product_of(rows - 1, b) is torch.mm
    a = torch.randn(rows - 1, 64)
    assert torch.equal(torch.mm(a, b), product(a, b))


def test_onednn_sees_few_shapes_and_no_small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames beyond a multiple of the block are MKL's, and so is what is too small to pay."""
    seen: list[tuple[int, ...]] = []
    own = products.torch_private.onednn_product

    def counted(a: Tensor, b: Tensor) -> Tensor:
        seen.append((*a.shape, b.shape[1]))
        return own(a, b)

    monkeypatch.setattr(products, "onednn", lambda: True)
    monkeypatch.setattr(products.torch_private, "onednn_product", counted)
    for frames in (300, 310, 3 * BLOCK, 30, 32):
        product(torch.ones(frames, 256), torch.ones(256, 512))
        sum_of_products(torch.ones(frames, 256), torch.ones(frames, 512))
    product(torch.ones(32, 128), torch.ones(128, 256))
    rows = [288, 288, 96, 30, 32]
    assert seen == [shape for count in rows for shape in ((count, 256, 512), (256, count, 512))]


@needs_onednn
@pytest.mark.parametrize("by_onednn", [True, False])
def test_the_fast_gru_is_torchs_gru_with_either(monkeypatch: pytest.MonkeyPatch, by_onednn: bool) -> None:
    """Outputs and gradients in fp32, for sequences of different lengths, and twice the same bits."""
    monkeypatch.setattr(products, "onednn", lambda: by_onednn)
    monkeypatch.setattr(products, "LEAST", 0)
    torch.manual_seed(0)
    layer = nn.GRU(20, 16, bidirectional=True)
    packed = pack_padded_sequence(torch.randn(9, 4, 20), torch.tensor([9, 9, 4, 1]))
    weight = torch.randn(int(packed.batch_sizes.sum()), 32)
    results = []
    for run in (lambda p: layer(p)[0], lambda p: gru(layer, p), lambda p: gru(layer, p)):
        x = packed.data.clone().requires_grad_()
        layer.zero_grad()
        output = run(packed._replace(data=x)).data
        (output * weight).sum().backward()
        results.append([output, x.grad, *(p.grad.clone() for p in layer.parameters())])
    for expected, actual, again in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(actual, again)
