"""What the program's SQLite files have in common: how damage is told, and where a damaged file goes."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from pipelines.spec.errors import EngineError

_LOG = logging.getLogger(__name__)

BUSY_S = 5.0  # how long a second instance may hold the file
_AGAIN_S = 0.005


def opened(path: Path, what: str, version: int, schema: str, probe: str) -> sqlite3.Connection:
    """The file at `path`, made with `schema` where there is none; `probe` is a SELECT that it must answer.

    Raises EngineError for one that a newer version made, and then nothing is written; sqlite3.Error. `what` begins
    the sentence: 'The queue'.
    """
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection, f"{what} {path}", version, schema, probe)
    except BaseException:
        connection.close()
        raise
    return connection


def opened_or_new(
    path: Path, what: str, version: int, schema: str, probe: str
) -> tuple[sqlite3.Connection, Path | None]:
    """As `opened`; a damaged file is moved aside, where the second value tells, and a new one begun.

    Raises EngineError for all that goes wrong.
    """
    with as_engine_error(path, what):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return opened(path, what, version, schema, probe), None
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            aside = moved_aside(path)
            _LOG.warning("%s is damaged (%s); it was moved to %s", path, error, aside)
            return opened(path, what, version, schema, probe), aside


def _prepare(connection: sqlite3.Connection, named: str, version: int, schema: str, probe: str) -> None:
    if connection.execute("PRAGMA user_version").fetchone()[0] > version:
        text = f"{named} was made by a newer version of the program."
        raise EngineError(text, "Update Emulsion, or move that file away.")
    report = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if report != "ok":
        raise sqlite3.DatabaseError(report)
    begin_wal(connection)
    # In WAL mode a killed process loses nothing that was committed; a power cut can take the last second.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("BEGIN IMMEDIATE")
    if connection.execute("PRAGMA user_version").fetchone()[0] < version:
        connection.execute(schema)
        connection.execute(f"PRAGMA user_version = {version}")
    connection.execute("COMMIT")
    connection.execute(probe)


def begin_wal(connection: sqlite3.Connection) -> None:
    """Waits for others as long as `BUSY_S`: SQLite itself gives up at once where two change the journal together.

    Both read the file then, and each would wait for the other (sqlite.org/c3ref/busy_handler.html). Raises
    sqlite3.OperationalError when it is still locked then.
    """
    until = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(_AGAIN_S)


@contextlib.contextmanager
def as_engine_error(path: Path, what: str) -> Iterator[None]:
    """`what` as in `opened`."""
    try:
        yield
    except sqlite3.OperationalError as error:
        hint = "Close the other program that uses it." if "locked" in str(error) else "Check the disk."
        raise EngineError(f"{what} {path} cannot be used: {error}.", hint) from error
    except sqlite3.DatabaseError as error:
        raise EngineError(f"{what} {path} is damaged: {error}.", "Start the program again.") from error
    except OSError as error:
        text = f"{what} {path} cannot be used: {error.strerror}."
        raise EngineError(text, "Check the folder.") from error


def is_damage(error: sqlite3.Error) -> bool:
    """Locked, full or read-only is no damage: the file itself may be well."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


def moved_aside(path: Path, why: str = "damaged") -> Path:
    """The file with its journal, out of the way under the day and time; both stay for a repair. Raises OSError."""
    target = path.with_name(f"{path.stem}.{why}-{datetime.now():%Y%m%d-%H%M%S-%f}{path.suffix}")
    for ending in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}{ending}", f"{target}{ending}")
    return target
