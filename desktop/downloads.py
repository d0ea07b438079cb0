"""`Downloads`: the lane of downloads and what the window shows of it.

Nothing of the network is imported before the first download, or before one that an earlier run left unfinished.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, QUrl, Signal, Slot
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QDialog, QVBoxLayout, QWidget

from desktop.notifications import Notifications
from desktop.settings import SettingsFile
from desktop.tasks import Tasks
from pipelines.library.folders import models_dir
from pipelines.spec.downloads import DownloadState, DownloadStatus
from pipelines.spec.errors import Cancelled
from pipelines.spec.lent_parts import BY_NEED, WORDS
from widgets.downloads_panel import DownloadsPanel

if TYPE_CHECKING:
    from desktop.dialogs.download import Ask, DownloadDialog
    from pipelines.library.download.control import Control
    from pipelines.library.download.hosts import Hosts
    from pipelines.library.download.lane import Lane
    from pipelines.library.download.plan import Plan
    from pipelines.library.download.tokens import Tokens

log = logging.getLogger(__name__)

UNFINISHED = "downloads"  # as pipelines.library.download.unfinished has it
# Folders below the models folder: their names become categories.
KINDS = (
    ("Models", ""),
    ("LoRAs", "loras"),
    ("ControlNets", "controlnets"),
    ("IP-Adapters", "ip-adapters"),
    ("Embeddings", "embeddings"),
    ("VAEs", "vae"),
    ("Upscalers", "upscalers"),
    ("Text encoders", "text_encoders"),
    ("T5's list of words", BY_NEED[WORDS].folder),
)


class Downloads(QObject):
    """`panel` may be put anywhere; until somebody does, `show` opens it in a window of its own.

    For the GUI thread, which never waits for a host, the keyring or the disk here.
    """

    finished = Signal()  # something new lies in a models folder
    _told = Signal(object)

    def __init__(
        self,
        data: Path,
        tasks: Tasks,
        notifications: Notifications,
        settings: SettingsFile,
        window: QWidget,
        hosts: Hosts | None = None,
    ) -> None:
        super().__init__(window)
        self._data, self._tasks, self._notifications, self._settings = data, tasks, notifications, settings
        self._window, self._hosts = window, hosts
        self._asking = Tasks(threads=1, parent=self)  # a host that does not answer keeps no folder waiting
        self._opening = threading.Lock()
        self._lane: Lane | None = None
        self._tokens: Tokens | None = None
        self._control: Control | None = None
        self._dialog: DownloadDialog | None = None
        self._frame: QDialog | None = None
        self._closed = False
        self.panel = DownloadsPanel()
        self.panel.setParent(window)
        self.panel.hide()
        self._connect()

    def _connect(self) -> None:
        panel = self.panel
        panel.addRequested.connect(self.add)
        panel.pauseRequested.connect(self._pause)
        panel.resumeRequested.connect(self._resume)
        panel.retryRequested.connect(self._resume)
        panel.cancelRequested.connect(self._cancel)
        panel.removeRequested.connect(self._remove)
        panel.showRequested.connect(self._show_file)
        self._told.connect(self._show)

    # the window

    @Slot()
    def show(self) -> None:
        """The list, in a window of its own unless it has a place in the program's."""
        if self.panel.parentWidget() is self._window:
            self._frame = QDialog(self._window)
            self._frame.setWindowTitle("Downloads")
            lines = QVBoxLayout(self._frame)
            lines.setContentsMargins(0, 0, 0, 0)
            lines.addWidget(self.panel)
            self.panel.show()
            self._frame.resize(480, 420)
        if self._frame is not None:
            self._frame.show()
            self._frame.raise_()

    @Slot(str)
    def add_part(self, need: str) -> None:
        """Opens the dialog for a part that a model lacks, by the id of its row in `LENT_PARTS`."""
        part = BY_NEED[need]
        self.add(part.source, models_dir() / part.folder)

    @Slot()
    def add(self, source: str = "", folder: Path | None = None) -> None:
        """Opens the dialog; one at a time. `folder` is one of those that it lists."""
        if self._dialog is not None:
            self._dialog.raise_()
            return
        parent = self.panel.window() if self.panel.isVisible() else self._window
        from desktop.dialogs.download import DownloadDialog

        dialog = self._dialog = DownloadDialog(self._folders(), source, parent)
        if folder is not None:
            dialog.choose(folder)
        dialog.lookRequested.connect(self._look)
        dialog.downloadRequested.connect(self._begin)
        dialog.tokenGiven.connect(self._keep_token)
        dialog.finished.connect(self._dialog_closed)
        dialog.open()
        self._tasks.run(_keyring_note, self._show_note, _logged, "keyring")

    def offer_unfinished(self) -> None:
        """What an earlier run left is listed as paused; nothing goes on by itself."""
        self._tasks.run(self._left_over, self._offer, _logged)

    def close(self, timeout_s: float = 1.0) -> bool:
        """What runs is kept for the next start. False if a thread is stuck."""
        self._closed = True
        if self._control is not None:
            self._control.stop()
        stopped = self._asking.close(timeout_s)
        with self._opening:
            return (self._lane is None or self._lane.close(timeout_s)) and stopped

    def _folders(self) -> list[tuple[str, Path]]:
        own = [(name, models_dir() / folder if folder else models_dir()) for name, folder in KINDS]
        return [*own, *((folder, Path(folder)) for folder in self._settings.value.model_folders)]

    # the dialog

    @Slot(object)
    def _look(self, ask: Ask) -> None:
        from pipelines.library.download.control import Control

        if self._control is not None:
            self._abandon()
        control = self._control = Control()
        self._asking.run(lambda: self._looked(ask, control), self._show_plan, self._show_failure, "look")

    def _looked(self, ask: Ask, control: Control) -> tuple[Plan, int]:
        """On the asking thread."""
        from contextlib import closing

        from pipelines.library.download.client import Client
        from pipelines.library.download.look import Wishes, look
        from pipelines.library.download.plan import free_bytes
        from pipelines.library.download.sources import parse

        source = parse(ask.source, self._hosts)
        with closing(Client(self._hosts, self._known_tokens().get)) as client:
            plan = look(client, source, ask.folder, control, Wishes(file=ask.file, half=ask.half))
        return plan, free_bytes(ask.folder)

    def _show_plan(self, found: tuple[Plan, int]) -> None:
        if self._dialog is not None:
            self._dialog.show_plan(*found)

    def _show_failure(self, error: Exception) -> None:
        if isinstance(error, Cancelled) or self._dialog is None:
            return
        log.info("download: %s", error)
        self._dialog.show_failure(error)

    def _show_note(self, note: str) -> None:
        if self._dialog is not None:
            self._dialog.set_keyring_note(note)

    @Slot(str, str, bool)
    def _keep_token(self, host: str, token: str, keep: bool) -> None:
        """In the queue before the look that needs it."""
        self._abandon()
        self._asking.run(lambda: self._known_tokens().set(host, token, keep=keep), None, self._token_not_kept)

    def _token_not_kept(self, error: Exception) -> None:
        self._notifications.failure(error)

    @Slot(object)
    def _begin(self, plan: Plan) -> None:
        self._with_lane(lambda lane: lane.add(plan))
        self.show()

    @Slot()
    def _dialog_closed(self) -> None:
        self._dialog = None
        self._abandon()

    def _abandon(self) -> None:
        """Nobody waits for what is being asked: a host may take its 30 s, and the next one is asked meanwhile."""
        if self._control is not None:
            self._control.stop()
            self._control = None
        if not self._asking.idle:
            self._asking.close(0.0)
            self._asking = Tasks(threads=1, parent=self)

    # the lane

    def _known_tokens(self) -> Tokens:
        from pipelines.library.download.tokens import Tokens

        with self._opening:
            self._tokens = self._tokens or Tokens()
            return self._tokens

    def _opened(self) -> Lane:
        """Made at its first use, off the GUI thread. Raises DownloadError where downloads are off."""
        from pipelines.library.download.client import Client
        from pipelines.library.download.lane import Lane
        from pipelines.library.download.unfinished import Unfinished

        tokens = self._known_tokens()
        with self._opening:
            if self._closed:
                raise Cancelled("downloads")
            if self._lane is None:
                client = Client(self._hosts, tokens.get)
                self._lane = Lane(client, self._told.emit, Unfinished(self._data / UNFINISHED))
            return self._lane

    def _left_over(self) -> tuple[DownloadStatus, ...]:
        folder = self._data / UNFINISHED
        return self._opened().statuses() if folder.is_dir() and any(folder.glob("*.json")) else ()

    def _offer(self, statuses: tuple[DownloadStatus, ...]) -> None:
        for status in statuses:
            if self.panel.status(status.id) is None:
                self.panel.show_status(status)
        if statuses:
            what = "A download is" if len(statuses) == 1 else f"{len(statuses)} downloads are"
            self._notifications.info(f"{what} not finished.", "Show downloads", self.show)

    def _with_lane(self, work: Callable[[Lane], Any]) -> None:
        self._tasks.run(lambda: work(self._opened()), None, self._lane_failed)

    def _lane_failed(self, error: Exception) -> None:
        if not isinstance(error, Cancelled):
            self._notifications.failure(error)

    @Slot(int)
    def _pause(self, number: int) -> None:
        self._with_lane(lambda lane: lane.pause(number))

    @Slot(int)
    def _resume(self, number: int) -> None:
        self._with_lane(lambda lane: lane.resume(number))

    @Slot(int)
    def _cancel(self, number: int) -> None:
        self._with_lane(lambda lane: lane.cancel(number))

    @Slot(int)
    def _remove(self, number: int) -> None:
        self.panel.remove(number)
        self._with_lane(lambda lane: lane.remove(number))

    @Slot(int)
    def _show_file(self, number: int) -> None:
        if (status := self.panel.status(number)) is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(Path(status.path).parent)))

    @Slot(object)
    def _show(self, status: DownloadStatus) -> None:
        before = self.panel.status(status.id)
        self.panel.show_status(status)
        if status.state is DownloadState.DONE and (before is None or before.state is not DownloadState.DONE):
            self._notifications.info(f"{status.title} is downloaded.", "Show downloads", self.show)
            self.finished.emit()


def _keyring_note() -> str:
    from pipelines.library.download.tokens import keyring_note

    return keyring_note()


def _logged(error: Exception) -> None:
    if not isinstance(error, Cancelled):
        log.warning("downloads: %s", error)
