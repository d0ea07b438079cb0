"""The composition root: builds every part, connects them, and takes them down again in order."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt, QTimer, Slot
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication

from desktop import theme
from desktop.downloads import Downloads
from desktop.engine_bridge import EngineBridge, EngineFactory, engine_factory
from desktop.engine_settings import EngineSettings
from desktop.failures import Failures
from desktop.help_pages import HelpPages
from desktop.main_window import MainWindow
from desktop.model_defaults import defaults_for
from desktop.models import Models
from desktop.notifications import Notifications, sentences
from desktop.panels import make_panels
from desktop.pictures import Pictures
from desktop.preflight import Preflight
from desktop.progress_words import step_text
from desktop.recovery import Recovery
from desktop.saving import Saving
from desktop.session import Engine, Session
from desktop.settings import SettingsFile
from desktop.stall_watch import StallWatch
from desktop.tasks import Tasks
from desktop.token_counts import TokenCounts
from pipelines.library import attention, compiled_dir, folders, measured, rates, runs
from pipelines.spec.errors import EngineError
from pipelines.spec.events import JobCancelled, JobStarted, StepDone
from pipelines.spec.options import EngineOptions
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest, Prompt

if TYPE_CHECKING:
    from pipelines.library.jobs import JobStore
    from pipelines.library.metadata.read import StoredPicture

log = logging.getLogger(__name__)

FIRST_PROMPT = Prompt(text="a large red circle on a blue background")
CLOSE_LIMIT_S = 4.0


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of one run. Nothing is made here."""

    config: Path
    data: Path
    cache: Path
    outputs: Path

    @classmethod
    def of_user(cls) -> Places:
        return cls(
            folders.config_dir(), folders.data_dir(), folders.cache_dir(), folders.default_output_dir()
        )


