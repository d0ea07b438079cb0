"""Weights in 8 or 4 bits with scales beside them, widened while they are read.

fp8 with scales as ComfyUI writes it (comfy/ops.py): one number for a weight, or one a row, to be multiplied with.
NF4 as bitsandbytes has it (functional.py; Dettmers et al. 2023, "QLoRA"): two codes a byte, the first in the upper
half, out of a table of 16 numbers, and a largest number (`absmax`) for each block, which may be in 8 bits itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from pipelines.library.places import Place
from pipelines.runtime import nf4

_SHORT = "a packed weight is shorter than its shape"
Read = Callable[[Place], torch.Tensor]  # a tensor as it is in the file


def scaled(raw: torch.Tensor, place: Place, read: Read) -> torch.Tensor:
    """float32 [place.shape] of fp8 numbers of that shape."""
    scale = read(place.beside["scale"]).float()
    rows = (-1, *(1 for _ in raw.shape[1:]))
    return raw.float() * (scale.reshape(rows) if scale.numel() > 1 else scale.reshape(()))


def widened_nf4(raw: torch.Tensor, place: Place, read: Read) -> torch.Tensor:
    """float32 [place.shape] of bytes."""
    table = read(place.beside["quant_map"]).float().flatten()
    pairs = torch.stack((table.repeat_interleave(len(table)), table.repeat(len(table))), dim=1)
    numbers = pairs.index_select(0, raw.flatten().int()).flatten()
    block, most = int(place.facts["blocksize"]), _absmax(place, read)
    count = torch.Size(place.shape).numel()
    if len(numbers) < count or most.numel() * block < count:
        raise ValueError(_SHORT)
    whole = count // block * block
    numbers[:whole].view(-1, block).mul_(most[: whole // block, None])
    numbers[whole:count].mul_(most[whole // block :][:1])
    return numbers[:count].view(place.shape)


def nf4_blocks(raw: torch.Tensor, place: Place, read: Read) -> torch.Tensor | None:
    """As they lie in memory, in rows where those are whole blocks; None where the table is not the published one."""
    table = read(place.beside["quant_map"]).float().flatten()
    if len(table) != len(nf4.TABLE) or not torch.allclose(table, torch.tensor(nf4.TABLE), atol=1e-4):
        return None
    numbers = torch.Size(place.shape).numel()
    count = numbers // nf4.BLOCK
    each = min(int(place.facts["blocksize"]) // nf4.BLOCK, count)  # of our blocks in one of the file's
    most = _absmax(place, read)[: -(-count // each)].repeat_interleave(each)[:count]
    if raw.numel() * 2 < numbers or len(most) < count:
        raise ValueError(_SHORT)
    blocks = nf4.blocks_of(most[:, None], raw.flatten()[: numbers // 2].view(count, -1))
    whole = place.shape[-1] % nf4.BLOCK == 0
    return nf4.NF4Parameter(blocks.view(-1, place.shape[-1] // nf4.BLOCK * nf4.BYTES) if whole else blocks)


def _absmax(place: Place, read: Read) -> torch.Tensor:
    """float32 [blocks]."""
    most = read(place.beside["absmax"]).flatten()
    if most.is_floating_point():
        return most.float()
    table = read(place.beside["nested_quant_map"]).float().flatten()
    outer = read(place.beside["nested_absmax"]).float().flatten()
    block = int(place.facts["nested_blocksize"])
    scales = outer.repeat_interleave(block)[: len(most)]
    return table[most.int()] * scales + float(place.facts["nested_offset"])
