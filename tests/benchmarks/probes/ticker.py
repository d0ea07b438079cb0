"""How long the GUI thread did not come round: gaps between the ticks of a 5 ms timer, raw and net.

Net is without the time in which the thread was ready to run but had no CPU; what is left, the program causes.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import defaultdict
from typing import Any

from PySide6.QtCore import QObject, Qt, QTimer

TICK_MS = 5


class Ticker(QObject):
    """Made on the GUI thread. `phase` may be set from any; '' counts nothing."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._phase = ""
        self._gaps: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._waited = RunQueue()
        self._before = self._now()
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._timer.start(TICK_MS)

    @property
    def phase(self) -> str:
        return self._phase

    @phase.setter
    def phase(self, phase: str) -> None:
        """What was under way before, such as the first paint, is no gap of this phase."""
        self._before = self._now()
        self._phase = phase

    def summary(self) -> dict[str, dict[str, Any]]:
        """By phase: gaps in ms, `worst` and `p99` net, `raw_worst`, `ticks`."""
        return {phase: _summary(gaps) for phase, gaps in self._gaps.items()}

    def _now(self) -> tuple[int, int]:
        return time.perf_counter_ns(), self._waited.ns()

    def _tick(self) -> None:
        at, waited = self._now()
        if self._phase:
            raw = at - self._before[0]
            self._gaps[self._phase].append((raw / 1e6, (raw - (waited - self._before[1])) / 1e6))
        self._before = at, waited


class RunQueue:
    """The time this thread was ready to run and had to wait for a CPU. Linux tells it; elsewhere it is 0."""

    def __init__(self) -> None:
        path = f"/proc/self/task/{threading.get_native_id()}/schedstat"
        self._file = os.open(path, os.O_RDONLY) if RunQueue.known() else None

    @staticmethod
    def known() -> bool:
        return sys.platform.startswith("linux") and os.path.exists("/proc/self/schedstat")

    def ns(self) -> int:
        return int(os.pread(self._file, 64, 0).split()[1]) if self._file is not None else 0


def _summary(gaps: list[tuple[float, float]]) -> dict[str, Any]:
    net = sorted(net for _, net in gaps)
    return {
        "worst": net[-1],
        "p99": net[min(len(net) - 1, int(len(net) * 0.99))],
        "raw_worst": max(raw for raw, _ in gaps),
        "ticks": len(net),
    }
