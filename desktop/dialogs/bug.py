"""The dialog after an error that nobody expected: short, with the place of the log."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt, QUrl
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QMessageBox, QPushButton, QWidget


class BugDialog(QMessageBox):
    """Does not block; deletes itself when closed."""

    def __init__(self, summary: str, log_file: Path | None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setIcon(QMessageBox.Icon.Warning)
        self.setWindowTitle("Unexpected error")
        self.setText("Something unexpected went wrong. Your pictures and settings are safe.")
        where = f"Details are in the log:\n{log_file}" if log_file else "No log could be written."
        self.setInformativeText(f"{summary}\n\n{where}")
        self.addButton("Go on", QMessageBox.ButtonRole.AcceptRole)
        if log_file is not None:
            folder = str(log_file.parent)
            show = QPushButton("Open log folder")
            self.addButton(show, QMessageBox.ButtonRole.ActionRole)
            show.clicked.connect(lambda: QDesktopServices.openUrl(QUrl.fromLocalFile(folder)))
