"""Starts the real program in this process and looks at its window when the event loop is about to begin."""

from __future__ import annotations

import sys
from collections.abc import Callable

from PySide6.QtWidgets import QApplication

from desktop import app
from desktop.main_window import MainWindow


def run_program(look: Callable[[MainWindow], None]) -> int:
    """Everything from `desktop.app.main` on is the program's own doing."""
    begin = QApplication.exec

    def look_and_begin() -> int:
        look(next(w for w in QApplication.topLevelWidgets() if isinstance(w, MainWindow)))
        return begin()

    QApplication.exec = staticmethod(look_and_begin)
    sys.argv[1:] = []
    return app.main([])
