"""`WindowPages`: the two pages in the middle of the window, and the docks that stand around the first of them only."""

from __future__ import annotations

from PySide6.QtCore import QByteArray, Signal
from PySide6.QtWidgets import QDockWidget, QMainWindow, QSizePolicy, QStackedWidget, QWidget

from widgets.models_page import ModelsPage
from widgets.viewer import Viewer


class WindowPages(QStackedWidget):
    """The models have the whole window: the docks are put away for them and come back as they were."""

    turned = Signal(bool)  # whether to the models

    def __init__(self, window: QMainWindow, viewer: Viewer, models: ModelsPage) -> None:
        super().__init__()
        self._window, self._models, self._viewer = window, models, viewer
        self._docks: QByteArray | None = None
        self._version = 0
        self.addWidget(viewer)
        self.addWidget(models)
        self._let_shrink(models)
        models.backRequested.connect(self.show_picture)

    @property
    def on_models(self) -> bool:
        return self.currentWidget() is self._models

    def docks_of_picture(self, version: int) -> QByteArray:
        """Where the docks stand around the picture, also while the models are shown."""
        return self._docks if self._docks is not None else self._window.saveState(version)

    def show_models(self, version: int) -> None:
        if self.on_models:
            return
        self._version, self._docks = version, self._window.saveState(version)
        for dock in self._all_docks():
            dock.setVisible(False)
            dock.toggleViewAction().setEnabled(False)
        self._models.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
        self.setCurrentWidget(self._models)
        self._models.focus_search()
        self.turned.emit(True)

    def show_picture(self) -> None:
        if not self.on_models:
            return
        self._let_shrink(self._models)
        self.setCurrentWidget(self._viewer)
        for dock in self._all_docks():
            dock.toggleViewAction().setEnabled(True)
        docks, self._docks = self._docks, None
        if docks is not None:
            self._window.restoreState(docks, self._version)
        self.turned.emit(False)

    @staticmethod
    def _let_shrink(page: QWidget) -> None:
        """A page that is not shown must not keep the window from being small."""
        page.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Ignored)

    def _all_docks(self) -> list[QDockWidget]:
        return self._window.findChildren(QDockWidget)
