"""`ModelsView`: the table as one sees it, and what the keys do in it."""

from __future__ import annotations

from PySide6.QtCore import QItemSelectionModel, QModelIndex, QSize, Qt, Signal
from PySide6.QtGui import QContextMenuEvent, QKeyEvent, QResizeEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QHeaderView,
    QTableView,
)

from widgets.context_menu import menu_place
from widgets.metrics import ICON, XS, M
from widgets.models_cells import PADDING, ModelsCells
from widgets.models_table import (
    FAMILY,
    FOLDER,
    KIND,
    NAME,
    PRECISION,
    SIZE,
    STAR,
    STATE,
    Index,
    ModelsTable,
)
from widgets.plain import name_control

_TIP = "The models found. Enter draws with the chosen one, Space makes it a favourite, typing searches."
# The longest usual text of each column.
_WIDEST = {
    KIND: "Text encoder",
    FAMILY: "FLUX.1 schnell",
    PRECISION: "Precision ↑",
    SIZE: "999.9 MB",
    STATE: "Not supported",
    FOLDER: "diffusion_models",
}
# A column is put away in a view that is narrower, in pixels.
_ROOM = {
    FOLDER: 860,
    PRECISION: 700,
    SIZE: 640,
    KIND: 480,
}


class ModelsView(QTableView):
    """The signals carry the path of a row, '' for none: as objects, for a path may be no text to Qt."""

    chosen = Signal(object)
    useWanted = Signal(object)
    favouriteWanted = Signal(object)
    menuWanted = Signal(object, object)
    typed = Signal(str)

    def __init__(self, table: ModelsTable) -> None:
        super().__init__()
        self._table = table
        self._path = ""
        name_control(self, "Models", _TIP)
        self.viewport().setToolTip("")  # each cell has its own
        self._shape()
        self.setModel(table)
        self._shape_head()
        table.modelReset.connect(self._find_again)
        self.clicked.connect(self._clicked)
        self.doubleClicked.connect(lambda index: self.useWanted.emit(self._path_at(index)))

    def _shape(self) -> None:
        self.setItemDelegate(ModelsCells(self._table))
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)
        self.setIconSize(QSize(ICON - 2, ICON - 2))
        rows = self.verticalHeader()
        rows.setVisible(False)
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        rows.setDefaultSectionSize(self.fontMetrics().height() + M)

    def _shape_head(self) -> None:
        head = self.horizontalHeader()
        head.setHighlightSections(False)
        head.setSectionsClickable(True)
        head.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        head.setSectionResizeMode(STAR, QHeaderView.ResizeMode.Fixed)
        head.setMinimumSectionSize(2 * ICON)
        head.resizeSection(STAR, 2 * ICON)
        head.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        for column, text in _WIDEST.items():
            mark = ICON if column == STATE else 0
            head.resizeSection(column, self.fontMetrics().horizontalAdvance(text) + mark + 2 * PADDING + XS)
        head.sectionClicked.connect(self._sort)

    def _sort(self, column: int) -> None:
        """A second click turns the order round."""
        up, down = Qt.SortOrder.AscendingOrder, Qt.SortOrder.DescendingOrder
        now, way = self._table.sorting
        first = down if column == SIZE else up  # the biggest are what one looks for
        turned = down if way == up else up
        self._table.sort(column, turned if now == column else first)

    # the chosen row

    def path(self) -> str:
        return self._path

    def choose(self, path: str) -> None:
        """The row comes into view if it is there; else it is chosen once it is."""
        self._path = path
        self._find_again()
        if self.currentIndex().isValid():
            self.scrollTo(self.currentIndex())
        self.chosen.emit(path)

    def _find_again(self) -> None:
        """After a change of the rows the same model is the chosen one."""
        row = self._table.row_of(self._path) if self._path else -1
        index = self._table.index(row, NAME) if row >= 0 else QModelIndex()
        selection = self.selectionModel()
        if selection is None:
            return
        selection.blockSignals(True)
        flags = QItemSelectionModel.SelectionFlag
        selection.setCurrentIndex(index, flags.ClearAndSelect | flags.Rows if row >= 0 else flags.Clear)
        selection.blockSignals(False)
        if row >= 0:
            self.scrollTo(index)
        else:
            self.scrollToTop()
        self.viewport().update()

    def currentChanged(self, current: Index, previous: Index) -> None:
        super().currentChanged(current, previous)
        path = self._path_at(current)
        if path and path != self._path:
            self._path = path
            self.chosen.emit(path)

    def _path_at(self, index: Index) -> str:
        return self._table.entry(index.row()).record.path if index.isValid() else ""

    def _clicked(self, index: QModelIndex) -> None:
        if index.column() == STAR:
            self.favouriteWanted.emit(self._path_at(index))

    # Qt's own events

    def keyPressEvent(self, event: QKeyEvent) -> None:
        path = self._path_at(self.currentIndex())
        plain = not event.modifiers() & ~(
            Qt.KeyboardModifier.ShiftModifier | Qt.KeyboardModifier.KeypadModifier
        )
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and path:
            self.useWanted.emit(path)
        elif event.key() == Qt.Key.Key_Space and path:
            self.favouriteWanted.emit(path)
        elif plain and event.text().isprintable() and event.text().strip():
            self.typed.emit(event.text())
        else:
            super().keyPressEvent(event)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        index, at = menu_place(self, event)
        if index.isValid():
            self.menuWanted.emit(self._path_at(index), at)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        for column, room in _ROOM.items():
            if self.isColumnHidden(column) != (self.width() < room):
                self.setColumnHidden(column, self.width() < room)
