"""The hash lane: files are hashed one at a time in the background, when nothing else wants the processor."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from pipelines.library.hashes import Hashes, file_hashes
from pipelines.library.index import ModelIndex
from pipelines.library.walk import stamp_of
from pipelines.spec.errors import Cancelled

_LOG = logging.getLogger(__name__)

# (file, bytes done, of how many)
Progress = Callable[[Path, int, int], None]


class HashLane(threading.Thread):
    """Hashes those of `paths` whose hashes are not known, and keeps them in the index in `database`.

    `progress` is called on this thread, and so is `ended`, at its end. It ends by itself behind the last file, or
    within a piece of a file after `stop()`; what was begun is begun again next time.
    """

    def __init__(
        self,
        database: Path,
        paths: Iterable[Path],
        progress: Progress | None = None,
        ended: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(name="hashes", daemon=True)
        self._database, self._paths, self._progress = database, tuple(paths), progress
        self._ended = ended
        self._stopped = False
        self._may_run = threading.Event()
        self._may_run.set()

    def pause(self) -> None:
        """Until `resume()`: the disk and the processor are wanted."""
        self._may_run.clear()

    def resume(self) -> None:
        self._may_run.set()

    def stop(self) -> None:
        self._stopped = True
        self._may_run.set()

    def run(self) -> None:
        try:
            self._run()
        finally:
            if self._ended is not None:
                self._ended()

    def _run(self) -> None:
        _lower_priority()
        with contextlib.suppress(Cancelled), contextlib.closing(ModelIndex(self._database)) as index:
            for path in self._paths:
                self._check()
                if index.hashes(path) is None:
                    self._hash(index, path)

    def _hash(self, index: ModelIndex, path: Path) -> None:
        def tell(done: int, size: int) -> None:
            if self._progress is not None:
                self._progress(path, done, size)

        try:
            keep_hashes(index, path, tell, self._check)
        except OSError as error:
            _LOG.info("not hashed: %s (%s)", path, error)

    def _check(self) -> None:
        self._may_run.wait()
        if self._stopped:
            raise Cancelled("hashes")


def keep_hashes(
    index: ModelIndex,
    path: Path,
    progress: Callable[[int, int], None] | None = None,
    check: Callable[[], None] | None = None,
) -> Hashes:
    """Those of the file, kept in `index` unless it changed meanwhile. Raises OSError when it cannot be read."""
    stamp = stamp_of(path.stat())
    hashes = file_hashes(path, progress, check)
    if stamp_of(path.stat()) == stamp:
        index.keep_hashes(path, stamp, hashes)
    return hashes


def _lower_priority() -> None:
    """Of this thread alone, which only Linux can; elsewhere the pauses must do."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
