"""`CountPanel`: how many pictures one Generate makes."""

from __future__ import annotations

from PySide6.QtCore import QSignalBlocker, Signal
from PySide6.QtWidgets import QWidget

from pipelines.spec.validate import MAX_COUNT, Problem
from widgets.controls import NumberField, Slider
from widgets.field import Field, column
from widgets.slider_field import SliderRow

_TIP = "How many pictures one Generate makes, each with the next seed, so each is another one."


class CountPanel(QWidget):
    """The value is an int."""

    valueChanged = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._count = SliderRow(NumberField("Pictures", _TIP), Slider("Pictures slider", _TIP))
        self._count.box.setRange(0, 9999)  # validate.py says which of them work
        self._count.slider.setRange(1, min(16, MAX_COUNT))
        self._field = Field("Pictures", self._count, {"count": self._count.box})
        column(self).addWidget(self._field)
        self.setValue(1)
        self._count.valueChanged.connect(self._changed)

    def value(self) -> int:
        return int(self._count.box.value())

    def setValue(self, count: int) -> None:
        with QSignalBlocker(self._count):
            self._count.set_value(count)
        self._changed()

    def set_problems(self, problems: tuple[Problem, ...]) -> None:
        self._field.set_problems(problems)

    def _changed(self) -> None:
        self.valueChanged.emit(self.value())
