"""`ModelsPage`: every model there is: families, search, table, details."""

from __future__ import annotations

from collections.abc import Mapping

from PySide6.QtCore import QEvent, QPoint, Qt, Signal
from PySide6.QtGui import QGuiApplication, QKeyEvent, QKeySequence, QResizeEvent, QShortcut
from PySide6.QtWidgets import QFrame, QMenu, QPushButton, QSplitter, QStackedWidget, QVBoxLayout, QWidget

from pipelines.spec.model_note import NO_NOTE, ModelFacts, ModelNote
from widgets.drawing import Drawing
from widgets.family_list import FamilyList
from widgets.field import column, row
from widgets.icons import icon
from widgets.metrics import XL, M, S, TextSize
from widgets.model_details import ModelDetails
from widgets.model_entries import Listed, ModelFilter, Shown
from widgets.model_texts import can_draw
from widgets.models_filter import ModelsFilterBar
from widgets.models_status import ModelsStatus
from widgets.models_table import ModelsTable
from widgets.models_view import ModelsView
from widgets.plain import Label, name_control, plain_tooltip

_FAMILIES_FROM = 1100  # width of the page in pixels from which the families stand in a list of their own
_BACK_TIP = "Back to the picture (Esc)."
_RESCAN_TIP = (
    "Look for new, changed and removed files in the model folders. What has not changed is not read again."
)
_DOWNLOADS_TIP = "Fetch models from Hugging Face, Civitai or an address, and see how far they are."
_FOLDERS_TIP = "Which folders models are looked for in; also those of ComfyUI, Forge and other programs."


