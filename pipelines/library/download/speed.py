"""`Speed`: bytes a second, smoothed, and the time that is left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

SMOOTH_S = 5.0  # what happened longer ago counts less than a third
SETTLE_S = 1.0  # of measuring, before there is a figure


class Speed:
    """`clock` in seconds, for tests. What was there at the start was not downloaded now."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: tuple[float, int] | None = None
        self._measured_s = 0.0
        self.value = 0.0

    def add(self, done: int) -> None:
        """`done` bytes are there now."""
        now = self._clock()
        if self._last is None or done < self._last[1]:
            self._last = (now, done)
            return
        seconds, gained = now - self._last[0], done - self._last[1]
        if seconds < 0.1:
            return
        self._last = (now, done)
        self._measured_s += seconds
        weight = 1 - math.exp(-seconds / SMOOTH_S)
        # At first the plain mean: a smoothed value would creep up from nothing.
        weight = max(weight, seconds / self._measured_s)
        self.value += weight * (gained / seconds - self.value)

    def rest(self) -> None:
        """What comes next is not measured against what was before, such as after a check."""
        self._last = None

    def left_s(self, done: int, total: int | None) -> float | None:
        """None while it is not known."""
        if total is None or self._measured_s < SETTLE_S or self.value < 1:
            return None
        return max(0, total - done) / self.value
