"""`MemoryGauge`: the memory of the card and of the machine in the status bar, and who holds what."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QMouseEvent
from PySide6.QtWidgets import QFrame, QPushButton, QSizePolicy, QWidget

from pipelines.spec.memory import Memory, Room
from widgets.field import column, row
from widgets.memory_bar import MemoryBar
from widgets.memory_words import gb
from widgets.metrics import M, S, TextSize
from widgets.plain import Label, name_control, plain_tooltip

_MOST = 12


class MemoryGauge(QWidget):
    """A click, or the button's key, opens who holds what; `freeWanted` asks to let go of the models."""

    freeWanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._memory: Memory | None = None
        self._popup: QFrame | None = None
        self._bars = {name: (Label("", TextSize.SMALL, muted=True), MemoryBar()) for name in ("card", "RAM")}
        line = row(*(widget for pair in self._bars.values() for widget in pair))
        for _text, bar in self._bars.values():
            bar.setFixedWidth(40)
        self._more = QPushButton("Memory")
        self._more.setProperty("small", True)
        self._more.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        line.addWidget(self._more)
        self.setLayout(line)
        name_control(self._more, "Who holds memory", "Show what lies in memory, and free it.")
        self._more.clicked.connect(self.open)
        self.setVisible(False)

    def value(self) -> Memory | None:
        return self._memory

    def setValue(self, memory: Memory) -> None:
        if memory == self._memory:
            return
        self._memory = memory
        self._show("card", memory.card)
        self._show("RAM", memory.ram)
        self.setToolTip(plain_tooltip("\n".join(f"{name}: {size}" for name, size in lines(memory))))
        self.setVisible(True)

    def _show(self, name: str, room: Room | None) -> None:
        text, bar = self._bars[name]
        text.setVisible(room is not None)
        bar.setVisible(room is not None)
        if room is not None:
            text.setText(f"{name[0].upper()}{name[1:]} {round(100 * room.used / max(1, room.total))} %")
            bar.set_share(room.used, room.total)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self.open()

    def open(self) -> None:
        """The list over the status bar; it closes by a click beside it."""
        if self._memory is None:
            return
        self._popup = popup = QFrame(self, Qt.WindowType.Popup)
        popup.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        popup.setObjectName("memory")
        rows = column(popup, S)
        rows.setContentsMargins(M, M, M, M)
        rows.addWidget(Label("Who holds memory", bold=True))
        for name, size in lines(self._memory):
            left = Label(name if len(name) < 60 else name[:57] + "…", TextSize.SMALL)
            left.setToolTip(plain_tooltip(name))
            line = row(left, Label(size, TextSize.SMALL, muted=True), spacing=M)
            line.setStretch(0, 1)
            rows.addLayout(line)
        free = QPushButton("Free now")
        name_control(free, "Free now", "Let go of the loaded models; the next picture loads them again.")
        free.clicked.connect(self.freeWanted)
        free.clicked.connect(popup.close)
        rows.addWidget(free)
        popup.adjustSize()
        corner = self.mapToGlobal(self.rect().topRight())
        popup.move(corner.x() - popup.width(), corner.y() - popup.height() - S)
        popup.show()


def lines(memory: Memory) -> list[tuple[str, str]]:
    """Who holds how much, the card first."""
    told = list[tuple[str, str]]()
    for room, on_card in ((memory.card, True), (memory.ram, False)):
        if room is None:
            continue
        where = "on the card" if on_card else "in RAM"
        held = [holder for holder in memory.holders if holder.on_card == on_card][:_MOST]
        told += [(f"{holder.name}, {where}", gb(holder.size_bytes)) for holder in held]
        rest = max(0, room.ours - memory.held(on_card))
        told += (
            [(f"Emulsion's work, {where}" if on_card else "Emulsion itself, in RAM", gb(rest))]
            if rest
            else []
        )
        told += [(f"Other programs, {where}", gb(room.others)), (f"Free {where}", gb(room.free))]
    return told
