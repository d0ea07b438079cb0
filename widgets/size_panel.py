"""`SizePanel`: how many pixels the picture has."""

from __future__ import annotations

from functools import partial

from PySide6.QtCore import QRectF, QSignalBlocker, QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics, QPainter, QPaintEvent, QPalette, QPen
from PySide6.QtWidgets import QApplication, QSizePolicy, QToolButton, QWidget

from pipelines.spec.families.base import SizeRule
from pipelines.spec.request import Size
from pipelines.spec.validate import Problem
from widgets.aspect import ASPECTS, Aspect, fitted, size_of
from widgets.controls import IconButton, NumberField
from widgets.field import Field, column, row
from widgets.metrics import XS, S, TextSize, sized
from widgets.plain import Label, name_control

_WIDEST = 16384  # the spin boxes show what a picture from elsewhere says; validate.py judges it


class SizePanel(QWidget):
    """The value is a `Size` in pixels."""

    valueChanged = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rule, self._native = SizeRule(), 0
        self._width = NumberField("Width", "How many pixels wide the picture is.")
        self._height = NumberField("Height", "How many pixels high the picture is.")
        self._swap = IconButton(
            "swap", "Swap width and height", "Turn an upright picture into a wide one and back."
        )
        self._megapixels = Label("", TextSize.SMALL, muted=True)
        self._megapixels.setToolTip(
            "Megapixels. Twice the pixels take more than twice the time and the memory."
        )
        self._aspects = [AspectButton(aspect) for aspect in ASPECTS]
        self._lay_out()
        self._connect()
        self.set_rule(self._rule, 0)
        self.setValue(Size())

    def _lay_out(self) -> None:
        sides = row(self._width, self._swap, self._height)
        sides.setStretch(0, 1)
        sides.setStretch(2, 1)
        places = {"size.width": self._width, "size.height": self._height, "size": self._width}
        self._field = Field("Size", sides, places, self._megapixels)
        lines = column(self, S)
        lines.addWidget(self._field)
        lines.addLayout(row(*self._aspects, spacing=XS // 2))

    def _connect(self) -> None:
        for side in (self._width, self._height):
            side.setRange(1, _WIDEST)
            side.valueChanged.connect(self._changed)
            side.editingFinished.connect(partial(self._land_on_step, side))
        self._swap.clicked.connect(self.swap)
        for button in self._aspects:
            button.chosen.connect(self._take_aspect)

    def value(self) -> Size:
        return Size(width=self._width.value(), height=self._height.value())

    def setValue(self, size: Size) -> None:
        with QSignalBlocker(self._width), QSignalBlocker(self._height):
            self._width.setValue(size.width)
            self._height.setValue(size.height)
        self._changed()

    def set_rule(self, rule: SizeRule, native: int) -> None:
        """`native` is the side in pixels the model was trained at; 0 takes the rule's. The value stays."""
        self._rule, self._native = rule, native or rule.native
        for side in (self._width, self._height):
            side.setSingleStep(rule.step)
        for button in self._aspects:
            button.set_size(size_of(button.aspect, rule, self._native))
        self._mark_aspect()

    def set_problems(self, problems: tuple[Problem, ...]) -> None:
        self._field.set_problems(problems)

    def swap(self) -> None:
        """Width becomes height and height width."""
        size = self.value()
        self.setValue(Size(width=size.height, height=size.width))

    def _take_aspect(self, aspect: Aspect) -> None:
        self.setValue(size_of(aspect, self._rule, self._native))

    def _land_on_step(self, side: NumberField) -> None:
        side.setValue(fitted(side.value(), self._rule))

    def _changed(self) -> None:
        size = self.value()
        self._megapixels.setText(f"{size.width * size.height / 1e6:.2f} MP")
        self._mark_aspect()
        self.valueChanged.emit(size)

    def _mark_aspect(self) -> None:
        size = self.value()
        for button in self._aspects:
            button.setChecked(button.size_in_pixels == size)


class AspectButton(QToolButton):
    """A small frame of the ratio's shape, with the ratio under it where there is room."""

    chosen = Signal(object)

    def __init__(self, aspect: Aspect) -> None:
        super().__init__()
        self.aspect = aspect
        self.size_in_pixels = Size()
        self.setCheckable(True)
        self.setAutoRaise(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.clicked.connect(self._choose)

    def set_size(self, size: Size) -> None:
        """What this ratio means with the model at hand."""
        self.size_in_pixels = size
        shape = "square" if size.width == size.height else "wide" if size.width > size.height else "upright"
        pixels = f"{size.width} × {size.height} pixels"
        tip = f"A {shape} picture, {self.aspect.name}: {pixels}, about as many as this model was made for."
        name_control(self, f"{self.aspect.name}, {size.width} by {size.height}", tip)

    def _choose(self) -> None:
        self.chosen.emit(self.aspect)

    def sizeHint(self) -> QSize:
        return QSize(34, 26 + self._caption_metrics().height())

    def minimumSizeHint(self) -> QSize:
        return QSize(26, self.sizeHint().height())

    def _caption_metrics(self) -> QFontMetrics:
        return QFontMetrics(sized(QApplication.font(), TextSize.SMALL))

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        with QPainter(self) as painter:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            role = QPalette.ColorRole.Highlight if self.isChecked() else QPalette.ColorRole.PlaceholderText
            painter.setPen(QPen(self.palette().color(role), 1.6))
            longest = max(self.aspect.width, self.aspect.height)
            width, height = 16 * self.aspect.width / longest, 16 * self.aspect.height / longest
            centre = self.rect().center()
            painter.drawRoundedRect(
                QRectF(centre.x() - width / 2 + 0.5, 13 - height / 2, width, height), 2, 2
            )
            metrics = self._caption_metrics()
            if metrics.horizontalAdvance(self.aspect.name) <= self.width() - 2:
                painter.setFont(sized(QApplication.font(), TextSize.SMALL))
                bottom = self.rect().adjusted(0, 24, 0, -2)
                painter.drawText(bottom, Qt.AlignmentFlag.AlignCenter, self.aspect.name)
