"""`ModelChoice`: a combo box that opens a list with a search, as there may be thousands of models."""

from __future__ import annotations

from collections.abc import Sequence, Set
from functools import cached_property

from PySide6.QtCore import QModelIndex, QPoint, QRect, QSize, Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QFrame, QListView, QWidget

from pipelines.spec.record import ModelRecord
from widgets.controls import Choice
from widgets.field import column
from widgets.metrics import XS, S
from widgets.model_choices import ID, ModelChoices
from widgets.models_filter import SearchField
from widgets.plain import name_control

_LEAST_WIDTH, _LINES = 380, 14
_SEARCH_TIP = "Words of the name, file or folder. Enter takes the first, the arrows choose another."


class ModelChoice(Choice):
    """Typing opens the list with what was typed in its search. The names of models differ at their ends."""

    ELIDE = Qt.TextElideMode.ElideMiddle

    def __init__(self, name: str, tooltip: str, parent: QWidget | None = None) -> None:
        super().__init__(name, tooltip, parent)
        self.rows = ModelChoices(self)
        self.setModel(self.rows)
        self._records: Sequence[ModelRecord] = ()
        self._favourites: Set[str] = frozenset()
        self._recent: Sequence[str] = ()

    @cached_property
    def popup(self) -> ModelPopup:
        """Made when it is first opened: a start need not wait for it."""
        popup = ModelPopup(self)
        popup.picked.connect(self._picked)
        return popup

    def show_models(
        self, records: Sequence[ModelRecord], favourites: Set[str], recent: Sequence[str]
    ) -> None:
        """The caller chooses a row anew."""
        self._records, self._favourites, self._recent = records, favourites, recent
        self.rows.show(records, favourites, recent)

    def fill_popup(self, text: str) -> None:
        """Fills the list of the popup."""
        self.popup.rows.show(self._records, self._favourites, self._recent, text)

    def showPopup(self) -> None:
        if not self._records:
            return
        self.popup.open_at(self, self.currentData(ID) or "")

    def hidePopup(self) -> None:
        if "popup" in vars(self):
            self.popup.hide()
        super().hidePopup()

    def _picked(self, record_id: str) -> None:
        self.setCurrentIndex(self.rows.row_of(record_id))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        held = event.modifiers() & ~(Qt.KeyboardModifier.ShiftModifier | Qt.KeyboardModifier.KeypadModifier)
        if event.text().isprintable() and event.text().strip() and not held:
            self.showPopup()
            self.popup.search.setText(event.text())
        else:
            super().keyPressEvent(event)


class ModelPopup(QFrame):
    """`picked` carries the id. Esc or a click elsewhere puts it away."""

    picked = Signal(str)

    def __init__(self, choice: ModelChoice) -> None:
        super().__init__(choice, Qt.WindowType.Popup)
        self._choice = choice
        self.rows = ModelChoices(self)
        self.search = SearchField("Search models", _SEARCH_TIP, "Search models")
        self.list = QListView()
        name_control(self.list, "Models", "The models that can draw. Enter takes the marked one.")
        self.list.viewport().setToolTip("")
        self.list.setModel(self.rows)
        self.list.setUniformItemSizes(True)
        self.list.setLayoutMode(QListView.LayoutMode.SinglePass)
        self.list.setFrameShape(QFrame.Shape.NoFrame)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.list.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        lines = column(self, XS)
        lines.setContentsMargins(S, S, S, S)
        lines.addWidget(self.search)
        lines.addWidget(self.list, 1)
        self.search.textChanged.connect(self._find)
        self.search.left.connect(lambda: self._step(1))
        self.search.entered.connect(lambda: self._take(self.list.currentIndex()))
        self.list.clicked.connect(self._take)
        self.list.activated.connect(self._take)

    def open_at(self, widget: QWidget, record_id: str) -> None:
        """Below `widget`, above it where there is no room below."""
        self.search.clear()
        self._choice.fill_popup("")
        self._mark(self.rows.row_of(record_id))
        self.setGeometry(_place(widget, self._size(widget)))
        self.show()
        self.search.setFocus(Qt.FocusReason.PopupFocusReason)

    def _size(self, widget: QWidget) -> QSize:
        line = self.list.sizeHintForRow(0) if self.rows.rowCount() else 24
        height = min(self.rows.rowCount(), _LINES) * max(line, 20) + self.search.sizeHint().height() + 4 * S
        return QSize(max(widget.width(), _LEAST_WIDTH), height)

    def _find(self, text: str) -> None:
        self._choice.fill_popup(text)
        self._mark(self.rows.first_row())

    def _mark(self, row: int) -> None:
        index = self.rows.index(row, 0) if row >= 0 else QModelIndex()
        self.list.setCurrentIndex(index)
        if row >= 0:
            self.list.scrollTo(index)

    def _step(self, way: int) -> None:
        """To the next one that can be chosen, past headings."""
        row = self.list.currentIndex().row() + way
        while 0 <= row < self.rows.rowCount():
            if self.rows.flags(self.rows.index(row, 0)) & Qt.ItemFlag.ItemIsEnabled:
                self._mark(row)
                return
            row += way

    def _take(self, index: QModelIndex) -> None:
        if index.isValid() and self.rows.flags(index) & Qt.ItemFlag.ItemIsEnabled:
            self.hide()
            self.picked.emit(str(index.data(ID)))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.hide()
        elif event.key() == Qt.Key.Key_Up:
            self._step(-1)
        else:
            super().keyPressEvent(event)


def _place(widget: QWidget, size: QSize) -> QRect:
    room = widget.screen().availableGeometry()
    corner = widget.mapToGlobal(QPoint(0, widget.height()))
    if corner.y() + size.height() > room.bottom():
        above = widget.mapToGlobal(QPoint(0, 0)).y() - size.height()
        corner.setY(above if above >= room.top() else max(room.top(), room.bottom() - size.height()))
    corner.setX(max(room.left(), min(corner.x(), room.right() - size.width())))
    return QRect(corner, size)
