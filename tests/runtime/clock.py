"""A device on a clock of the test's own: a copy takes bytes / B, a block what it is told. It keeps a diary."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.runtime.schedule import Schedule


@dataclass(frozen=True)
class Stay:
    """A streamed block in its place: from the begin of its copy to the end of its compute."""

    streamed: int
    arrives: float
    arrived: float
    begins: float
    ends: float


class ClockDevice:
    def __init__(self, schedule: Schedule, bytes_per_s: float) -> None:
        self._schedule = schedule
        self._bytes_per_s = bytes_per_s
        self.now = self.bus = self._waited = 0.0
        self._copies: list[tuple[int, float, float]] = []
        self._ready: float | None = None
        self.stays: list[Stay] = []
        self.copied_bytes = 0

    def copy(self, streamed: int, after: float) -> float:
        begin = max(self.bus, after)
        size = self._schedule.sizes[streamed]
        self.bus = begin + size / self._bytes_per_s
        self.copied_bytes += size
        self._copies.append((streamed, begin, self.bus))
        return self.bus

    def wait(self, arrived: float) -> None:
        self.now = max(self.now, arrived)
        self._waited = arrived

    def computed(self) -> float:
        return self.now

    def compute(self, seconds: float, streamed: int | None) -> None:
        """A streamed block computes with what the last wait was for."""
        begin, self.now = self.now, self.now + seconds
        if streamed is not None:
            found = next(c for c in reversed(self._copies) if c[0] == streamed and c[2] == self._waited)
            self.stays.append(Stay(streamed, found[1], found[2], begin, self.now))

    def hazards(self) -> list[tuple[Stay, Stay]]:
        """Pairs of which one came to a place before the other had left it, or computed before it was there."""
        at = self._schedule
        bad = [(stay, stay) for stay in self.stays if stay.begins < stay.arrived]
        for i, one in enumerate(self.stays):
            for other in self.stays[i + 1 :]:
                a, b = one.streamed, other.streamed
                same_place = (
                    at.offsets[a] < at.offsets[b] + at.sizes[b]
                    and at.offsets[b] < at.offsets[a] + at.sizes[a]
                )
                if same_place and one.arrives < other.ends and other.arrives < one.ends:
                    bad.append((one, other))
        return bad
