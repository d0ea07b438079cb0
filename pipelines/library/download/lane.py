"""`Lane`: several downloads at a time, on threads of their own, each with a row that tells how it is."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipelines.library.download.client import Client
from pipelines.library.download.control import Control
from pipelines.library.download.plan import Plan
from pipelines.library.download.run import discard_plan, download
from pipelines.library.download.speed import Speed
from pipelines.library.download.unfinished import Unfinished
from pipelines.spec.downloads import DownloadState, DownloadStatus
from pipelines.spec.errors import Cancelled, EngineError

AT_ONCE = 2
TELL_S = 0.2  # between two rows of one download that differ in figures only
_LOG = logging.getLogger(__name__)

Emit = Callable[[DownloadStatus], None]
Run = Callable[[Client, Plan, Control, Callable[[int, int | None, bool], None]], Path]


@dataclass(slots=True, eq=False)
class _Row:
    plan: Plan
    status: DownloadStatus
    key: str
    control: Control = field(default_factory=Control)
    speed: Speed = field(default_factory=Speed)
    told: float = 0.0
    end: DownloadState = DownloadState.PAUSED  # what it is once it has stopped
    thread: threading.Thread | None = None


class Lane:
    """For every thread. `emit` hears each change of a row, on whatever thread it happens; it must not wait.

    `unfinished` remembers over restarts; what it holds at the start is listed as paused, and nothing of it goes on
    until `resume`.
    """

    def __init__(
        self,
        client: Client,
        emit: Emit,
        unfinished: Unfinished,
        *,
        at_once: int = AT_ONCE,
        clock: Callable[[], float] = time.monotonic,
        run: Run = download,
    ) -> None:
        self._client, self._emit, self._unfinished = client, emit, unfinished
        self._at_once, self._clock, self._run = at_once, clock, run
        self._lock = threading.RLock()
        self._ids = itertools.count(1)
        self._rows: dict[int, _Row] = {}
        self._closed = False
        for key, plan in unfinished.plans().items():
            row = self._row(plan, key, DownloadState.PAUSED)
            row.status = replace(row.status, message="It was not finished when the program ended.")

    def add(self, plan: Plan) -> int:
        """The id of the row. It begins as soon as fewer than `at_once` others run.

        What is on the list already and not finished gets no second row: it goes on.
        """
        with self._lock:
            if (same := self._same(plan)) is not None:
                self.resume(same)
                return same
            row = self._row(plan, self._unfinished.keep(plan), DownloadState.WAITING)
            self._say(row)
            self._start_next()
            return row.status.id

    def statuses(self) -> tuple[DownloadStatus, ...]:
        with self._lock:
            return tuple(row.status for row in self._rows.values())

    def pause(self, download_id: int) -> None:
        """What has come is kept; one that waits or runs is paused."""
        self._stop(download_id, DownloadState.PAUSED)

    def cancel(self, download_id: int) -> None:
        """What has come is thrown away."""
        self._stop(download_id, DownloadState.CANCELLED)

    def resume(self, download_id: int) -> None:
        """Also tries again after a failure; from where it was, if the host lets it."""
        with self._lock:
            row = self._rows.get(download_id)
            idle = (DownloadState.PAUSED, DownloadState.FAILED, DownloadState.CANCELLED)
            if row is None or self._closed or row.status.state not in idle or row.thread is not None:
                return
            row.key = row.key or self._unfinished.keep(row.plan)
            row.control, row.speed = Control(), Speed(self._clock)
            self._change(row, DownloadState.WAITING)
            self._start_next()

    def remove(self, download_id: int) -> None:
        """Takes a row that has ended off the list; one that is not finished is cancelled first."""
        with self._lock:
            row = self._rows.get(download_id)
            if row is None or row.status.state.active:
                return
            if row.status.state in (DownloadState.PAUSED, DownloadState.FAILED):
                self._throw_away(row)
            del self._rows[download_id]

    def close(self, timeout_s: float = 2.0) -> bool:
        """Stops all; what runs is kept for the next start. Nothing is emitted any more. False if a thread is stuck."""
        with self._lock:
            self._closed = True
            threads = [row.thread for row in self._rows.values() if row.thread is not None]
            for row in self._rows.values():
                row.control.stop()
        end = time.monotonic() + timeout_s
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._client.close()
        return not any(thread.is_alive() for thread in threads)

    def _same(self, plan: Plan) -> int | None:
        over = (DownloadState.DONE, DownloadState.CANCELLED)
        for row in self._rows.values():
            alike = (row.plan.source, row.plan.target) == (plan.source, plan.target)
            if alike and row.status.state not in over:
                return row.status.id
        return None

    def _row(self, plan: Plan, key: str, state: DownloadState) -> _Row:
        number = next(self._ids)
        status = DownloadStatus(
            id=number, title=plan.title, state=state, total_bytes=plan.size, path=str(plan.target)
        )
        row = self._rows[number] = _Row(plan, status, key, speed=Speed(self._clock))
        return row

    def _stop(self, download_id: int, end: DownloadState) -> None:
        with self._lock:
            row = self._rows.get(download_id)
            if row is None or row.status.state is DownloadState.DONE:
                return
            row.end = end
            if row.thread is not None:
                row.control.stop()  # its thread tells the end
            elif row.status.state is not DownloadState.CANCELLED:
                self._ended(row)
                self._start_next()

    def _ended(self, row: _Row) -> None:
        """What was stopped is now as it was to end."""
        if row.end is DownloadState.CANCELLED:
            self._throw_away(row)
            self._change(row, DownloadState.CANCELLED, done_bytes=0)
        else:
            self._change(row, DownloadState.PAUSED)

    def _throw_away(self, row: _Row) -> None:
        discard_plan(row.plan)
        self._unfinished.drop(row.key)
        row.key = ""

    def _start_next(self) -> None:
        waiting = [row for row in self._rows.values() if row.status.state is DownloadState.WAITING]
        running = sum(row.thread is not None for row in self._rows.values())
        for row in waiting[: max(0, self._at_once - running)]:
            if self._closed or row.thread is not None:
                continue
            name = f"download-{row.status.id}"
            row.thread = threading.Thread(target=self._work, args=(row,), name=name, daemon=True)
            row.end = DownloadState.PAUSED
            self._change(row, DownloadState.RUNNING)
            row.thread.start()

    def _work(self, row: _Row) -> None:
        """On the row's own thread."""
        error: Exception | None = None
        path: Path | None = None
        try:
            path = self._run(self._client, row.plan, row.control, lambda *figures: self._told(row, *figures))
        except Cancelled:
            pass
        except Exception as found:
            error = found
            if not isinstance(found, EngineError):
                _LOG.exception("download %d", row.status.id)
        with self._lock:
            row.thread = None
            self._end(row, path, error)
            self._start_next()

    def _end(self, row: _Row, path: Path | None, error: Exception | None) -> None:
        if path is not None:
            self._unfinished.drop(row.key)
            row.key = ""
            done = row.plan.size or row.status.done_bytes
            self._change(row, DownloadState.DONE, path=str(path), done_bytes=done, total_bytes=done)
        elif error is None or row.end is DownloadState.CANCELLED:
            self._ended(row)
        elif isinstance(error, EngineError):
            self._change(row, DownloadState.FAILED, message=error.message, hint=error.hint)
        else:
            text = f"The download failed by a fault of the program ({type(error).__name__})."
            self._change(row, DownloadState.FAILED, message=text, hint="The log has the details.")

    def _told(self, row: _Row, done: int, total: int | None, checking: bool) -> None:
        """Figures from the row's thread."""
        state = DownloadState.CHECKING if checking else DownloadState.RUNNING
        if checking:
            row.speed.rest()
        else:
            row.speed.add(done)
        now = self._clock()
        with self._lock:
            if state is row.status.state and now - row.told < TELL_S:
                return
            row.told = now
            known = total if total is not None else row.plan.size
            eta = None if checking else row.speed.left_s(done, known)
            speed = 0.0 if checking else row.speed.value
            self._change(row, state, done_bytes=done, total_bytes=known, speed=speed, eta_s=eta)

    def _change(self, row: _Row, state: DownloadState, **values: object) -> None:
        bare = {"message": "", "hint": "", "speed": 0.0, "eta_s": None}
        row.status = replace(row.status, state=state, **{**bare, **values})
        self._say(row)

    def _say(self, row: _Row) -> None:
        if not self._closed:
            self._emit(row.status)
