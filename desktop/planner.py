"""`Planner`: a thread that plans the newest job it was asked for. A scan of folders on the I/O lane never delays it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from PySide6.QtCore import QObject, Signal

from pipelines.spec.outlook import Outlook

Plan = Callable[[], Outlook]


class Planner(QObject):
    """`told` carries the answer to the newest question; older ones are skipped or their answers dropped."""

    told = Signal(object)
    _done = Signal(object, object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._changed = threading.Condition()
        self._asked: Plan | None = None
        self._newest: Plan | None = None
        self._closed = False
        self._thread: threading.Thread | None = None
        self._done.connect(self._deliver)

    def ask(self, plan: Plan) -> None:
        """`plan` is called on the thread, which starts with the first one."""
        with self._changed:
            self._asked = self._newest = plan
            self._changed.notify_all()
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._work, name="planner", daemon=True)
            self._thread.start()

    def drop(self) -> None:
        """No answer to what was asked is wanted any more."""
        with self._changed:
            self._asked = self._newest = None

    @property
    def idle(self) -> bool:
        return self._newest is None

    def close(self, timeout_s: float = 1.0) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _work(self) -> None:
        while (plan := self._next()) is not None:
            try:
                answer: object = plan()
            except Exception as error:
                answer = error
            if not self._closed:
                self._done.emit(plan, answer)

    def _next(self) -> Plan | None:
        with self._changed:
            self._changed.wait_for(lambda: self._asked is not None or self._closed)
            plan, self._asked = self._asked, None
            return None if self._closed else plan

    def _deliver(self, plan: Plan, answer: object) -> None:
        if self._closed or plan is not self._newest:
            return
        self._newest = None
        if isinstance(answer, Exception):
            raise answer  # the hook for bugs sees it
        self.told.emit(answer)
