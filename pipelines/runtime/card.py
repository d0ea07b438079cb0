"""`Card`: the device that computes, with the memory that it has for itself."""

from __future__ import annotations

import torch

from pipelines.runtime import device as devices
from pipelines.runtime.movers import Mover, mover
from pipelines.runtime.placement import MARGIN


class Card:
    """`apart`: weights can lie in RAM or in the device's own memory, and are brought there by `mover`."""

    def __init__(self, device: torch.device, mover: Mover, apart: bool) -> None:
        self.device = device
        self.mover = mover
        self.apart = apart
        self._start = 0

    def free(self) -> int:
        """Bytes that weights and computing may take on top of what they have."""
        return max(0, devices.free_bytes(self.device) - (MARGIN if self.apart else 0))

    def release(self) -> None:
        devices.release(self.device)

    def finish(self) -> None:
        """Waits until all that was asked of the device is done."""
        if stats := devices.memory_of(self.device):
            stats.synchronize(self.device)

    def mark(self) -> None:
        """`taken` counts from here."""
        if stats := devices.memory_of(self.device):
            stats.reset_peak_memory_stats(self.device)
            self._start = stats.memory_allocated(self.device)

    def taken(self) -> int | None:
        """The most bytes beside those that were taken at the mark; None where nobody counts them."""
        stats = devices.memory_of(self.device)
        return None if stats is None else stats.max_memory_allocated(self.device) - self._start


def card(device: torch.device) -> Card:
    """Apple's devices compute in the very RAM that they have, so nothing is gained there by a move."""
    return Card(device, mover(device), apart=devices.memory_of(device) is not None)
