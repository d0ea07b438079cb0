"""A latency probe: how long the event loop did not turn, and how long the GUI thread itself was at work then."""

from __future__ import annotations

import time
from pathlib import Path

from PySide6.QtCore import QTimer

# A thread of Python beside costs a turn a few times the switch interval, a wait for a lock or a file seconds.
BLOCKED_MS = 1000


class Probe:
    """Ticks every 10 ms on the GUI thread; use as a context manager, then ask `blocked_ms` and `worked_ms`.

    `worked_ms` is the processor time that the GUI thread itself took in one turn: the same on a busy machine, and the
    limit of 100 ms holds for it. `blocked_ms` is by the clock, without the time that threads of ours stood ready and
    had no processor. It shows a call that waits for something; how long a slow machine needs for a turn is measured by
    tests/benchmarks and not here.
    """

    def __init__(self) -> None:
        self._timer = QTimer()
        self._timer.setInterval(10)
        self._timer.timeout.connect(self._tick)
        self.gaps_ms: list[float] = []
        self.turns_ms: list[float] = []

    def __enter__(self) -> Probe:
        self._last, self._waits, self._worked = time.perf_counter(), waits(), time.thread_time()
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.stop()
        self._tick()

    def blocked_ms(self) -> float:
        return max(self.gaps_ms)

    def worked_ms(self) -> float:
        return max(self.turns_ms)

    def _tick(self) -> None:
        now, waited, worked = time.perf_counter(), waits(), time.thread_time()
        idle = sum(w - self._waits.get(thread, 0.0) for thread, w in waited.items())
        self.gaps_ms.append(max(0.0, now - self._last - idle) * 1000)
        self.turns_ms.append((worked - self._worked) * 1000)
        # Not what the probe itself has taken to read the waits of all threads.
        self._last, self._waits, self._worked = time.perf_counter(), waited, time.thread_time()


def waits() -> dict[str, float]:
    """Seconds that each thread of this process was ready to run and did not; empty where it cannot be known."""
    found: dict[str, float] = {}
    for task in Path("/proc/self/task").glob("*/schedstat"):
        try:
            found[task.parent.name] = int(task.read_text().split()[1]) / 1e9
        except OSError:  # the thread has just ended
            continue
    return found
