"""`Viewer`: the picture, what it is, and what can be done with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction, QContextMenuEvent, QImage, QMouseEvent, QPalette
from PySide6.QtWidgets import QApplication, QFrame, QMenu, QStackedWidget, QWidget

from pipelines.spec.events import Preview
from widgets.canvas import Canvas
from widgets.controls import IconButton
from widgets.drawing import Drawing
from widgets.field import column, row
from widgets.icons import icon
from widgets.metrics import TONE_ROLES, XL, XS, M, S, TextSize, Tone
from widgets.picture_model import RESTORE, RESTORE_TIP
from widgets.plain import ElidedLabel, Label, plain_tooltip

_LAST_OF_GROUP = ("actual", "restore", "folder")
_MEASURE = 440  # logical pixels: a longer line is hard to read


class Viewer(QWidget):
    """Starts empty. The signals carry the path of the picture that is shown."""

    copyRequested = Signal(str)
    saveAsRequested = Signal(str)
    restoreRequested = Signal(str)
    revealRequested = Signal(str)
    deleteRequested = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._path = ""
        self.canvas = Canvas()
        self._message = Message()
        self._pages = QStackedWidget()
        self._pages.addWidget(self._message)
        self._pages.addWidget(self.canvas)
        self._caption = ElidedLabel("", TextSize.SMALL, muted=True)
        self._zoom = Label("", TextSize.SMALL, muted=True)
        self._zoom.setToolTip("How large a pixel of the picture is on the screen. It changes only the view.")
        self._actions = self._make_actions()
        self._grip = Grip(self.canvas)
        self._lay_out()
        self.canvas.zoomChanged.connect(self._show_zoom)
        self.show_empty("No picture yet", "Write what you want to see and press Generate.")

    def _make_actions(self) -> dict[str, QAction]:
        """The rows of the bar and of the context menu, by drawing: words, what it does, what runs."""
        rows: tuple[tuple[str, str, str, Callable[[], None]], ...] = (
            ("fit", "Fit", "Show the whole picture (0).", self.canvas.fit),
            (
                "actual",
                "100 %",
                "Show each pixel of the picture as one of the screen (1).",
                self._actual_size,
            ),
            ("restore", RESTORE, RESTORE_TIP, self._restore),
            ("copy", "Copy picture", "Put the picture on the clipboard.", self._copy),
            ("save", "Save as…", "Save a copy of the picture in another place or format.", self._save_as),
            ("folder", "Show in folder", "Open the folder in which the picture lies.", self._reveal),
            ("trash", "Delete…", "Move the picture's file to the trash.", self._delete),
        )
        return {drawing: self._action(drawing, text, tip, run) for drawing, text, tip, run in rows}

    def _action(self, drawing: str, text: str, tip: str, run: Callable[[], None]) -> QAction:
        action = QAction(icon(drawing), text, self)
        action.setToolTip(plain_tooltip(tip))
        action.triggered.connect(run)
        return action

    def _lay_out(self) -> None:
        bar = row(self._caption, self._zoom, spacing=XS)
        bar.setContentsMargins(M, XS, S, XS)
        bar.setStretch(0, 1)
        for drawing, action in self._actions.items():
            button = IconButton(drawing, action.text(), action.toolTip())
            button.clicked.connect(action.trigger)
            action.enabledChanged.connect(button.setEnabled)
            bar.addWidget(button)
            if drawing in _LAST_OF_GROUP:
                bar.addSpacing(M)
        bar.insertWidget(bar.count() - 1, self._grip)
        lines = column(self, 0)
        lines.addWidget(self._pages, 1)
        lines.addLayout(bar)

    def path(self) -> str:
        """Of the picture that is shown, '' for a preview and for none."""
        return self._path

    def zoom(self) -> float:
        """1.0 = 100 %."""
        return self.canvas.zoom()

    def show_picture(self, path: str, image: QImage, seed: int | None = None) -> None:
        """`image` is what the file `path` holds; `seed`, where it is known, stands in the caption."""
        parts = [
            f"{image.width()} × {image.height()}",
            f"seed {seed}" if seed is not None else "",
            Path(path).name,
        ]
        self._show_canvas(image, path, " · ".join(part for part in parts if part))

    def show_preview(self, preview: Preview, text: str) -> None:
        """The unfinished picture; `text` such as 'Step 7 of 20' stands in the caption."""
        stride = 3 * preview.width
        image = QImage(preview.rgb, preview.width, preview.height, stride, QImage.Format.Format_RGB888)
        # The copy outlives `rgb`, which QImage only borrows.
        self._show_canvas(image.copy(), "", text)

    def show_empty(self, title: str, text: str) -> None:
        """Nothing to show yet; `text` says what to do."""
        self._show_message("picture", QPalette.ColorRole.PlaceholderText, title, text)

    def message(self) -> str:
        """What stands where a picture would be, '' while there is one."""
        seen = self._pages.currentWidget() is self._message
        return f"{self._message.accessibleName()}. {self._message.accessibleDescription()}" if seen else ""

    def show_error(self, title: str, text: str) -> None:
        """No picture came; `text` says why and what to do."""
        self._show_message("error", TONE_ROLES[Tone.ERROR], title, text)

    def _show_canvas(self, image: QImage, path: str, caption: str) -> None:
        self._pages.setCurrentWidget(self.canvas)
        self._path = path
        self.canvas.set_image(image, path)
        self._caption.setText(caption)
        self._enable()

    def _show_message(self, drawing: str, role: QPalette.ColorRole, title: str, text: str) -> None:
        self._path = ""
        self.canvas.set_image(QImage())
        self._message.show_text(drawing, role, title, text)
        self._pages.setCurrentWidget(self._message)
        self._caption.setText("")
        self._enable()

    def _enable(self) -> None:
        seen = self._pages.currentWidget() is self.canvas
        for drawing, action in self._actions.items():
            action.setEnabled(seen if drawing in ("fit", "actual") else bool(self._path))
        self._grip.setEnabled(bool(self._path))
        self._show_zoom()

    def _show_zoom(self) -> None:
        # The percentage of a preview would be that of its few pixels, which says nothing.
        self._zoom.setText(f"{100 * self.zoom():.0f} %" if self._path else "")

    def _actual_size(self) -> None:
        self.canvas.actual_size()

    def _restore(self) -> None:
        self.restoreRequested.emit(self._path)

    def _delete(self) -> None:
        self.deleteRequested.emit(self._path)

    def _copy(self) -> None:
        self.copyRequested.emit(self._path)

    def _save_as(self) -> None:
        self.saveAsRequested.emit(self._path)

    def _reveal(self) -> None:
        self.revealRequested.emit(self._path)

    def menu(self) -> QMenu:
        """The context menu, fresh each time."""
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        menu.addActions(list(self._actions.values()))
        return menu

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        if self._pages.currentWidget() is self.canvas:
            menu = self.menu()
            menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
            menu.popup(event.globalPos())


class Message(QFrame):
    """A title and a sentence in the middle, where a picture would be."""

    def __init__(self) -> None:
        super().__init__()
        self.setAutoFillBackground(True)
        self.setBackgroundRole(QPalette.ColorRole.Shadow)
        self._drawing = Drawing("picture", 2 * XL)
        self._title = Label("", TextSize.LARGE, bold=True, wrap=True)
        self._text = Label("", muted=True, wrap=True)
        words = QWidget()
        words.setMaximumWidth(_MEASURE)
        lines = column(words, S)
        lines.addStretch(1)
        lines.addWidget(self._drawing, 0, Qt.AlignmentFlag.AlignHCenter)
        lines.addSpacing(S)
        for label in (self._title, self._text):
            label.setAlignment(Qt.AlignmentFlag.AlignHCenter)
            lines.addWidget(label)
        lines.addStretch(1)
        middle = row(words)
        middle.setContentsMargins(XL, XL, XL, XL)
        self.setLayout(middle)

    def show_text(self, drawing: str, role: QPalette.ColorRole, title: str, text: str) -> None:
        self._drawing.show_icon(drawing, role)
        self._title.setText(title)
        self._text.setText(text)
        self.setAccessibleName(title)
        self.setAccessibleDescription(text)


class Grip(IconButton):
    """The picture's file, to be dragged from here also while dragging on the picture would move it."""

    def __init__(self, canvas: Canvas) -> None:
        tip = (
            "Drag this into another program or folder: it takes the picture's file. A click copies the file."
        )
        super().__init__("drag", "Drag the picture out", tip)
        self._canvas = canvas
        self.clicked.connect(self._copy_file)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self.isDown() and not self.rect().contains(event.position().toPoint()):
            self.setDown(False)
            self._canvas.drag_out()

    def _copy_file(self) -> None:
        if data := self._canvas.file_data():
            QApplication.clipboard().setMimeData(data)
