"""`WeightsPanel`: in how many bits the weights of the model lie in memory."""

from __future__ import annotations

from PySide6.QtCore import QSignalBlocker, Signal
from PySide6.QtWidgets import QWidget

from pipelines.spec.validate import Problem
from pipelines.spec.weights import WEIGHTS, weights_of
from widgets.controls import Choice
from widgets.field import Field, column
from widgets.plain import plain_tooltip

_TIP = (
    "How many bits each number of the model takes in memory. Fewer bits let a larger model or picture fit; the "
    "picture changes a little, and a step may take longer."
)
_AS_IT_IS = "As in file"


class WeightsPanel(QWidget):
    """The value is a str as in `GenerationRequest.weights`; one that is not known is kept until another is chosen."""

    valueChanged = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._choice = Choice("Weights", _TIP)
        self._choice.addItem(_AS_IT_IS, "")
        for row in WEIGHTS:
            self._choice.addItem(row.title, row.id)
        self._field = Field("Weights", self._choice, {"weights": self._choice})
        column(self).addWidget(self._field)
        self._choice.currentIndexChanged.connect(self._changed)
        self._explain()

    def value(self) -> str:
        return str(self._choice.currentData())

    def setValue(self, weights: str) -> None:
        with QSignalBlocker(self._choice):
            index = self._choice.findData(weights)
            if index < 0:
                self._choice.addItem(weights, weights)
                index = self._choice.count() - 1
            self._choice.setCurrentIndex(index)
        self._changed()

    def set_problems(self, problems: tuple[Problem, ...]) -> None:
        self._field.set_problems(problems)

    def _changed(self) -> None:
        self._explain()
        self.valueChanged.emit(self.value())

    def _explain(self) -> None:
        row = weights_of(self.value())
        self._choice.setToolTip(plain_tooltip(f"{_TIP}\n\n{row.words}" if row else _TIP))
