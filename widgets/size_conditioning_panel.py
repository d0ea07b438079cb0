"""`SizeConditioningPanel`: what SDXL is told about the picture's size and crop."""

from __future__ import annotations

from PySide6.QtCore import QSignalBlocker, Signal
from PySide6.QtWidgets import QWidget

from pipelines.spec.families.base import Family, Feature
from pipelines.spec.request import Size, SizeConditioning
from pipelines.spec.validate import MAX_TOLD_SIDE, Problem
from widgets.controls import NumberField
from widgets.field import Field, column, row
from widgets.metrics import M

_SIDE = " 'as is' tells the picture's own size."
_ORIGINAL = "The {side} the model is told the picture had before it was scaled. Small ones look soft." + _SIDE
_TARGET = "The {side} the model is told the picture has now." + _SIDE
_CROP = "How many pixels the model is told were cut off at the {side}. 0 gives a whole, centred subject."
_FIELD = "size_conditioning"


class SizeConditioningPanel(QWidget):
    """The value is a `SizeConditioning`, its defaults while the family is told of no sizes."""

    valueChanged = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._used = True
        self._original = _sides("Original", _ORIGINAL)
        self._target = _sides("Target", _TARGET)
        self._crop = (
            NumberField("Crop left", _CROP.format(side="left")),
            NumberField("Crop top", _CROP.format(side="top")),
        )
        self._fields = (
            self._field("Original size", self._original, ("original.width", "original.height")),
            self._field("Target size", self._target, ("target.width", "target.height")),
            self._field("Crop from left and top", self._crop, ("crop_left", "crop_top")),
        )
        lines = column(self, M)
        for field in self._fields:
            lines.addWidget(field)
        for box in (*self._original, *self._target, *self._crop):
            box.setRange(0, MAX_TOLD_SIDE)
            box.valueChanged.connect(self._changed)
        self.hide()  # until there is a model that it does something for

    @staticmethod
    def _field(label: str, boxes: tuple[NumberField, NumberField], names: tuple[str, str]) -> Field:
        places = {f"{_FIELD}.{name}": box for name, box in zip(names, boxes, strict=True)}
        return Field(label, row(*boxes), places | {_FIELD: boxes[0]})

    def value(self) -> SizeConditioning:
        if not self._used:
            return SizeConditioning()
        left, top = (box.value() for box in self._crop)
        return SizeConditioning(
            original=_size(self._original), target=_size(self._target), crop_left=left, crop_top=top
        )

    def setValue(self, told: SizeConditioning) -> None:
        _show(self._original, told.original)
        _show(self._target, told.target)
        for box, value in zip(self._crop, (told.crop_left, told.crop_top), strict=True):
            with QSignalBlocker(box):
                box.setValue(value)
        self._changed()

    def set_family(self, family: Family | None) -> None:
        """Hidden where the model is told of no sizes, and without one. What was set stays for one that is."""
        before = self.value()
        self._used = family is None or Feature.SIZE_CONDITIONING in family.supports
        self.setVisible(family is not None and self._used)
        if self.value() != before:
            self._changed()

    def set_problems(self, problems: tuple[Problem, ...]) -> None:
        for field in self._fields:
            field.set_problems(problems)

    def _changed(self) -> None:
        self.valueChanged.emit(self.value())


def _sides(name: str, tip: str) -> tuple[NumberField, NumberField]:
    boxes = tuple(NumberField(f"{name} {side}", tip.format(side=side)) for side in ("width", "height"))
    for box in boxes:
        box.setSpecialValueText("as is")
        box.setSingleStep(64)
    return boxes[0], boxes[1]


def _size(boxes: tuple[NumberField, NumberField]) -> Size | None:
    """One side alone is told of a square."""
    width, height = (box.value() for box in boxes)
    return Size(width=width or height, height=height or width) if width or height else None


def _show(boxes: tuple[NumberField, NumberField], size: Size | None) -> None:
    for box, value in zip(boxes, (size.width, size.height) if size else (0, 0), strict=True):
        with QSignalBlocker(box):
            box.setValue(value)
