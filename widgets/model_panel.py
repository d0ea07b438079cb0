"""`ModelPanel`: which model draws."""

from __future__ import annotations

from collections.abc import Sequence, Set

from PySide6.QtCore import QSignalBlocker, Signal
from PySide6.QtWidgets import QWidget

from pipelines.spec.record import ModelRecord
from pipelines.spec.validate import Problem
from widgets.controls import IconButton
from widgets.field import Field, column, row
from widgets.metrics import XS, TextSize
from widgets.model_choice import ModelChoice
from widgets.model_choices import ID, NOTE
from widgets.plain import ElidedLabel, plain_tooltip

_TIP = "The model that draws the picture. Each was trained on other pictures and has its own style. Type to search."
_BROWSE_TIP = "See all models, what they are and why one cannot be used. (Ctrl+M)"


class ModelPanel(QWidget):
    """The value is the id of a `ModelRecord`, also of one that is not in the list; '' while there is none."""

    valueChanged = Signal(object)
    browseRequested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._choice = ModelChoice("Model", _TIP)
        self._rows = self._choice.rows
        self._choice.setPlaceholderText("No model found")
        self._browse = IconButton("cards", "All models", _BROWSE_TIP)
        line = row(self._choice, self._browse, spacing=XS)
        line.setStretch(0, 1)
        self._field = Field("Model", line, {"model": self._choice})
        self._note = ElidedLabel("", TextSize.SMALL, muted=True)
        self._records: tuple[ModelRecord, ...] = ()
        self._favourites: Set[str] = frozenset()
        self._recent: Sequence[str] = ()
        lines = column(self, XS)
        lines.addWidget(self._field)
        lines.addWidget(self._note)
        self._show_note()
        self._choice.currentIndexChanged.connect(self._changed)
        self._browse.clicked.connect(self.browseRequested)

    def value(self) -> str:
        return self._choice.currentData(ID) or ""

    def setValue(self, record_id: str) -> None:
        with QSignalBlocker(self._choice):
            self._select(record_id)
        self._changed()

    def set_records(self, records: tuple[ModelRecord, ...]) -> None:
        """Keeps the choice; with none yet, takes the first record that can be used."""
        before = self.value()
        self._records = records
        usable = next((r.id for r in records if not r.problem), "")
        self._fill(before or usable)
        self._show_note()
        if self.value() != before:
            self._changed()

    def set_preferred(self, favourites: Set[str], recent: Sequence[str]) -> None:
        """Ids of records that come first, the newest of `recent` first; the choice stays."""
        if (favourites, recent) != (self._favourites, self._recent):
            self._favourites, self._recent = favourites, recent
            self._fill(self.value())

    def set_problems(self, problems: tuple[Problem, ...]) -> None:
        self._field.set_problems(problems)

    def _fill(self, record_id: str) -> None:
        with QSignalBlocker(self._choice):
            self._choice.show_models(self._records, self._favourites, self._recent)
            self._select(record_id)

    def _select(self, record_id: str) -> None:
        at = self._rows.row_of(record_id) if record_id else -1
        if at < 0 and record_id:
            at = self._rows.add_missing(record_id)
        self._choice.setCurrentIndex(at)

    def _changed(self) -> None:
        self._show_note()
        self.valueChanged.emit(self.value())

    def _show_note(self) -> None:
        note = self._choice.currentData(NOTE) or ""
        self._note.setText(note)
        self._note.setVisible(bool(note))
        title = self._choice.currentText()
        self._choice.setToolTip(plain_tooltip(f"{_TIP}\n\n{title}" if title else _TIP))