class ModelsPage(QWidget):
    """What is done with a model is in the signals of `details`; the row that is chosen in `factsRequested`."""

    backRequested = Signal()
    rescanRequested = Signal()
    foldersRequested = Signal()
    downloadsRequested = Signal()
    folderOpened = Signal()
    factsRequested = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.table = ModelsTable(self)
        self.view = ModelsView(self.table)
        self.bar = ModelsFilterBar()
        self.families = FamilyList()
        self.details = ModelDetails()
        self.status = ModelsStatus()
        self._uses: Mapping[str, int] | None = None
        self._hidden = ""  # the path of the model that was chosen, while a filter hides it
        self._make_empty_pages()
        self._lay_out()
        self._connect()
        self._show_page(Shown())

    # the parts

    def _make_empty_pages(self) -> None:
        self._no_model = Nothing(
            "There is no model yet", "", "Open the models folder", "Show the folder that models go into."
        )
        self._no_match = Nothing(
            "No model is like that",
            "None of the models has all of these words and choices.",
            "Clear the filter",
            "Show all models again.",
        )
        self._middle = QStackedWidget()
        for page in (self.view, self._no_model, self._no_match):
            self._middle.addWidget(page)

    def _lay_out(self) -> None:
        self.back = QPushButton(icon("back"), "Picture")
        name_control(self.back, "Back to the picture", _BACK_TIP)
        self.rescan = QPushButton(icon("refresh"), "Rescan")
        name_control(self.rescan, "Rescan", _RESCAN_TIP)
        self.folders = QPushButton(icon("folder"), "Folders…")
        name_control(self.folders, "Model folders", _FOLDERS_TIP)
        self.downloads = QPushButton(icon("download"), "Downloads…")
        name_control(self.downloads, "Downloads", _DOWNLOADS_TIP)
        head = row(self.back, Label("Models", TextSize.LARGE, bold=True), spacing=M)
        head.addStretch(1)
        head.addWidget(self.downloads)
        head.addWidget(self.rescan)
        head.addWidget(self.folders)
        head.setContentsMargins(M, S, M, S)
        bar = row(self.bar)
        bar.setContentsMargins(M, S, M, S)
        self._below = QVBoxLayout()
        centre = QWidget()
        lines = column(centre, 0)
        lines.addLayout(bar)
        lines.addWidget(_line())
        lines.addWidget(self._middle, 1)
        lines.addLayout(self._below)
        self._split = QSplitter(Qt.Orientation.Horizontal)
        self._split.setChildrenCollapsible(False)
        self._split.setHandleWidth(1)
        for widget in (self.families, centre, self.details):
            self._split.addWidget(widget)
        self.families.setMinimumWidth(140)
        self.details.setMinimumWidth(280)
        self._split.setStretchFactor(1, 1)
        self._split.setSizes([190, 700, 330])
        rows = column(self, 0)
        rows.addLayout(head)
        rows.addWidget(_line())
        rows.addWidget(self._split, 1)
        rows.addWidget(_line())
        rows.addWidget(self.status)

    def add_below(self, widget: QWidget) -> None:
        """Under the table, as wide as it: the place of what belongs to all models, such as downloads that run."""
        self._below.addWidget(widget)

    def _connect(self) -> None:
        self.back.clicked.connect(self.backRequested)
        self.rescan.clicked.connect(self.rescanRequested)
        self.folders.clicked.connect(self.foldersRequested)
        self.downloads.clicked.connect(self.downloadsRequested)
        self._no_model.asked.connect(self.folderOpened)
        self._no_match.asked.connect(self.clear_filter)
        self.bar.valueChanged.connect(self._filter)
        self.bar.search.left.connect(self._to_table)
        self.bar.search.entered.connect(self._take_first)
        self.families.valueChanged.connect(self.bar.set_family)
        self.table.changed.connect(self._show_page)
        self.view.chosen.connect(self._chosen)
        self.view.useWanted.connect(self.use)
        self.view.favouriteWanted.connect(self._turn_star)
        self.view.typed.connect(self._type_on)
        self.view.menuWanted.connect(self._open_menu)
        search = QShortcut(QKeySequence.StandardKey.Find, self)
        search.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        search.activated.connect(self.focus_search)

    # what is known

    def set_entries(self, listed: Listed) -> None:
        """All models; the chosen one stays chosen as long as it is shown."""
        self.table.set_entries(listed)
        self._show_details(self.view.path())

    def set_notes(self, notes: Mapping[str, ModelNote]) -> None:
        self.table.set_notes(notes)
        path = self.details.path()
        if path:
            self.details.show_note(notes.get(path, NO_NOTE))

    def set_uses(self, uses: Mapping[str, int] | None) -> None:
        """Pictures by the id of a model; None while they are counted for the first time."""
        self._uses = uses
        self._show_uses()

    def set_facts(self, path: str, facts: ModelFacts) -> None:
        """Of a model that is not shown any more they are passed over."""
        if path == self.details.path():
            self.details.set_facts(facts)

    def set_models_folder(self, folder: str) -> None:
        self._no_model.set_text(
            f"Put a model into {folder} and press Rescan, or press Folders to show where yours are."
        )

    # what is shown

    def value(self) -> ModelFilter:
        return self.bar.value()

    def setValue(self, wanted: ModelFilter) -> None:
        self.bar.setValue(wanted)

    def clear_filter(self) -> None:
        self.bar.setValue(ModelFilter())
        self.focus_search()

    def _filter(self, wanted: ModelFilter) -> None:
        self.table.set_filter(wanted)

    def _show_page(self, shown: Shown) -> None:
        wanted = self.bar.value()
        self.bar.show_counts(shown)
        self.families.show_counts(shown.families, wanted.family)
        self.status.show_counts(len(shown.rows), self.table.total)
        empty = self._no_match if self.table.total else self._no_model
        self._middle.setCurrentWidget(self.view if shown.rows else empty)
        self._choose_shown(shown)

    def _choose_shown(self, shown: Shown) -> None:
        """The details are of a model in the list: of the first while a filter hides the one that was chosen."""
        wanted = self._hidden or self.view.path()
        there = self.table.row_of(wanted) >= 0
        first = self.table.entry(0).record.path if shown.rows else ""
        path = wanted if there else first
        if path != self.view.path():
            self.view.choose(path)
        self._hidden = wanted if not there and self.table.entry_at(wanted) else ""

    def _chosen(self, path: str) -> None:
        self._hidden = ""
        self._show_details(path)

    def _show_details(self, path: str) -> None:
        entry = self.table.entry_at(path) if path else None
        self.details.show_entry(entry, self.table.note(path))
        self._show_uses()
        if entry is not None:
            self.factsRequested.emit(path)

    def _show_uses(self) -> None:
        entry = self.table.entry_at(self.details.path())
        if entry is not None:
            self.details.set_uses(None if self._uses is None else self._uses.get(entry.record.id, 0))

    # what is done

    def use(self, path: str) -> None:
        """Nothing for what cannot draw: the details say why."""
        entry = self.table.entry_at(path)
        if entry is not None and can_draw(entry.record):
            self.details.useRequested.emit(entry.record.id)

    def _turn_star(self, path: str) -> None:
        self.details.favouriteChanged.emit(path, not self.table.note(path).favourite)

    def focus_search(self) -> None:
        self.bar.search.setFocus(Qt.FocusReason.ShortcutFocusReason)
        self.bar.search.selectAll()

    def _type_on(self, text: str) -> None:
        self.bar.search.setFocus(Qt.FocusReason.OtherFocusReason)
        self.bar.search.setText(self.bar.search.text() + text)

    def _to_table(self) -> None:
        if self.table.shown.rows:
            self.view.setFocus(Qt.FocusReason.OtherFocusReason)
            if not self.view.currentIndex().isValid():
                self.view.choose(self.table.entry(0).record.path)

    def _take_first(self) -> None:
        """Enter in the search takes the only one that is left, else it goes to the list."""
        if len(self.table.shown.rows) == 1:
            self.use(self.table.entry(0).record.path)
        else:
            self._to_table()

    def menu(self, path: str) -> QMenu:
        """What can be done with one model."""
        details, favourite = self.details, self.table.note(path).favourite
        entry = self.table.entry_at(path)
        star = "Remove from favourites" if favourite else "Add to favourites"
        rows = (
            ("play", "Use this model", "Draw with this model.", lambda: self.use(path)),
            ("star", star, "Favourites come first in the choice of a model.", lambda: self._turn_star(path)),
            (
                "folder",
                "Show in the file manager",
                "Open its folder.",
                lambda: details.revealRequested.emit(path),
            ),
            (
                "copy",
                "Copy the path",
                "Copy where it lies.",
                lambda: QGuiApplication.clipboard().setText(path),
            ),
        )
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        for drawing, text, tip, run in rows:
            action = menu.addAction(icon(drawing), text)
            action.setToolTip(plain_tooltip(tip))
            action.triggered.connect(lambda _checked=False, run=run: run())
        menu.actions()[0].setEnabled(entry is not None and can_draw(entry.record))
        return menu

    def _open_menu(self, path: str, at: QPoint) -> None:
        menu = self.menu(path)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.popup(at)

    # Qt's own events

    def event(self, event: QEvent) -> bool:
        """Esc is the window's shortcut for Cancel; here it goes back, whatever is drawn meanwhile."""
        key = event.key() if isinstance(event, QKeyEvent) else None
        if event.type() == QEvent.Type.ShortcutOverride and key == Qt.Key.Key_Escape:
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.backRequested.emit()
        else:
            super().keyPressEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        wide = self.width() >= _FAMILIES_FROM
        self.families.setVisible(wide)
        self.bar.show_families(not wide)


class Nothing(QWidget):
    """Instead of the table: what is the matter, and one thing to do about it."""

    asked = Signal()

    def __init__(self, title: str, text: str, button: str, tip: str) -> None:
        super().__init__()
        self._text = Label(text, muted=True, wrap=True)
        head = Label(title, TextSize.TITLE, bold=True)
        for label in (head, self._text):
            label.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.button = QPushButton(button)
        name_control(self.button, button, tip)
        self.button.clicked.connect(self.asked)
        lines = column(self, M)
        lines.setContentsMargins(XL, XL, XL, XL)
        lines.addStretch(1)
        lines.addWidget(Drawing("search", 40), 0, Qt.AlignmentFlag.AlignHCenter)
        lines.addWidget(head)
        lines.addWidget(self._text)
        lines.addWidget(self.button, 0, Qt.AlignmentFlag.AlignHCenter)
        lines.addStretch(2)

    def set_text(self, text: str) -> None:
        self._text.setText(text)

    def text(self) -> str:
        return self._text.text()


def _line() -> QFrame:
    """Between parts."""
    line = QFrame()
    line.setObjectName("line")
    line.setFixedHeight(1)
    return line