class Application(QObject):
    """One window with all that belongs to it. `make_factory` builds engines; tests give a scripted one."""

    def __init__(
        self,
        places: Places,
        make_factory: Callable[[EngineOptions], EngineFactory] = engine_factory,
        *,
        log_file: Path | None = None,
        model_roots: tuple[Path, ...] = (),
    ) -> None:
        super().__init__()
        self._places = places
        self.settings = SettingsFile(places.config / "settings.json")
        self.settings.load()
        if isinstance(app := QApplication.instance(), QApplication):
            theme.set_style(app)
        self.tasks = Tasks(parent=self)
        self.store: JobStore | None = None
        self.bridge = EngineBridge(self.engine_options(), make_factory, self)
        self.window = MainWindow(make_panels())
        self.session = Session(self.bridge, self.window.panels, self)
        self.notifications = Notifications(self.window.banner, log_file, self.window)
        self.pictures = Pictures(
            self.window.viewer,
            self.window.strip,
            self.window.model,
            self.tasks,
            places.cache,
            self.notifications,
            self.window,
        )
        self.models = Models(
            model_roots or folders.default_roots(),
            places.data,
            places.cache,
            self.settings,
            self.tasks,
            self.session,
            self.window,
            self.notifications,
        )
        self.models.count_in(self.output_dir)
        self.preflight = Preflight(
            places.data, self.tasks, self.session, self.bridge, self.window.card, self.window.gauge, self
        )
        self.preflight.dtype = self.settings.value.dtype
        self.engine_settings = EngineSettings(self.settings, self.session, self.bridge, self.window)
        self.downloads = Downloads(places.data, self.tasks, self.notifications, self.settings, self.window)
        value = self.settings.value
        self.stall_watch = StallWatch(value.load_limit_s, value.step_limit_s, value.compile_limit_s, self)
        self.token_counts = TokenCounts(self.session, self.tasks, self.window.panels["prompt"], self)
        self.help = HelpPages(
            self.window, self.session, self.tasks, self.notifications, log_file, self.output_dir
        )
        self.failures = Failures(
            self.session, self.bridge, self.pictures, self.notifications, self.help, self.window
        )
        self.saving = Saving(self.settings, self.tasks, self.notifications, self)
        self._started = False
        self._restored = self._without_model = False
        self._closed = False
        self._stopped = True
        self._connect()
        self.window.use(self.session, self.pictures)
        self.window.restore_layout(value.geometry, value.docks)
        self._show_theme()  # last: with a style sheet each change of a widget costs twice as much

    def engine_options(self) -> EngineOptions:
        value = self.settings.value
        return EngineOptions(
            output_dir=str(self.output_dir()),
            device=value.device,
            encoders_device=value.encoders_device,
            dtype=value.dtype,
            attention=value.attention,
            deterministic=value.deterministic,
            threads=value.threads,
            preview=value.preview,
            filename_pattern=value.filename_pattern,
            measured_file=str(self._places.data / measured.FILE),
            attention_file=str(self._places.data / attention.FILE),
            rates_file=str(self._places.data / rates.FILE),
            runs_file=str(self._places.data / runs.FILE),
            compiled_dir=str(self._places.cache / compiled_dir.FOLDER),
        )

    def output_dir(self) -> Path:
        return Path(self.settings.value.output_dir or self._places.outputs)

    def _connect(self) -> None:
        session, window = self.session, self.window
        session.saved.connect(self.pictures.add)
        session.previewed.connect(self._show_preview)
        session.jobEnded.connect(self._job_ended)
        session.requestChanged.connect(self._request_changed)
        self.bridge.told.connect(self._engine_said)
        self.bridge.told.connect(self.stall_watch.see)
        self.stall_watch.stalled.connect(self.failures.stalled)
        self.failures.folderChosen.connect(self._choose_folder)
        self.pictures.settingsRead.connect(self._restore)
        self.models.found.connect(self._models_found)
        self.models.settingsChanged.connect(self.saving.now)
        self.engine_settings.changed.connect(self._engine_settings_changed)
        self.notifications.bugSeen.connect(self.saving.now)
        window.painted.connect(self._first_paint)
        window.closing.connect(self.close)
        window.themeChosen.connect(self._choose_theme)
        window.folderChosen.connect(self._choose_folder)
        window.downloadsWanted.connect(self.downloads.show)
        window.freeWanted.connect(self.bridge.free_memory)
        self.models.page.downloadsRequested.connect(self.downloads.show)
        self.models.page.details.reason.fetchRequested.connect(self.downloads.add_part)
        self.downloads.finished.connect(self.models.scan)
        window.pictureDropped.connect(self.pictures.restore)
        window.dropRefused.connect(self.notifications.failure)
        hints = QGuiApplication.styleHints()
        hints.colorSchemeChanged.connect(self._show_theme)

    # start

    @Slot()
    def _first_paint(self) -> None:
        """The window is there and takes input; only now does anything heavy begin."""
        QTimer.singleShot(0, self._start)

    @Slot()
    def _start(self) -> None:
        if self._started or self._closed:
            return
        self._started = True
        self.tasks.run(lambda: open_store(self._places.data), self._store_opened)
        self.models.scan()
        self.preflight.start()
        self.downloads.offer_unfinished()
        self.models.watch()
        self.pictures.load(self.output_dir())
        self.tasks.run(self._tidy)
        self.saving.tell_unread()

    def _tidy(self) -> None:
        """What killed runs left half-written, and thumbnails beyond what is kept."""
        from pipelines.library.files import sweep_temporaries
        from pipelines.library.thumbnails import Thumbnails

        sweep_temporaries(self.output_dir())
        Thumbnails(self._places.cache).trim()

    @Slot(object)
    def _models_found(self, _all: tuple[ModelRecord, ...]) -> None:
        records = self.session.records()
        if not records:
            self.pictures.show_no_model(folders.models_dir())
            self.models.tell_no_model()
            self._without_model = True
            return
        if self._without_model:
            self._without_model = False
            self.pictures.show_last()  # instead of the word that there is no model
        if not self._restored:
            self._restored = True
            last = self.settings.value.last_request
            found = self.session.set_request(last or first_request(records))
            if last is not None and found:
                told = " ".join(sentences(problem.message, problem.hint) for problem in found)
                self.notifications.warning(f"Some settings of the last time cannot be used now. {told}")
            self.window.panels["sampling"].set_seed_locked(self.settings.value.seed_locked)
            self._offer_unfinished()

    def _store_opened(self, store: JobStore | None) -> None:
        """Only now the engine starts: three threads that import at once leave the window too few turns."""
        self.store = store
        if store is None:
            self.notifications.warning("The queue cannot be kept on disk; pictures are made all the same.")
        else:
            self.bridge.use_store(store)
        if not self.bridge.started:  # other settings may have started it
            self.bridge.start()
        self._offer_unfinished()

    def _offer_unfinished(self) -> None:
        """Once both the models and the queue of the last run are known."""
        if self.store is not None and self._restored:
            Recovery(self.store, self.session, self.tasks, self.notifications, self.window).look()

    # while it runs

    @Slot(object)
    def _engine_said(self, event: object) -> None:
        if isinstance(event, JobStarted):
            self.models.hashing.rest(True)
            self.pictures.follow()

    @Slot(object)
    def _show_preview(self, event: StepDone) -> None:
        self.pictures.show_preview(event, step_text(event))

    @Slot(object)
    def _job_ended(self, event: object) -> None:
        if isinstance(event, JobCancelled):
            self.pictures.show_last()
        self.models.hashing.rest(self.session.state.busy)
        self._renew_engine()

    @Slot(object)
    def _restore(self, stored: StoredPicture) -> None:
        """All settings of a picture; what cannot be used here is left as it was and named."""
        request, now = stored.request, self.session.request()
        # What a picture does not show is not in it: those switches stay as they are.
        speed = replace(now.speed, step_cache=request.speed.step_cache, cache_limit=request.speed.cache_limit)
        found = self.session.set_request(replace(request, speed=speed))
        self.window.panels["sampling"].set_seed_locked(True)  # the next Generate shall make the same picture
        left_out = [*stored.notes, *(sentences(p.message, p.hint) for p in found)]
        if left_out:
            self.notifications.warning(
                "Some settings of the picture were not taken over. " + " ".join(left_out)
            )
        else:
            self.notifications.info("All settings of the picture are back, its seed is locked.")

    @Slot(object)
    def _request_changed(self, request: GenerationRequest) -> None:
        self.window.inputs.set_family(self.session.family())
        if self._restored:
            self.settings.change(last_request=request)
            self.saving.later()

    # settings

    @Slot(str)
    def _choose_theme(self, name: str) -> None:
        self.settings.change(theme=name)
        self._show_theme()
        self.saving.now()

    @Slot()
    def _show_theme(self) -> None:
        name = self.settings.value.theme
        app = QApplication.instance()
        if isinstance(app, QApplication):
            system = name == "system"
            theme.apply(app, theme.system_theme(app) if system else theme.Theme(name))
        self.window.show_theme(name)

    @Slot(str)
    def _choose_folder(self, folder: str) -> None:
        self.settings.change(output_dir=folder)
        self.saving.now()
        self.pictures.load(self.output_dir())
        self.bridge.use_options(self.engine_options())
        self._renew_engine()

    @Slot()
    def _engine_settings_changed(self) -> None:
        self.saving.now()
        self.preflight.dtype = self.settings.value.dtype
        self.bridge.use_options(self.engine_options())
        if not self.bridge.outdated:  # changed back before a picture was done
            self.notifications.info("The engine has these settings already.")
        elif self._renew_engine():
            self.notifications.info("The engine starts anew with these settings.")
        else:
            self.notifications.info("These settings are used once the pictures that are asked for are done.")

    def _renew_engine(self) -> bool:
        """Builds it anew where its options are no longer those of the settings; False where that waits for a job."""
        state = self.session.state
        # A pause holds what would begin; for an engine that has stopped, jobs would wait for ever.
        if state.busy and not self.bridge.paused and state.engine is not Engine.STOPPED:
            return False
        if self.bridge.outdated:
            self.session.restart_engine()
        return True

    def report_crash(self, texts: list[str]) -> None:
        """`texts`: what the runs before left behind when they ended unexpectedly."""
        if texts:
            self.notifications.warning(
                "Emulsion ended unexpectedly the last time.", "Show log", self.help.show_log
            )

    @Slot()
    def raise_window(self) -> None:
        self.window.setWindowState(self.window.windowState() & ~Qt.WindowState.WindowMinimized)
        self.window.show()
        self.window.raise_()
        self.window.activateWindow()

    # end

    @Slot()
    def close(self) -> bool:
        """Saves the layout, cancels, ends the threads within 6 s. False if the engine is stuck in a call."""
        if self._closed:
            return self._stopped
        self._closed = True
        self.models.close()
        geometry, docks = self.window.layout_bytes()
        locked = self.window.panels["sampling"].seed_locked()
        self.settings.change(geometry=geometry, docks=docks, seed_locked=locked)
        self.token_counts.stop()
        self.saving.last()
        self.window.hide()
        self._stopped = self.bridge.shutdown(CLOSE_LIMIT_S)
        self.downloads.close()
        self.preflight.close()
        self.tasks.close(1.0)
        self.models.stop()
        if self.store is not None:
            self.store.close()
        return self._stopped


def first_request(records: tuple[ModelRecord, ...]) -> GenerationRequest:
    """What the window shows at the very first start: a prompt that makes a picture at once."""
    from pipelines.library.models import first_choice  # the scan has imported it; the start would wait for it

    record = first_choice(records) or records[0]
    request = GenerationRequest(model=record.id, prompt=FIRST_PROMPT)
    return replace(request, **defaults_for(record))


def open_store(folder: Path) -> JobStore | None:
    """None when the queue cannot be kept on disk; the program works without."""
    try:
        from pipelines.library.jobs import JobStore

        return JobStore(folder / "jobs.sqlite")
    except EngineError as error:
        log.error("the queue cannot be kept on disk: %s", error)
        return None
