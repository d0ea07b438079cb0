"""`DownloadRow`: one download: its name, how far it is, and what can be done about it."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QFrame, QProgressBar, QSizePolicy, QWidget

from pipelines.spec.downloads import DownloadState, DownloadStatus, progress_text, size_text
from widgets.controls import IconButton
from widgets.field import column, row
from widgets.metrics import TONE_ROLES, XS, M, S, TextSize, Tone
from widgets.plain import ElidedLabel, Label, name_control

State = DownloadState
_STEPS = 1000  # of the bar: bytes are too many for its 32 bits
_WORDS = {
    State.WAITING: "Waiting for its turn",
    State.RUNNING: "Downloading",
    State.CHECKING: "Checking",
    State.PAUSED: "Paused",
    State.DONE: "Done",
    State.FAILED: "Failed",
    State.CANCELLED: "Cancelled",
}

_ACTIVE = (State.WAITING, State.RUNNING, State.CHECKING)
_OVER = (State.DONE, State.CANCELLED)
# signal, icon, name, tooltip, in which states
_BUTTONS = (
    ("pauseRequested", "pause", "Pause", "Stop for now; what has come is kept.", _ACTIVE),
    ("resumeRequested", "play", "Resume", "Go on from where it is.", (State.PAUSED,)),
    ("retryRequested", "refresh", "Try again", "Try again from where it is.", (State.FAILED, State.CANCELLED)),
    ("showRequested", "folder", "Show the file", "Open the folder that it is in.", (State.DONE,)),
    (
        "cancelRequested", "stop", "Cancel", "Stop it and throw away what has come.",
        (*_ACTIVE, State.PAUSED, State.FAILED),
    ),
    ("removeRequested", "close", "Remove from the list", "Take the line off this list. The file stays.", _OVER),
)  # fmt: skip


class DownloadRow(QFrame):
    """Each signal carries the id of the download."""

    pauseRequested = Signal(int)
    resumeRequested = Signal(int)
    retryRequested = Signal(int)
    showRequested = Signal(int)
    cancelRequested = Signal(int)
    removeRequested = Signal(int)

    def __init__(self, status: DownloadStatus, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.status = status
        self._title = ElidedLabel(mode=Qt.TextElideMode.ElideMiddle)
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._bar.setFixedHeight(2 * XS)
        self._figures = ElidedLabel("", TextSize.SMALL, muted=True)
        self._told = Label("", TextSize.SMALL, wrap=True)
        self._told.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.buttons = {name: self._button(name, icon, text, tip) for name, icon, text, tip, _ in _BUTTONS}
        self._lay_out()
        self.show_status(status)

    def _button(self, name: str, icon: str, text: str, tip: str) -> IconButton:
        button = IconButton(icon, text, tip)
        signal = getattr(self, name)
        button.clicked.connect(lambda: signal.emit(self.status.id))
        return button

    def _lay_out(self) -> None:
        lines = column(self, XS)
        lines.setContentsMargins(M, S, S, S)
        head = row(self._title, *self.buttons.values(), spacing=0)
        head.setStretch(0, 1)
        lines.addLayout(head)
        lines.addWidget(self._bar)
        lines.addWidget(self._figures)
        lines.addWidget(self._told)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)

    def show_status(self, status: DownloadStatus) -> None:
        self.status = status
        state = status.state
        self._title.setText(status.title)
        self._show_bar(status)
        figures = _figures(status)
        words = _WORDS[state] + (f" – {figures}" if figures else "")
        self._figures.setText(words)
        told = f"{status.message} {status.hint}".strip()
        self._told.setText(told)
        failed = state is State.FAILED
        self._told.setForegroundRole(TONE_ROLES[Tone.ERROR] if failed else QPalette.ColorRole.PlaceholderText)
        self._told.setVisible(bool(told))
        for name, _, text, tip, states in _BUTTONS:
            self.buttons[name].setVisible(state in states)
            name_control(self.buttons[name], f"{text}: {status.title}", tip)
        self.setAccessibleName(f"{status.title}: {words}. {told}".strip())

    def _show_bar(self, status: DownloadStatus) -> None:
        """Moving to and fro only while something comes of unknown size."""
        fraction = 1.0 if status.state is State.DONE else status.fraction
        unknown = fraction is None and status.state in (State.RUNNING, State.CHECKING)
        self._bar.setRange(0, 0 if unknown else _STEPS)
        if not unknown:
            self._bar.setValue(round(_STEPS * (fraction or 0.0)))
        self._bar.setVisible(status.state is not State.CANCELLED)
        name_control(self._bar, f"Progress of {status.title}", progress_text(status))


def _figures(status: DownloadStatus) -> str:
    """Only how large it is, before it begins and when it is done."""
    match status.state:
        case State.CANCELLED:
            return ""
        case State.WAITING | State.DONE:
            return size_text(status.total_bytes) if status.total_bytes else ""
    return progress_text(status)
