"""`Pictures`: what was made. Fills film strip and viewer on the I/O lane; copies, saves, deletes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QSignalBlocker, Qt, QUrl, Signal, Slot
from PySide6.QtGui import QDesktopServices, QGuiApplication, QImage
from PySide6.QtWidgets import QFileDialog, QMessageBox, QWidget

from desktop.notifications import Notifications
from desktop.picture_files import listed, read_image, save_copy, settings_of, thumbnail, to_trash
from desktop.tasks import Tasks
from pipelines.spec.errors import EngineError
from pipelines.spec.events import ImageSaved, StepDone
from widgets.film_strip import FilmStrip, Picture, PictureModel
from widgets.icons import icon
from widgets.viewer import Viewer

if TYPE_CHECKING:
    from pipelines.library.metadata.read import StoredPicture

FILTER = "Pictures (*.png *.jpg *.webp)"
EMPTY = ("Your picture will appear here", "Describe it on the left and press Generate.")


class Pictures(QObject):
    """`settingsRead` carries a StoredPicture whose settings the user wants back."""

    settingsRead = Signal(object)

    def __init__(
        self,
        viewer: Viewer,
        strip: FilmStrip,
        model: PictureModel,
        tasks: Tasks,
        cache_dir: Path,
        notifications: Notifications,
        window: QWidget,
    ) -> None:
        super().__init__(window)
        self._viewer, self._strip, self._model = viewer, strip, model
        self._tasks, self._cache_dir = tasks, cache_dir
        self._notifications, self._window = notifications, window
        self._folder = Path()
        self._shown = ""
        self._following = True
        self._saved_since_load: list[Picture] = []
        model.thumbnailWanted.connect(self._want_thumbnail)
        strip.selected.connect(self.select)
        strip.restoreRequested.connect(self.restore)
        strip.deleteRequested.connect(self.delete)
        viewer.copyRequested.connect(self.copy)
        viewer.saveAsRequested.connect(self.save_as)
        viewer.revealRequested.connect(self.reveal)
        viewer.restoreRequested.connect(self.restore)
        viewer.deleteRequested.connect(self.delete)
        strip.copyRequested.connect(self.copy)
        strip.revealRequested.connect(self.reveal)
        viewer.show_empty(*EMPTY)

    @property
    def shown(self) -> str:
        """Path of the picture in the viewer, '' for none."""
        return self._shown

    # filling

    def load(self, folder: Path) -> None:
        """Shows the pictures of `folder`, newest first."""
        self._folder = folder
        self._saved_since_load = []
        self._tasks.run(lambda: listed(folder), self._loaded, self._notifications.failure, "load")

    def _loaded(self, found: list[Picture]) -> None:
        early = [p for p in self._saved_since_load if p.path not in {f.path for f in found}]
        self._model.set_pictures([*reversed(early), *found])

    def _want_thumbnail(self, path: str) -> None:
        def failed(_error: Exception) -> None:
            self._model.set_thumbnail(path, QImage())

        self._tasks.run(
            lambda: thumbnail(self._cache_dir, path),
            lambda image: self._model.set_thumbnail(path, image),
            failed,
        )

    # what a job shows

    @Slot()
    def follow(self) -> None:
        """A job has begun: the viewer shows it until the user looks at something else."""
        self._following = True

    @Slot(object)
    def show_preview(self, event: StepDone, text: str) -> None:
        if self._following and event.preview is not None:
            self._viewer.show_preview(event.preview, text)

    @Slot(object)
    def add(self, event: ImageSaved) -> None:
        picture = Picture(
            path=event.path, created=time.time(), width=event.width, height=event.height, marks=event.marks
        )
        self._saved_since_load.append(picture)
        self._model.prepend(picture)
        if self._following:
            self.show(event.path)

    def show_failure(self, title: str, text: str) -> bool:
        """Whether the viewer tells it; it does not while the user looks at another picture."""
        if self._following:
            self._viewer.show_error(title, text)
        return self._following

    def show_no_model(self, folder: Path) -> None:
        self._viewer.show_empty(
            "There is no model yet", f"Put a model into {folder}; it is noticed by itself."
        )

    def show_last(self) -> None:
        """After a cancelled job: back to what was there."""
        if not self._following:
            return
        if self._shown:
            self.show(self._shown)
        else:
            self._viewer.show_empty(*EMPTY)

    # the picture in the viewer

    @Slot(str)
    def select(self, path: str) -> None:
        self._following = False
        self.show(path)

    def show(self, path: str) -> None:
        def failed(error: Exception) -> None:
            text = error.hint if isinstance(error, EngineError) else ""
            self._viewer.show_error(str(getattr(error, "message", error)), text)

        self._shown = path
        with QSignalBlocker(self._strip):  # marking the row is not the user's choice of a picture
            self._strip.select(path)
        self._tasks.run(
            lambda: read_image(path), lambda image: self._viewer.show_picture(path, image), failed, "viewer"
        )

    @Slot(str)
    def restore(self, path: str) -> None:
        def done(stored: StoredPicture | None) -> None:
            if stored is None:
                self._notifications.warning(f"'{Path(path).name}' holds no settings.")
            else:
                self.settingsRead.emit(stored)

        self._tasks.run(lambda: settings_of(path), done, self._notifications.failure, "restore")

    @Slot(str)
    def copy(self, path: str) -> None:
        def done(image: QImage) -> None:
            QGuiApplication.clipboard().setImage(image)
            self._notifications.info("The picture is copied.")

        self._tasks.run(lambda: read_image(path), done, self._notifications.failure, "copy")

    @Slot(str)
    def save_as(self, path: str) -> None:
        target, _ = QFileDialog.getSaveFileName(
            self._window,
            "Save picture as",
            str(Path.home() / Path(path).name),
            FILTER,
        )
        if target:
            self._save_copy(Path(path), Path(target))

    def _save_copy(self, source: Path, target: Path) -> None:
        target = target if target.suffix else target.with_suffix(source.suffix)
        self._tasks.run(
            lambda: save_copy(source, target),
            lambda _none: self._notifications.info(f"Saved as {target.name}."),
            self._notifications.failure,
        )

    @Slot(str)
    def delete(self, path: str) -> None:
        """Asks, then moves the file to the system's trash."""
        box = QMessageBox(self._window)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.setTextFormat(Qt.TextFormat.PlainText)
        box.setIconPixmap(icon("trash").pixmap(32, 32))
        box.setWindowTitle("Delete picture")
        box.setText(f"Move '{Path(path).name}' to the trash?")
        box.addButton(QMessageBox.StandardButton.Cancel)
        yes = box.addButton("Move to trash", QMessageBox.ButtonRole.DestructiveRole)
        yes.clicked.connect(lambda: self._trash(path))
        box.open()

    def _trash(self, path: str) -> None:
        self._tasks.run(lambda: to_trash(path), lambda _none: self._gone(path), self._notifications.failure)

    def _gone(self, path: str) -> None:
        self._model.remove(path)
        if self._shown == path:
            self._shown = ""
            self._viewer.show_empty(*EMPTY)

    @Slot(str)
    def reveal(self, path: str) -> None:
        self._open(Path(path).parent)

    def open_folder(self, folder: Path | None = None) -> None:
        """The pictures folder when none is named."""
        self._open(folder or self._folder)

    def _open(self, folder: Path) -> None:
        if not folder.is_dir():
            self._notifications.info("The pictures folder is made with the first picture.")
        elif not QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder))):
            self._notifications.warning(f"No program here opens folders. It is {folder}")

    def save_shown(self) -> None:
        self._with_shown(self.save_as)

    def copy_shown(self) -> None:
        self._with_shown(self.copy)

    def restore_shown(self) -> None:
        self._with_shown(self.restore)

    def delete_shown(self) -> None:
        self._with_shown(self.delete)

    def _with_shown(self, act: Callable[[str], object]) -> None:
        if self._shown:
            act(self._shown)
        else:
            self._notifications.info("There is no picture in the viewer yet.")
