"""`Hashing`: the window's hash lane. It rests while pictures are made."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from pipelines.spec.record import Format, ModelRecord

if TYPE_CHECKING:
    from pipelines.library.hash_lane import HashLane

TELL_S = 0.1  # a small file is hashed faster than anybody reads its name


class Hashing(QObject):
    """Of the models in the index under `data`; at most one lane at a time. For the GUI thread.

    `told` carries the path that is read, the bytes done and of how many; an empty path at the end of all.
    """

    told = Signal(object, float, float)

    def __init__(self, data: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._data = data
        self._lane: HashLane | None = None
        self._leaving: list[HashLane] = []
        self._resting = False
        self._closed = False

    def start(self, records: Iterable[ModelRecord]) -> None:
        """Begins with these models and leaves those of before, without waiting for that."""
        from pipelines.library.hash_lane import HashLane
        from pipelines.library.index import FILE

        self.leave()
        files = [Path(record.path) for record in records if record.format is Format.SINGLE_FILE]
        teller = _Teller(self)
        self._lane = HashLane(self._data / FILE, files, teller.tell, teller.end)
        self.rest(self._resting)
        self._lane.start()

    @property
    def resting(self) -> bool:
        return self._resting

    def rest(self, resting: bool) -> None:
        self._resting = resting
        if self._lane is not None and resting:
            self._lane.pause()
        elif self._lane is not None:
            self._lane.resume()

    def leave(self) -> None:
        """The lane ends within a piece of a file."""
        self._leaving = [lane for lane in self._leaving if lane.is_alive()]
        if self._lane is not None:
            self._lane.stop()
            self._leaving.append(self._lane)
            self._lane = None

    def stop(self) -> bool:
        """At the end of the program. False if the lane is stuck in the operating system."""
        self._closed = True
        self.leave()
        for lane in self._leaving:
            lane.join(1.0)
        return not any(lane.is_alive() for lane in self._leaving)

    def say(self, path: str, done: int, size: int) -> None:
        """From the lane's thread."""
        if not self._closed:
            self.told.emit(path, float(done), float(size))


class _Teller:
    """Tells of one lane, and not more often than one can read."""

    def __init__(self, hashing: Hashing) -> None:
        self._hashing, self._last, self._path = hashing, 0.0, ""

    def tell(self, path: Path, done: int, size: int) -> None:
        now = time.monotonic()
        if now - self._last >= TELL_S:
            self._last, self._path = now, str(path)
            self._hashing.say(str(path), done, size)

    def end(self) -> None:
        self._hashing.say("", 0, 0)
