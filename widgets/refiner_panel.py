"""`RefinerPanel`: a second model that finishes the picture."""

from __future__ import annotations

from PySide6.QtCore import QSignalBlocker, Signal
from PySide6.QtWidgets import QWidget

from pipelines.spec.families.base import Family, Feature
from pipelines.spec.record import ModelRecord
from pipelines.spec.refining import refiner_family
from pipelines.spec.request import Refiner
from pipelines.spec.validate import Problem
from widgets.controls import Choice, DecimalField, NumberField, Slider
from widgets.field import Field, column
from widgets.metrics import M
from widgets.prompt_edit import PromptEdit
from widgets.slider_field import SliderRow

_TIP = "A second model that draws the last steps. It brings out fine detail; it needs memory for both."
_AT_TIP = "From which part of the steps on the refiner draws: 0 is all of them, 1 none."
_STEPS_TIP = "How many steps the whole schedule has for the refiner. 'same' takes those above."
_PROMPT_TIP = "What the refiner is asked to draw. Empty takes the prompt above."
_SCORE_TIP = "How beautiful the pictures are that the refiner should come near to, 0 to 10."
_LOW_TIP = "How beautiful the pictures are that the refiner should keep away from, 0 to 10."
_DEFAULT = Refiner(model="")
_HUNDREDTHS = 100


class RefinerPanel(QWidget):
    """The value is a `Refiner`, or None. Shows the models that can finish this family's pictures."""

    valueChanged = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._family: Family | None = None
        self._records: tuple[ModelRecord, ...] = ()
        self._used = True
        self._make_controls()
        self._make_fields()
        self._fill("")
        self._show_numbers(_DEFAULT)
        self._show_fields()
        self._connect()
        self.hide()  # until there is a model that it does something for

    def _make_controls(self) -> None:
        self._model = Choice("Refiner", _TIP)
        at = DecimalField("Refiner switch at", _AT_TIP)
        at.setRange(0, 9)  # validate.py says which of them work
        at.setDecimals(4)
        at.setSingleStep(0.05)
        self._at = SliderRow(at, Slider("Refiner switch slider", _AT_TIP), per_unit=_HUNDREDTHS)
        self._at.slider.setRange(0, _HUNDREDTHS)
        self._steps = NumberField("Refiner steps", _STEPS_TIP)
        self._steps.setRange(0, 9999)
        self._steps.setSpecialValueText("same")
        self._prompt = PromptEdit("Refiner prompt", _PROMPT_TIP, least=2, most=8)
        self._prompt.setPlaceholderText("The same prompt")
        self._score = _score_field("Aesthetic score", _SCORE_TIP)
        self._low = _score_field("Negative aesthetic score", _LOW_TIP)

    def _make_fields(self) -> None:
        self._head = Field("Refiner", self._model, {"refiner.model": self._model, "refiner": self._model})
        self._details = (
            Field("Switch at", self._at, {"refiner.switch_at": self._at.box}),
            Field("Refiner steps", self._steps, {"refiner.num_inference_steps": self._steps}),
            Field("Refiner prompt", self._prompt, {"refiner.prompt": self._prompt}),
        )
        self._scores = (
            Field("Aesthetic score", self._score, {"refiner.aesthetic_score": self._score}),
            Field("Negative aesthetic score", self._low, {"refiner.negative_aesthetic_score": self._low}),
        )
        lines = column(self, M)
        for field in (self._head, *self._details, *self._scores):
            lines.addWidget(field)

    def _connect(self) -> None:
        self._model.currentIndexChanged.connect(self._chosen)
        self._prompt.textChanged.connect(self._changed)
        self._at.valueChanged.connect(self._changed)
        for box in (self._steps, self._score, self._low):
            box.valueChanged.connect(self._changed)

    def value(self) -> Refiner | None:
        model = self._model.currentData() if self._used else ""
        if not model:
            return None
        return Refiner(
            model=model,
            switch_at=float(self._at.box.value()),
            num_inference_steps=self._steps.value() or None,
            prompt=self._prompt.toPlainText() or None,
            aesthetic_score=self._score.value(),
            negative_aesthetic_score=self._low.value(),
        )

    def setValue(self, refiner: Refiner | None) -> None:
        self._fill(refiner.model if refiner else "")
        if refiner:
            self._show_numbers(refiner)
        self._chosen()

    def set_records(self, records: tuple[ModelRecord, ...]) -> None:
        """The models there are; the choice stays, also one that is not there any more."""
        self._records = records
        self._fill(self._model.currentData() or "")
        self._show_fields()

    def set_family(self, family: Family | None) -> None:
        """Hidden where nothing can be refined, and without a model. What was set stays for a family where it can."""
        before = self.value()
        self._family = family
        self._used = family is None or Feature.REFINER in family.supports
        self.setVisible(family is not None and self._used)
        if self._used:
            self._fill(self._model.currentData() or "")
            self._show_fields()
        if self.value() != before:
            self._changed()

    def set_problems(self, problems: tuple[Problem, ...]) -> None:
        for field in (self._head, *self._details, *self._scores):
            field.set_problems(problems)

    def _fill(self, wanted: str) -> None:
        with QSignalBlocker(self._model):
            self._model.clear()
            self._model.addItem("No refiner", "")
            for record in self._fitting():
                self._model.addItem(record.title or record.id, record.id)
            if self._model.findData(wanted) < 0:
                self._model.addItem(f"{wanted} (not found)", wanted)
            self._model.setCurrentIndex(self._model.findData(wanted))

    def _fitting(self) -> list[ModelRecord]:
        family = self._family
        usable = [record for record in self._records if not record.problem]
        return [record for record in usable if family and refiner_family(record, family)]

    def _show_numbers(self, refiner: Refiner) -> None:
        self._at.set_value(refiner.switch_at)
        numbers = (
            (self._steps, refiner.num_inference_steps or 0),
            (self._score, refiner.aesthetic_score),
            (self._low, refiner.negative_aesthetic_score),
        )
        for box, value in numbers:
            with QSignalBlocker(box):
                box.setValue(value)  # pyright: ignore[reportArgumentType] - an int where the box is one
        with QSignalBlocker(self._prompt):
            self._prompt.replace_text(refiner.prompt or "")

    def _show_fields(self) -> None:
        """The details only of a refiner that is chosen, the scores of one that learned them."""
        model = self._model.currentData() or ""
        for field in self._details:
            field.setVisible(bool(model))
        record = next((record for record in self._records if record.id == model), None)
        own = refiner_family(record, self._family) if record and self._family else None
        for field in self._scores:
            field.setVisible(own is not None and Feature.AESTHETIC_SCORE in own.supports)

    def _chosen(self) -> None:
        self._show_fields()
        self._changed()

    def _changed(self) -> None:
        self.valueChanged.emit(self.value())


def _score_field(name: str, tip: str) -> DecimalField:
    box = DecimalField(name, tip)
    box.setRange(0, 99)
    box.setSingleStep(0.5)
    return box
