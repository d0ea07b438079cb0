"""`ModelPanel`: which model draws."""

from __future__ import annotations

from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtGui import QStandardItem, QStandardItemModel
from PySide6.QtWidgets import QWidget

from pipelines.spec.record import ModelRecord
from pipelines.spec.validate import Problem
from widgets.controls import Choice
from widgets.field import Field, column
from widgets.metrics import XS, TextSize
from widgets.plain import Label, plain_tooltip

_TIP = "The model that draws the picture. Each was trained on other pictures and has its own style."
_ID = Qt.ItemDataRole.UserRole
_NOTE = Qt.ItemDataRole.UserRole + 1


class ModelPanel(QWidget):
    """The value is the id of a `ModelRecord`, also of one that is not in the list; '' while there is none."""

    valueChanged = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._choice = Choice("Model", _TIP)
        self._rows = QStandardItemModel(self)
        self._choice.setModel(self._rows)
        self._choice.setPlaceholderText("No model found")
        self._field = Field("Model", self._choice, {"model": self._choice})
        self._note = Label("", TextSize.SMALL, muted=True, wrap=True)
        lines = column(self, XS)
        lines.addWidget(self._field)
        lines.addWidget(self._note)
        self._show_note()
        self._choice.currentIndexChanged.connect(self._changed)

    def value(self) -> str:
        return self._choice.currentData(_ID) or ""

    def setValue(self, record_id: str) -> None:
        with QSignalBlocker(self._choice):
            self._select(record_id)
        self._changed()

    def set_records(self, records: tuple[ModelRecord, ...]) -> None:
        """Keeps the choice; with none yet, takes the first record that can be used."""
        before = self.value()
        with QSignalBlocker(self._choice):
            self._rows.clear()
            for record in records:
                self._rows.appendRow(_row_of(record))
            usable = next((r.id for r in records if not r.problem), "")
            self._select(before or usable)
        self._show_note()
        if self.value() != before:
            self._changed()

    def set_problems(self, problems: tuple[Problem, ...]) -> None:
        self._field.set_problems(problems)

    def _select(self, record_id: str) -> None:
        at = self._choice.findData(record_id, _ID) if record_id else -1
        if at < 0 and record_id:
            self._rows.appendRow(_missing_row(record_id))
            at = self._rows.rowCount() - 1
        self._choice.setCurrentIndex(at)

    def _changed(self) -> None:
        self._show_note()
        self.valueChanged.emit(self.value())

    def _show_note(self) -> None:
        note = self._choice.currentData(_NOTE) or ""
        self._note.setText(note)
        self._note.setVisible(bool(note))
        title = self._choice.currentText()
        self._choice.setToolTip(plain_tooltip(f"{_TIP}\n\n{title}" if title else _TIP))


def _row_of(record: ModelRecord) -> QStandardItem:
    item = QStandardItem(record.title or record.id)
    item.setData(record.id, _ID)
    item.setData(record.description, _NOTE)
    item.setToolTip(plain_tooltip(record.problem or f"{record.title}\n{record.path}"))
    item.setEnabled(not record.problem)
    return item


def _missing_row(record_id: str) -> QStandardItem:
    item = QStandardItem(f"{record_id} (not found)")
    item.setData(record_id, _ID)
    item.setToolTip(plain_tooltip(f"The model '{record_id}' is not in any of the model folders."))
    return item
