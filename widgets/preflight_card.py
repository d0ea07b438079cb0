"""`PreflightCard`: whether the next picture fits, how, how long it takes, and what would fit instead."""

from __future__ import annotations

from functools import partial

from PySide6.QtCore import Signal
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QFrame, QGridLayout, QPushButton, QSizePolicy, QWidget

from pipelines.spec.outlook import Cheaper, Need, Outlook
from pipelines.spec.time_words import grounds, time_words
from widgets.field import column
from widgets.memory_bar import MemoryBar
from widgets.memory_words import gb
from widgets.metrics import TONE_ROLES, XS, M, S, TextSize, Tone
from widgets.plain import ElidedLabel, Label, name_control, plain_tooltip

NO_CARD = "No graphics card: it computes on the processor, in RAM."
_WAITING = "The engine will tell whether it fits."
_NO_MODEL = "Choose a model to see whether it fits."
_OFFERS = 2


class PreflightCard(QFrame):
    """Shows an `Outlook`; `chosen` carries the Cheaper that was clicked, `undone` takes the last one back."""

    chosen = Signal(object)
    undone = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self.setAccessibleName("Whether the next picture fits")
        self._outlook: Outlook | None = None
        self._busy = self._compact = False
        self._waits = ""
        self._head = ElidedLabel("")
        self._words = Label("", TextSize.SMALL, muted=True, wrap=True)
        self._bars = {name: (_small(name), MemoryBar(), _small()) for name in ("Card", "RAM")}
        self._buttons = [QPushButton() for _ in range(_OFFERS)]
        self._undo = QPushButton("Undo")
        self._lay_out()
        for place, button in enumerate(self._buttons):
            button.clicked.connect(partial(self._choose, place))
        self._undo.clicked.connect(self.undone)
        self.wait("")
        self.set_undo("")

    def _lay_out(self) -> None:
        rows = column(self, XS)
        self._fit_margins()
        rows.addWidget(self._head)
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(S)
        grid.setVerticalSpacing(1)
        grid.setColumnStretch(1, 1)
        for line, widgets in enumerate(self._bars.values()):
            for place, widget in enumerate(widgets):
                grid.addWidget(widget, line, place)
        rows.addLayout(grid)
        rows.addWidget(self._words)
        for button in (*self._buttons, self._undo):
            button.setProperty("small", True)
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            rows.addWidget(button)

    def outlook(self) -> Outlook | None:
        """None while nothing is known."""
        return self._outlook

    def wait(self, text: str = _WAITING) -> None:
        """Nothing is known; `text` says why."""
        self._outlook = None
        self._fit_margins()
        self._head.setText(text or _NO_MODEL)
        self._head.setForegroundRole(self._words.foregroundRole())
        self._words.setVisible(False)
        self._show_bar("Card", None)
        self._show_bar("RAM", None)
        self._show_offers(())

    def set_busy(self, busy: bool, waits: str = "") -> None:
        """While a picture is made, what is told is of the next one, after what this one `waits` for."""
        if (busy, waits) != (self._busy, self._waits):
            self._busy, self._waits = busy, waits
            if self._outlook is not None:
                self.show_outlook(self._outlook)

    def set_compact(self, compact: bool) -> None:
        """In a low window a plan that fits is one line; its tooltip tells the rest."""
        if compact != self._compact:
            self._compact = compact
            self._fit_margins()
            if self._outlook is not None:
                self.show_outlook(self._outlook)

    def _fit_margins(self) -> None:
        layout = self.layout()
        assert layout is not None
        bare = self._compact and (self._outlook is None or self._outlook.fits)
        layout.setContentsMargins(*((0, 0, 0, 0) if bare else (M, S, M, S)))
        if self.property("compact") != bare:  # one line needs no frame
            self.setProperty("compact", bare)
            self.style().unpolish(self)
            self.style().polish(self)

    def show_outlook(self, outlook: Outlook) -> None:
        self._outlook = outlook
        self._fit_margins()
        self._head.setText(self._headline(outlook))
        role = QPalette.ColorRole.WindowText if outlook.fits else TONE_ROLES[Tone.ERROR]
        self._head.setForegroundRole(role)
        said = outlook.problem or _sentence(outlook)
        said = f"{self._waits}. {said}" if self._waits else said
        self._words.setText(said if len(said) < 160 else said[:157] + "…")
        self._words.setToolTip(plain_tooltip("\n".join((said, *outlook.parts))))
        brief = self._compact and outlook.fits and not self._waits
        about = (said, *outlook.parts) if brief else ()
        self._head.setToolTip(plain_tooltip("\n".join((self._head.text(), grounds(outlook.time), *about))))
        self._words.setVisible(bool(said) and not brief)
        self.setAccessibleDescription(f"{self._head.text()}. {said}")
        self._show_bar("Card", None if brief else outlook.card)
        self._show_bar("RAM", None if brief else outlook.ram)
        self._show_offers(outlook.cheaper)

    def _headline(self, outlook: Outlook) -> str:
        whose = "Next picture: " if self._busy else ""
        if outlook.problem:
            return f"{whose}this model cannot be planned"
        text = time_words(outlook.time) if outlook.fits else "it will not fit"
        text = f"{whose}{'fits, ' if outlook.fits else ''}{text}"
        return text[0].upper() + text[1:]

    def _show_bar(self, name: str, need: Need | None) -> None:
        for widget in self._bars[name]:
            widget.setVisible(need is not None)
        if need is None:
            return
        _label, bar, text = self._bars[name]
        bar.set_share(need.peak, need.free)
        text.setText(f"{gb(need.peak)} of {gb(need.free)}")
        where = "of the card's memory" if name == "Card" else "of RAM"
        tip = f"The picture takes {gb(need.peak)} {where} at the most; {gb(need.free)} are free for it now."
        for widget in self._bars[name]:
            widget.setToolTip(plain_tooltip(tip))

    def _show_offers(self, offers: tuple[Cheaper, ...]) -> None:
        for place, button in enumerate(self._buttons):
            button.setVisible(place < len(offers))
            if place < len(offers):
                offer = offers[place]
                button.setText(f"Use {offer.words}".replace("&", "&&"))
                name_control(
                    button, f"Use {offer.words}", f"Then it fits: {offer.plan}. It can be undone here."
                )

    def _choose(self, place: int, _checked: bool = False) -> None:
        if self._outlook is not None and place < len(self._outlook.cheaper):
            self.chosen.emit(self._outlook.cheaper[place])

    def set_undo(self, text: str) -> None:
        """`text` names what Undo brings back, '' where there is nothing to undo."""
        self._undo.setVisible(bool(text))
        self._undo.setText(f"Undo: back to {text}".replace("&", "&&"))
        name_control(self._undo, f"Undo: back to {text}", "Takes back the change that made the picture fit.")


def _small(text: str = "") -> Label:
    return Label(text, TextSize.SMALL, muted=True)


def _sentence(outlook: Outlook) -> str:
    parts = [outlook.words[:1].upper() + outlook.words[1:] + "." if outlook.words else ""]
    parts += [NO_CARD] if outlook.card is None and outlook.fits else []
    return " ".join(part for part in parts if part)
