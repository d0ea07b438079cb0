"""How long pictures took, on disk: what the time of the next one is told from (SQLite, one row a picture)."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from pipelines.library.database import as_engine_error, opened_or_new
from pipelines.spec.run_time import Run, Work

VERSION = 1
FILE = "runs.sqlite3"
KEPT = 2000
_WHAT = "The file of drawing times"
_LOG = logging.getLogger(__name__)
_SCHEMA = """
CREATE TABLE run (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    device TEXT NOT NULL,
    model TEXT NOT NULL,
    family TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    evaluations INTEGER NOT NULL,
    branches INTEGER NOT NULL,
    way TEXT NOT NULL,
    denoise_s REAL NOT NULL,
    decode_s REAL NOT NULL,
    seconds REAL NOT NULL,
    predicted_s REAL NOT NULL,
    done REAL NOT NULL
)
"""
_WORK = "model, family, width, height, evaluations, branches, way"
_COLUMNS = f"device, {_WORK}, denoise_s, decode_s, seconds, predicted_s, done"
_PROBE = f"SELECT {_COLUMNS} FROM run LIMIT 1"


class Runs:
    """Safe from every thread, and beside a second instance on the same file.

    A damaged file is moved aside and a new one begun. Raises EngineError when the file was made by a newer version
    (nothing is written then), is locked for more than 5 s, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection, _ = opened_or_new(path, _WHAT, VERSION, _SCHEMA, _PROBE)

    def add(self, run: Run) -> None:
        """On disk on return; the oldest beyond some thousand go. `run.when` 0 is now."""
        work = run.work
        row = (
            run.device, work.model, work.family, work.width, work.height, work.evaluations, work.branches, work.way,
            run.denoise_s, run.decode_s, run.seconds, run.predicted_s, run.when or time.time(),
        )  # fmt: skip
        with self._lock, as_engine_error(self._path, _WHAT):
            marks = ", ".join("?" * len(row))
            self._connection.execute(f"INSERT INTO run ({_COLUMNS}) VALUES ({marks})", row)
            self._connection.execute("DELETE FROM run WHERE id <= (SELECT MAX(id) FROM run) - ?", (KEPT,))

    def all(self) -> tuple[Run, ...]:
        """The newest first."""
        with self._lock, as_engine_error(self._path, _WHAT):
            rows = self._connection.execute(f"SELECT {_COLUMNS} FROM run ORDER BY id DESC").fetchall()
        return tuple(_run(*row) for row in rows if _is_sound(row))

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def runs_of(folder: Path) -> tuple[Run, ...]:
    """Those in the data `folder`, as `runs_in`."""
    return runs_in(folder / FILE)


def runs_in(path: Path) -> tuple[Run, ...]:
    """Those in the file; none where there is no file, or none that can be read. Makes nothing."""
    if not path.is_file():
        return ()
    try:
        with as_engine_error(path, _WHAT):
            connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
            try:
                rows = connection.execute(f"SELECT {_COLUMNS} FROM run ORDER BY id DESC").fetchall()
            finally:
                connection.close()
    except Exception as error:
        _LOG.warning("%s: %s", path, error)
        return ()
    return tuple(_run(*row) for row in rows if _is_sound(row))


def _is_sound(row: tuple[Any, ...]) -> bool:
    """SQLite keeps a text in a column of numbers, and what cannot be was not written here: no estimate stands on it."""
    words, numbers = (*row[:3], row[7]), (*row[3:7], *row[8:])
    return (
        all(isinstance(word, str) for word in words)
        and all(isinstance(number, int | float) for number in numbers)
        and min(row[3:7]) > 0
    )


def _run(
    device: str, model: str, family: str, width: int, height: int, evaluations: int, branches: int, way: str,
    denoise_s: float, decode_s: float, seconds: float, predicted_s: float, done: float,
) -> Run:  # fmt: skip
    work = Work(
        model=model, family=family, width=width, height=height, evaluations=evaluations, branches=branches, way=way
    )  # fmt: skip
    return Run(
        device=device, work=work, denoise_s=denoise_s, decode_s=decode_s, seconds=seconds,
        predicted_s=predicted_s, when=done,
    )  # fmt: skip
