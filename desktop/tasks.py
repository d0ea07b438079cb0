"""`Tasks`: the I/O lane. Disk work runs on two threads of its own, its answers arrive on the GUI thread."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QObject, Signal, Slot

log = logging.getLogger(__name__)

Done = Callable[[Any], None]
Failed = Callable[[Exception], None]


@dataclass(slots=True, eq=False)
class _Task:
    work: Callable[[], Any]
    done: Done | None
    failed: Failed | None
    key: str
    result: Any = None
    error: Exception | None = None


class Tasks(QObject):
    """Two threads, so that a folder scan never keeps a picture waiting. They start with the first task."""

    _ended = Signal(object)

    def __init__(self, threads: int = 2, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._queue: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._size = threads
        self._threads: list[threading.Thread] = []
        self._newest: dict[str, _Task] = {}
        self._open = 0
        self._closed = False
        self._ended.connect(self._deliver)

    def run(
        self, work: Callable[[], Any], done: Done | None = None, failed: Failed | None = None, key: str = ""
    ) -> None:
        """`work` off the GUI thread, then `done(result)` or `failed(error)` on it.

        With a `key` only the newest task of that key counts: older ones are skipped or their answer dropped.
        An error without `failed` is raised on the GUI thread, where the hook for bugs sees it.
        """
        if self._closed:
            return
        task = _Task(work, done, failed, key)
        if key:
            self._newest[key] = task
        self._open += 1
        self._queue.put(task)
        if len(self._threads) < min(self._size, self._open):
            self._start_thread()

    @property
    def idle(self) -> bool:
        return self._open == 0

    def close(self, timeout_s: float = 2.0) -> bool:
        """No answer arrives any more. False if a task is still stuck in the operating system."""
        self._closed = True
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(timeout_s)
        return not any(thread.is_alive() for thread in self._threads)

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name=f"io-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _stale(self, task: _Task) -> bool:
        return self._closed or (bool(task.key) and self._newest.get(task.key) is not task)

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            if not self._stale(task):
                try:
                    task.result = task.work()
                except Exception as error:
                    task.error = error
            if not self._closed:
                self._ended.emit(task)

    @Slot(object)
    def _deliver(self, task: _Task) -> None:
        self._open -= 1
        if self._stale(task):
            return
        self._newest.pop(task.key, None)
        if task.error is None:
            if task.done is not None:
                task.done(task.result)
        elif task.failed is not None:
            task.failed(task.error)
        else:
            raise task.error
