"""`TokenCounts`: how many tokens of the prompt the model reads, counted after each rest in typing."""

from __future__ import annotations

import logging
from typing import Any

from PySide6.QtCore import QObject, QTimer, Slot

from desktop.session import Engine, Session, State
from desktop.tasks import Tasks

log = logging.getLogger(__name__)

DELAY_MS = 150


class TokenCounts(QObject):
    """`panel` is that of the prompt."""

    def __init__(self, session: Session, tasks: Tasks, panel: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session, self._tasks, self._panel = session, tasks, panel
        self._engine = Engine.STARTING
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(DELAY_MS)
        self._timer.timeout.connect(self._count)
        session.requestChanged.connect(self._later)
        session.stateChanged.connect(self._state_changed)

    def stop(self) -> None:
        self._timer.stop()

    @Slot()
    def _later(self) -> None:
        self._timer.start()

    @Slot(object)
    def _state_changed(self, state: State) -> None:
        if state.engine is not self._engine:
            self._engine = state.engine
            self._timer.start()

    @Slot()
    def _count(self) -> None:
        """Not while the engine starts: opening torch holds the loader's lock, which a tokenizer's threads wait for with
        the GIL held, and the window stood still for 340 ms."""
        record, prompt = self._session.record(), self._session.request().prompt
        if record is None or record.problem or self._session.state.engine is Engine.STARTING:
            return

        def work() -> tuple[Any, Any]:
            from pipelines.library.tokens import count_tokens

            return count_tokens(record, prompt.text), count_tokens(record, prompt.negative)

        self._tasks.run(work, self._show, lambda error: log.info("tokens: %s", error), "tokens")

    def _show(self, counts: tuple[Any, Any]) -> None:
        positive, negative = ((count.used, count.limit) for count in counts)
        self._panel.set_token_counts(positive, negative)
