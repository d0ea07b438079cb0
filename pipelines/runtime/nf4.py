"""NF4: a number in 4 bits is one of 16 of a table, times the largest number of its block of 64.

Dettmers et al. 2023, "QLoRA", appendix E. The codes are those of bitsandbytes (functional.py), bit for bit, which keeps
them and the largest numbers in tensors of their own. Here a block is 36 bytes: its largest number in float32, then two
codes a byte, the first in the upper half. So packed weights are one tensor, which moves and streams as GGUF's do.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import torch
from diffusers.quantizers.gguf.utils import GGUFParameter

BLOCK = 64  # numbers
BYTES = 36  # of one block
_SCALE = 4  # of these, for its largest number
TABLE = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


class Kind(Enum):
    """In the place of gguf's own words for blocks, which have none for these."""

    NF4 = "NF4"


class NF4Parameter(GGUFParameter):
    """`data`: int8 [..., bytes of whole blocks]."""

    def __new__(cls, data: torch.Tensor, requires_grad: bool = False, quant_type: Kind = Kind.NF4) -> Any:
        self: Any = torch.Tensor._make_subclass(cls, data, requires_grad)
        self.quant_type = quant_type
        self.quant_shape = (
            torch.Size((*data.shape[:-1], data.shape[-1] // BYTES * BLOCK)) if data.ndim else data.shape
        )
        return self


def largest(rows: torch.Tensor) -> torch.Tensor:
    """Of float32 [blocks, 64]: [blocks, 1]."""
    return rows.abs().amax(1, keepdim=True)


def codes(rows: torch.Tensor, most: torch.Tensor) -> torch.Tensor:
    """Of float32 [blocks, 64] with `most` the largest of each [blocks, 1]: uint8 [blocks, 32], two a byte.

    The nearest number of the table; of a block of zeros the code is that of 0.
    """
    table = torch.tensor(TABLE, device=rows.device)
    middles = (table[1:] + table[:-1]) / 2
    found = torch.bucketize(rows * torch.where(most == 0, 0, 1 / most), middles, out_int32=True)
    pairs = found.to(torch.uint8).view(len(rows), BLOCK // 2, 2)
    return pairs[..., 0] << 4 | pairs[..., 1]


def blocks_of(most: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    """int8 [blocks, 36] of largest numbers [blocks, 1] and codes uint8 [blocks, 32]."""
    return torch.cat([most.float().contiguous().view(torch.int8), pairs.contiguous().view(torch.int8)], 1)


def parts_of(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The other way round."""
    most = blocks[:, :_SCALE].contiguous().view(torch.float32)
    return most, blocks[:, _SCALE:].contiguous().view(torch.uint8)


def pairs_table(compute: torch.dtype) -> torch.Tensor:
    """[256]: by a byte of two codes their two numbers in `compute`, as the bits of one whole number.

    Looked up so, they come in half the time that two numbers take.
    """
    table = torch.tensor(TABLE).to(compute)
    pairs = torch.stack((table.repeat_interleave(16), table.repeat(16)), dim=1)
    return pairs.view({2: torch.int32, 4: torch.int64}[compute.itemsize]).flatten()


def wide(raw: torch.Tensor, compute: torch.dtype, table: torch.Tensor | None = None) -> torch.Tensor:
    """Of int8 [blocks of 36 bytes], flat. `table` is `pairs_table` on the device, where somebody keeps it."""
    table = pairs_table(compute).to(raw.device) if table is None else table
    most, pairs = parts_of(raw.reshape(-1, BYTES))
    found = table.index_select(0, pairs.int().flatten())
    return found.view(compute).view(-1, BLOCK).mul_(most.to(compute)).flatten()
