"""`Recovery`: what the last run left unfinished is offered again, never started by itself."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Slot
from PySide6.QtWidgets import QWidget

from desktop.notifications import Notifications
from desktop.session import Session
from desktop.tasks import Tasks
from pipelines.spec.errors import EngineError

if TYPE_CHECKING:
    from pipelines.library.jobs import JobStore, StoredJob

log = logging.getLogger(__name__)


class Recovery(QObject):
    """`look` once after the models are known, and only in the process that owns the store."""

    def __init__(
        self, store: JobStore, session: Session, tasks: Tasks, notifications: Notifications, window: QWidget
    ) -> None:
        super().__init__(window)
        self._store, self._session, self._tasks = store, session, tasks
        self._notifications, self._window = notifications, window

    def look(self) -> None:
        self._tasks.run(self._found, self._offer, self._failed)

    def _found(self) -> tuple[list[StoredJob], list[StoredJob]]:
        """(interrupted, still waiting) of the run before."""
        return self._store.recover(), self._store.queued()

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, EngineError):
            raise error
        log.warning("the queue of the last run cannot be read: %s", error)

    def _offer(self, found: tuple[list[StoredJob], list[StoredJob]]) -> None:
        interrupted = found[0]
        waiting = [job for job in found[1] if not self._session.knows(job.id)]
        if interrupted or waiting:
            text = recovered_text(len(interrupted), len(waiting))
            self._notifications.warning(text, "Show", partial(self._show, interrupted, waiting))

    def _show(self, interrupted: list[StoredJob], waiting: list[StoredJob]) -> None:
        from desktop.dialogs.recovered import RecoveredDialog

        dialog = RecoveredDialog(interrupted, waiting, self._window)
        dialog.again.connect(self._again)
        dialog.forget.connect(self._forget)
        dialog.open()

    @Slot(object)
    def _again(self, jobs: list[StoredJob]) -> None:
        known = {record.id: record for record in self._session.records()}
        for job in jobs:
            record = known.get(job.request.model)
            if record is None:
                self._notifications.error(
                    f"The model '{job.request.model}' of a waiting picture is not here."
                )
            else:
                self._session.submit(job.request, record, job.id if job.state == "queued" else None)

    @Slot(object)
    def _forget(self, jobs: list[StoredJob]) -> None:
        self._tasks.run(lambda: [self._store.ended(job.id, "cancelled") for job in jobs], None, self._failed)


def recovered_text(interrupted: int, waiting: int) -> str:
    """Such as '1 picture was interrupted when the program ended, 2 pictures were still waiting.'"""
    parts = []
    if interrupted:
        parts.append(f"{_pictures(interrupted)} interrupted when the program ended")
    if waiting:
        parts.append(f"{_pictures(waiting)} still waiting")
    return f"{', '.join(parts)}."


def _pictures(count: int) -> str:
    return "1 picture was" if count == 1 else f"{count} pictures were"
