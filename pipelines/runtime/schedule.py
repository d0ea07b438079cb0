"""`Schedule`: in which order blocks that do not fit on the device are copied there and compute. Pure, without torch.

All streamed blocks share one arena on the device, allocated once. Each has a fixed place in it, given out like in a
ring buffer: one after the other, from the start again when the end is reached. So a place has the same address in every
step, small blocks are fetched further ahead than large ones, and the first places are filled for the next step while
the last blocks of this one compute. With blocks of one size it is the ring of slots that others have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

ALIGN = 512  # bytes; what CUDA's own allocator gives, wide loads need 16


def aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


@dataclass(frozen=True, slots=True)
class Copy:
    """Turn number `turn` of the streamed blocks (counted over all steps) comes to its place."""

    turn: int


@dataclass(frozen=True, slots=True)
class Compute:
    """Block `block` computes; where it is streamed, `turn` must have arrived."""

    block: int
    turn: int | None


Operation = Copy | Compute


@dataclass(frozen=True, slots=True)
class Schedule:
    """`streamed` are places in the order of all `blocks` (how many there are), `offsets` where each lies in the arena.

    `behind` tells for each streamed block how many turns ago the last one was that lay where it will lie: that one
    must have computed before the copy begins. A turn is a streamed block in a step.
    """

    blocks: int
    streamed: tuple[int, ...]
    sizes: tuple[int, ...]
    offsets: tuple[int, ...]
    behind: tuple[int, ...]
    arena: int

    def frees(self, turn: int) -> int:
        """The turn that must have computed before this one is copied; below 0: none."""
        return turn - self.behind[turn % len(self.streamed)]

    def operations(self, steps: int) -> Iterator[Operation]:
        """What the host issues, in its order, for so many steps; copies for a step that is not come are left out."""
        turns, copied, done = steps * len(self.streamed), 0, 0
        which = set(self.streamed)
        for _ in range(steps):
            for block in range(self.blocks):
                while copied < turns and self.frees(copied) < done:
                    yield Copy(copied)
                    copied += 1
                yield Compute(block, done if block in which else None)
                done += block in which

    def seconds(self, compute: Sequence[float], bytes_per_s: float, steps: int) -> float:
        """How long it takes where block i computes for `compute[i]` seconds and the bus carries `bytes_per_s`."""
        now = bus = 0.0
        arrived, computed = list[float](), list[float]()
        for operation in self.operations(steps):
            if isinstance(operation, Copy):
                frees = self.frees(operation.turn)
                bus = max(bus, computed[frees] if frees >= 0 else 0.0)
                bus += self.sizes[operation.turn % len(self.sizes)] / bytes_per_s
                arrived.append(bus)
                continue
            if operation.turn is not None:
                now = max(now, arrived[operation.turn])
            now += compute[operation.block]
            if operation.turn is not None:
                computed.append(now)
        return now


def schedule(sizes: Sequence[int], streamed: Sequence[int], arena: int) -> Schedule:
    """`sizes` of all blocks in their order of compute, in bytes. Raises ValueError for an arena that is too small."""
    own = tuple(aligned(sizes[block]) for block in streamed)
    if max(own, default=0) > arena:
        raise ValueError(f"an arena of {arena} bytes for a block of {max(own)}")
    offsets, at = [], 0
    for size in own:
        at = 0 if at + size > arena else at
        offsets.append(at)
        at += size
    behind = _behind(own, offsets)
    return Schedule(len(sizes), tuple(streamed), own, tuple(offsets), behind, arena)


def _behind(sizes: Sequence[int], offsets: Sequence[int]) -> tuple[int, ...]:
    count = len(sizes)

    def overlap(i: int, j: int) -> bool:
        return offsets[i] < offsets[j] + sizes[j] and offsets[j] < offsets[i] + sizes[i]

    # One turn before at least; a block's own turn in the step before overlaps in any case.
    behind = [next(d for d in range(1, count + 1) if overlap(j, (j - d) % count)) for j in range(count)]
    # Copies go over the bus in the order of the turns: none can wait for less than the one before it.
    for j in (*range(count), *range(count)):
        behind[j] = min(behind[j], behind[j - 1] + 1)
    return tuple(behind)
