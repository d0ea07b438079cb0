"""`PromptPanel`: what to draw and what to keep out."""

from __future__ import annotations

from PySide6.QtCore import QSignalBlocker, Signal
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QWidget

from pipelines.spec.families.base import Family, Feature
from pipelines.spec.request import Prompt
from pipelines.spec.validate import Problem
from widgets.field import Field, column
from widgets.metrics import TONE_ROLES, M, TextSize, Tone
from widgets.plain import Label, plain_tooltip
from widgets.prompt_edit import PromptEdit

_PROMPT_TIP = "What the picture shows, in plain words. Those at the front count a little more."
_NEGATIVE_TIP = "What the picture should not show. It works only while guidance is above 1."


class PromptPanel(QWidget):
    """The value is a `Prompt`; its negative part is empty while the family has no use for one."""

    valueChanged = Signal(object)
    submitted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._text = PromptEdit("Prompt", _PROMPT_TIP)
        self._text.setPlaceholderText("A red circle on a white background")
        self._negative = PromptEdit("Negative prompt", _NEGATIVE_TIP, least=2, most=8)
        self._negative.setPlaceholderText("Nothing is kept out")
        self._counters = (TokenCounter("Prompt"), TokenCounter("Negative prompt"))
        self._fields = (
            Field("Prompt", self._text, {"prompt.text": self._text, "prompt": self._text}, self._counters[0]),
            Field("Negative prompt", self._negative, {"prompt.negative": self._negative}, self._counters[1]),
        )
        self._has_negative = True
        self.setFocusProxy(self._text)
        lines = column(self, M)
        for field in self._fields:
            lines.addWidget(field)
        for edit in (self._text, self._negative):
            edit.textChanged.connect(self._changed)
            edit.submitted.connect(self.submitted)

    def value(self) -> Prompt:
        negative = self._negative.toPlainText() if self._has_negative else ""
        return Prompt(text=self._text.toPlainText(), negative=negative)

    def setValue(self, prompt: Prompt) -> None:
        with QSignalBlocker(self._text), QSignalBlocker(self._negative):
            self._text.replace_text(prompt.text)
            self._negative.replace_text(prompt.negative)
        self._changed()

    def set_family(self, family: Family | None) -> None:
        """None shows everything. What was typed stays for a family that can use it."""
        before = self.value()
        self._has_negative = family is None or Feature.NEGATIVE_PROMPT in family.supports
        self._fields[1].setVisible(self._has_negative)
        if self.value() != before:
            self._changed()

    def set_token_counts(self, positive: tuple[int, int], negative: tuple[int, int]) -> None:
        """Each (used, limit) as `library.tokens` counts them."""
        for counter, (used, limit) in zip(self._counters, (positive, negative), strict=True):
            counter.set_count(used, limit)

    def set_problems(self, problems: tuple[Problem, ...]) -> None:
        for field in self._fields:
            field.set_problems(problems)

    def _changed(self) -> None:
        self.valueChanged.emit(self.value())


class TokenCounter(Label):
    """'12/75'. A token is a short word or a piece of a long one."""

    def __init__(self, name: str) -> None:
        super().__init__("", TextSize.SMALL, muted=True)
        self._name = name
        self.set_count(0, 75)

    def set_count(self, used: int, limit: int) -> None:
        over = limit > 0 and used > limit
        self.setText(f"{used}/{limit}")
        self.setForegroundRole(TONE_ROLES[Tone.WARNING] if over else QPalette.ColorRole.PlaceholderText)
        tip = (
            _OVER.format(limit=limit, parts=-(-used // limit))
            if over
            else _WITHIN.format(used=used, limit=limit)
        )
        self.setToolTip(plain_tooltip(tip))
        self.setAccessibleName(f"{self._name}: {used} of {limit} tokens")
        self.update()


_WITHIN = (
    "{used} of the {limit} tokens that the model reads at once. A token is a short word or a piece of one."
)
_OVER = (
    "The model reads {limit} tokens at once. This text is read in {parts} parts: a word knows only those of its "
    "own part, so what belongs together may come apart in the picture, and each step takes a little longer."
)
