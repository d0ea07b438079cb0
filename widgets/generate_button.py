"""`GenerateButton`: one big button that starts, shows how far it is, and cancels."""

from __future__ import annotations

from enum import Enum

from PySide6.QtCore import QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFontMetrics, QPainter, QPainterPath, QPaintEvent, QPalette, QPen
from PySide6.QtWidgets import QApplication, QPushButton, QSizePolicy, QWidget

from widgets.metrics import RADIUS, XS, M, S, TextSize, sized
from widgets.plain import plain_tooltip

Role = QPalette.ColorRole
RING = 2  # room around the button for its focus ring
_GENERATE_TIP = "Draw the picture (Ctrl+Enter)."
_CANCEL_TIP = "Stop after the step at hand; the unfinished picture is not saved (Esc)."


class _State(Enum):
    IDLE = "Generate"
    BUSY = "Cancel"
    CANCELLING = "Cancelling…"


class GenerateButton(QPushButton):
    """Starts idle and enabled. The second line is the reason why not, or the progress."""

    generateRequested = Signal()
    cancelRequested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = _State.IDLE
        self._detail = ""
        self._fraction = 0.0
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.clicked.connect(self._ask)
        self.set_idle(True, "")

    def set_idle(self, enabled: bool, reason: str) -> None:
        """`reason` says, while disabled, why there is nothing to press."""
        self._show(_State.IDLE, enabled, "" if enabled else reason, 0.0, _GENERATE_TIP)

    def set_busy(self, text: str, fraction: float) -> None:
        """`text` such as 'Step 7 of 20 – 3 s left'; `fraction` of the job that is done, 0 to 1."""
        self._show(_State.BUSY, True, text, fraction, _CANCEL_TIP)

    def set_cancelling(self) -> None:
        """From the click until the engine has stopped."""
        self._show(_State.CANCELLING, False, "", self._fraction, "The picture at hand is being stopped.")

    def _show(self, state: _State, enabled: bool, detail: str, fraction: float, tip: str) -> None:
        self._state, self._detail = state, detail
        self._fraction = min(max(fraction, 0.0), 1.0)
        self.setText(state.value)
        self.setEnabled(enabled)
        self.setAccessibleName(state.value)
        self.setAccessibleDescription(detail)
        self.setToolTip(plain_tooltip(f"{tip}\n{detail}" if detail else tip))
        self.update()

    def _ask(self) -> None:
        if self._state is _State.IDLE:
            self.generateRequested.emit()
        elif self._state is _State.BUSY:
            self.cancelRequested.emit()

    def sizeHint(self) -> QSize:
        title, small = self._metrics()
        return QSize(200, title.height() + small.height() + XS + 2 * S)

    def minimumSizeHint(self) -> QSize:
        return QSize(120, self.sizeHint().height())

    def _metrics(self) -> tuple[QFontMetrics, QFontMetrics]:
        font = QApplication.font()
        return QFontMetrics(sized(font, TextSize.TITLE, bold=True)), QFontMetrics(sized(font, TextSize.SMALL))

    def paintEvent(self, event: QPaintEvent) -> None:
        with QPainter(self) as painter:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            body = QRectF(self.rect()).adjusted(RING, RING, -RING, -RING)
            shape = QPainterPath()
            shape.addRoundedRect(body, RADIUS, RADIUS)
            self._paint_ground(painter, shape, body)
            self._paint_text(painter, self._colour())
            if self.hasFocus():
                painter.setPen(
                    QPen(self.palette().color(Role.WindowText), 2)
                )  # the accent is the button's own
                painter.drawRoundedRect(QRectF(self.rect()).adjusted(1, 1, -1, -1), RADIUS + 1, RADIUS + 1)

    def _colour(self) -> QColor:
        """'Cancelling…' tells what goes on: it is read, so it is not greyed."""
        if self._state is _State.CANCELLING:
            return self.palette().color(QPalette.ColorGroup.Active, Role.ButtonText)
        accented = self._state is _State.IDLE and self.isEnabled()
        return self.palette().color(Role.HighlightedText if accented else Role.ButtonText)

    def _paint_ground(self, painter: QPainter, shape: QPainterPath, body: QRectF) -> None:
        accent = self.palette().color(QPalette.ColorGroup.Active, Role.Highlight)
        if self._state is _State.IDLE and self.isEnabled():
            shade = (
                accent.darker(112) if self.isDown() else accent.lighter(108) if self.underMouse() else accent
            )
            painter.fillPath(shape, shade)
            return
        painter.fillPath(shape, self.palette().color(Role.Button))
        if self._fraction > 0:
            accent.setAlphaF(0.32)
            painter.save()
            painter.setClipPath(shape)
            painter.fillRect(QRectF(body.x(), body.y(), body.width() * self._fraction, body.height()), accent)
            painter.restore()
        painter.strokePath(shape, QPen(self.palette().color(Role.Mid), 1))

    def _paint_text(self, painter: QPainter, colour: QColor) -> None:
        title, small = self._metrics()
        inside = self.rect().adjusted(M, 0, -M, 0)
        height = title.height() + (small.height() + 1 if self._detail else 0)
        top = (self.height() - height) // 2
        painter.setPen(colour)
        painter.setFont(sized(QApplication.font(), TextSize.TITLE, bold=True))
        line = QRect(inside.x(), top, inside.width(), title.height())
        painter.drawText(line, Qt.AlignmentFlag.AlignCenter, self._state.value)
        if self._detail:
            painter.setPen(self.palette().color(QPalette.ColorGroup.Active, Role.ButtonText))
            painter.setFont(sized(QApplication.font(), TextSize.SMALL))
            shown = small.elidedText(self._detail, Qt.TextElideMode.ElideRight, inside.width())
            line = QRect(inside.x(), top + title.height() + 1, inside.width(), small.height())
            painter.drawText(line, Qt.AlignmentFlag.AlignCenter, shown)
