"""`Saving`: the settings reach the disk, and what of them could not be read or kept is told."""

from __future__ import annotations

import logging

from PySide6.QtCore import QObject, QTimer, Slot

from desktop.notifications import Notifications
from desktop.settings import SettingsFile
from desktop.tasks import Tasks
from pipelines.spec.errors import shortened

log = logging.getLogger(__name__)

DELAY_MS = 2000  # of rest until what was typed is on disk, for the next start after a crash
NAMED = 3


class Saving(QObject):
    """Writes on the I/O lane; at the end of the program where it stands."""

    def __init__(
        self, settings: SettingsFile, tasks: Tasks, notifications: Notifications, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._settings, self._tasks, self._notifications = settings, tasks, notifications
        self._timer = QTimer(self, singleShot=True, interval=DELAY_MS)
        self._timer.timeout.connect(self.now)

    def tell_unread(self) -> None:
        """Names the first of what could not be read; all of it is in the log."""
        problems = self._settings.problems
        if problems:
            more = f"; and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
            named = "; ".join(shortened(problem.rstrip("."), 120) for problem in problems[:NAMED])
            self._notifications.warning(
                f"Some settings could not be read; their defaults are used. {named}{more}."
            )

    def later(self) -> None:
        self._timer.start()

    @Slot()
    def now(self) -> None:
        self._tasks.run(self._settings.write, None, self._not_saved, "settings")

    def _not_saved(self, error: Exception) -> None:
        log.warning("settings: %s", error)
        self._notifications.warning(f"The settings cannot be saved in {self._settings.path.parent}.")

    def last(self) -> None:
        """Before it returns."""
        self._timer.stop()
        try:
            self._settings.write()
        except OSError as error:
            log.warning("settings: %s", error)
