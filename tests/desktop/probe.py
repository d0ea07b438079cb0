"""A latency probe: how long the event loop could not answer, net of waiting for a busy processor."""

from __future__ import annotations

import time
from pathlib import Path

from PySide6.QtCore import QTimer


class Probe:
    """Ticks every 10 ms on the GUI thread; use as a context manager, then ask `worst_ms`.

    From each gap is taken the time that threads of ours stood ready without a processor: on a machine that is busy
    with something else, a thread that holds the GIL and does not run holds up the window as well. On an idle
    machine nothing is taken away.
    """

    def __init__(self) -> None:
        self._timer = QTimer()
        self._timer.setInterval(10)
        self._timer.timeout.connect(self._tick)
        self.gaps_ms: list[float] = []
        self._last, self._waits = time.perf_counter(), waits()

    def __enter__(self) -> Probe:
        self._last, self._waits = time.perf_counter(), waits()
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.stop()
        self._tick()

    def worst_ms(self) -> float:
        return max(self.gaps_ms)

    def _tick(self) -> None:
        now, waited = time.perf_counter(), waits()
        idle = sum(w - self._waits.get(thread, 0.0) for thread, w in waited.items())
        self.gaps_ms.append(max(0.0, now - self._last - idle) * 1000)
        self._last, self._waits = now, waited


def waits() -> dict[str, float]:
    """Seconds that each thread of this process was ready to run and did not; empty where it cannot be known."""
    found: dict[str, float] = {}
    for task in Path("/proc/self/task").glob("*/schedstat"):
        try:
            found[task.parent.name] = int(task.read_text().split()[1]) / 1e9
        except OSError:  # the thread has just ended
            continue
    return found
