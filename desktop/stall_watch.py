"""`StallWatch`: notices that the engine has said nothing for too long while a job runs."""

from __future__ import annotations

from PySide6.QtCore import QObject, QTimer, Signal, Slot

from pipelines.spec.events import (
    Compiling,
    JobStarted,
    LoadProgress,
    Stage,
    StageChanged,
    StepDone,
    WorkerDied,
    is_terminal,
)


class StallWatch(QObject):
    """`stalled(seconds)` fires once for each silence. Loading may be silent longer than sampling, compiling longest."""

    stalled = Signal(float)

    def __init__(
        self, load_limit_s: float, step_limit_s: float, compile_limit_s: float, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._load_s, self._step_s, self._compile_s = load_limit_s, step_limit_s, compile_limit_s
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._fire)

    @Slot(object)
    def see(self, event: object) -> None:
        """Every event of the bridge goes here."""
        match event:
            case JobStarted() | LoadProgress() | StageChanged(stage=Stage.LOAD):
                self._wait(self._load_s)
            case StageChanged() | StepDone():
                self._wait(self._step_s)
            case Compiling():
                self._wait(self._compile_s)
            case WorkerDied():
                self._timer.stop()
            case _ if is_terminal(event):
                self._timer.stop()

    def _wait(self, seconds: float) -> None:
        self._timer.start(int(seconds * 1000))

    @Slot()
    def _fire(self) -> None:
        self.stalled.emit(self._timer.interval() / 1000)
