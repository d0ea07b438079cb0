"""`DockTitle`: the name of a dock and the button that puts it away."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QDockWidget, QWidget

from widgets.controls import IconButton
from widgets.field import row
from widgets.metrics import XS, M, S
from widgets.plain import Label, plain_tooltip

_TIP = "Drag to another side of the window, or double-click to let it float over the window."


class DockTitle(QWidget):
    """Qt's own title has icons that follow no palette. The View menu does the same by keyboard."""

    def __init__(self, dock: QDockWidget) -> None:
        super().__init__(dock)
        name = dock.windowTitle()
        self.setToolTip(plain_tooltip(_TIP))
        close = IconButton("close", f"Hide {name}", f"Hide {name}. The View menu brings it back.")
        close.setIconSize(QSize(14, 14))
        close.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        close.clicked.connect(dock.close)
        line = row(Label(name, bold=True), close)
        line.setStretch(0, 1)
        line.setContentsMargins(M, XS, S, XS)
        self.setLayout(line)
