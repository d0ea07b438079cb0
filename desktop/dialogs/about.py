"""About: the version, what it runs on, and what is off and why."""

from __future__ import annotations

import platform
from collections.abc import Sequence

from PySide6 import __version__ as qt_version
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QGridLayout, QVBoxLayout, QWidget

from widgets.metrics import XL, XS, L, S, TextSize
from widgets.plain import Label

# What the engine can use, and what is lost without it. Looked up, never imported: torch is the worker's.
PARTS = (
    ("torch", "no pictures can be made"),
    ("diffusers", "no pictures can be made"),
    ("transformers", "prompts cannot be read"),
    ("accelerate", "large models load slower and need more memory"),
    ("xformers", "torch's own attention is used"),
    ("send2trash", "pictures cannot be moved to the trash"),
)


def parts() -> list[tuple[str, str]]:
    """Each part with its version, or with what is off without it. Reads files: for the I/O lane."""
    from importlib import metadata  # a tenth of the time to the first paint

    lines = []
    for name, loss in PARTS:
        try:
            lines.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            lines.append((name, f"not installed: {loss}"))
    return lines


class AboutDialog(QDialog):
    """`program` is name and version; `facts` further lines of (name, text): device, folders, `parts()`."""

    def __init__(self, program: str, facts: Sequence[tuple[str, str]], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("About Emulsion")
        rows = QVBoxLayout(self)
        rows.setContentsMargins(XL, XL, XL, XL)
        rows.setSpacing(S)
        rows.addWidget(Label(program, TextSize.LARGE, bold=True))
        rows.addWidget(
            Label("Makes pictures on this computer. Only a download that you ask for uses the network.")
        )
        rows.addSpacing(S)
        rows.addLayout(_table([("Python", platform.python_version()), ("Qt", qt_version), *facts]))
        rows.addSpacing(S)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        rows.addWidget(buttons)
        self.setMinimumWidth(460)


def _table(facts: Sequence[tuple[str, str]]) -> QGridLayout:
    """The names in one column; the texts, which can be copied, in the other."""
    grid = QGridLayout()
    grid.setHorizontalSpacing(L)
    grid.setVerticalSpacing(XS)
    grid.setColumnStretch(1, 1)
    for line, (name, text) in enumerate(facts):
        value = Label(text, wrap=True)
        value.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        grid.addWidget(Label(name, muted=True), line, 0, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(value, line, 1)
    return grid
