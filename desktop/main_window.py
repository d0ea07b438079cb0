"""`MainWindow`: docks, menus and status bar, and which signal goes where."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PySide6.QtCore import QByteArray, QSize, Qt, Signal, Slot
from PySide6.QtGui import (
    QAction,
    QActionGroup,
    QCloseEvent,
    QDragEnterEvent,
    QDropEvent,
    QPaintEvent,
    QResizeEvent,
)
from PySide6.QtWidgets import (
    QDockWidget,
    QFileDialog,
    QMainWindow,
    QVBoxLayout,
    QWidget,
)

from desktop.actions import ACTIONS, MENUS
from desktop.drops import dropped_picture
from desktop.panels import lines_of
from desktop.pictures import Pictures
from desktop.session import Engine, Session, State
from desktop.window_pages import WindowPages
from pipelines.spec.errors import EngineError
from widgets.banner import Banner
from widgets.dock_title import DockTitle
from widgets.field import row as line_of
from widgets.film_strip import FilmStrip, PictureModel
from widgets.generate_button import RING, GenerateButton
from widgets.icons import icon
from widgets.inputs_panel import InputsPanel
from widgets.memory_gauge import MemoryGauge
from widgets.metrics import XS, M, S, TextSize
from widgets.models_page import ModelsPage
from widgets.plain import ElidedLabel, Label
from widgets.preflight_card import PreflightCard
from widgets.scroll_column import ScrollColumn
from widgets.viewer import Viewer

LAYOUT_VERSION = 1
INPUTS_FROM = 1000  # window width in pixels from which the inputs dock is open at the first start

CARD_FROM = 880  # window height from which the plan of a picture that fits is shown in full


class MainWindow(QMainWindow):
    """Built by `desktop.application`, which gives it `session` and `pictures` before it is shown."""

    session: Session
    pictures: Pictures

    painted = Signal()
    closing = Signal()
    themeChosen = Signal(str)
    folderChosen = Signal(str)
    logWanted = Signal()
    aboutWanted = Signal()
    downloadsWanted = Signal()
    settingsWanted = Signal()
    freeWanted = Signal()
    pictureDropped = Signal(str)
    dropRefused = Signal(object)

    def __init__(self, panels: dict[str, Any]) -> None:
        super().__init__()
        self.setObjectName("window")
        self.setWindowTitle("Emulsion")
        self.setAcceptDrops(True)
        self.setDockNestingEnabled(True)
        self._painted = False
        self.panels = panels
        self.banner = Banner()
        self.viewer = Viewer()
        self.models_page = ModelsPage()
        self.model = PictureModel(self)
        self.strip = FilmStrip(self.model)
        self.inputs = InputsPanel()
        self.button = GenerateButton()
        self.card = PreflightCard()
        self.gauge = MemoryGauge()
        self.docks: dict[str, QDockWidget] = {}
        self.actions_by_id: dict[str, QAction] = {}
        self._lay_out()
        self._add_menus()
        self._add_status()
        self.resize(1280, 800)
        self._first_docks = self.saveState(LAYOUT_VERSION)

    # the parts

    def _lay_out(self) -> None:
        middle = QWidget()
        rows = QVBoxLayout(middle)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(0)
        rows.addWidget(self.banner)
        self.pages = WindowPages(self, self.viewer, self.models_page)
        rows.addWidget(self.pages, 1)
        self.setCentralWidget(middle)
        self.setCorner(Qt.Corner.BottomLeftCorner, Qt.DockWidgetArea.LeftDockWidgetArea)
        self.setCorner(Qt.Corner.BottomRightCorner, Qt.DockWidgetArea.RightDockWidgetArea)
        self._add_dock(
            "settings", "Prompt and settings", self._settings(), Qt.DockWidgetArea.LeftDockWidgetArea
        )
        self._add_dock("strip", "Film strip", self.strip, Qt.DockWidgetArea.BottomDockWidgetArea)
        self._add_dock("inputs", "Inputs", ScrollColumn(self.inputs), Qt.DockWidgetArea.RightDockWidgetArea)
        across, down = Qt.Orientation.Horizontal, Qt.Orientation.Vertical
        self.resizeDocks([self.docks["settings"], self.docks["inputs"]], [340, 240], across)
        self.resizeDocks([self.docks["strip"]], [156], down)

    def _settings(self) -> QWidget:
        """The panels in a column that scrolls, Generate pinned below it."""
        outer = QWidget()
        rows = QVBoxLayout(outer)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(0)
        rows.addWidget(ScrollColumn(*lines_of(self.panels)), 1)
        foot = QWidget()
        foot_rows = QVBoxLayout(foot)
        around = M - RING
        foot_rows.setContentsMargins(around, XS, around, XS)
        foot_rows.setSpacing(XS)
        foot_rows.addWidget(self.button)
        card = line_of(self.card)
        card.setContentsMargins(RING, 0, RING, 0)  # on the edges of the button, which has its ring around it
        foot_rows.addLayout(card)
        rows.addWidget(foot)
        return outer

    def _add_dock(self, name: str, title: str, content: QWidget, area: Qt.DockWidgetArea) -> None:
        dock = QDockWidget(title, self)
        dock.setObjectName(name)
        dock.setAccessibleName(title)
        dock.setTitleBarWidget(DockTitle(dock))
        dock.setWidget(content)
        self.addDockWidget(area, dock)
        self.docks[name] = dock

    def _add_menus(self) -> None:
        themes = QActionGroup(self)
        menus = {title: self.menuBar().addMenu(title) for title in MENUS}
        for row in ACTIONS:
            menu = menus[row.menu]
            if row.separator:
                menu.addSeparator()
            action = QAction(row.text, self)
            action.setObjectName(row.id)
            action.setToolTip(row.tip)
            action.setStatusTip(row.tip)
            if row.icon:
                action.setIcon(icon(row.icon))
            if row.shortcut:
                action.setShortcut(row.shortcut)
            if row.choice:
                action.setCheckable(True)
                themes.addAction(action)
            action.triggered.connect(partial(self._run, row.run))
            menu.addAction(action)
            self.actions_by_id[row.id] = action
        menus["&View"].addSeparator()
        for dock in self.docks.values():
            menus["&View"].addAction(dock.toggleViewAction())

    def _run(self, run: Callable[[MainWindow], object], _checked: bool = False) -> None:
        run(self)

    def _add_status(self) -> None:
        bar = self.statusBar()
        bar.setContentsMargins(M - 2, 0, S, 0)  # Qt adds two
        self.stage = ElidedLabel("", TextSize.SMALL, muted=True)
        self.engine = Label("", TextSize.SMALL, muted=True)
        self.stage.setAccessibleName("What is being done")
        self.engine.setAccessibleName("Engine and device")
        bar.addWidget(self.stage, 1)
        bar.addPermanentWidget(self.gauge)
        bar.addPermanentWidget(self.engine)
        self.gauge.freeWanted.connect(self.freeWanted)

    # what the session says

    def use(self, session: Session, pictures: Pictures) -> None:
        """Connects the window to its state. Called once."""
        self.session, self.pictures = session, pictures
        self.button.generateRequested.connect(session.generate)
        self.button.cancelRequested.connect(session.cancel)
        self.panels["prompt"].submitted.connect(session.generate)
        session.stateChanged.connect(self.show_state)
        self.show_state(session.state)

    @Slot(object)
    def show_state(self, state: State) -> None:
        blocked = state.reason or ("The engine has stopped." if state.engine is Engine.STOPPED else "")
        if state.cancelling:
            self.button.set_cancelling()
        elif state.busy:
            self.button.set_busy(state.text, state.fraction)
        else:
            self.button.set_idle(not blocked, blocked)
        self.actions_by_id["generate"].setEnabled(not state.busy and not blocked)
        self.actions_by_id["cancel"].setEnabled(state.busy and not state.cancelling)
        self.stage.setText(state.text or blocked or "Ready")
        self.engine.setText(engine_text(state))

    # what the user chooses

    def turn_page(self) -> None:
        """To the models, or back to the picture."""
        if self.pages.on_models:
            self.pages.show_picture()
        else:
            self.pages.show_models(LAYOUT_VERSION)

    def focus_prompt(self) -> None:
        self.pages.show_picture()
        self.docks["settings"].show()
        self.panels["prompt"].setFocus(Qt.FocusReason.ShortcutFocusReason)

    def choose_theme(self, theme: str) -> None:
        self.themeChosen.emit(theme)

    def show_theme(self, theme: str) -> None:
        self.actions_by_id[f"theme_{theme}"].setChecked(True)

    def change_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder for pictures")
        if folder:
            self.folderChosen.emit(folder)

    def show_log(self) -> None:
        self.logWanted.emit()

    def show_about(self) -> None:
        self.aboutWanted.emit()

    # layout over starts and screens

    def layout_bytes(self) -> tuple[str, str]:
        """Geometry and docks as base64 text for the settings."""
        geometry, docks = self.saveGeometry(), self.pages.docks_of_picture(LAYOUT_VERSION)
        return geometry.toBase64().toStdString(), docks.toBase64().toStdString()

    def restore_layout(self, geometry: str, docks: str) -> None:
        """What cannot be read is left as it is; the window always ends on a screen and no larger than it."""
        if geometry:
            self.restoreGeometry(QByteArray.fromBase64(geometry.encode()))
        if docks:
            self.restoreState(QByteArray.fromBase64(docks.encode()), LAYOUT_VERSION)
        self.fit_on_screen()
        if not docks:
            self.first_layout()

    def reset_layout(self) -> None:
        self.pages.show_picture()
        self.restoreState(self._first_docks, LAYOUT_VERSION)
        self.first_layout()

    def first_layout(self) -> None:
        """On a small screen the picture needs the room more than the inputs do; the View menu brings them back."""
        self.docks["inputs"].setVisible(self.width() >= INPUTS_FROM)

    def fit_on_screen(self) -> None:
        """After a change of screens nothing of the window is out of reach."""
        room = self.screen().availableGeometry()
        if self.isMaximized() or self.isFullScreen() or room.contains(self.frameGeometry()):
            return
        frame = self.frameGeometry().size() - self.size()
        self.resize(self.size().boundedTo(room.size() - frame).expandedTo(QSize(480, 360)))
        outer = self.frameGeometry()
        x = min(max(outer.x(), room.left()), room.right() - outer.width() + 1)
        y = min(max(outer.y(), room.top()), room.bottom() - outer.height() + 1)
        self.move(x, y)

    # Qt's own events

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if not self._painted:
            self._painted = True
            self.painted.emit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.card.set_compact(self.height() < CARD_FROM)

    def closeEvent(self, event: QCloseEvent) -> None:
        event.accept()
        self.closing.emit()

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        ours = event.source() is not None  # a picture dragged out of the viewer and back
        if event.mimeData().hasUrls() and not ours:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        event.acceptProposedAction()
        try:
            path: Path = dropped_picture(event.mimeData())
        except EngineError as error:
            self.dropRefused.emit(error)
            return
        self.pictureDropped.emit(str(path))


ENGINE_TEXTS = {
    Engine.STARTING: "Engine is starting",
    Engine.READY: "Engine ready",
    Engine.STOPPED: "Engine stopped",
}


def engine_text(state: State) -> str:
    text = ENGINE_TEXTS[state.engine]
    return f"{text} · {state.device}" if state.device else text
