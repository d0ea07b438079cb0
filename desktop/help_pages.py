"""`HelpPages`: the log and what the program runs on, each in a dialog that is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QObject, Slot

from desktop.main_window import MainWindow
from desktop.notifications import Notifications
from desktop.session import Session
from desktop.tasks import Tasks


class HelpPages(QObject):
    """What is read for them is read on the lane of `tasks`. `log_file` None: there is no log."""

    def __init__(
        self, window: MainWindow, session: Session, tasks: Tasks, notifications: Notifications,
        log_file: Path | None, output_dir: Callable[[], Path],
    ) -> None:  # fmt: skip
        super().__init__(window)
        self._window, self._session, self._tasks = window, session, tasks
        self._notifications, self._log_file, self._output_dir = notifications, log_file, output_dir
        window.logWanted.connect(self.show_log)
        window.aboutWanted.connect(self.show_about)

    @Slot()
    def show_log(self) -> None:
        path = self._log_file
        if path is None:
            self._notifications.info("There is no log: its folder cannot be written to.")
            return
        from desktop.dialogs.log_view import LogDialog, tail

        self._tasks.run(
            lambda: tail(path),
            lambda text: LogDialog(path, text, self._window).open(),
            self._notifications.failure,
            "log",
        )

    @Slot()
    def show_about(self) -> None:
        from desktop.dialogs.about import parts

        self._tasks.run(parts, self._open_about, self._notifications.failure, "about")

    def _open_about(self, found: list[tuple[str, str]]) -> None:
        from desktop.dialogs.about import AboutDialog
        from pipelines.library.version import program

        facts = [
            ("Device", self._session.state.device or "the engine is still starting"),
            ("Pictures", str(self._output_dir())),
            ("Log", str(self._log_file or "none")),
            *found,
        ]
        AboutDialog(program(), facts, self._window).open()
