"""`Turns`: the host side of a schedule: issues each copy as early as its place allows, before and after each block."""

from __future__ import annotations

from typing import Any, Protocol

from pipelines.runtime.schedule import Schedule


class Device(Protocol):
    """Two queues that work on their own: copies to the device, and compute. Events are marks in them."""

    def copy(self, streamed: int, after: Any) -> Any:
        """Queues the copy of a streamed block to its place, not to begin before the mark `after`; its end's mark."""
        ...

    def wait(self, arrived: Any) -> None:
        """What is computed from now on begins after this mark."""
        ...

    def computed(self) -> Any:
        """A mark behind all that was given to compute so far."""
        ...


class Turns:
    """Called by the one thread that computes; never waits for the device.

    Blocks come in the order of the schedule, over and over. One that comes out of turn, as when a step was broken off,
    begins the round anew from there: slower once, never wrong.
    """

    def __init__(self, schedule: Schedule, device: Device) -> None:
        self._schedule = schedule
        self._device = device
        self._which = {block: index for index, block in enumerate(schedule.streamed)}
        self._arrived: dict[int, Any] = {}
        self._computed: dict[int, Any] = {}
        self._copied = self._done = 0  # turns
        self._begin(0)

    def before(self, block: int) -> None:
        """Block `block` is about to be given to compute."""
        index = self._which.get(block)
        if index is None:
            return
        count = len(self._which)
        if index != self._done % count:
            first = max(self._copied, self._done)
            self._begin(first + (index - first) % count)
        self._device.wait(self._arrived.pop(self._done))

    def after(self, block: int) -> None:
        """It was given to compute."""
        if block not in self._which:
            return
        self._computed[self._done] = self._device.computed()
        self._computed.pop(self._done - len(self._which), None)
        self._done += 1
        self._fetch()

    def _begin(self, turn: int) -> None:
        """From this turn on; what is in the places now is waited for."""
        self._copied = self._done = turn
        self._arrived.clear()
        self._computed.clear()
        self._free = self._device.computed()
        self._fetch()

    def _fetch(self) -> None:
        while (frees := self._schedule.frees(self._copied)) < self._done:
            after = self._computed.get(frees, self._free)
            self._arrived[self._copied] = self._device.copy(self._copied % len(self._which), after)
            self._copied += 1
