"""`ModelsStatus`: the line under the table: how many models, the scan that runs, the hashes that are made."""

from __future__ import annotations

from PySide6.QtCore import QSignalBlocker, Signal
from PySide6.QtWidgets import QProgressBar, QWidget

from widgets.controls import Check, IconButton
from widgets.field import row
from widgets.metrics import M, S, TextSize
from widgets.plain import ElidedLabel, Label, name_control

_HASHING_TIP = (
    "Read the files in the background, while no picture is made, for the hashes by which sites know a model."
)


class ModelsStatus(QWidget):
    """Only what runs is shown."""

    cancelRequested = Signal()
    hashingSwitched = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.counts = Label("", TextSize.SMALL, muted=True)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedSize(140, 6)
        self.bar.setAccessibleName("Files read")
        self.scanning = Label("", TextSize.SMALL, muted=True)
        self.cancel = IconButton("close", "Stop reading", "Stop looking for models. What was read is kept.")
        self.hashes = ElidedLabel("", TextSize.SMALL, muted=True)
        self.hashing = Check("Hash in the background")
        name_control(self.hashing, "Hash in the background", _HASHING_TIP)
        line = row(self.counts, self.scanning, self.bar, self.cancel, self.hashes, self.hashing, spacing=S)
        line.setStretch(4, 1)
        line.setContentsMargins(M, 2, M, 2)
        self.setLayout(line)
        self.setFixedHeight(max(34, self.sizeHint().height()))
        self.show_scan(None)
        self.cancel.clicked.connect(self.cancelRequested)
        self.hashing.toggled.connect(self.hashingSwitched)

    def show_counts(self, shown: int, total: int) -> None:
        noun = "model" if total == 1 else "models"
        self.counts.setText(f"{total:,} {noun}" if shown == total else f"{shown:,} of {total:,} {noun}")

    def show_scan(self, progress: tuple[int, int] | None, ending: bool = False) -> None:
        """`progress`: files done, of how many, (0, 0) before that is known; None while no scan runs."""
        for widget in (self.bar, self.cancel, self.scanning):
            widget.setVisible(progress is not None)
        if progress is None:
            return
        done, total = progress
        self.bar.setRange(0, total)
        self.bar.setValue(done)
        self.cancel.setEnabled(not ending)
        told = f"Reading models: {done:,} of {total:,}" if total else "Looking for models…"
        self.scanning.setText("Stopping…" if ending else told)

    def show_hashing(self, text: str) -> None:
        """'' while none is made."""
        self.hashes.setText(text)

    def set_hashing(self, on: bool) -> None:
        with QSignalBlocker(self.hashing):
            self.hashing.setChecked(on)
