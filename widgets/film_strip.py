"""`FilmStrip`: what was made, newest first, in a strip that a hundred thousand pictures do not slow."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QEvent, QModelIndex, QPoint, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QContextMenuEvent, QKeyEvent, QResizeEvent
from PySide6.QtWidgets import QFrame, QListView, QMenu, QSizePolicy, QStackedLayout, QWidget

from widgets.context_menu import menu_place
from widgets.controls import IconButton
from widgets.icons import icon
from widgets.metrics import XS, M, S
from widgets.picture_delegate import FRAME, PictureDelegate
from widgets.picture_model import RESTORE, RESTORE_TIP, Picture, PictureModel
from widgets.plain import Label, name_control, plain_tooltip

__all__ = ["FilmStrip", "Picture", "PictureModel"]

_SIDE = 112
_SETTLE_MS = 30  # rows that only fly past while scrolling ask for nothing
_TIP = "The pictures you made, newest first. Click one to see it; A restores its settings, Del deletes it."


class FilmStrip(QWidget):
    """The signals carry the path of the picture that is meant."""

    selected = Signal(str)
    restoreRequested = Signal(str)
    copyRequested = Signal(str)
    revealRequested = Signal(str)
    deleteRequested = Signal(str)

    def __init__(self, model: PictureModel | None = None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.model = model or PictureModel(self)
        self.view = StripView(self.model)
        self._empty = Label("The pictures you make appear here.", muted=True)
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._pages = QStackedLayout(self)
        self._pages.addWidget(self._empty)
        self._pages.addWidget(self.view)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self._connect()
        self._show_page()

    def _connect(self) -> None:
        for changed in (self.model.modelReset, self.model.rowsInserted, self.model.rowsRemoved):
            changed.connect(self._show_page)
        self.view.selectionModel().currentChanged.connect(self._current_changed)
        self.view.activated.connect(self._show_again)
        self.view.restoreWanted.connect(self.restoreRequested)
        self.view.deleteWanted.connect(self.deleteRequested)
        self.view.menuWanted.connect(self._open_menu)

    def current(self) -> str:
        """The path of the picture that is selected, '' for none."""
        index = self.view.currentIndex()
        return self.model.picture(index.row()).path if index.isValid() else ""

    def select(self, path: str) -> None:
        """Selects and shows the row; an unknown path selects nothing."""
        row = self.model.row_of(path)
        index = self.model.index(row) if row >= 0 else QModelIndex()
        self.view.setCurrentIndex(index)
        if index.isValid():
            self.view.scrollTo(index)

    def _show_page(self) -> None:
        self._pages.setCurrentWidget(self.view if self.model.rowCount() else self._empty)

    def _current_changed(self, current: QModelIndex) -> None:
        if current.isValid():
            self.selected.emit(self.model.picture(current.row()).path)

    def _show_again(self, index: QModelIndex) -> None:
        self.selected.emit(self.model.picture(index.row()).path)

    def menu(self, path: str) -> QMenu:
        """What can be done with one picture."""
        rows: tuple[tuple[str, str, str, Callable[[str], None]], ...] = (
            ("picture", "Show", "Show this picture in the viewer.", self.selected.emit),
            ("restore", RESTORE, RESTORE_TIP, self.restoreRequested.emit),
            ("copy", "Copy picture", "Put the picture on the clipboard.", self.copyRequested.emit),
            (
                "folder",
                "Show in folder",
                "Open the folder in which the picture lies.",
                self.revealRequested.emit,
            ),
            ("trash", "Delete…", "Move the picture's file to the trash.", self.deleteRequested.emit),
        )
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        for drawing, text, tip, ask in rows:
            action = menu.addAction(icon(drawing), text)
            action.setToolTip(plain_tooltip(tip))
            action.triggered.connect(lambda _checked=False, ask=ask: ask(path))
        return menu

    def _open_menu(self, path: str, at: QPoint) -> None:
        menu = self.menu(path)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.popup(at)


class StripView(QListView):
    """A virtual list in one line. Only rows in view ask for thumbnails, once the scrolling has settled."""

    restoreWanted = Signal(str)
    deleteWanted = Signal(str)
    menuWanted = Signal(str, QPoint)

    def __init__(self, model: PictureModel) -> None:
        super().__init__()
        self._pictures = model
        self._delegate = PictureDelegate(_SIDE, self)
        self.setModel(model)
        self.setItemDelegate(self._delegate)
        self._shape()
        name_control(self, "Pictures", _TIP)
        self._settle = QTimer(self, singleShot=True, interval=_SETTLE_MS)
        self._settle.timeout.connect(self._want)
        self._restore = IconButton("restore", RESTORE, RESTORE_TIP, self.viewport())
        self._restore.setAutoFillBackground(True)
        self._restore.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the key A does the same
        self._restore.setVisible(False)
        self._restore_path = ""
        self._connect()

    def _shape(self) -> None:
        self.setFlow(QListView.Flow.LeftToRight)
        self.setWrapping(False)
        self.setUniformItemSizes(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollMode(QListView.ScrollMode.ScrollPerPixel)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSelectionMode(QListView.SelectionMode.SingleSelection)
        self.setEditTriggers(QListView.EditTrigger.NoEditTriggers)
        self.setMouseTracking(True)
        self.horizontalScrollBar().setAccessibleName("Scroll through the pictures")
        self.horizontalScrollBar().setToolTip("Scroll through the pictures")
        self.setViewportMargins(
            M - XS - FRAME - 2, 0, 0, 0
        )  # the first picture stands under the dock's title
        self.horizontalScrollBar().setSingleStep(self._delegate.cell().width())

    def _connect(self) -> None:
        self._restore.clicked.connect(self._ask_restore)
        self.entered.connect(self._offer_restore)
        self.horizontalScrollBar().valueChanged.connect(self._scrolled)
        for changed in (self._pictures.modelReset, self._pictures.rowsInserted, self._pictures.rowsRemoved):
            changed.connect(self._scrolled)

    def rows_in_view(self) -> range:
        """From the scroll position alone: all cells are equally wide."""
        width = self._delegate.cell().width()
        first = self.horizontalScrollBar().value() // width
        last = (self.horizontalScrollBar().value() + self.viewport().width()) // width
        return range(first, min(last + 1, self._pictures.rowCount()))

    def _scrolled(self) -> None:
        self._restore.setVisible(False)
        self._settle.start()

    def _want(self) -> None:
        if self.isVisible():
            self._pictures.want(self.rows_in_view())

    def showEvent(self, event: QEvent) -> None:
        super().showEvent(event)  # pyright: ignore[reportArgumentType]
        self._settle.start()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._settle.start()

    def sizeHint(self) -> QSize:
        bar = self.horizontalScrollBar().sizeHint().height()
        return QSize(4 * self._delegate.cell().width(), self._delegate.cell().height() + bar + S)

    def minimumSizeHint(self) -> QSize:
        return QSize(self._delegate.cell().width(), self.sizeHint().height())

    def _path_at(self, index: QModelIndex) -> str:
        return self._pictures.picture(index.row()).path if index.isValid() else ""

    def _offer_restore(self, index: QModelIndex) -> None:
        self._restore_path = self._path_at(index)
        cell = self.visualRect(index)
        self._restore.adjustSize()
        self._restore.move(cell.right() - self._restore.width() - M, cell.top() + M)
        self._restore.setVisible(True)

    def _ask_restore(self) -> None:
        if self._restore_path:
            self.restoreWanted.emit(self._restore_path)

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self._restore.setVisible(False)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        path = self._path_at(self.currentIndex())
        if path and event.key() == Qt.Key.Key_A and not event.modifiers():
            self.restoreWanted.emit(path)
        elif path and event.key() == Qt.Key.Key_Delete:
            self.deleteWanted.emit(path)
        else:
            super().keyPressEvent(event)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        index, at = menu_place(self, event)
        if index.isValid():
            self.menuWanted.emit(self._path_at(index), at)
