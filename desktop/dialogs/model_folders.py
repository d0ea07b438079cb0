"""The folders that models are looked for in: those of the program, which stay, and those that a person added."""

from __future__ import annotations

import os
from collections.abc import Sequence

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from widgets.field import row
from widgets.icons import icon
from widgets.metrics import ICON, M, S, TextSize
from widgets.plain import Label, name_control, plain_tooltip

HINT = (
    "You can point at the folders of ComfyUI, A1111 or Forge, SwarmUI, SD.Next, InvokeAI and Stability Matrix: models "
    "are used where they lie. Nothing is moved, copied or changed."
)
_PATH = Qt.ItemDataRole.UserRole


class ModelFolders(QDialog):
    """The value is the tuple of a person's own folders. `found` are the paths of all models, to count them."""

    def __init__(
        self,
        fixed: Sequence[str],
        own: Sequence[str],
        found: Sequence[str],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Model folders")
        self._found = found
        self.list = QListWidget()
        name_control(
            self.list, "Model folders", "The folders in which, and below which, models are looked for."
        )
        self.list.viewport().setToolTip("")
        self.list.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.list.setIconSize(QSize(ICON, ICON))
        self.add = QPushButton(icon("folder"), "Add a folder…")
        name_control(
            self.add, "Add a folder", "Choose a folder that has models in it, also in folders below it."
        )
        self.remove = QPushButton(icon("close"), "Remove")
        name_control(
            self.remove,
            "Remove",
            "Look no more in the chosen folder. The folder itself stays as it is. (Del)",
        )
        for path in fixed:
            self._append(path, own=False)
        for path in own:
            self._append(path, own=True)
        self._lay_out()
        self.add.clicked.connect(self._add)
        self.remove.clicked.connect(self._remove)
        self.list.currentRowChanged.connect(self._row_changed)
        delete = QShortcut(QKeySequence(Qt.Key.Key_Delete), self.list, self._remove)
        delete.setContext(Qt.ShortcutContext.WidgetShortcut)
        self._row_changed()

    def _lay_out(self) -> None:
        rows = QVBoxLayout(self)
        rows.setContentsMargins(M, M, M, M)
        rows.setSpacing(S)
        rows.addWidget(Label("Models are looked for in these folders", TextSize.TITLE, bold=True))
        rows.addWidget(self.list, 1)
        line = row(self.add, self.remove)
        line.addStretch(1)
        rows.addLayout(line)
        rows.addWidget(Label(HINT, muted=True, wrap=True))
        buttons = QDialogButtonBox()
        done = buttons.addButton("Done", QDialogButtonBox.ButtonRole.AcceptRole)
        cancel = buttons.addButton("Cancel", QDialogButtonBox.ButtonRole.RejectRole)
        name_control(done, "Done", "Keep these folders and look for models in them.")
        name_control(cancel, "Cancel", "Leave the folders as they were.")
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        rows.addWidget(buttons)
        self.resize(560, 380)

    def value(self) -> tuple[str, ...]:
        paths = (self.list.item(at).data(_PATH) for at in range(self.list.count()))
        return tuple(path for path in paths if path)

    def add_folder(self, path: str) -> None:
        """One that is there already is only chosen."""
        path = os.path.abspath(path)
        at = next((at for at, known in enumerate(self.value()) if known == path), -1)
        if at < 0:
            self._append(path, own=True)
            self.list.setCurrentRow(self.list.count() - 1)
        else:
            self.list.setCurrentRow(self.list.count() - len(self.value()) + at)

    def _append(self, path: str, *, own: bool) -> None:
        start = os.path.join(os.path.abspath(path), "")
        count = sum(1 for each in self._found if each.startswith(start))
        models = (
            f"{count:,} model{'' if count == 1 else 's'}" if count or not own else "no model found there yet"
        )
        shown = path.encode("utf-8", "replace").decode()
        item = QListWidgetItem(f"{shown}\n{models}{'' if own else ' · of the program, stays'}")
        item.setIcon(icon("folder" if own else "lock"))
        item.setData(_PATH, path if own else "")
        item.setToolTip(plain_tooltip(shown))
        self.list.addItem(item)

    def _add(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder with models")
        if folder:
            self.add_folder(folder)

    def _remove(self) -> None:
        item = self.list.currentItem()
        if item is not None and item.data(_PATH):
            self.list.takeItem(self.list.row(item))

    def _row_changed(self) -> None:
        item = self.list.currentItem()
        self.remove.setEnabled(item is not None and bool(item.data(_PATH)))
