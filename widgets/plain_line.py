"""`PlainLine`: one line to type in, with its name and tooltip."""

from __future__ import annotations

from PySide6.QtWidgets import QLineEdit, QWidget

from widgets.plain import name_control


class PlainLine(QLineEdit):
    """`secret`: dots are shown, and input methods and screen readers are told so."""

    def __init__(
        self,
        name: str,
        tooltip: str,
        *,
        placeholder: str = "",
        secret: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        name_control(self, name, tooltip)
        self.setPlaceholderText(placeholder)
        self.setMaxLength(4000)
        if secret:
            self.setEchoMode(QLineEdit.EchoMode.Password)
