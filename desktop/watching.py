"""`Watching`: says once that model files have come, gone or changed, when they have come to rest."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QFileSystemWatcher, QObject, Qt, QTimer, Signal, Slot
from PySide6.QtGui import QGuiApplication

from desktop.tasks import Tasks

if TYPE_CHECKING:
    from pipelines.library.watched import Sizes

log = logging.getLogger(__name__)

MOST = 2000  # folders; systems allow some thousand to a user, all programs together
REST_MS = 500  # between two looks; what is alike twice is at rest
YOUNG_MS = 5000  # between two looks at what was written lately: a slow download pauses, and then goes on
YOUNG_S = 60.0
AWAY_S = 30.0


class Watching(QObject):
    """The folders under the model folders. Disk work runs on the lane of `tasks`. For the GUI thread.

    A system tells when a file comes or goes, not when it grows; and of network drives and beyond MOST folders it tells
    nothing. So what came is looked at until it rests, and `changed` also comes when the window is returned to after
    more than AWAY_S seconds.
    """

    changed = Signal()

    def __init__(self, tasks: Tasks, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._tasks = tasks
        self._roots: tuple[Path, ...] = ()
        self._watcher = QFileSystemWatcher(self)
        self._watcher.directoryChanged.connect(self._touched)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._look)
        self._folders: set[str] = set()  # those that changed
        self._last: Sizes | None = None
        self._told: Sizes | None = None
        self._left_at: float | None = None
        self._stopped = False
        app = QGuiApplication.instance()
        if isinstance(app, QGuiApplication):
            app.applicationStateChanged.connect(self._application_changed)

    def watch(self, roots: Iterable[Path]) -> None:
        """These instead of those of before. Folders that come later are watched by themselves."""
        self._roots = tuple(root.absolute() for root in roots)
        self._list()

    def stop(self) -> None:
        self._stopped = True
        self._timer.stop()
        if folders := self._watcher.directories():
            self._watcher.removePaths(folders)

    def watched(self) -> tuple[str, ...]:
        return tuple(self._watcher.directories())

    def _list(self) -> None:
        self._tasks.run(partial(_folders, self._roots), self._listed, _log, "watched folders")

    def _listed(self, folders: tuple[str, ...]) -> None:
        if self._stopped:
            return
        now = set(self._watcher.directories())
        if gone := now - set(folders):
            self._watcher.removePaths(sorted(gone))
        if new := [folder for folder in folders if folder not in now]:
            refused = self._watcher.addPaths(new)
            if refused or len(folders) >= MOST:
                log.info("%d model folders are not watched", len(refused))

    @Slot(str)
    def _touched(self, folder: str) -> None:
        changed = {folder}
        if not any(Path(folder).is_relative_to(root) for root in self._roots):
            # The one that a root would be in, with files of other purposes, or a place that a tree is told of.
            awaited = [root for root in self._roots if root.parent == Path(folder)]
            changed = {str(root) for root in awaited if root.is_dir()} if awaited else changed
        if self._stopped or not changed:
            return
        self._folders |= changed
        self._last = None
        self._timer.start(REST_MS)

    @Slot()
    def _look(self) -> None:
        self._tasks.run(partial(_sizes, tuple(self._folders)), self._looked, _log, "sizes")

    def _looked(self, now: Sizes) -> None:
        if self._stopped:
            return
        if now != self._last:
            self._last = now
            self._timer.start(REST_MS)
        elif now != self._told:
            self._told = now
            self._timer.start(YOUNG_MS)
            self._list()
            self.changed.emit()
        elif _is_young(now):
            self._timer.start(YOUNG_MS)
        else:
            self._folders.clear()
            self._last = self._told = None

    @Slot(Qt.ApplicationState)
    def _application_changed(self, state: Qt.ApplicationState) -> None:
        if state != Qt.ApplicationState.ApplicationActive:
            self._left_at = self._left_at or time.monotonic()
            return
        away = time.monotonic() - self._left_at if self._left_at else 0.0
        self._left_at = None
        if away > AWAY_S and self._roots and not self._stopped:
            self._list()
            self.changed.emit()


# What reads folders is imported on the lane too: at the start it would hold up the window for a tenth of a second.


def _folders(roots: tuple[Path, ...]) -> tuple[str, ...]:
    from pipelines.library.watched import watched_folders

    return watched_folders(roots, MOST)


def _sizes(folders: tuple[str, ...]) -> Sizes:
    from pipelines.library.watched import sizes

    return sizes(folders)


def _is_young(now: Sizes) -> bool:
    """Whether one of the files was written in the last minute; one of tomorrow is no reason to look for ever."""
    newest = max((time_ns for _, time_ns in now.values() if time_ns <= time.time_ns()), default=0)
    return time.time_ns() - newest < YOUNG_S * 1e9


def _log(error: Exception) -> None:
    log.info("model folders are not watched: %s", error)
