"""`ModelChoices`: the rows of the choice of a model: favourites, what was used last, then all others."""

from __future__ import annotations

from collections.abc import Sequence, Set

from PySide6.QtCore import QAbstractListModel, QModelIndex, QObject, QPersistentModelIndex, Qt
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QApplication

from pipelines.spec.record import ModelRecord
from widgets.metrics import TextSize, sized
from widgets.model_entries import printable
from widgets.plain import plain_tooltip

Role = Qt.ItemDataRole
ID = Role.UserRole
NOTE = Role.UserRole + 1
Index = QModelIndex | QPersistentModelIndex
_NONE = QModelIndex()
FAVOURITES, RECENT, OTHERS = "Favourites", "Used last", "All others"


class ModelChoices(QAbstractListModel):
    """A row is a record, a heading (no id, cannot be chosen), or an id that no record has."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._rows: list[ModelRecord | str] = []
        self._missing = ""
        self._at: dict[str, int] = {}

    def show(
        self,
        records: Sequence[ModelRecord],
        favourites: Set[str] = frozenset(),
        recent: Sequence[str] = (),
        text: str = "",
    ) -> None:
        """`favourites` and `recent` are ids, the newest first; the words of `text` must all be in a row."""
        words = text.casefold().split()
        records = [record for record in records if _has(record, words)] if words else list(records)
        by_id = {record.id: record for record in records}
        stars = [record for record in records if record.id in favourites]
        last = [by_id[each] for each in recent if each in by_id and each not in favourites]
        first = {record.id for record in (*stars, *last)}
        groups = ((FAVOURITES, stars), (RECENT, last), (OTHERS, [r for r in records if r.id not in first]))
        self.beginResetModel()
        self._missing, self._rows = "", []
        for title, group in groups:
            if group and first:
                self._rows.append(title)
            self._rows += group
        self._at = {row.id: at for at, row in enumerate(self._rows) if isinstance(row, ModelRecord)}
        self.endResetModel()

    def add_missing(self, record_id: str) -> int:
        """The row of an id that is in none of the folders."""
        at = self.rowCount()
        self.beginInsertRows(_NONE, at, at)
        self._missing = record_id
        self._at[record_id] = at
        self.endInsertRows()
        return at

    def row_of(self, record_id: str) -> int:
        """-1 for none."""
        return self._at.get(record_id, -1)

    def first_row(self) -> int:
        """The first that can be chosen, -1 for none."""
        usable = (at for at, row in enumerate(self._rows) if isinstance(row, ModelRecord) and not row.problem)
        return next(usable, -1)

    def rowCount(self, parent: Index = _NONE) -> int:
        return 0 if parent.isValid() else len(self._rows) + bool(self._missing)

    def flags(self, index: Index) -> Qt.ItemFlag:
        row = self._row(index)
        chosen = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
        if isinstance(row, ModelRecord):
            return Qt.ItemFlag.ItemIsSelectable if row.problem else chosen
        return Qt.ItemFlag.NoItemFlags if row is not None else chosen

    def data(self, index: Index, role: int = Role.DisplayRole) -> object:
        if not index.isValid():
            return None
        row = self._row(index)
        if row is None:
            return _of_missing(self._missing, role)
        return _of_heading(row, role) if isinstance(row, str) else _of_record(row, role)

    def _row(self, index: Index) -> ModelRecord | str | None:
        at = index.row()
        return self._rows[at] if 0 <= at < len(self._rows) else None


def _has(record: ModelRecord, words: list[str]) -> bool:
    text = f"{record.title}\n{record.id}\n{record.path}".casefold()
    return all(word in text for word in words)


def _of_record(record: ModelRecord, role: int) -> object:
    if role == Role.DisplayRole:
        return printable(record.title or record.id)
    if role == ID:
        return record.id
    if role == NOTE:
        return record.description
    if role == Role.ToolTipRole:
        return plain_tooltip(record.problem or f"{record.title}\n{record.path}")
    return None


def _of_heading(title: str, role: int) -> object:
    if role == Role.DisplayRole:
        return title
    if role == Role.FontRole:
        return sized(QApplication.font(), TextSize.SMALL, bold=True)
    if role == Role.ForegroundRole:
        return QApplication.palette().brush(QPalette.ColorRole.PlaceholderText)
    return None


def _of_missing(record_id: str, role: int) -> object:
    if role == Role.DisplayRole:
        return f"{record_id} (not found)"
    if role == ID:
        return record_id
    if role == Role.ToolTipRole:
        return plain_tooltip(f"The model '{record_id}' is not in any of the model folders.")
    return None
