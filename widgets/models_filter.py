"""`ModelsFilterBar`: search, kind, family, state and favourites; its value is a `ModelFilter`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import QRectF, QSignalBlocker, Qt, Signal
from PySide6.QtGui import QKeyEvent, QPainter, QPaintEvent, QPalette
from PySide6.QtWidgets import QLineEdit, QSizePolicy, QWidget

from pipelines.spec.record import Kind, State
from widgets.controls import Choice, IconButton
from widgets.field import row
from widgets.icons import paint_icon
from widgets.metrics import XS, S
from widgets.model_entries import ModelFilter, Shown
from widgets.model_texts import KINDS, STATES
from widgets.plain import name_control

_SEARCH_TIP = (
    "Words that the name, file, folder, family or a trigger word has in it. Esc empties it. (Ctrl+F)"
)

_GLASS = 16


class SearchField(QLineEdit):
    """Esc empties it, and goes on to the window when it is empty; the arrow down goes to the list."""

    left = Signal()
    entered = Signal()

    def __init__(self, name: str, tooltip: str, placeholder: str) -> None:
        super().__init__()
        name_control(self, name, tooltip)
        self.setPlaceholderText(placeholder)
        self.setMaxLength(200)
        self.setTextMargins(_GLASS + XS, 0, 0, 0)
        self.setClearButtonEnabled(False)  # Qt's button has no name; Esc does it

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        left = S if self.isLeftToRight() else self.width() - _GLASS - S
        with QPainter(self) as painter:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            place = QRectF(left, (self.height() - _GLASS) / 2, _GLASS, _GLASS)
            paint_icon(
                painter, "search", place, self.palette().color(QPalette.ColorRole.PlaceholderText).name()
            )

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape and self.text():
            self.clear()
        elif event.key() == Qt.Key.Key_Escape:
            event.ignore()
        elif event.key() in (Qt.Key.Key_Down, Qt.Key.Key_PageDown):
            self.left.emit()
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.entered.emit()
        else:
            super().keyPressEvent(event)


class ModelsFilterBar(QWidget):
    """The family is chosen in a list beside the table; where there is no room for that list, here."""

    valueChanged = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._family = ""
        self.search = SearchField("Search models", _SEARCH_TIP, "Search models")
        self.search.setMinimumWidth(110)
        self.search.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._kind = Choice("Kind", "Show models that draw, or one kind of what goes with them.")
        self._families = Choice("Family", "Show what is of one family, or goes with it.")
        self._state = Choice("State", "Show what is ready, or what cannot be used and why not.")
        self._stars = IconButton("star", "Favourites only", "Show only what you marked with a star.")
        self._stars.setCheckable(True)
        line = row(self.search, self._kind, self._families, self._state, self._stars, spacing=S)
        for at, stretch in enumerate((2, 1, 1, 1)):  # where there is room a choice shows its count as well
            line.setStretch(at, stretch)
        self.setLayout(line)
        self._families.setVisible(False)
        for choice in (self._kind, self._families, self._state):
            choice.setMinimumContentsLength(10)
        self.show_counts(Shown())
        self.search.textChanged.connect(self._changed)
        self._kind.currentIndexChanged.connect(self._changed)
        self._state.currentIndexChanged.connect(self._changed)
        self._families.currentIndexChanged.connect(self._family_chosen)
        self._stars.toggled.connect(self._changed)

    def value(self) -> ModelFilter:
        kind, state = self._kind.currentData(), self._state.currentData()  # Qt makes plain text of them
        return ModelFilter(
            text=self.search.text(),
            kind=Kind(kind) if kind else None,
            family=self._family,
            state=State(state) if state else None,
            favourites=self._stars.isChecked(),
        )

    def setValue(self, wanted: ModelFilter) -> None:
        blockers = [QSignalBlocker(each) for each in (self.search, self._kind, self._state, self._stars)]
        self.search.setText(wanted.text)
        _select(self._kind, wanted.kind, KINDS)
        _select(self._state, wanted.state, STATES)
        self._stars.setChecked(wanted.favourites)
        del blockers
        self.set_family(wanted.family)
        self._changed()

    def set_family(self, family: str) -> None:
        """'' for all. Says nothing when it is chosen already."""
        if family != self._family:
            self._family = family
            with QSignalBlocker(self._families):
                _select(self._families, family, {family: family})
            self._changed()

    def show_families(self, visible: bool) -> None:
        self._families.setVisible(visible)

    def show_counts(self, shown: Shown) -> None:
        """How many each choice would show; what is chosen stays in the list, also with none."""
        _fill(self._kind, "All kinds", shown.kinds, KINDS)
        _fill(self._state, "All states", shown.states, STATES)
        names = {name: name for name in sorted(shown.families, key=str.casefold)}
        _fill(self._families, "All families", shown.families, names, self._family)

    def _family_chosen(self) -> None:
        self._family = self._families.currentData() or ""
        self._changed()

    def _changed(self) -> None:
        self.valueChanged.emit(self.value())


def _fill(
    choice: Choice, all_text: str, counts: Mapping[Any, int], names: Mapping[Any, str], now: Any = None
) -> None:
    now = choice.currentData() or now
    rows: list[tuple[str, Any]] = [(all_text, None)]
    rows += [
        (f"{name} ({counts[key]:,})", key) for key, name in names.items() if counts.get(key) or key == now
    ]
    with QSignalBlocker(choice):
        choice.clear()
        for text, key in rows:
            choice.addItem(text, key)
        choice.setCurrentIndex(next((at for at, (_, key) in enumerate(rows) if key == now), 0))


def _select(choice: Choice, key: Any, names: Mapping[Any, str]) -> None:
    """A choice that has no row yet gets one."""
    at = next((at for at in range(choice.count()) if choice.itemData(at) == (key or None)), -1)
    if at < 0 and key:
        choice.addItem(names[key], key)
        at = choice.count() - 1
    choice.setCurrentIndex(max(at, 0))
