"""How long a job will still take, from how long its steps took so far."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable


class Pace:
    """One job of `images` pictures of `steps` steps; times in seconds."""

    def __init__(self, images: int, steps: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self._images = images
        self._steps = steps
        self._clock = clock
        self._recent: deque[float] = deque(maxlen=8)
        self._finishing_s: float | None = None  # decode and save of one picture, once seen
        self._mark = 0.0

    def picture_starts(self) -> None:
        self._mark = self._clock()

    def step_done(self, image: int, step: int) -> float | None:
        """Seconds until the last picture is saved, after `step` (from 1) of picture `image` (from 0).

        None after the very first step: it carries warming up, and would promise far too much.
        """
        now = self._clock()
        if image or step > 1:
            self._recent.append(now - self._mark)
        self._mark = now
        if not self._recent:
            return None
        step_s = statistics.median(self._recent)
        finishing_s = step_s if self._finishing_s is None else self._finishing_s
        left = (self._images - image) * self._steps - step
        return left * step_s + (self._images - image) * finishing_s

    def picture_done(self) -> None:
        self._finishing_s = self._clock() - self._mark
