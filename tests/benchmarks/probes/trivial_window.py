"""The least that is a window: an empty QMainWindow."""

from __future__ import annotations

import sys

from PySide6.QtWidgets import QApplication, QMainWindow

from tests.benchmarks.probes.first_input import FirstInput, answer_first_input

if __name__ == "__main__":
    app = QApplication(sys.argv[:1])
    window = QMainWindow()
    window.resize(1280, 800)
    window.show()
    FirstInput(window, answer_first_input)
    app.exec()
