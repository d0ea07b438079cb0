"""`TrueCfgPanel`: real classifier-free guidance, for models that have guidance distilled into them."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from pipelines.spec.families.base import Family, Feature
from pipelines.spec.validate import Problem
from widgets.controls import DecimalField, Slider
from widgets.field import Field, column
from widgets.slider_field import SliderRow

_TIP = (
    "How strongly the picture is pushed from the negative prompt towards the prompt. 1 is off; above it the negative "
    "prompt works, and each step takes twice the time."
)
OFF = 1.0


class TrueCfgPanel(QWidget):
    """The value is a float, 1 while the family has no use for it."""

    valueChanged = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._used = True
        box = DecimalField("True CFG", _TIP)
        box.setRange(0, 999)  # validate.py says which of them work
        box.setDecimals(4)
        box.setSingleStep(0.5)
        self._scale = SliderRow(box, Slider("True CFG slider", _TIP), per_unit=2)
        self._scale.slider.setRange(2, 20)
        self._field = Field("True CFG", self._scale, {"true_cfg_scale": box})
        column(self).addWidget(self._field)
        self._scale.set_value(OFF)
        self._scale.valueChanged.connect(self._changed)
        self.hide()  # until there is a model that it does something for

    def value(self) -> float:
        return float(self._scale.box.value()) if self._used else OFF

    def setValue(self, scale: float) -> None:
        self._scale.set_value(scale)
        self._changed()

    def set_family(self, family: Family | None) -> None:
        """Hidden, and off, where guidance is no input of the model; hidden while there is none. What was set stays."""
        before = self.value()
        self._used = family is None or Feature.TRUE_CFG in family.supports
        self.setVisible(family is not None and self._used)
        if self.value() != before:
            self._changed()

    def set_problems(self, problems: tuple[Problem, ...]) -> None:
        self._field.set_problems(problems)

    def _changed(self) -> None:
        self.valueChanged.emit(self.value())
