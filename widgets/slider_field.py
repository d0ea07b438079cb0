"""`SliderRow`: a slider for the common range beside a number box for the whole of it."""

from __future__ import annotations

from PySide6.QtCore import QSignalBlocker, Signal
from PySide6.QtWidgets import QSizePolicy, QWidget

from widgets.controls import DecimalField, NumberField, Slider
from widgets.field import column, row


class SliderRow(QWidget):
    """The box holds the value; the slider shows it in `per_unit` notches a unit and stops at its own ends."""

    valueChanged = Signal()

    def __init__(self, box: NumberField | DecimalField, slider: Slider, per_unit: int = 1) -> None:
        super().__init__()
        self.box, self.slider, self._per_unit = box, slider, per_unit
        box.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        line = row(slider, box)
        line.setStretch(0, 1)
        column(self).addLayout(line)
        self.setFocusProxy(box)
        box.valueChanged.connect(self._box_moved)
        slider.valueChanged.connect(self._slider_moved)

    def set_value(self, value: float) -> None:
        """Without a signal of its own."""
        with QSignalBlocker(self.box):
            self.box.setValue(value)  # pyright: ignore[reportArgumentType] - an int where the box is one
        self._follow()

    def _follow(self) -> None:
        with QSignalBlocker(self.slider):
            self.slider.setValue(round(self.box.value() * self._per_unit))

    def _box_moved(self) -> None:
        self._follow()
        self.valueChanged.emit()

    def _slider_moved(self, notch: int) -> None:
        self.set_value(notch / self._per_unit if self._per_unit > 1 else notch)
        self.valueChanged.emit()
