"""`ScrollColumn`: panels below each other in a dock, with one edge whether or not there is a scroll bar."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from widgets.metrics import M, S


class ScrollColumn(QScrollArea):
    """Scrolls down only. The bar comes into the margin on the right, so that nothing moves when it comes."""

    def __init__(self, *panels: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        inner = QWidget()
        self._lines = QVBoxLayout(inner)
        self._lines.setSpacing(M)
        for panel in panels:
            self._lines.addWidget(panel)
        self._lines.addStretch(1)
        self.setWidget(inner)
        self.verticalScrollBar().installEventFilter(self)
        self._fit_margin(False)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if watched is self.verticalScrollBar() and event.type() in (QEvent.Type.Show, QEvent.Type.Hide):
            self._fit_margin(event.type() == QEvent.Type.Show)
        return super().eventFilter(watched, event)

    def _fit_margin(self, has_bar: bool) -> None:
        right = max(0, M - self.verticalScrollBar().sizeHint().width()) if has_bar else M
        self._lines.setContentsMargins(M, S, right, M)
