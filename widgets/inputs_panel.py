"""`InputsPanel`: what steers a picture besides its prompt."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtWidgets import QFrame, QWidget

from pipelines.spec.families.base import Family, Feature
from widgets.drawing import Drawing
from widgets.field import column, row
from widgets.metrics import XS, M, S, TextSize
from widgets.plain import Label


@dataclass(frozen=True, slots=True)
class Section:
    feature: Feature
    drawing: str
    title: str
    what: str


SECTIONS = (
    Section(
        Feature.LORA, "layers", "LoRA", "A small file that teaches the model a style, a person or a thing."
    ),
    Section(
        Feature.CONTROL, "control", "ControlNet", "A drawing, depth map or pose that the composition follows."
    ),
    Section(Feature.IMAGE, "picture", "Start from a picture", "A picture that is redrawn instead of noise."),
)


class InputsPanel(QWidget):
    """One card for each kind of input, with what it does and whether this model takes it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._cards = {section.feature: Card(section) for section in SECTIONS}
        lines = column(self, M)
        for card in self._cards.values():
            lines.addWidget(card)
        lines.addStretch(1)
        self.set_family(None)

    def set_family(self, family: Family | None) -> None:
        """Says for each kind of input whether models of this family take it."""
        for feature, card in self._cards.items():
            card.show_state(_state_of(feature, family))


def _state_of(feature: Feature, family: Family | None) -> str:
    if family is None:
        return "Choose a model to see whether it takes this."
    if feature in family.supports:
        return f"{family.name} models take this, from the command line for now."
    return f"Not available for {family.name} models yet."


class Card(QFrame):
    def __init__(self, section: Section) -> None:
        super().__init__()
        self.setAccessibleName(section.title)
        self.setToolTip(section.what)
        self._state = Label("", TextSize.SMALL, muted=True, wrap=True)
        head = row(Drawing(section.drawing), Label(section.title, bold=True))
        head.addStretch(1)
        lines = column(self, XS)
        lines.setContentsMargins(M, M, M, M)
        lines.addLayout(head)
        lines.addWidget(Label(section.what, wrap=True))
        lines.addSpacing(S - XS)
        lines.addWidget(self._state)

    def show_state(self, text: str) -> None:
        self._state.setText(text)
        self.setAccessibleDescription(text)
