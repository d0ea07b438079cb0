"""`SeedField`: a whole number that is too large for Qt's own number boxes."""

from __future__ import annotations

from PySide6.QtCore import QRegularExpression, Qt, Signal
from PySide6.QtGui import QKeyEvent, QRegularExpressionValidator
from PySide6.QtWidgets import QLineEdit, QWidget

from widgets.plain import name_control


class SeedField(QLineEdit):
    """Digits only. A number past the largest seed is kept, for validate.py to report at the field."""

    seedChanged = Signal()

    def __init__(self, name: str, tooltip: str, parent: QWidget | None = None) -> None:
        super().__init__("0", parent)
        self._last = 0
        name_control(self, name, tooltip)
        self.setValidator(QRegularExpressionValidator(QRegularExpression(r"\s*[0-9]{0,20}\s*"), self))
        self.setInputMethodHints(Qt.InputMethodHint.ImhDigitsOnly)
        self.textChanged.connect(self._read)
        self.editingFinished.connect(self._fill)

    def seed(self) -> int:
        """The number in the field; while the field is empty, the one before."""
        return self._last

    def set_seed(self, seed: int) -> None:
        """Without a signal."""
        self._last = seed
        self._fill()

    def _read(self, text: str) -> None:
        digits = text.strip()
        if digits and int(digits) != self._last:
            self._last = int(digits)
            self.seedChanged.emit()

    def _fill(self) -> None:
        self.setText(str(self._last))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        steps = {Qt.Key.Key_Up: 1, Qt.Key.Key_Down: -1}.get(Qt.Key(event.key()), 0)
        if steps:
            self.setText(str(max(0, self._last + steps)))
        else:
            super().keyPressEvent(event)
