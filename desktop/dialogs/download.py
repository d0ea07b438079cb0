"""The dialog of a new download: what is wanted, what there is, and the consent to fetch it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QListWidget,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from desktop.dialogs.token_field import TokenField
from desktop.notifications import sentences
from pipelines.spec.downloads import size_text
from pipelines.spec.errors import EngineError
from widgets.controls import Check, Choice, IconButton
from widgets.field import Field, column, row
from widgets.metrics import TONE_ROLES, M, S, TextSize, Tone
from widgets.plain import Label, name_control, plain_tooltip
from widgets.plain_line import PlainLine

if TYPE_CHECKING:
    from pipelines.library.download.plan import Plan

EXAMPLES = "org/repo   ·   org/repo/file.safetensors   ·   civitai:12345   ·   https://…"
_SOURCE_TIP = (
    "A repository of Hugging Face, a file of it, a version of a model on Civitai, the address of one of their pages, "
    "or the address of a file."
)


@dataclass(frozen=True, slots=True)
class Ask:
    """What is to be looked up. `file` chooses one of several, empty for the usual one."""

    source: str
    folder: Path
    half: bool = False
    file: str = ""


class DownloadDialog(QDialog):
    """`folders` are pairs of a name and a folder. Nothing is sent before Look, nothing fetched before Download."""

    lookRequested = Signal(object)  # Ask
    downloadRequested = Signal(object)  # Plan
    tokenGiven = Signal(str, str, bool)  # host, token, whether it is kept

    def __init__(
        self, folders: Sequence[tuple[str, Path]], source: str = "", parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Add a download")
        self._plan: Plan | None = None
        self._asked: Ask | None = None
        self._names: tuple[str, ...] = ()
        self.source = PlainLine("Source", _SOURCE_TIP, placeholder="org/repo, civitai:12345 or https://…")
        self.folder = Choice("Folder", "Where the model goes. The program looks for models in all of these.")
        for name, folder in folders:
            self.folder.addItem(name, folder)
            self.folder.setItemData(
                self.folder.count() - 1, plain_tooltip(str(folder)), Qt.ItemDataRole.ToolTipRole
            )
        self.half = Check("Half precision where there is a choice")
        name_control(self.half, "Half precision", "Fetch the float16 weights of a repository: half as large.")
        self.look = QPushButton("Look")
        name_control(self.look, "Look", "Ask the host what it is and how large. Nothing is fetched yet.")
        self.told = Label("", wrap=True)
        self.told.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.files = QListWidget()
        self.files.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.files.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        name_control(self.files, "Files", "What would be fetched, or what there is to choose from.")
        self.token = TokenField()
        self._lay_out()
        self._connect()
        self.source.setText(source)
        self._forget_plan()

    def _lay_out(self) -> None:
        lines = QVBoxLayout(self)
        lines.setContentsMargins(M, M, M, M)
        lines.setSpacing(S)
        line = row(self.source, self.look)
        line.setStretch(0, 1)
        lines.addWidget(Field("What to fetch", line, {"source": self.source}))
        examples = Label(EXAMPLES, TextSize.SMALL, muted=True, wrap=True)
        lines.addWidget(examples)
        other = IconButton("folder", "Another folder", "Choose a folder that is not on the list.")
        other.clicked.connect(self._choose_folder)
        where = row(self.folder, other)
        where.setStretch(0, 1)
        lines.addWidget(Field("Folder", where, {"folder": self.folder}))
        lines.addWidget(self.half)
        lines.addWidget(self.token)
        lines.addWidget(self.told)
        rest = QWidget()  # takes the room whether or not there is a list
        column(rest).addWidget(self.files)
        lines.addWidget(rest, 1)
        lines.addWidget(self._buttons())
        for label in (examples, self.told):
            label.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self.resize(560, 460)

    def _buttons(self) -> QDialogButtonBox:
        box = QDialogButtonBox()
        self.download = box.addButton("Download", QDialogButtonBox.ButtonRole.ActionRole)
        name_control(self.download, "Download", "Fetch what is listed.")
        cancel = box.addButton("Cancel", QDialogButtonBox.ButtonRole.RejectRole)
        name_control(cancel, "Cancel", "Fetch nothing.")
        box.rejected.connect(self.reject)
        return box

    def _connect(self) -> None:
        self.look.clicked.connect(self._look)
        self.source.returnPressed.connect(self._look)
        self.token.submitted.connect(self._look)
        self.download.clicked.connect(self._confirm)
        self.source.textChanged.connect(self._forget_plan)
        self.folder.currentIndexChanged.connect(self._forget_plan)
        self.half.toggled.connect(self._forget_plan)
        self.files.currentRowChanged.connect(self._file_chosen)

    def choose(self, folder: Path) -> None:
        """One of the folders on the list; findData finds no objects of Python."""
        for at in range(self.folder.count()):
            if self.folder.itemData(at) == folder:
                self.folder.setCurrentIndex(at)

    # what the host says

    def show_plan(self, plan: Plan, free: int | None) -> None:
        """`free` bytes on the drive of its folder."""
        self._forget_plan()
        self._plan = plan
        count = len(plan.files)
        room = f" {size_text(free)} are free there." if free is not None else ""
        files = "1 file" if count == 1 else f"{count} files"
        text = f"{plan.title}: {files}, {size_text(plan.size)}. Goes to {plan.target}.{room}"
        self._say("\n".join((text, *plan.notes)), Tone.INFO)
        for file in plan.files:
            self.files.addItem(f"{file.path}   {size_text(file.size)}")
            self.files.item(self.files.count() - 1).setToolTip(
                plain_tooltip(f"{file.path}\nSHA-256 {file.sha256 or 'not known'}")
            )
        self.files.setVisible(True)
        self.token.setVisible(False)
        self._show_next()

    def show_failure(self, error: Exception) -> None:
        """An expected error is told here, with the files to choose from or the field for a token where that helps."""
        self._forget_plan()
        told = sentences(error.message, error.hint) if isinstance(error, EngineError) else str(error)
        self._names = tuple(getattr(error, "names", ()))
        if self._names:
            told = f"{getattr(error, 'message', told)} Choose one of its files, then Look."
            self.files.addItems(list(self._names))
            self.files.setVisible(True)
        if host := getattr(error, "host", ""):
            self.token.ask_for(host)
        self._say(told, Tone.WARNING if self._names else Tone.ERROR)

    def set_keyring_note(self, note: str) -> None:
        """'' when a keyring works."""
        self.token.set_note(note)

    def _say(self, text: str, tone: Tone) -> None:
        self.told.setForegroundRole(QPalette.ColorRole.WindowText if tone is Tone.INFO else TONE_ROLES[tone])
        self.told.setText(text)
        self.told.setVisible(bool(text))
        self.look.setEnabled(bool(self.source.text().strip()))

    # what the person does

    def _look(self) -> None:
        source = self.source.text().strip()
        if not source:
            return
        chosen = self.files.currentRow()
        file = self._names[chosen] if self._names and 0 <= chosen < len(self._names) else ""
        host, token, keep = self.token.value()
        folder = self.folder.currentData()
        self._forget_plan()
        if token:
            self.tokenGiven.emit(host, token, keep)
        self._say("Asking…", Tone.INFO)
        self.look.setEnabled(False)
        self.lookRequested.emit(Ask(source, folder, self.half.isChecked(), file))

    def _confirm(self) -> None:
        if self._plan is not None:
            self.downloadRequested.emit(self._plan)
            self.accept()

    def _choose_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Folder for the model")
        if name:
            self.folder.addItem(name, Path(name))
            self.folder.setCurrentIndex(self.folder.count() - 1)

    def _file_chosen(self, line: int) -> None:
        self.look.setDefault(line >= 0 and bool(self._names))

    def _forget_plan(self) -> None:
        """What was looked up is no longer what would be fetched."""
        self._plan, self._names = None, ()
        self.files.clear()
        self.files.setVisible(False)
        self._say("", Tone.INFO)
        self._show_next()

    def _show_next(self) -> None:
        """Return does the next thing."""
        self.download.setEnabled(self._plan is not None)
        self.download.setDefault(self._plan is not None)
        self.look.setDefault(self._plan is None)
