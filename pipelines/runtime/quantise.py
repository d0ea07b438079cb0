"""From whole numbers to few bits: GGUF's blocks of 32 (Q8_0, Q4_1), NF4's of 64 and fp8.

GGUF's are those of ggml-org/llama.cpp (gguf-py/gguf/quants.py), which reads what is made here. The scale and the
least number of a block of 4 bits are searched for, so that the squares of the errors are few: a tenth less error than
by the ends of the block. A block runs over the end of a row, so that convolutions need no padding.
"""

from __future__ import annotations

import torch

from pipelines.runtime import nf4
from pipelines.spec.weights import BLOCK

_CHUNK = 1 << 16  # blocks at once: what they take beside the tensor stays small
_SHRUNK = (0.0, 0.04, 0.08, 0.13, 0.18)  # of the width of a block, tried before the least squares
_FP8_MOST = 448.0  # beyond it float8_e4m3fn has nothing but NaN


def quantised(tensor: torch.Tensor, kind: str) -> torch.Tensor:
    """`kind` as headers name it. F8_E4M3: of the same shape; else int8 [blocks, bytes of one]."""
    if kind == "F8_E4M3":
        return tensor.clamp(-_FP8_MOST, _FP8_MOST).to(torch.float8_e4m3fn)
    rows = tensor.reshape(-1, nf4.BLOCK if kind == "NF4" else BLOCK)
    return torch.cat([_BLOCKS[kind](part.float()) for part in rows.split(_CHUNK)])


def _q8_0(rows: torch.Tensor) -> torch.Tensor:
    scale = rows.abs().amax(1, keepdim=True) / 127
    numbers = (rows * _inverse(scale)).round().to(torch.int8)
    return torch.cat([_half(scale), numbers], 1)


def _q4_1(rows: torch.Tensor) -> torch.Tensor:
    low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
    width = high - low
    best = torch.full_like(low, torch.inf)
    scale, least = width / 15, low.clone()
    for shrunk in _SHRUNK:
        found = _least_squares(rows, width * (1 - shrunk) / 15, low + width * shrunk / 2)
        d, m = (each.half().float() for each in found)  # as it will be stored
        error = (_levels(rows, d, m).mul_(d).add_(m) - rows).square_().sum(1, keepdim=True)
        better = error < best
        best, scale, least = (
            torch.where(better, new, old) for new, old in ((error, best), (d, scale), (m, least))
        )
    levels = _levels(rows, scale.half().float(), least.half().float()).to(torch.uint8)
    half = BLOCK // 2
    numbers = levels[:, :half] | levels[:, half:] << 4
    return torch.cat([_half(scale), _half(least), numbers.view(torch.int8)], 1)


def _nf4(rows: torch.Tensor) -> torch.Tensor:
    most = nf4.largest(rows)
    return nf4.blocks_of(most, nf4.codes(rows, most))


def _least_squares(
    rows: torch.Tensor, scale: torch.Tensor, least: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The line through the numbers over the levels that they take; twice, as they then take others."""
    mean = rows.mean(1, keepdim=True)
    for _ in range(2):
        levels = _levels(rows, scale, least)
        middle = levels.mean(1, keepdim=True)
        off = levels - middle
        spread = off.square().sum(1, keepdim=True)
        slope = (off * (rows - mean)).sum(1, keepdim=True) / spread.clamp_min(1e-9)
        scale = torch.where((spread > 0) & (slope > 0), slope, scale)
        least = mean - scale * middle
    return scale, least


def _levels(rows: torch.Tensor, scale: torch.Tensor, least: torch.Tensor) -> torch.Tensor:
    return ((rows - least) * _inverse(scale)).round_().clamp_(0, 15)


def _inverse(scale: torch.Tensor) -> torch.Tensor:
    return torch.where(scale == 0, 0, 1 / scale)


def _half(number: torch.Tensor) -> torch.Tensor:
    """As its two bytes."""
    return number.half().view(torch.int8)


_BLOCKS = {"Q8_0": _q8_0, "Q4_1": _q4_1, "NF4": _nf4}
