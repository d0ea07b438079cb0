"""How long a test waits for what will happen: a busy machine is slow, and one that fails for it tells nothing."""

from __future__ import annotations

from typing import Any

from pytestqt.qtbot import QtBot

PATIENCE_MS = 60_000


class PatientBot(QtBot):
    """Waits at least `PATIENCE_MS`, whatever it is told; pytest-qt's own 5 s are little beside other work."""

    def waitUntil(self, callback: Any, *, timeout: int = 0) -> None:
        super().waitUntil(callback, timeout=max(timeout, PATIENCE_MS))

    def waitSignal(self, signal: Any, *, timeout: int = 0, **options: Any) -> Any:
        return super().waitSignal(signal, timeout=max(timeout, PATIENCE_MS), **options)

    def waitSignals(self, signals: Any, *, timeout: int = 0, **options: Any) -> Any:
        return super().waitSignals(signals, timeout=max(timeout, PATIENCE_MS), **options)

    def waitExposed(self, widget: Any, *, timeout: int = 0) -> Any:
        return super().waitExposed(widget, timeout=max(timeout, PATIENCE_MS))
