"""`DownloadsPanel`: the list of downloads. Knows nothing of networks: it shows statuses and says what was asked for."""

from __future__ import annotations

from collections.abc import Iterable

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QPushButton, QVBoxLayout, QWidget

from pipelines.spec.downloads import DownloadStatus
from widgets.download_row import DownloadRow
from widgets.field import column
from widgets.icons import icon
from widgets.metrics import M, S
from widgets.plain import Label, name_control
from widgets.scroll_column import ScrollColumn

_EMPTY = "Nothing is being downloaded. Models come from Hugging Face, Civitai or any address, and only when you ask."


class DownloadsPanel(QWidget):
    """The newest download is at the top. All signals but the first carry the id of a download."""

    addRequested = Signal()
    pauseRequested = Signal(int)
    resumeRequested = Signal(int)
    retryRequested = Signal(int)
    showRequested = Signal(int)
    cancelRequested = Signal(int)
    removeRequested = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rows: dict[int, DownloadRow] = {}
        self.add = QPushButton(icon("download"), "Add download…")
        name_control(
            self.add, "Add download", "Name a model to fetch. What it is and how large is shown first."
        )
        self.add.clicked.connect(self.addRequested)
        self._empty = Label(_EMPTY, muted=True, wrap=True)
        self._list = QWidget()
        self._lines = QVBoxLayout(self._list)
        self._lines.setContentsMargins(0, 0, 0, 0)
        self._lines.setSpacing(S)
        self._lay_out()

    def _lay_out(self) -> None:
        inner = QWidget()
        head = column(inner, M)
        head.addWidget(self.add)
        head.addWidget(self._empty)
        head.addWidget(self._list)
        column(self).addWidget(ScrollColumn(inner))

    def statuses(self) -> tuple[DownloadStatus, ...]:
        return tuple(row.status for row in self._rows.values())

    def status(self, download_id: int) -> DownloadStatus | None:
        row = self._rows.get(download_id)
        return row.status if row else None

    def set_statuses(self, statuses: Iterable[DownloadStatus]) -> None:
        """Exactly these."""
        statuses = tuple(statuses)
        for number in set(self._rows) - {status.id for status in statuses}:
            self.remove(number)
        for status in statuses:
            self.show_status(status)

    def show_status(self, status: DownloadStatus) -> None:
        """A new row, or the one that is there in its new state."""
        if (row := self._rows.get(status.id)) is not None:
            row.show_status(status)
            return
        row = self._rows[status.id] = DownloadRow(status)
        for name in ("pause", "resume", "retry", "show", "cancel", "remove"):
            getattr(row, f"{name}Requested").connect(getattr(self, f"{name}Requested"))
        self._lines.insertWidget(0, row)
        self._empty.setVisible(False)

    def remove(self, download_id: int) -> None:
        if (row := self._rows.pop(download_id, None)) is not None:
            self._lines.removeWidget(row)
            row.hide()
            row.deleteLater()
        self._empty.setVisible(not self._rows)
