"""`Readers`: the device that text encoders have for themselves, where they have one, and those that lie apart."""

from __future__ import annotations

from collections.abc import Collection

import psutil
import torch

from pipelines.runtime import device as devices
from pipelines.runtime.card import Card, card
from pipelines.runtime.components import ComponentStore, PartKey
from pipelines.runtime.placement import Placement, Reading
from pipelines.spec.memory import IN_RAM, Room


class Readers:
    """`card` is None where they share the device of the rest. They are the parts of `store` whose key is `beside`."""

    def __init__(self, card: Card | None, store: ComponentStore) -> None:
        self.card = card
        self._store = store

    def device(self, reading: Reading) -> torch.device | None:
        """Where they are loaded to and compute; None for the device of the rest."""
        if reading is Reading.CARD and self.card is not None:
            return self.card.device
        return torch.device("cpu") if reading is Reading.RAM else None

    @property
    def room(self) -> Room | None:
        """As in `Memory.encoders`."""
        return None if self.card is None else devices.room_of(self.card.device) or IN_RAM

    @property
    def keys(self) -> list[PartKey]:
        """Of those that lie apart from the rest, the oldest first."""
        return [key for key, _part in self._store.parts() if key.beside]

    def in_ram(self, key: PartKey) -> bool:
        """Whether it lies in RAM, and not in a memory that they have for themselves."""
        return self.card is None or not self.card.apart or key.device != str(self.card.device)

    @property
    def ram(self) -> int:
        """Bytes of those in RAM."""
        return sum(self._store.size_of(key) for key in self.keys if self.in_ram(key))

    @property
    def budget(self) -> int | None:
        """As in `Budget.encoders`, with all that could leave."""
        if self.card is None or not self.card.apart:
            return None if self.card is None else 0
        return self.card.free() + sum(self._store.size_of(key) for key in self.keys if not self.in_ram(key))

    def make_room(self, own: Collection[PartKey], placement: Placement) -> None:
        """Those of other models leave, the oldest first, as far as the job's `own` need the memory."""
        device, keys = str(self.device(placement.reading)), self.keys
        mine = sum(self._store.size_of(key) for key in keys if key in own and key.device == device)
        others = [key for key in keys if key not in own and key.device == device]
        while others and self._free(placement.reading) + mine < placement.peak_encoders:
            self._store.drop([others.pop(0)])

    def _free(self, reading: Reading) -> int:
        if reading is Reading.CARD and self.card is not None:
            return self.card.free()
        return psutil.virtual_memory().available

    def leave(self) -> None:
        """All that lie apart; the next job reads what it needs."""
        self._store.drop(self.keys)


def card_of(name: str, where: Card) -> Card | None:
    """`EngineOptions.encoders_device` beside the device of the rest; None where it is that one, or computes in RAM.

    Raises EngineError for one that does not answer.
    """
    if not name or not where.apart:
        return None
    device = devices.choose(name)
    same = (device.type, device.index or 0) == (where.device.type, where.device.index or 0)
    return None if same else card(device)
