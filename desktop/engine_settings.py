"""`EngineSettings`: what a person sets of the engine, between the settings file, the engine's word and the dialog."""

from __future__ import annotations

from dataclasses import asdict, fields, replace

from PySide6.QtCore import QObject, Signal, Slot

from desktop.engine_bridge import EngineBridge
from desktop.main_window import MainWindow
from desktop.session import Session
from desktop.settings import SettingsFile
from pipelines.spec.events import KernelsTried, WorkerReady
from pipelines.spec.machine import Machine
from pipelines.spec.options import EngineChoice


class EngineSettings(QObject):
    """`changed` once the settings are others; whoever hears it builds the engine anew."""

    changed = Signal()

    def __init__(
        self, settings: SettingsFile, session: Session, bridge: EngineBridge, window: MainWindow
    ) -> None:
        super().__init__(window)
        self._settings, self._session, self._window = settings, session, window
        self._machine = Machine()
        self._bridge = bridge
        bridge.told.connect(self._engine_said)
        window.settingsWanted.connect(self.show)

    def value(self) -> EngineChoice:
        value = self._settings.value
        return EngineChoice(**{field.name: getattr(value, field.name) for field in fields(EngineChoice)})

    @Slot(object)
    def _engine_said(self, event: object) -> None:
        if isinstance(event, WorkerReady):
            self._machine = event.machine
        elif isinstance(event, KernelsTried) and event.model == self._session.request().model:
            from desktop.dialogs.engine_dialog import EngineDialog

            for dialog in self._window.findChildren(EngineDialog):
                dialog.panel.set_machine(replace(self._machine, attention=event.attention))

    @Slot()
    def show(self) -> None:
        from desktop.dialogs.engine_dialog import EngineDialog

        dialog = EngineDialog(self.value(), self._machine, self._session.state.busy, self._window)
        dialog.chosen.connect(self.set)
        dialog.open()
        if (job := self._session.job()) is not None:
            self._bridge.look(job)  # a kernel may not take the heads of just this model

    @Slot(object)
    def set(self, choice: EngineChoice) -> None:
        if choice != self.value():
            self._settings.change(**asdict(choice))
            self.changed.emit()
