"""How a download, or a file that is being written, goes on: a line on a terminal, a few lines elsewhere, or JSON."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from pipelines.cli import output
from pipelines.library.download.speed import Speed
from pipelines.spec.downloads import DownloadState, DownloadStatus, progress_text

_EVERY_S = 0.2
_JSON_EVERY_S = 1.0


@contextmanager
def written(title: str, as_json: bool) -> Iterator[Callable[[int, int], None]]:
    """Takes bytes of bytes; on a terminal it tells them with the speed and the time left, elsewhere nothing."""
    transfer = Transfer(title, sys.stderr, as_json=False)
    shown = sys.stderr.isatty() and not as_json

    def tell(done: int, size: int) -> None:
        if shown:
            transfer.tell(done, size, checking=False)

    try:
        yield tell
    finally:
        if shown:
            transfer.clear()


class Transfer:
    """Told the figures as they come; `stream` is for people."""

    def __init__(
        self, title: str, stream: TextIO, as_json: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._title, self._stream, self._json, self._clock = title, stream, as_json, clock
        self._bar = stream.isatty() and not as_json
        self._speed = Speed(clock)
        self._told = -1e9
        self._tenth = -1

    def tell(self, done: int, total: int | None, checking: bool) -> None:
        if checking:
            self._speed.rest()
        else:
            self._speed.add(done)
        now = self._clock()
        if now - self._told < (_JSON_EVERY_S if self._json else _EVERY_S):
            return
        self._told = now
        self._show(self._status(done, total, checking))

    def clear(self) -> None:
        if self._bar:
            self._write("\r\x1b[K")

    def _status(self, done: int, total: int | None, checking: bool) -> DownloadStatus:
        return DownloadStatus(
            id=0,
            title=self._title,
            state=DownloadState.CHECKING if checking else DownloadState.RUNNING,
            done_bytes=done,
            total_bytes=total,
            speed=0.0 if checking else self._speed.value,
            eta_s=None if checking else self._speed.left_s(done, total),
        )

    def _show(self, status: DownloadStatus) -> None:
        if self._json:
            figures = {"done": status.done_bytes, "total": status.total_bytes}
            rate = {"bytes_per_second": round(status.speed), "eta_s": status.eta_s}
            output.json_line({"event": "progress", "state": status.state.value, **figures, **rate})
            return
        checking = "Checking " if status.state is DownloadState.CHECKING else ""
        text = output.plain(f"{checking}{progress_text(status)}")
        if self._bar:
            self._write(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}")
        elif (tenth := int(10 * (status.fraction or 0))) != self._tenth:
            self._tenth = tenth
            self._write(f"{text}\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
