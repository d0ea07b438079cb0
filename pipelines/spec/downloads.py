"""What a download tells of itself, and the words for sizes, speeds and times left."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DownloadState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    CHECKING = "checking"  # its sum is taken, or that of a file that may be the same
    PAUSED = "paused"  # also what an earlier run of the program left
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def active(self) -> bool:
        return self in (DownloadState.WAITING, DownloadState.RUNNING, DownloadState.CHECKING)


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadStatus:
    """The event of a download: all that is to be shown of it. Title, message and hint may hold foreign text.

    `speed` in bytes a second, 0.0 when it is not known; `total_bytes` and `eta_s` None likewise. `path` is what there
    is once it is done, else where it goes.
    """

    id: int
    title: str
    state: DownloadState
    done_bytes: int = 0
    total_bytes: int | None = None
    speed: float = 0.0
    eta_s: float | None = None
    message: str = ""
    hint: str = ""
    path: str = ""

    @property
    def fraction(self) -> float | None:
        """From 0 to 1, None when the size is not known."""
        if not self.total_bytes:
            return None
        return min(1.0, self.done_bytes / self.total_bytes)


def size_text(size: float | None) -> str:
    """'2.13 GB', in powers of ten as the other commands have it; 'size unknown' for None."""
    if size is None:
        return "size unknown"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}" if size < 1000 * factor else f"{size / factor:.0f} {unit}"
    return f"{size:.0f} bytes"


def duration_text(seconds: float) -> str:
    """'45 s', '3 min 05 s', '2 h 10 min'."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def progress_text(status: DownloadStatus) -> str:
    """'120 MB of 2.13 GB, 8.4 MB/s, 4 min 02 s left', with what is known of it."""
    words = [size_text(status.done_bytes)]
    if status.total_bytes:
        words = [f"{words[0]} of {size_text(status.total_bytes)}"]
    if status.state is DownloadState.RUNNING and status.speed > 0:
        words.append(f"{size_text(status.speed)}/s")
        if status.eta_s is not None:
            words.append(f"{duration_text(status.eta_s)} left")
    return ", ".join(words)
