"""`TokenField`: asks for the token of one of the two sites, when the site asked for it."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from widgets.controls import Check
from widgets.field import Field, column
from widgets.metrics import XS, TextSize
from widgets.plain import Label, name_control
from widgets.plain_line import PlainLine

_TITLES = {"huggingface": "Hugging Face", "civitai": "Civitai"}
_TIP = "It is sent to this site alone, and never written into a log, a picture or a file."


class TokenField(QWidget):
    """Hidden until `ask_for`. `submitted` when Return is pressed in it."""

    submitted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._host = ""
        self._line = PlainLine("Token", _TIP, secret=True)
        self._field = Field("Token", self._line, {"token": self._line})
        self._keep = Check("Keep it in the system keyring")
        name_control(self._keep, "Keep the token", "Otherwise it is forgotten when the program ends.")
        self._keep.setChecked(True)
        self._note = Label("", TextSize.SMALL, muted=True, wrap=True)
        self._note.setVisible(False)
        lines = column(self, XS)
        for each in (self._field, self._keep, self._note):
            lines.addWidget(each)
        self._line.returnPressed.connect(self.submitted)
        self.setVisible(False)

    def ask_for(self, host: str) -> None:
        """`host` 'huggingface' or 'civitai'."""
        self._host = host
        self._field.label.setText(f"Token of {_TITLES.get(host, host)}")
        self._line.setAccessibleName(f"Token of {_TITLES.get(host, host)}")
        self._line.clear()
        self.setVisible(True)

    def set_note(self, note: str) -> None:
        """Why nothing can be kept; '' when it can."""
        self._note.setText(note)
        self._note.setVisible(bool(note))
        self._keep.setChecked(not note)
        self._keep.setEnabled(not note)

    def value(self) -> tuple[str, str, bool]:
        """Host, token and whether it is to be kept; the token is empty when none is asked for or typed."""
        return self._host, self._line.text().strip() if self._host else "", self._keep.isChecked()
