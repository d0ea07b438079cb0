"""`FamilyList`: the models by family, with how many there are of each."""

from __future__ import annotations

from collections.abc import Mapping

from PySide6.QtCore import QModelIndex, QSignalBlocker, QSize, Qt, Signal
from PySide6.QtGui import QPainter, QPalette
from PySide6.QtWidgets import QListWidget, QListWidgetItem, QStyledItemDelegate, QStyleOptionViewItem, QWidget

from widgets.metrics import S, TextSize, sized
from widgets.plain import name_control, plain_tooltip

_FAMILY = Qt.ItemDataRole.UserRole
_COUNT = Qt.ItemDataRole.UserRole + 1
_TIP = "The families of models. Choose one to see only its models and what goes with them."


class FamilyList(QListWidget):
    """The value is the name of a family, '' for all."""

    valueChanged = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        name_control(self, "Families", _TIP)
        self.viewport().setToolTip("")
        self.setItemDelegate(_WithCount(self))
        self.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.currentRowChanged.connect(lambda _row: self.valueChanged.emit(self.value()))
        self.show_counts({}, "")

    def value(self) -> str:
        item = self.currentItem()
        return item.data(_FAMILY) if item is not None else ""

    def setValue(self, family: str) -> None:
        row = next((at for at in range(self.count()) if self.item(at).data(_FAMILY) == family), 0)
        self.setCurrentRow(row)

    def show_counts(self, counts: Mapping[str, int], chosen: str) -> None:
        """The families with the most models first; the chosen one stays, also without any."""
        names = sorted(
            counts.keys() | ({chosen} - {""}), key=lambda name: (-counts.get(name, 0), name.casefold())
        )
        rows = [("", "All families", sum(counts.values()))]
        rows += [(name, name, counts.get(name, 0)) for name in names]
        with QSignalBlocker(self):
            while self.count() > len(rows):
                self.takeItem(self.count() - 1)
            for at, (family, text, count) in enumerate(rows):
                if at >= self.count():
                    self.addItem(QListWidgetItem())
                item = self.item(at)
                item.setText(text)
                item.setData(_FAMILY, family)
                item.setData(_COUNT, f"{count:,}")
                item.setToolTip(plain_tooltip(f"{text}: {count:,}"))
            self.setCurrentRow(next(at for at, row in enumerate(rows) if row[0] == chosen))

    def sizeHint(self) -> QSize:
        return QSize(180, 200)


class _WithCount(QStyledItemDelegate):
    """The name on the left, cut where the count on the right begins."""

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:  # pyright: ignore
        count = str(index.data(_COUNT))
        font = sized(option.font, TextSize.SMALL)  # pyright: ignore
        super().paint(painter, option, index)
        painter.save()
        painter.setFont(font)
        painter.setPen(option.palette.color(QPalette.ColorRole.PlaceholderText))  # pyright: ignore
        place = option.rect.adjusted(0, 0, -S, 0)  # pyright: ignore
        painter.drawText(place, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, count)
        painter.restore()

    def initStyleOption(self, option: QStyleOptionViewItem, index: QModelIndex) -> None:  # pyright: ignore
        super().initStyleOption(option, index)
        count = str(index.data(_COUNT))
        metrics = option.fontMetrics  # pyright: ignore
        room = option.rect.width() - metrics.horizontalAdvance(count) - 4 * S  # pyright: ignore
        if room > 0:
            option.text = metrics.elidedText(option.text, Qt.TextElideMode.ElideRight, room)  # pyright: ignore
