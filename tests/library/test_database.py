"""Two that open a new file at the same time: the second waits for the first and does not go without."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipelines.library import database
from pipelines.library.database import begin_wal
from pipelines.library.index import ModelIndex

ROUNDS = 25  # without the wait, one in ten of them fails


class Busy(sqlite3.Connection):
    """Says so often that it is locked when its journal is to change."""

    left = 0

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if self.left and "journal_mode" in sql:
            self.left -= 1
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error
        return super().execute(sql, *parameters)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock on which nothing but the waits takes time."""
    told: list[float] = []
    monkeypatch.setattr(database.time, "sleep", told.append)
    monkeypatch.setattr(database.time, "monotonic", lambda: sum(told))
    return told


def test_a_journal_that_is_busy_is_asked_for_again(tmp_path: Path, waits: list[float]):
    with contextlib.closing(sqlite3.connect(tmp_path / "a.sqlite", factory=Busy)) as connection:
        connection.left = 3
        begin_wal(connection)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert len(waits) == 3


def test_one_that_stays_busy_is_given_up(tmp_path: Path, waits: list[float]):
    with contextlib.closing(sqlite3.connect(tmp_path / "a.sqlite", factory=Busy)) as connection:
        connection.left = 10**9
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            begin_wal(connection)
    assert sum(waits) == pytest.approx(database.BUSY_S, abs=0.1)


def test_no_other_error_is_waited_for(tmp_path: Path, waits: list[float]):
    path = tmp_path / "a.sqlite"
    path.write_bytes(b"no database, and long enough to be seen as none" * 50)
    with contextlib.closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.DatabaseError):
        begin_wal(connection)
    assert not waits


def test_two_threads_open_a_new_index_and_both_keep_what_they_find(tmp_path: Path):
    for number in range(ROUNDS):
        path, together = tmp_path / f"{number}.sqlite", threading.Barrier(2)

        def file_of(_: int, path: Path = path, together: threading.Barrier = together) -> str:
            together.wait()
            with contextlib.closing(ModelIndex(path)) as index:
                return index._connection.execute("PRAGMA database_list").fetchone()[2]

        with ThreadPoolExecutor(2) as threads:
            assert list(threads.map(file_of, range(2))) == [str(path)] * 2
