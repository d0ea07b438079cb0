"""`Drawing`: an icon that only stands there, in the colour of a palette role."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QPainter, QPaintEvent, QPalette
from PySide6.QtWidgets import QWidget

from widgets.icons import paint_icon
from widgets.metrics import ICON


class Drawing(QWidget):
    """`side` in logical pixels. It decorates: a screen reader and the mouse pass it by."""

    def __init__(self, name: str, side: int = ICON, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._name = name
        self.setFixedSize(side, side)
        self.setForegroundRole(QPalette.ColorRole.PlaceholderText)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)

    def show_icon(self, name: str, role: QPalette.ColorRole) -> None:
        self._name = name
        self.setForegroundRole(role)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        with QPainter(self) as painter:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            paint_icon(painter, self._name, self.rect(), self.palette().color(self.foregroundRole()).name())
