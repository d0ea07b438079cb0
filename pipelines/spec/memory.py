"""What lies in memory: of the card, where there is one, and of the machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """One thing that the engine keeps; `name` as a person knows it ('demo-sdxl: U-Net'). Else it lies in RAM."""

    name: str
    size_bytes: int
    on_card: bool = False


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """`card` is None where all is computed on the processor."""

    ram: Room
    card: Room | None = None
    holders: tuple[Holder, ...] = ()

    def held(self, on_card: bool) -> int:
        """Bytes of what the engine keeps there, and would let go of for another picture."""
        return sum(holder.size_bytes for holder in self.holders if holder.on_card == on_card)
