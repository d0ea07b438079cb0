"""`ModelsTable`: thousands of models as rows, sorted and filtered at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt, Signal
from PySide6.QtGui import QIcon, QPalette

from pipelines.spec.model_note import NO_NOTE, ModelNote
from pipelines.spec.record import State
from widgets.icons import icon
from widgets.metrics import TONE_ROLES
from widgets.model_entries import Entry, Listed, ModelFilter, Shown, filtered
from widgets.model_texts import STATE_MARKS
from widgets.plain import plain_tooltip

Role = Qt.ItemDataRole
Index = QModelIndex | QPersistentModelIndex
_NONE = QModelIndex()


@dataclass(frozen=True, slots=True)
class Column:
    """`key` of the entries' lists sorts; what is equal stays in order of the names. `tip` stands at the head."""

    title: str
    tip: str
    text: Callable[[Entry], str]
    key: str


COLUMNS = (
    Column("", "Favourites. Click a star, or press Space, to add or remove one.", lambda e: "", ""),
    Column("Name", "The title that the model's maker gave it, or its file's name.", lambda e: e.name, "name"),
    Column("Kind", "What it is: a model that draws, or what goes with one.", lambda e: e.kind, "kind"),
    Column("Family", "The kind of models that it is one of, or goes with.", lambda e: e.family, "family"),
    Column("Precision", "How its numbers are stored.", lambda e: e.precision, "precision"),
    Column("Size", "On disk.", lambda e: e.size, "size"),
    Column("State", "Whether it can be used here.", lambda e: e.state, "state"),
    Column("Folder", "The folder that it lies in.", lambda e: e.folder, "folder"),
)  # fmt: skip
STAR, NAME, KIND, FAMILY, PRECISION, SIZE, STATE, FOLDER = range(len(COLUMNS))
MUTED = (KIND, PRECISION, SIZE, FOLDER)


class ModelsTable(QAbstractTableModel):
    """`changed` carries what is shown, after each change of the rows."""

    changed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._listed = Listed()
        self._notes: Mapping[str, ModelNote] = {}
        self._favourites: set[str] = set()
        self._filter = ModelFilter()
        self._column, self._way = NAME, Qt.SortOrder.AscendingOrder
        self._order: list[int] = []
        self._icons: dict[bool | State, QIcon] = {
            True: icon("star-full", QPalette.ColorRole.Highlight),
            False: icon("star", QPalette.ColorRole.PlaceholderText),
            **{state: icon(drawing, TONE_ROLES[tone]) for state, (drawing, tone) in STATE_MARKS.items()},
        }
        self.shown = Shown()

    # what is in it

    def set_entries(self, listed: Listed) -> None:
        self._listed = listed
        self._sort()
        self._show()

    def set_notes(self, notes: Mapping[str, ModelNote]) -> None:
        """By path."""
        before, self._notes = self._favourites, notes
        self._favourites = {path for path, note in notes.items() if note.favourite}
        if self._favourites == before:
            return
        if self._filter.favourites or self._column == STAR:
            self._sort()
            self._show()
        elif self.shown.rows:
            last = self.rowCount() - 1
            self.dataChanged.emit(self.index(0, STAR), self.index(last, STAR), [Role.DecorationRole])

    def set_filter(self, wanted: ModelFilter) -> None:
        if wanted != self._filter:
            self._filter = wanted
            self._show()

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        if (column, order) != (self._column, self._way):
            self._column, self._way = column, order
            self._sort()
            self._show()

    @property
    def sorting(self) -> tuple[int, Qt.SortOrder]:
        return self._column, self._way

    def _sort(self) -> None:
        down = self._way == Qt.SortOrder.DescendingOrder
        self._order = list(self._listed.by_name)
        if self._column != NAME:
            self._order.sort(key=self._keys_of(self._column).__getitem__, reverse=down)
        elif down:
            self._order.reverse()

    def _keys_of(self, column: int) -> Sequence[Any]:
        if column == STAR:
            return [path not in self._favourites for path in self._listed.paths]
        return self._listed.keys[COLUMNS[column].key]

    def _show(self) -> None:
        self.beginResetModel()
        self.shown = filtered(self._listed, self._order, self._filter, self._favourites)
        self.endResetModel()
        self.changed.emit(self.shown)

    # what is asked of it

    def entry(self, row: int) -> Entry:
        return self._listed.entries[self.shown.rows[row]]

    def entry_at(self, path: str) -> Entry | None:
        """Also of one that is not shown now."""
        at = self._listed.places.get(path)
        return None if at is None else self._listed.entries[at]

    def row_of(self, path: str) -> int:
        """-1 when it is not shown."""
        at = self._listed.places.get(path)
        try:
            return -1 if at is None else self.shown.rows.index(at)
        except ValueError:
            return -1

    def note(self, path: str) -> ModelNote:
        return self._notes.get(path, NO_NOTE)

    def is_favourite(self, path: str) -> bool:
        return path in self._favourites

    @property
    def total(self) -> int:
        return len(self._listed.entries)

    def rowCount(self, parent: Index = _NONE) -> int:
        return 0 if parent.isValid() else len(self.shown.rows)

    def columnCount(self, parent: Index = _NONE) -> int:
        return 0 if parent.isValid() else len(COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Role.DisplayRole) -> object:
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role == Role.DisplayRole:
            mark = "" if section != self._column else " ↓" if self._is_down() else " ↑"
            return COLUMNS[section].title + mark
        if role == Role.ToolTipRole:
            return plain_tooltip(f"{COLUMNS[section].tip}\nClick to sort.")
        if role == Role.DecorationRole and section == STAR:
            return self._icons[False]
        if role == Role.TextAlignmentRole:
            return _alignment(section)
        return None

    def _is_down(self) -> bool:
        return self._way == Qt.SortOrder.DescendingOrder

    def data(self, index: Index, role: int = Role.DisplayRole) -> object:
        if not index.isValid():
            return None
        entry, column = self.entry(index.row()), index.column()
        if role == Role.DisplayRole:
            return COLUMNS[column].text(entry)
        if role == Role.DecorationRole:
            return self._drawing(entry, column)
        if role == Role.TextAlignmentRole:
            return _alignment(column)
        if role == Role.ToolTipRole:
            return _tip(entry, column)
        if role == Role.AccessibleTextRole and column == STAR:
            return "favourite" if entry.record.path in self._favourites else "not a favourite"
        return None

    def _drawing(self, entry: Entry, column: int) -> object:
        if column == STAR:
            return self._icons[entry.record.path in self._favourites]
        return self._icons[entry.record.state] if column == STATE else None


def _alignment(column: int) -> Qt.AlignmentFlag:
    side = Qt.AlignmentFlag.AlignRight if column == SIZE else Qt.AlignmentFlag.AlignLeft
    return side | Qt.AlignmentFlag.AlignVCenter


def _tip(entry: Entry, column: int) -> str:
    if column == STAR:
        return COLUMNS[STAR].tip
    if column == STATE and entry.record.problem:
        return plain_tooltip(entry.record.problem)
    return plain_tooltip(f"{entry.name}\n{entry.record.path}")
