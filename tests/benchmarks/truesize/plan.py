"""Where the parts of a model would lie on a card of some size: a pure sum, for machines that cannot hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GIB = 2**30
CONTEXT_GIB = 0.9  # CUDA's own and the desktop's
ACTIVATIONS_GIB = 0.8


@dataclass(frozen=True)
class Block:
    """`count` alike blocks of the denoiser, of `size_bytes` each."""

    name: str
    count: int
    size_bytes: int


@dataclass(frozen=True)
class Placement:
    """`resident` and `streamed`: how many of each kind of block; `streamed_bytes` cross the bus every step.

    `encoders` and `vae`: on the card for their own stage ('card'), or too big for it and left on the processor ('cpu').
    """

    card_gib: float
    resident: Mapping[str, int]
    streamed: Mapping[str, int]
    streamed_bytes: int
    encoders: Mapping[str, str]


def place(blocks: tuple[Block, ...], encoders: Mapping[str, int], card_gib: float) -> Placement:
    """One stage at a time: the encoders leave before the denoiser comes. Bytes in, bytes out.

    What of the denoiser does not fit is streamed through two slots of the largest block.
    """
    usable = int((card_gib - CONTEXT_GIB) * GIB)
    room = usable - int(ACTIVATIONS_GIB * GIB)
    whole = sum(block.count * block.size_bytes for block in blocks)
    if whole > room:
        room -= 2 * max(block.size_bytes for block in blocks)
    resident, streamed, crossing = {}, {}, 0
    for block in sorted(blocks, key=lambda block: block.count):  # the single ones, in and out, first
        fits = max(0, min(block.count, room // block.size_bytes))
        room -= fits * block.size_bytes
        resident[block.name], streamed[block.name] = fits, block.count - fits
        crossing += (block.count - fits) * block.size_bytes
    where = {name: "card" if size <= usable else "cpu" for name, size in encoders.items()}
    return Placement(card_gib, resident, streamed, crossing, where)
