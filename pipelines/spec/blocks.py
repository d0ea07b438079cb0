"""Which tensors of a network belong to one block, and in which order the blocks compute: by name alone.

A block is what can be brought to the device by itself: a transformer block, or a residual block of a U-Net. What lies
between them (projections, embeddings, the first and last layers) is a few hundredths of the weights, and in no block.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# What computes first has the lower number.
_STAGES = {
    "down_blocks": 0, "mid_block": 1, "up_blocks": 2,  # U-Nets by diffusers
    "input_blocks": 0, "middle_block": 1, "output_blocks": 2,  # by CompVis
    "transformer_blocks": 0, "single_transformer_blocks": 1,  # FLUX by diffusers
    "double_blocks": 0, "single_blocks": 1,  # by Black Forest Labs
    "encoder": 0, "text_model": 0,  # text encoders by transformers
}  # fmt: skip
_TRANSFORMER = r"transformer_blocks\.\d+"
_RESIDUAL = r"(?=\.(?:in_layers|out_layers|emb_layers|skip_connection)\.)"
_NAMES = re.compile(
    r"(?:single_)?(?:transformer|double)_blocks\.\d+"
    r"|single_blocks\.\d+"
    rf"|(?:(?:down|up)_blocks\.\d+|mid_block)\.(?:resnets\.\d+|attentions\.\d+\.{_TRANSFORMER})"
    r"|(?:text_model\.)?encoder\.(?:block|layers)\.\d+"
    rf"|(?:(?:input|output)_blocks\.\d+\.\d+|middle_block\.\d+)(?:\.{_TRANSFORMER}|{_RESIDUAL})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """`name` is that of the module, or of its tensors in a file; `size_bytes` as it lies in memory."""

    name: str
    size_bytes: int


def block_of(tensor: str) -> str | None:
    """The name of the block; None for a tensor of none. `tensor` is without what its file sets before all names."""
    found = _NAMES.match(tensor)
    return found.group(0) if found else None


def order_of(block: str) -> tuple[int, ...]:
    """Sorts blocks as they compute: residual block j of a U-Net comes before what is in attention j."""
    numbers = [int(part) for part in block.split(".") if part.isdecimal()]
    return (_STAGES[block.partition(".")[0]], *numbers)


def grouped(sizes: Mapping[str, int]) -> tuple[tuple[Block, ...], int]:
    """Bytes by the name of a tensor -> the blocks in their order of compute, and the bytes of what is in none."""
    blocks, rest = dict[str, int](), 0
    for tensor, size in sizes.items():
        name = block_of(tensor)
        if name is None:
            rest += size
        else:
            blocks[name] = blocks.get(name, 0) + size
    return tuple(Block(name=n, size_bytes=blocks[n]) for n in sorted(blocks, key=order_of)), rest
