"""`Meter`: how much of what a job has to read is read, told to the user as it goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

from pipelines.spec.events import Event, LoadProgress
from pipelines.spec.job import Job

_BETWEEN_S = 0.1  # events; a window draws no faster, and a terminal scrolls


class Meter:
    """`expect` what is to be read before the first `read`, so that the total does not grow under the user's eyes.

    Bytes are those of the files. What is expected under one name counts once; nothing is told where nothing is read.
    """

    def __init__(
        self,
        job: Job,
        emit: Callable[[Event], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._job = job
        self._emit = emit
        self._clock = clock
        self._expected: dict[Hashable, int] = {}
        self._loaded = 0  # of what is whole
        self._here = 0  # of the part that is being read
        self._part = ""
        self._began: float | None = None
        self._told = float("-inf")

    def check(self) -> None:
        """Raises Cancelled once the job is."""
        self._job.check()

    def expect(self, what: Hashable, size_bytes: int) -> None:
        self._expected.setdefault(what, size_bytes)

    def begins(self, what: Hashable, part: str, size_bytes: int) -> None:
        """From now on `read` is about this part, which `part` names as its folder does ('unet', 'vae' ...)."""
        self.expect(what, size_bytes)
        self._part, self._here = part, 0
        self._began = self._clock() if self._began is None else self._began

    def read(self, count: int) -> None:
        """So many bytes more are in memory. Raises Cancelled."""
        self.check()
        self._here += count
        if self._emit is not None and self._clock() - self._told >= _BETWEEN_S:
            self._tell(self._loaded + self._here)

    def ends(self, what: Hashable) -> None:
        """The part is whole: what of its file was not wanted is behind us as well."""
        self._loaded += self._expected.get(what, 0)
        self._here = 0
        if self._emit is not None and self._loaded >= self._total and self._loaded:
            self._tell(self._loaded)

    @property
    def _total(self) -> int:
        return sum(self._expected.values())

    def _tell(self, done: int) -> None:
        assert self._emit is not None
        assert self._began is not None
        self._told = now = self._clock()
        total, seconds = self._total, now - self._began
        done = min(done, total)
        speed = done / seconds if seconds > 0 else 0.0
        eta_s = (total - done) / speed if speed else None
        self._emit(
            LoadProgress(
                job_id=self._job.id, done=done, total=total, bytes_per_s=speed, eta_s=eta_s, part=self._part
            )
        )
