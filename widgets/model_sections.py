"""What the details of a model are put together of: a titled section, a table of facts, why it cannot be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QFrame, QGridLayout, QLayout, QPushButton, QWidget

from pipelines.spec.lent_parts import LENT_PARTS
from pipelines.spec.record import ModelRecord, State
from widgets.drawing import Drawing
from widgets.field import column, row
from widgets.metrics import TONE_ROLES, XS, M, S, TextSize
from widgets.model_texts import STATE_MARKS, count_text, family_name, size_text
from widgets.plain import Label, name_control


class Section(QWidget):
    """`content` under a small title, with what can be done about it on the right of the title."""

    def __init__(self, title: str, content: QWidget | QLayout, *trailing: QWidget) -> None:
        super().__init__()
        head = row(Label(title, TextSize.SMALL, muted=True), spacing=XS)
        head.addStretch(1)
        for widget in trailing:
            head.addWidget(widget)
        lines = column(self, XS)
        lines.addLayout(head)
        if isinstance(content, QWidget):
            lines.addWidget(content)
        else:
            lines.addLayout(content)


def text_label(text: str = "", *, muted: bool = False) -> Label:
    """Wraps, and can be marked and copied."""
    label = Label(text, wrap=True, muted=muted)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


def small_button(text: str, tooltip: str) -> QPushButton:
    """For a thing to do within a section."""
    button = QPushButton(text)
    button.setProperty("small", True)
    name_control(button, text, tooltip)
    return button


class Reason(QFrame):
    """Why a model cannot be used, and what is missing; `fetchRequested` carries the id of a `LentPart` to fetch."""

    fetchRequested = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._mark = Drawing("warning")
        self._why = text_label()
        self._needs = text_label(muted=True)
        lines = column(self, S)
        lines.setContentsMargins(M, M, M, M)
        head = row(self._mark, Label("Why is this not usable?", bold=True))
        head.addStretch(1)
        lines.addLayout(head)
        lines.addWidget(self._why)
        lines.addWidget(self._needs)
        self.fetch: dict[str, QPushButton] = {}
        for part in LENT_PARTS:
            tip = f"See where {part.title} can be had, and how large it is. Nothing is fetched before you agree."
            button = self.fetch[part.id] = small_button(f"Download {part.short}…", tip)
            button.clicked.connect(lambda _checked=False, name=part.id: self.fetchRequested.emit(name))
            lines.addWidget(button, 0, Qt.AlignmentFlag.AlignLeft)

    def text(self) -> str:
        return f"{self._why.text()}\n{self._needs.text()}".strip()

    def show_record(self, record: ModelRecord) -> None:
        drawing, tone = STATE_MARKS[record.state]
        self._mark.show_icon(drawing, TONE_ROLES[tone])
        self._why.setText(record.problem)
        lacks = record.state is State.INCOMPLETE and record.draws
        told = bool(record.needs) and not lacks  # else the reason itself names them
        self._needs.setText(f"A picture takes besides: {', '.join(record.needs)}." if told else "")
        self._needs.setVisible(told)
        for name, button in self.fetch.items():
            button.setVisible(lacks and name in record.lacking)
        self.setVisible(bool(record.problem))


class StateLine(QWidget):
    """A mark and a word, such as 'Ready'."""

    def __init__(self) -> None:
        super().__init__()
        self._mark, self._word = Drawing("success", 16), Label(bold=True)
        line = row(self._mark, self._word, spacing=XS)
        line.addStretch(1)
        self.setLayout(line)

    def show_state(self, state: State, word: str) -> None:
        drawing, tone = STATE_MARKS[state]
        role = TONE_ROLES[tone]
        self._mark.show_icon(drawing, role)
        self._word.setForegroundRole(QPalette.ColorRole.WindowText if state is State.READY else role)
        self._word.setText(word)


class FactsTable(QWidget):
    """The names on the left, the texts, which can be copied, on the right. What is empty is not shown."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self._rows: dict[str, tuple[Label, Label]] = {}
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(M)
        grid.setVerticalSpacing(XS)
        grid.setColumnStretch(1, 1)
        for line, name in enumerate(names):
            head, value = Label(name, muted=True), text_label()
            grid.addWidget(head, line, 0, Qt.AlignmentFlag.AlignTop)
            grid.addWidget(value, line, 1)
            self._rows[name] = head, value

    def value(self) -> dict[str, str]:
        """What is shown."""
        return {name: value.text() for name, (_, value) in self._rows.items() if value.text()}

    def setValue(self, facts: Mapping[str, str]) -> None:
        for name, (head, value) in self._rows.items():
            text = facts.get(name, "")
            value.setText(text)
            if value.isHidden() == bool(text):  # to set what is so already takes time, and most lines stay
                head.setVisible(bool(text))
                value.setVisible(bool(text))


FACTS = (
    "File", "Size", "Family", "Variant", "Precision", "Quantised", "Parameters", "Prediction", "Trained at",
    "Tensor names", "Needs besides", "Assumed", "Used in",
)  # fmt: skip


REPORT = (
    "Made from",
    "On disk",
    "In memory",
    "Peak memory",
    "Seconds a picture",
    "CLIP score",
    "Pictures differ",
)


def facts_of(record: ModelRecord) -> dict[str, str]:
    """What the header of the file says, by the names of `FACTS`."""
    return {
        "File": record.path.encode("utf-8", "replace").decode(),
        "Size": size_text(record.size_bytes),
        "Family": family_name(record),
        "Variant": record.variant if record.variant != "normal" else "",
        "Precision": record.dtype,
        "Quantised": record.quantisation,
        "Parameters": count_text(record.parameters) if record.parameters else "",
        "Prediction": record.prediction,
        "Trained at": f"{record.native_size} × {record.native_size} pixels" if record.native_size else "",
        "Tensor names": record.layout,
        "Needs besides": ", ".join(record.needs) if not record.problem else "",
        "Assumed": "; ".join(record.assumed),
    }
