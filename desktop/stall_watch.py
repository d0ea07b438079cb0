"""`StallWatch`: notices that the engine has said nothing for too long while a job runs."""

from __future__ import annotations

from PySide6.QtCore import QObject, QTimer, Signal, Slot

from pipelines.spec.events import JobStarted, Stage, StageChanged, StepDone, WorkerDied, is_terminal


class StallWatch(QObject):
    """`stalled(seconds)` fires once for each silence. Loading may be silent longer than sampling."""

    stalled = Signal(float)

    def __init__(self, load_limit_s: float, step_limit_s: float, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._limits = {True: load_limit_s, False: step_limit_s}
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._fire)

    @Slot(object)
    def see(self, event: object) -> None:
        """Every event of the bridge goes here."""
        if is_terminal(event) or isinstance(event, WorkerDied):
            self._timer.stop()
        elif isinstance(event, JobStarted | StageChanged | StepDone):
            loading = isinstance(event, JobStarted) or (
                isinstance(event, StageChanged) and event.stage is Stage.LOAD
            )
            self._timer.start(int(self._limits[loading] * 1000))

    @Slot()
    def _fire(self) -> None:
        self.stalled.emit(self._timer.interval() / 1000)
