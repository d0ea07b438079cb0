"""One process of the program: log, hooks, one window at a time, and the exit code."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from PySide6.QtWidgets import QApplication

from desktop import logs
from desktop.application import Application, Places
from desktop.engine_bridge import EngineFactory, engine_factory
from desktop.single_instance import SingleInstance
from pipelines.library.resting import collector_resting
from pipelines.spec.options import EngineOptions

log = logging.getLogger(__name__)


def run(argv: list[str], make_factory: Callable[[EngineOptions], EngineFactory] = engine_factory) -> int:
    """The desktop program from the first line of the log to the exit code."""
    places = Places.of_user()
    log_file = logs.configure(places.data / "logs")
    logs.take_qt_messages()
    app = QApplication(["emulsion", *argv])
    app.setApplicationName("Emulsion")
    app.setApplicationDisplayName("Emulsion")
    app.setDesktopFileName("emulsion")
    instance = SingleInstance(places.data)
    if not instance.take():
        log.info("Emulsion is already open; its window was brought to the front")
        return 0
    crashes = logs.CrashFile(log_file.parent) if log_file else None
    left_behind = crashes.left_behind() if crashes else []
    if crashes:
        crashes.open()
    with collector_resting():
        application = Application(places, make_factory, log_file=log_file)
    restore_hooks = logs.install_hooks(application.notifications.bug)
    instance.asked.connect(application.raise_window)
    application.report_crash(left_behind)
    application.window.show()
    app.exec()
    stopped = application.close()
    restore_hooks()
    instance.release()
    if crashes:
        crashes.close()
    logging.shutdown()
    if not stopped:
        os._exit(0)  # a thread is stuck in foreign code; waiting for it could take for ever
    return 0
