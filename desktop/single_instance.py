"""One window for one data folder: a second start brings the first window to the front and leaves."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from PySide6.QtCore import QFileSystemWatcher, QLockFile, QObject, Signal

log = logging.getLogger(__name__)


class SingleInstance(QObject):
    """`asked` fires in the first process when another is started. A dead process's lock is taken over."""

    asked = Signal()

    def __init__(self, folder: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._lock = QLockFile(str(folder / "window.lock"))
        self._lock.setStaleLockTime(0)  # it may be open for weeks; Qt still looks whether its process lives
        self._bell = folder / "window.show"
        self._watcher = QFileSystemWatcher(self)
        self._watcher.fileChanged.connect(self.asked)

    def take(self) -> bool:
        """False if another process has the window; it was then asked to show it."""
        if self._lock.tryLock(0):
            self._ring()
            self._watcher.addPath(str(self._bell))
            return True
        if self._lock.error() is QLockFile.LockError.LockFailedError:
            self._ring()
            return False
        return True  # a folder that cannot be written to bars nobody from starting

    def release(self) -> None:
        self._lock.unlock()

    def _ring(self) -> None:
        try:
            self._bell.write_text(str(time.time()), encoding="ascii")
        except OSError as error:
            log.warning("%s: %s", self._bell, error)
