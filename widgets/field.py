"""`Field`: a label, a control, and the place below it where its problems stand."""

from __future__ import annotations

from collections.abc import Mapping

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QLayout, QSizePolicy, QVBoxLayout, QWidget

from pipelines.spec.validate import Problem
from widgets.metrics import TONE_ROLES, XS, S, TextSize, Tone
from widgets.plain import Label, plain_tooltip


class Field(QWidget):
    """`control`, a widget or a row of them, under its `label`.

    `places` maps the dotted paths of problems that belong here to the widget that is outlined for them.
    """

    def __init__(
        self,
        label: str,
        control: QWidget | QLayout,
        places: Mapping[str, QWidget],
        trailing: QWidget | None = None,
    ) -> None:
        super().__init__()
        self._places = places
        self.label = Label(label, TextSize.SMALL, muted=True)
        first = next(iter(places.values()), control)
        if isinstance(first, QWidget):
            self.label.setBuddy(first)
            self.label.setToolTip(first.toolTip())
        self._problem = Label("", TextSize.SMALL, wrap=True)
        self._problem.setVisible(False)
        self._lay_out(control, trailing)

    def _lay_out(self, control: QWidget | QLayout, trailing: QWidget | None) -> None:
        rows = column(self, XS)
        head = row(self.label)
        head.addStretch(1)
        if trailing:
            head.addWidget(trailing, 0, Qt.AlignmentFlag.AlignRight)
        rows.addLayout(head)
        if isinstance(control, QWidget):
            rows.addWidget(control)
        else:
            rows.addLayout(control)
        rows.addWidget(self._problem)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)

    def problem(self) -> str:
        """The text that stands at the field, '' when there is none."""
        return self._problem.text()

    def set_problems(self, problems: tuple[Problem, ...]) -> None:
        """Shows those of this field's own paths, and takes away the former ones. Advice outlines nothing."""
        own = [p for p in problems if p.field in self._places]
        stops = any(p.stops for p in own)
        text = "\n".join(p.told for p in own)
        self._problem.setText(text)
        self._problem.setToolTip(plain_tooltip(text))
        self._problem.setForegroundRole(TONE_ROLES[Tone.ERROR if stops else Tone.WARNING])
        self._problem.setVisible(bool(own))
        for widget in set(self._places.values()):
            messages = [p.message for p in own if self._places[p.field] is widget]
            widget.setAccessibleDescription(" ".join(messages))
            _outline(widget, any(p.stops for p in own if self._places[p.field] is widget))


def _outline(widget: QWidget, on: bool) -> None:
    """The style sheet draws it; it reads the property only while it polishes the widget."""
    if bool(widget.property("problem")) != on:
        widget.setProperty("problem", on)
        widget.style().unpolish(widget)
        widget.style().polish(widget)
        widget.update()


def row(*widgets: QWidget, spacing: int = S) -> QHBoxLayout:
    """A line of widgets without margins."""
    line = QHBoxLayout()
    line.setContentsMargins(0, 0, 0, 0)
    line.setSpacing(spacing)
    for widget in widgets:
        line.addWidget(widget)
    return line


def column(widget: QWidget, spacing: int = S) -> QVBoxLayout:
    """The column layout of a panel; what is around the panel gives the margins."""
    lines = QVBoxLayout(widget)
    lines.setContentsMargins(0, 0, 0, 0)
    lines.setSpacing(spacing)
    return lines
