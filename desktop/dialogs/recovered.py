"""Which pictures the last run left unfinished, and what to do with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QListWidget, QVBoxLayout, QWidget

from widgets.metrics import XS, M, S
from widgets.plain import Label, plain_tooltip

if TYPE_CHECKING:
    from pipelines.library.jobs import StoredJob


class RecoveredDialog(QDialog):
    """Closing it means later: they are offered again at the next start."""

    again = Signal(object)
    forget = Signal(object)

    def __init__(
        self, interrupted: Sequence[StoredJob], waiting: Sequence[StoredJob], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Unfinished pictures")
        self._jobs = [*interrupted, *waiting]
        self._list = QListWidget()
        self._list.setAccessibleName("Unfinished pictures")
        self._list.setSpacing(XS)
        for word, jobs in (("Interrupted", interrupted), ("Waiting", waiting)):
            for job in jobs:
                text = " ".join(job.request.prompt.text.split()) or "(no prompt)"
                self._list.addItem(f"{word}: {text[:200]}")
                self._list.item(self._list.count() - 1).setToolTip(plain_tooltip(text))
        rows = QVBoxLayout(self)
        rows.setContentsMargins(M, M, M, M)
        rows.setSpacing(S)
        rows.addWidget(Label("These pictures were not finished when the program ended.", wrap=True))
        rows.addWidget(self._list)
        rows.addWidget(self._buttons())
        self.resize(480, 300)

    def _buttons(self) -> QDialogButtonBox:
        box = QDialogButtonBox()
        make = box.addButton("Make them now", QDialogButtonBox.ButtonRole.AcceptRole)
        forget = box.addButton("Forget them", QDialogButtonBox.ButtonRole.DestructiveRole)
        box.addButton("Later", QDialogButtonBox.ButtonRole.RejectRole)
        make.clicked.connect(self._make)
        forget.clicked.connect(self._forget)
        box.rejected.connect(self.reject)
        return box

    def _make(self) -> None:
        self.again.emit(self._jobs)
        self.accept()

    def _forget(self) -> None:
        self.forget.emit(self._jobs)
        self.accept()
