"""`Models`: the models there are. Scans, hashes and counts in the background, keeps notes, fills the Models page."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QObject, QTimer, QUrl, Signal, Slot
from PySide6.QtGui import QDesktopServices

from desktop.hashing import Hashing
from desktop.main_window import MainWindow
from desktop.model_lookup import Scanned, facts_of_model, folder_to_open, scanned
from desktop.note_keeper import NoteKeeper
from desktop.notifications import Notifications, sentences
from desktop.session import Session
from desktop.settings import SettingsFile
from desktop.tasks import Tasks
from desktop.watching import Watching
from pipelines.library import folders
from pipelines.spec.errors import Cancelled, EngineError
from pipelines.spec.model_note import ModelDefaults, ModelFacts, ModelNote
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest

TELL_S = 0.05  # between two words about how far a scan is
RECENT = 5
NO_MODEL = "No model was found."


class Models(QObject):
    """`found` carries the records of each scan, `settingsChanged` says that they are to be saved."""

    found = Signal(object)
    settingsChanged = Signal()
    _progress = Signal(int, int)

    def __init__(
        self,
        roots: tuple[Path, ...],
        data: Path,
        cache: Path,
        settings: SettingsFile,
        tasks: Tasks,
        session: Session,
        window: MainWindow,
        notifications: Notifications,
    ) -> None:
        super().__init__(window)
        self._roots, self._data, self._cache = roots, data, cache
        self._settings, self._tasks, self._session = settings, tasks, session
        self._window, self._notifications = window, notifications
        self.page = window.models_page
        self.hashing = Hashing(data, self)
        self.watching = Watching(tasks, self)
        self.keeper = NoteKeeper(data, tasks, notifications.failure)
        self._records: tuple[ModelRecord, ...] = ()
        self._by_path: dict[str, ModelRecord] = {}
        self._output_dir: Callable[[], Path] = Path
        self._scanning = self._counting = self._enough = self._closed = False
        self._again = self._told_trouble = self._seen = False
        self._hashed = ""
        self._trouble: EngineError | None = None
        self.page.set_models_folder(str(folders.models_dir()))
        self.page.status.set_hashing(settings.value.hash_in_background)
        self._connect()

    def _connect(self) -> None:
        page, details = self.page, self.page.details
        page.rescanRequested.connect(self.scan)
        page.foldersRequested.connect(self.choose_folders)
        page.folderOpened.connect(self.open_folder)
        page.factsRequested.connect(self._look_up)
        page.status.cancelRequested.connect(self._stop_scan)
        page.status.hashingSwitched.connect(self._switch_hashing)
        details.useRequested.connect(self._use)
        details.revealRequested.connect(self._reveal)
        details.favouriteChanged.connect(self._set_favourite)
        details.noteChanged.connect(self._set_text)
        details.defaultsRequested.connect(self._set_defaults)
        details.hashRequested.connect(self._hash_first)
        self._window.panels["model"].browseRequested.connect(self._window.turn_page)
        self._window.pages.turned.connect(self._page_turned)
        self._session.submitted.connect(self._used)
        self.hashing.told.connect(self._hashing_said)
        self.watching.changed.connect(self.scan)
        self._progress.connect(self._scan_said)

    def count_in(self, output_dir: Callable[[], Path]) -> None:
        """Says where the pictures are in which a model's uses are counted."""
        self._output_dir = output_dir

    def close(self) -> None:
        """What was written is kept, what runs ends."""
        self._closed = True
        self.watching.stop()
        self.page.details.keep_note()

    def stop(self) -> None:
        """After the tasks have ended."""
        self.hashing.stop()
        self.keeper.close()

    # the scan

    @Slot()
    def scan(self) -> None:
        """Once more after the one that runs, if one does."""
        if self._scanning:
            self._again = True
            return
        self._scanning, self._again, self._enough = True, False, False
        self.page.status.show_scan((0, 0))
        self.page.rescan.setEnabled(False)
        self._tasks.run(self._scan, self._scanned, self._not_scanned)

    def watch(self) -> None:
        """From now on what comes, goes or changes in the model folders is scanned by itself."""
        self.watching.watch(self.roots())

    def roots(self) -> list[Path]:
        return [*self._roots, *(Path(folder) for folder in self._settings.value.model_folders)]

    def _scan(self) -> Scanned:
        last = 0.0

        def progress(done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= TELL_S:
                last = now
                self._progress.emit(done, total)

        return scanned(
            self.roots(), self._data, self.keeper.store, progress, self._check_open, lambda: self._enough
        )

    def _check_open(self) -> None:
        """A first scan of thousands of files ends with the window."""
        if self._closed:
            raise Cancelled("scan")

    @Slot(int, int)
    def _scan_said(self, done: int, total: int) -> None:
        if self._scanning:
            self.page.status.show_scan((done, total), self._enough)

    @Slot()
    def _stop_scan(self) -> None:
        self._enough = True
        self.page.status.show_scan((0, 0), ending=True)

    def _not_scanned(self, error: Exception) -> None:
        self._scan_ended()
        self._notifications.failure(error)

    def _scan_ended(self) -> None:
        self._scanning = False
        self.page.status.show_scan(None)
        self.page.rescan.setEnabled(True)

    def _scanned(self, found: Scanned) -> None:
        """What the window does with thousands of them is done in two turns of its loop."""
        cut_short, same = self._enough, self._seen and found.records == self._records
        self._scan_ended()
        if same and not cut_short and not self._again:  # nothing to fill anew, and no hashing to begin again
            self.keeper.set_read(found.notes)  # one may have followed a file whose hash is known by now
            self._share_notes()
            self._trouble = found.trouble
            self._tell_trouble()
            return
        self._seen = True
        self._records = found.records
        self._by_path = {record.path: record for record in found.records}
        self.keeper.set_read(found.notes)
        self._share_notes()
        self._session.set_records(found.records)
        if found.records:
            self._notifications.take_back(NO_MODEL)
        self.found.emit(found.records)
        QTimer.singleShot(0, self, lambda: self._show(found))
        self._trouble = found.trouble
        self._tell_trouble()
        if cut_short:
            self._notifications.info("The search was stopped; Rescan goes on with it.")
        if self._again:
            self.scan()

    def _tell_trouble(self) -> None:
        """Once a run, and to those only who look at the models: pictures are made all the same."""
        aside, trouble = self.keeper.set_aside, self._trouble
        if self._told_trouble or not self._window.pages.on_models or (trouble is None and aside is None):
            return
        self._told_trouble = True
        if trouble is not None:
            text = sentences(trouble.message, trouble.hint)
            self._notifications.warning(f"{text} What you note is lost when the program ends.")
        else:
            self._notifications.warning(
                "The file with your notes, favourites and default settings of models was damaged. They begin anew; "
                f"the file is kept as {aside}."
            )

    def _show(self, found: Scanned) -> None:
        self.page.set_entries(found.listed)
        self._hash_all()
        if self._window.pages.on_models:
            self._count_uses()

    def tell_no_model(self) -> None:
        self._notifications.error(NO_MODEL, "Open models folder", self.open_folder)

    # folders

    @Slot()
    def open_folder(self) -> None:
        """The folder that models go into; it is made if need be."""
        folder = folders.models_dir()

        def made() -> Path:
            folder.mkdir(parents=True, exist_ok=True)
            return folder

        self._tasks.run(made, self._open, self._notifications.failure)

    @Slot()
    def choose_folders(self) -> None:
        from desktop.dialogs.model_folders import ModelFolders

        fixed = tuple(str(root) for root in self._roots)
        paths = tuple(self._by_path)
        dialog = ModelFolders(fixed, self._settings.value.model_folders, paths, self._window)
        dialog.accepted.connect(lambda: self._set_folders(dialog.value()))
        dialog.open()

    def _set_folders(self, chosen: tuple[str, ...]) -> None:
        if chosen != self._settings.value.model_folders:
            self._settings.change(model_folders=chosen)
            self.settingsChanged.emit()
            self.watch()
        self.scan()

    @Slot(object)
    def _reveal(self, path: str) -> None:
        self._tasks.run(lambda: folder_to_open(Path(path)), self._open, self._notifications.failure)

    def _open(self, folder: Path) -> None:
        if not QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder))):
            self._notifications.warning(f"No program here opens folders. It is {folder}")

    # one model

    @Slot(object)
    def _use(self, model: str) -> None:
        self._session.choose(model)
        self._window.pages.show_picture()

    @Slot(object)
    def _look_up(self, path: str) -> None:
        record = self._by_path.get(path)
        if record is None:
            return

        def done(facts: ModelFacts) -> None:
            self.page.set_facts(path, facts)

        self._tasks.run(lambda: facts_of_model(record, self._data), done, None, "facts")

    # notes

    @Slot(object, bool)
    def _set_favourite(self, path: str, on: bool) -> None:
        self._note(path, replace(self.keeper.note(path), favourite=on))

    @Slot(object, str)
    def _set_text(self, path: str, text: str) -> None:
        self._note(path, replace(self.keeper.note(path), text=text))

    @Slot(object, bool)
    def _set_defaults(self, path: str, take: bool) -> None:
        request = self._session.request()
        own = ModelDefaults(sampling=replace(request.sampling, seed=0), size=request.size) if take else None
        record = self._by_path.get(path)
        if record is not None and own is not None and (why := self._session.misfit(own, record)):
            self._notifications.warning(f"The current settings do not fit this model. {why}")
            return
        self._note(path, replace(self.keeper.note(path), defaults=own))

    @Slot(object)
    def _used(self, request: GenerationRequest) -> None:
        record = next((record for record in self._session.records() if record.id == request.model), None)
        if record is not None:
            self._note(record.path, replace(self.keeper.note(record.path), used=time.time()))

    def _note(self, path: str, note: ModelNote) -> None:
        self.keeper.keep(path, note)
        self._share_notes()

    def _share_notes(self) -> None:
        """To the page, to the choice of a model and to what a request begins with."""
        notes = {path: note for path, note in self.keeper.notes.items() if path in self._by_path}
        used = sorted((note.used, path) for path, note in notes.items() if note.used)
        recent = tuple(self._by_path[path].id for _, path in reversed(used))
        favourites = frozenset(self._by_path[path].id for path, note in notes.items() if note.favourite)
        self._session.own_defaults = {
            self._by_path[path].id: note.defaults for path, note in notes.items() if note.defaults
        }
        self._window.panels["model"].set_preferred(favourites, recent[:RECENT])
        self.page.set_notes(self.keeper.notes)

    # uses

    @Slot(bool)
    def _page_turned(self, to_models: bool) -> None:
        if to_models:
            self._tell_trouble()
            self._count_uses()

    def _count_uses(self) -> None:
        """Not beside a scan: pictures need the other thread."""
        if self._counting or self._scanning or self._closed:
            return
        self._counting = True
        folder = self._output_dir()

        def work() -> dict[str, int]:
            from pipelines.library.picture_models import count_uses

            return count_uses(folder, self._cache, self._check_counting)

        self._tasks.run(work, self._counted, self._not_counted)

    def _check_counting(self) -> None:
        if self._closed or self._scanning:
            raise Cancelled("uses")

    def _counted(self, uses: dict[str, int]) -> None:
        self._counting = False
        self.page.set_uses(uses)

    def _not_counted(self, error: Exception) -> None:
        self._counting = False
        if not isinstance(error, Cancelled):
            self._notifications.failure(error)

    # hashes

    def _hash_all(self, first: str = "") -> None:
        """`first` also where nothing is hashed in the background."""
        wanted = [self._by_path[first]] if first in self._by_path else []
        if self._settings.value.hash_in_background:
            wanted += [record for record in self._records if record.path != first]
        if wanted:
            self.hashing.start(wanted)
        else:
            self.hashing.leave()

    @Slot(object)
    def _hash_first(self, path: str) -> None:
        waits = "Waits until the picture is made." if self.hashing.resting else "Reading the file…"
        self.page.details.set_hashing(waits)
        self._hashed = path
        self._hash_all(path)

    @Slot(bool)
    def _switch_hashing(self, on: bool) -> None:
        self._settings.change(hash_in_background=on)
        self.settingsChanged.emit()
        self.page.status.show_hashing("")
        self._hash_all()

    @Slot(object, float, float)
    def _hashing_said(self, path: str, done: float, size: float) -> None:
        share = f", {100 * done / size:.0f} %" if size else ""
        self.page.status.show_hashing(f"Hashing {Path(path).name}{share}" if path else "")
        if path == self.page.details.path() and path:
            self.page.details.set_hashing(f"Reading the file{share}")
        if self._hashed and path != self._hashed and self._hashed == self.page.details.path():
            self._look_up(self._hashed)
        self._hashed = path
