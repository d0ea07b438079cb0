"""`Control`: how a running download is told to stop."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from pipelines.spec.errors import Cancelled


class Control:
    """Safe from every thread. `wait` may be replaced in tests, so that nothing really waits."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._closers: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def stop(self) -> None:
        """Also wakes a read that waits for bytes."""
        self._stopped.set()
        with self._lock:
            closers = tuple(self._closers)
        for close in closers:
            with contextlib.suppress(Exception):  # the connection may have ended by itself meanwhile
                close()

    def check(self) -> None:
        """Raises Cancelled after `stop()`."""
        if self._stopped.is_set():
            raise Cancelled("download")

    def wait(self, seconds: float) -> None:
        """Raises Cancelled as soon as it is stopped."""
        self._stopped.wait(seconds)
        self.check()

    @contextlib.contextmanager
    def closing(self, close: Callable[[], None]) -> Iterator[None]:
        """While it lasts `stop()` calls `close`."""
        with self._lock:
            self._closers.append(close)
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._closers.remove(close)
