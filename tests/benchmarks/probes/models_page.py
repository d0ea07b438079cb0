"""The Models page while it finds argv[1] models for the first time, and while one walks over it.

The engine is scripted, as nothing is drawn.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from desktop.app import SWITCH_S
from desktop.application import Application
from tests.benchmarks.probes.ticker import RunQueue, Ticker
from tests.benchmarks.probes.told import answer
from tests.desktop.conftest import make_model, places
from tests.desktop.models_walk import walk
from tests.desktop.scripted import Script
from tests.screens.model_library import write_models

FIRST_PAINT_MS = 300
LIMIT_S = 300


def wait_until(true: Callable[[], bool]) -> None:
    end = time.perf_counter() + LIMIT_S
    while not true():
        if time.perf_counter() > end:
            sys.exit(f"not within {LIMIT_S} s")
        QTest.qWait(10)


def main(count: int) -> None:
    root = Path(os.environ["EMULSION_HOME"])
    models = make_model(root / "models" / "scripted").parent
    write_models(models / "many", count)
    application = Application(places(root), Script().factory, model_roots=(models,))
    application.settings.change(hash_in_background=False)
    window, page = application.window, application.window.models_page
    ticker = Ticker(window)
    window.resize(1280, 800)
    window.show()
    wait_until(lambda: application._started)
    window.turn_page()
    QTest.qWait(FIRST_PAINT_MS)  # the window itself and its first paint are measured elsewhere
    ticker.phase = "models_scan"
    wait_until(lambda: page.table.total == count + 1 and application.tasks.idle)
    ticker.phase = "models_page"
    walk(page)
    wait_until(lambda: application.tasks.idle)
    ticker.phase = ""
    answer(net=RunQueue.known(), **ticker.summary())


if __name__ == "__main__":
    sys.setswitchinterval(SWITCH_S)
    app = QApplication(sys.argv[:1])
    main(int(sys.argv[1]))
