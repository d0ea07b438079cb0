"""Whole numbers in few bits: what comes out is read by the `gguf` package alike, and is nearly what went in."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize

from pipelines.library.single_file import Place
from pipelines.runtime import nf4
from pipelines.runtime.gguf_weights import packed, widened
from pipelines.runtime.quantise import quantised
from pipelines.spec.weights import WEIGHTS
from tests.runtime.test_packed_weights import NF4 as PUBLISHED

BLOCKS = [row for row in WEIGHTS if row.kind in gguf.GGMLQuantizationType.__members__]
NUMBERS = torch.randn(64, 96, generator=torch.Generator().manual_seed(3)) * 0.05


def read(raw: torch.Tensor, kind: str) -> torch.Tensor:
    if kind == "NF4":
        return nf4.wide(raw, torch.float32).view(NUMBERS.shape)
    numbers = dequantize(raw.view(torch.uint8).numpy(), gguf.GGMLQuantizationType[kind])
    return torch.from_numpy(numbers.copy()).reshape(NUMBERS.shape)


def off(numbers: torch.Tensor) -> float:
    return float((numbers - NUMBERS).norm() / NUMBERS.norm())


@pytest.mark.parametrize("row", BLOCKS, ids=lambda row: row.id)
def test_the_gguf_package_reads_our_blocks_as_we_do(row):
    raw = quantised(NUMBERS, row.kind)
    assert raw.shape == (NUMBERS.numel() // 32, row.block)
    ours = widened(packed(raw.flatten(), Place(row.kind, (64, 96), 0, raw.numel())), (64, 96), torch.float32)
    assert torch.equal(ours, read(raw, row.kind))


def test_eight_bits_are_those_of_the_package():
    theirs = quantize(NUMBERS.reshape(-1, 32).numpy(), gguf.GGMLQuantizationType.Q8_0)
    assert np.abs(quantised(NUMBERS, "Q8_0").view(torch.uint8).numpy() - theirs).max() == 0


def test_four_bits_lose_less_than_the_ends_of_a_block_would():
    theirs = quantize(NUMBERS.reshape(-1, 32).numpy(), gguf.GGMLQuantizationType.Q4_1)
    naive = off(read(torch.from_numpy(theirs.copy()), "Q4_1"))
    assert off(read(quantised(NUMBERS, "Q4_1"), "Q4_1")) < 0.95 * naive


@pytest.mark.parametrize(("kind", "most"), [("Q8_0", 0.006), ("F8_E4M3", 0.03), ("Q4_1", 0.08), ("NF4", 0.1)])
def test_the_error_is_that_of_the_bits(kind, most):
    small = quantised(NUMBERS, kind)
    assert off(small.float() if small.dtype.is_floating_point else read(small, kind)) < most


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_nf4_has_the_nearest_of_the_published_numbers(dtype):
    numbers = NUMBERS.to(dtype).float().view(-1, 64)
    most = numbers.abs().amax(1, keepdim=True)
    codes = ((numbers / most)[..., None] - PUBLISHED).abs().argmin(-1)
    expected = (codes[:, 0::2] << 4 | codes[:, 1::2]).to(torch.uint8)
    raw = quantised(NUMBERS.to(dtype), "NF4")
    assert raw.shape == (NUMBERS.numel() // 64, 36)
    assert torch.equal(raw[:, :4].contiguous().view(torch.float32), most)
    assert torch.equal(raw[:, 4:].view(torch.uint8), expected)
    assert torch.equal(nf4.wide(raw, torch.float32).view(-1, 64), PUBLISHED[codes] * most)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_nf4_is_widened_into_what_a_layer_computes_in(dtype):
    raw = quantised(NUMBERS, "NF4")
    wide, kept = nf4.wide(raw, dtype), nf4.wide(raw, dtype, nf4.pairs_table(dtype))
    assert wide.dtype is dtype
    assert torch.equal(wide, kept)
    off = (wide.float() - nf4.wide(raw, torch.float32)).abs().max()
    assert off <= 2 * torch.finfo(dtype).eps * NUMBERS.abs().max()


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_1", "NF4"])
@pytest.mark.parametrize("value", [0.0, 0.25, -3.0])
def test_a_block_of_one_number_stays_that_number(kind, value):
    same = torch.full((64, 96), value)
    assert torch.allclose(read(quantised(same, kind), kind), same, rtol=0.001)


def test_fp8_has_no_number_beyond_its_range():
    assert quantised(torch.tensor([1e6, -1e6]), "F8_E4M3").float().tolist() == [448, -448]
