"""`Readers`: the device that text encoders have for themselves, where they have one, and those that lie apart."""

from __future__ import annotations

from collections.abc import Collection

import psutil
import torch

from pipelines.runtime import device as devices
from pipelines.runtime.adapters import Adapters
from pipelines.runtime.card import Card, card
from pipelines.runtime.components import ComponentStore, PartKey
from pipelines.runtime.placement import CLEARLY_LESS, Placement, Reading
from pipelines.spec.errors import EngineError
from pipelines.spec.memory import IN_RAM, Room


class Readers:
    """`card` is None where they share the device of the rest. They are the parts of `store` whose key is `beside`."""

    def __init__(self, card: Card | None, store: ComponentStore, adapters: Adapters) -> None:
        self.card = card
        self._store = store
        self._adapters = adapters
        self._most = self._enough = 0  # until so much is free on the card, plans take no more than that there

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
    def _lying(self) -> dict[PartKey, int]:
        """Bytes of those that lie apart from the rest, the oldest first; with what LoRAs have changed of them."""
        parts = [(key, part) for key, part in self._store.parts() if key.beside]
        return {key: self._store.size_of(key) + self._adapters.size_of(part) for key, part in parts}

    def in_ram(self, key: PartKey) -> bool:
        """Whether it lies in RAM, and not in a memory that they have for themselves."""
        return self.card is None or not self.card.apart or key.device != str(self.card.device)

    @property
    def ram(self) -> int:
        """Bytes of those in RAM."""
        return sum(size for key, size in self._lying.items() if self.in_ram(key))

    @property
    def budget(self) -> int | None:
        """As in `Budget.encoders`, with all that could leave."""
        if self.card is None or not self.card.apart:
            return None if self.card is None else 0
        free = self.card.free() + sum(size for key, size in self._lying.items() if not self.in_ram(key))
        return free if free >= self._enough else min(free, self._most)

    def make_room(self, own: Collection[PartKey], placement: Placement) -> None:
        """Those of other models leave, the oldest first, as far as the job's `own` need the memory."""
        device, lying = str(self.device(placement.reading)), self._lying
        mine = sum(size for key, size in lying.items() if key in own and key.device == device)
        others = [key for key in lying if key not in own and key.device == device]
        while others and self._free(placement.reading) + mine < placement.peak_encoders:
            self._store.drop([others.pop(0)])

    def _free(self, reading: Reading) -> int:
        if reading is Reading.CARD and self.card is not None:
            return self.card.free()
        return psutil.virtual_memory().available

    def retreat(self, placement: Placement) -> None:
        """Memory ran out while they were to lie as `placement` says: all leave, and the next job reads what it needs.

        A card of their own is not tried again for as much before so much more is free there as was missing. Where as
        much as was planned seemed free, that is taken to be what would make a plan a clearly smaller one.
        """
        self._store.drop(self._lying)
        if placement.reading is Reading.CARD and self.card is not None:
            wanted = placement.peak_encoders
            self._most = int(CLEARLY_LESS * wanted)
            self._enough = max(wanted, self.card.free() + wanted - self._most)


def card_of(name: str, where: Card) -> Card | None:
    """`EngineOptions.encoders_device` beside the device of the rest; None where it is that one, or computes in RAM.

    Raises EngineError for one that does not answer.
    """
    if not name or not where.apart:
        return None
    try:
        device = devices.choose(name)
    except EngineError as error:
        hint = (
            "Choose the device of the rest, or 'cpu', for them: in the settings, or with --encoders-device."
        )
        raise EngineError(f"The text encoders cannot lie on '{name}'. {error.message}", hint) from error
    same = (device.type, device.index or 0) == (where.device.type, where.device.index or 0)
    return None if same else card(device)
