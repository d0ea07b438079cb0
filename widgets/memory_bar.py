"""`MemoryBar`: how much of a memory is taken, as a bar."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QPainter, QPaintEvent, QPalette
from PySide6.QtWidgets import QSizePolicy, QWidget

from widgets.metrics import TONE_ROLES, Tone


class MemoryBar(QWidget):
    """`set_share(part, whole)`: red and full where the part is larger than the whole, with a mark where it ends."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._part, self._whole = 0, 1
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def set_share(self, part: int, whole: int) -> None:
        if (part, whole) != (self._part, self._whole):
            self._part, self._whole = part, max(1, whole)
            self.update()

    @property
    def too_much(self) -> bool:
        return self._part > self._whole

    def sizeHint(self) -> QSize:
        return QSize(48, 6)

    def minimumSizeHint(self) -> QSize:
        return QSize(24, 6)

    def paintEvent(self, event: QPaintEvent) -> None:
        with QPainter(self) as painter:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(Qt.PenStyle.NoPen)
            body = QRectF(0, (self.height() - 6) / 2, self.width(), 6)
            painter.setBrush(self.palette().color(QPalette.ColorRole.Mid))
            painter.drawRoundedRect(body, 3, 3)
            role = TONE_ROLES[Tone.ERROR] if self.too_much else QPalette.ColorRole.Highlight
            painter.setBrush(self.palette().color(QPalette.ColorGroup.Active, role))
            share = min(1.0, self._part / self._whole)
            if share > 0:
                painter.drawRoundedRect(QRectF(0, body.y(), max(6.0, body.width() * share), 6), 3, 3)
            if self.too_much:
                painter.setBrush(self.palette().color(QPalette.ColorRole.WindowText))
                painter.drawRect(QRectF(body.width() * self._whole / self._part - 1, body.y() - 2, 2, 10))
