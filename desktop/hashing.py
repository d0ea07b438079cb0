"""`Hashing`: the window's hash lane. It rests while pictures are made."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.spec.record import Format, ModelRecord

if TYPE_CHECKING:
    from pipelines.library.hash_lane import HashLane


class Hashing:
    """Of the models in the index under `data`; at most one lane at a time. For the GUI thread."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._lane: HashLane | None = None
        self._resting = False

    def start(self, records: Iterable[ModelRecord]) -> None:
        """Begins with these models and leaves those of before."""
        from pipelines.library.hash_lane import HashLane
        from pipelines.library.index import FILE

        self.stop()
        files = [Path(record.path) for record in records if record.format is Format.SINGLE_FILE]
        self._lane = HashLane(self._data / FILE, files)
        self.rest(self._resting)
        self._lane.start()

    def rest(self, resting: bool) -> None:
        self._resting = resting
        if self._lane is not None and resting:
            self._lane.pause()
        elif self._lane is not None:
            self._lane.resume()

    def stop(self) -> bool:
        """False if the lane is stuck in the operating system."""
        if self._lane is None:
            return True
        self._lane.stop()
        self._lane.join(1.0)
        return not self._lane.is_alive()
