"""What lies in memory: of the card, where there is one, and of the machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """One thing that the engine keeps; `name` as a person knows it ('demo-sdxl: U-Net').

    Neither `on_card` nor on the device of the text encoders (`beside`), it lies in RAM.
    """

    name: str
    size_bytes: int
    on_card: bool = False
    beside: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Bytes of one memory; `ours` are those of this program, and `free` what nobody has."""

    total: int
    free: int
    ours: int = 0

    @property
    def used(self) -> int:
        return max(0, self.total - self.free)

    @property
    def others(self) -> int:
        """What other programs and the system have."""
        return max(0, self.used - self.ours)


IN_RAM = Room(total=0, free=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """`card` is None where all is computed on the processor.

    `encoders` is the memory that text encoders have for themselves: `IN_RAM` where the processor computes them, None
    where they share that of the rest.
    """

    ram: Room
    card: Room | None = None
    encoders: Room | None = None
    holders: tuple[Holder, ...] = ()

    def held(self, on_card: bool) -> int:
        """Bytes of what the engine keeps there, and would let go of for another picture."""
        own = (holder for holder in self.holders if not holder.beside)
        return sum(holder.size_bytes for holder in own if holder.on_card == on_card)

    @property
    def held_beside(self) -> int:
        """Bytes on the device of the text encoders, where that has a memory of its own."""
        return sum(holder.size_bytes for holder in self.holders if holder.beside)
