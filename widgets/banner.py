"""`Banner`: one message about the whole window, with one thing to do about it."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QRect, QTimer, Signal
from PySide6.QtGui import QEnterEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QFrame, QPushButton, QSizePolicy, QWidget

from widgets.controls import IconButton
from widgets.drawing import Drawing
from widgets.field import row
from widgets.metrics import TONE_ROLES, M, S, Tone
from widgets.plain import Label, name_control

_INFO_MS = 8000
_STRIPE = 3


class Banner(QFrame):
    """Hidden until there is something to say. Information with nothing to do about it goes by itself."""

    actionTriggered = Signal()
    closed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Maximum)
        self.setAutoFillBackground(True)
        self._tone, self._goes = Tone.INFO, False
        self._mark = Drawing("info")
        self._text = Label("", wrap=True)
        self._text.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self._action = QPushButton()
        self._close = IconButton("close", "Close this message", "Put this message away.")
        line = row(self._mark, self._text, self._action, self._close)
        line.setStretch(1, 1)
        line.setContentsMargins(M, S, S, S)
        self.setLayout(line)
        self._fade = QTimer(self, singleShot=True, interval=_INFO_MS)
        self._fade.timeout.connect(self.put_away)
        self._action.clicked.connect(self.actionTriggered)
        self._close.clicked.connect(self.put_away)
        self.setVisible(False)

    def show_message(self, kind: Tone | str, text: str, action: str = "") -> None:
        """`kind` 'info', 'warning' or 'error'; `action` the words of the button, '' for none."""
        tone = Tone(kind)
        self._tone = tone
        self._mark.show_icon(tone.value, TONE_ROLES[tone])
        self._text.setText(text)
        self._action.setText(action.replace("&", "&&"))
        self._action.setVisible(bool(action))
        name_control(self._action, action or "Act on this message", f"{action}: what this message is about.")
        self.setAccessibleName(f"{tone.value.capitalize()}: {text}")
        self.setVisible(True)
        self._goes = tone is Tone.INFO and not action
        self._fade.stop()
        if self._goes and not self.underMouse():
            self._fade.start()

    def enterEvent(self, event: QEnterEvent) -> None:
        """Who points at it still reads it."""
        super().enterEvent(event)
        self._fade.stop()

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        if self._goes:
            self._fade.start()

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        left = 0 if self.isLeftToRight() else self.width() - _STRIPE
        stripe = QRect(left, 0, _STRIPE, self.height())
        with QPainter(self) as painter:
            painter.fillRect(stripe, self.palette().color(TONE_ROLES[self._tone]))

    def text(self) -> str:
        return self._text.text()

    def put_away(self) -> None:
        self.setVisible(False)
        self.closed.emit()
