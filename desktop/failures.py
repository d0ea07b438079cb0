"""`Failures`: what went wrong with a picture or the engine is told once, with a way on."""

from __future__ import annotations

from PySide6.QtCore import QObject, Signal, Slot
from PySide6.QtWidgets import QFileDialog

from desktop.engine_bridge import EngineBridge
from desktop.help_pages import HelpPages
from desktop.main_window import MainWindow
from desktop.notifications import Notifications, sentences
from desktop.pictures import Pictures
from desktop.progress_words import duration
from desktop.session import Session
from pipelines.spec.events import JobCancelled, JobFailed, JobQueued, JobStarted, WorkerDied


class Failures(QObject):
    """`folderChosen` carries another folder for pictures; whoever hears it uses it before it returns."""

    folderChosen = Signal(str)

    def __init__(
        self,
        session: Session,
        bridge: EngineBridge,
        pictures: Pictures,
        notifications: Notifications,
        pages: HelpPages,
        window: MainWindow,
    ) -> None:
        super().__init__(window)
        self._session, self._bridge, self._pictures = session, bridge, pictures
        self._notifications, self._help, self._window = notifications, pages, window
        self._told = self._restart_text = ""
        bridge.told.connect(self._engine_said)
        session.jobEnded.connect(self._job_ended)
        session.engineDied.connect(self._engine_died)

    @Slot(object)
    def _engine_said(self, event: object) -> None:
        if isinstance(event, JobStarted):
            self._notifications.take_back(self._told)
        # The engine is at work, and a restart would end that. Left out is what a click or a dead engine tells.
        if not isinstance(event, JobQueued | JobCancelled | WorkerDied):
            self._notifications.take_back(self._restart_text)

    @Slot(object)
    def _job_ended(self, event: object) -> None:
        if not isinstance(event, JobFailed):
            return
        text = sentences(event.message, event.hint)
        told = self._pictures.show_failure("No picture this time", text)
        self._told = text
        if event.kind == "NotSaved":
            self._notifications.error(text, "Save elsewhere…", self._save_elsewhere)
        elif event.is_bug:
            self._notifications.error(text, "Show log", self._help.show_log)
        elif not told:  # once is enough
            self._notifications.error(text)

    def _save_elsewhere(self) -> None:
        """Another folder, then what waits, and the failed picture again (the same seed gives the same pixels)."""
        failed = self._session.failed_request
        folder = QFileDialog.getExistingDirectory(self._window, "Folder for pictures")
        if folder:
            self.folderChosen.emit(folder)
            record = next((r for r in self._session.records() if failed and r.id == failed.model), None)
            if failed is not None and record is not None:
                self._session.submit(failed, record)
        self._bridge.resume()

    @Slot(object)
    def _engine_died(self, event: WorkerDied) -> None:
        self._restart_text = sentences(event.message, event.hint)
        self._notifications.error(self._restart_text, "Restart engine", self._session.restart_engine)

    @Slot(float)
    def stalled(self, seconds: float) -> None:
        """`seconds` without a word of the engine; with the next one a restart is not offered any more."""
        text = f"The engine has not answered for {duration(seconds)}. You can wait, or restart it."
        self._restart_text = text
        self._notifications.warning(text, "Restart engine", self._session.restart_engine)
