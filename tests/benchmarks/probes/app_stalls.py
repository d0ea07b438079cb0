"""The real program: its engine starts, then Generate is pressed; answers how the window ticked meanwhile.

argv[1] is the model's folder.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QObject, Qt, QTimer, Slot

from desktop.main_window import MainWindow
from desktop.session import Engine, Session, State
from pipelines.library import folders
from pipelines.spec.events import JobFinished
from tests.benchmarks.probes.at_exec import run_program
from tests.benchmarks.probes.ticker import RunQueue, Ticker
from tests.benchmarks.probes.told import answer

ASK_AGAIN_MS = 50


class Watch(QObject):
    """`phase` is from Generate on, with the request that `ask` has made of the panels, to the end of the job.

    `until` is a text of the session's state at which the phase ends before that.
    """

    def __init__(
        self,
        window: MainWindow,
        phase: str = "sampling",
        ask: Callable[[Session], None] = lambda session: None,
        until: str = "",
    ) -> None:
        super().__init__(window)
        self._session = window.session
        self._phase, self._ask, self._until = phase, ask, until
        self._ticker = Ticker(self)
        self._asking = QTimer(self, interval=ASK_AGAIN_MS)
        self._asking.timeout.connect(self._generate)
        # Once that paint is through: the signal comes from the middle of it, and `startup` measures it.
        window.painted.connect(self._painted, Qt.ConnectionType.QueuedConnection)
        self._session.stateChanged.connect(self._state_changed)
        self._session.jobEnded.connect(self._ended)

    @Slot()
    def _painted(self) -> None:
        self._ticker.phase = "import"

    @Slot(object)
    def _state_changed(self, state: State) -> None:
        if state.engine is Engine.STOPPED:
            sys.exit("the engine could not be started")
        if state.engine is Engine.READY and self._ticker.phase == "import":
            self._ticker.phase = ""
            self._asking.start()
        if self._until and state.text == self._until:
            self._end()

    @Slot()
    def _generate(self) -> None:
        """Until the models are listed, nothing comes of it."""
        if not self._session.records():
            return
        self._ask(self._session)
        self._session.generate()
        if self._session.state.busy:
            self._asking.stop()
            self._ticker.phase = self._phase

    @Slot(object)
    def _ended(self, event: object) -> None:
        if not isinstance(event, JobFinished):
            sys.exit(str(event))
        self._end()

    def _end(self) -> None:
        self._ticker.phase = ""
        answer(net=RunQueue.known(), **self._ticker.summary())


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folders.default_roots = lambda: (folder,)
    sys.exit(run_program(lambda window: Watch(window) and None))
