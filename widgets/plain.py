"""Text that Qt can never take for HTML: file names, prompts and model titles are written by others."""

from __future__ import annotations

import re

from PySide6.QtCore import QEvent, QSize, Qt
from PySide6.QtGui import QPainter, QPaintEvent, QPalette
from PySide6.QtGui import Qt as GuiQt
from PySide6.QtWidgets import QApplication, QLabel, QSizePolicy, QWidget

from widgets.metrics import TextSize, sized

_TOOLTIP_COLUMNS = 60
_TOOLTIP_LINES = 24
_SPACE = "\u200b"  # of no width; a line may break there
_LONG_WORD = re.compile(r"\S{16}(?=\S{8})")
_JOINER = "\u2060"  # invisible; after '<' or '&' no parser sees a tag or an entity


def plain_tooltip(text: str) -> str:
    """`text` wrapped, cut to what fits on a screen, and defused: a tooltip has no switch for plain text."""
    lines: list[str] = []
    for line in text.splitlines():
        lines += _wrapped(line)
    if len(lines) > _TOOLTIP_LINES:
        lines = [*lines[:_TOOLTIP_LINES], "…"]
    wrapped = "\n".join(lines).strip()
    if GuiQt.mightBeRichText(wrapped):
        wrapped = wrapped.replace("<", f"<{_JOINER}").replace("&", f"&{_JOINER}")
    return wrapped


def _wrapped(line: str) -> list[str]:
    """As `textwrap.wrap` does it for words and single spaces, in a twentieth of the time: tooltips are many."""
    lines = [""]
    for word in line.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > _TOOLTIP_COLUMNS:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
        while len(lines[-1]) > _TOOLTIP_COLUMNS:
            lines[-1:] = [lines[-1][:_TOOLTIP_COLUMNS], lines[-1][_TOOLTIP_COLUMNS:]]
    return lines


def name_control(widget: QWidget, name: str, tooltip: str) -> None:
    """What a screen reader says and what the mouse shows."""
    widget.setAccessibleName(name)
    widget.setToolTip(plain_tooltip(tooltip))


def _breakable(text: str) -> str:
    return _LONG_WORD.sub(lambda found: found[0] + _SPACE, text)


class Label(QLabel):
    """A plain-text label on the type scale that follows the application's font.

    With `wrap` a long path breaks too, so that it cannot widen a dock.
    """

    def __init__(
        self,
        text: str = "",
        size: TextSize = TextSize.BODY,
        *,
        bold: bool = False,
        muted: bool = False,
        wrap: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._size, self._bold, self._whole = size, bold, ""
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setWordWrap(wrap)
        # Named also where it is the common one: a label would else take what suits its parent's background.
        self.setForegroundRole(QPalette.ColorRole.PlaceholderText if muted else QPalette.ColorRole.WindowText)
        self._apply_font()
        self.setText(text)

    def text(self) -> str:
        return self._whole

    def setText(self, text: str) -> None:
        self._whole = text
        super().setText(_breakable(text) if self.wordWrap() else text)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.ApplicationFontChange:
            self._apply_font()

    def _apply_font(self) -> None:
        self.setFont(sized(QApplication.font(), self._size, bold=self._bold))


class ElidedLabel(Label):
    """One line that gives way: it shows what fits and tells the whole text in its tooltip."""

    def __init__(
        self,
        text: str = "",
        size: TextSize = TextSize.BODY,
        *,
        mode: Qt.TextElideMode = Qt.TextElideMode.ElideRight,
        muted: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(text, size, muted=muted, parent=parent)
        self._mode = mode
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def setText(self, text: str) -> None:
        super().setText(text)
        self.setToolTip(plain_tooltip(text))

    def minimumSizeHint(self) -> QSize:
        return QSize(self.fontMetrics().averageCharWidth() * 4, super().minimumSizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        with QPainter(self) as painter:
            line = " ".join(self.text().split())
            shown = self.fontMetrics().elidedText(line, self._mode, self.width())
            painter.setPen(self.palette().color(self.foregroundRole()))
            painter.drawText(self.rect(), self.alignment() | Qt.TextFlag.TextSingleLine, shown)
