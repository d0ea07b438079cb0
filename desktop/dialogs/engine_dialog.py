"""Settings: the device that draws, and how it computes."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QVBoxLayout, QWidget

from pipelines.spec.machine import Machine
from pipelines.spec.options import EngineChoice
from widgets.engine_panel import EnginePanel
from widgets.metrics import M, S, TextSize
from widgets.plain import Label, name_control

_NOW = "A change starts the engine anew, which takes some seconds; the model is loaded again with the next picture."
_LATER = "A picture is being made. A change is used once all pictures that are asked for are done."


class EngineDialog(QDialog):
    """`chosen` carries the EngineChoice that was agreed to. `busy`: a picture is being made."""

    chosen = Signal(object)

    def __init__(
        self, choice: EngineChoice, machine: Machine, busy: bool, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Settings")
        self.panel = EnginePanel()
        self.panel.set_machine(machine)
        self.panel.setValue(choice)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(M, M, M, M)
        rows.setSpacing(S)
        rows.addWidget(Label("How pictures are computed", TextSize.TITLE, bold=True))
        rows.addWidget(self.panel)
        rows.addWidget(Label(_LATER if busy else _NOW, muted=True, wrap=True))
        rows.addStretch(1)
        buttons = QDialogButtonBox()
        use = buttons.addButton("Use", QDialogButtonBox.ButtonRole.AcceptRole)
        cancel = buttons.addButton("Cancel", QDialogButtonBox.ButtonRole.RejectRole)
        name_control(use, "Use", "Use these settings from now on.")
        name_control(cancel, "Cancel", "Leave the settings as they were.")
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        self.accepted.connect(lambda: self.chosen.emit(self.panel.value()))
        rows.addWidget(buttons)
        self.setMinimumWidth(460)
