"""The end of the log as plain text."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt, QUrl
from PySide6.QtGui import QDesktopServices, QFontDatabase
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QPlainTextEdit, QVBoxLayout, QWidget

SHOWN_BYTES = 200_000


def tail(path: Path) -> str:
    """The last 200 kB of the file. Raises OSError."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - SHOWN_BYTES))
        return file.read(SHOWN_BYTES).decode("utf-8", errors="replace")


class LogDialog(QDialog):
    def __init__(self, path: Path, text: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Log")
        self.resize(820, 480)
        view = QPlainTextEdit(text)
        view.setReadOnly(True)
        view.setAccessibleName("Log")
        view.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        view.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        folder = buttons.addButton("Open log folder", QDialogButtonBox.ButtonRole.ActionRole)
        folder.clicked.connect(lambda: QDesktopServices.openUrl(QUrl.fromLocalFile(str(path.parent))))
        buttons.button(QDialogButtonBox.StandardButton.Close).setDefault(True)
        buttons.rejected.connect(self.reject)
        rows = QVBoxLayout(self)
        rows.addWidget(view)
        rows.addWidget(buttons)
        view.verticalScrollBar().setValue(view.verticalScrollBar().maximum())
