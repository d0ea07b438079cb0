"""`PromptEdit`: a plain-text editor that grows with its text."""

from __future__ import annotations

from PySide6.QtCore import QMimeData, QSize, Qt, Signal
from PySide6.QtGui import QKeyEvent, QResizeEvent, QShowEvent, QTextCursor
from PySide6.QtWidgets import QPlainTextEdit, QSizePolicy, QWidget

from pipelines.spec.request import MAX_PROMPT
from widgets.plain import name_control

_ENTER = (Qt.Key.Key_Return, Qt.Key.Key_Enter)


class PromptEdit(QPlainTextEdit):
    """`least` to `most` lines high. `submitted` is a Ctrl+Enter that no action of the window took.

    A text of more than MAX_PROMPT characters is cut: the rest is never read, and Qt lays it out for minutes.
    """

    submitted = Signal()

    def __init__(
        self, name: str, tooltip: str, least: int = 3, most: int = 12, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._least, self._most = least, most
        name_control(self, name, tooltip)
        self.setTabChangesFocus(True)
        self.setLineWrapMode(QPlainTextEdit.LineWrapMode.WidgetWidth)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.document().documentLayout().documentSizeChanged.connect(self._grow)

    def replace_text(self, text: str) -> None:
        """The new text as one step that Ctrl+Z takes back."""
        text = text[:MAX_PROMPT]
        if text == self.toPlainText():
            return
        cursor = QTextCursor(self.document())
        cursor.select(QTextCursor.SelectionType.Document)
        cursor.insertText(text)
        self.moveCursor(QTextCursor.MoveOperation.Start)

    def insertFromMimeData(self, source: QMimeData) -> None:
        selected = len(self.textCursor().selectedText())
        room = max(0, MAX_PROMPT - self.document().characterCount() + selected)
        self.insertPlainText(source.text()[:room])

    def _lines(self) -> int:
        return round(self.document().size().height())  # QPlainTextEdit counts its height in lines

    def sizeHint(self) -> QSize:
        lines = max(self._least, min(self._lines(), self._most))
        around = self.height() - self.viewport().height() + 2 * self.document().documentMargin()
        height = (
            lines * self.fontMetrics().lineSpacing() + around + 1
        )  # Qt takes a line that ends here for cut
        return QSize(super().sizeHint().width(), round(height))

    def minimumSizeHint(self) -> QSize:
        return QSize(120, self.sizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._grow()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._grow()

    def _grow(self) -> None:
        """The bar comes only past the most lines: before it would take room from a text that is all in view."""
        policy = Qt.ScrollBarPolicy
        full = self._lines() > self._most
        self.setVerticalScrollBarPolicy(policy.ScrollBarAsNeeded if full else policy.ScrollBarAlwaysOff)
        if self.height() != self.sizeHint().height():
            self.updateGeometry()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        control = (
            event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier == Qt.KeyboardModifier.ControlModifier
        )
        if control and event.key() in _ENTER:
            self.submitted.emit()
        else:
            super().keyPressEvent(event)
