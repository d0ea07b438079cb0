"""Waits until a window has painted itself and has taken a key, and answers when that was."""

from __future__ import annotations

import time
from collections.abc import Callable

from PySide6.QtCore import QCoreApplication, QEvent, QObject, Qt, QTimer
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QMainWindow, QWidget

from tests.benchmarks.probes.told import answer, since_start_s


class FirstInput(QObject):
    """Calls `done` once the key was handled. `painted_s`, `live_s`: seconds since the process was started."""

    def __init__(self, window: QMainWindow, done: Callable[[FirstInput], None]) -> None:
        super().__init__(window)
        self.painted_s = self.live_s = self.cpu_s = 0.0
        self._window, self._done = window, done
        self._target: QWidget | None = None
        window.installEventFilter(self)
        window.update()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Paint and not self.painted_s:
            self.painted_s = since_start_s()
            QTimer.singleShot(0, self._type)  # once the children have painted as well
        elif event.type() == QEvent.Type.KeyPress and watched is self._target and not self.live_s:
            self.live_s = since_start_s()
            QTimer.singleShot(0, self._end)
        return False

    def _type(self) -> None:
        self._target = self._window.focusWidget() or self._window
        if self._target is not self._window:
            self._target.installEventFilter(self)
        key = QKeyEvent(QEvent.Type.KeyPress, Qt.Key.Key_A, Qt.KeyboardModifier.NoModifier, "a")
        QCoreApplication.postEvent(self._target, key)

    def _end(self) -> None:
        self.live_s = since_start_s()
        self.cpu_s = time.process_time()
        self._done(self)


def answer_first_input(first: FirstInput) -> None:
    answer(painted=first.painted_s, wall=first.live_s, cpu=first.cpu_s)
