"""The index: what the files under the model folders were found to be, kept so that a start reads only what is new."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from pipelines.library.completing import completed
from pipelines.library.database import BUSY_S, begin_wal, is_damage, moved_aside
from pipelines.library.folders import data_dir
from pipelines.library.hashes import Hashes
from pipelines.library.index_rows import key_of, recogniser, record_from, row_of
from pipelines.library.models import record_of, with_own_ids
from pipelines.library.resting import collector_resting
from pipelines.library.seen_tables import SeenTables
from pipelines.library.trees import expanded
from pipelines.library.walk import Found, stamp_of, walk
from pipelines.spec.record import Kind, ModelRecord

VERSION = 1
FILE = "models.sqlite"
_BATCH = 500  # files read between two writes: what a cancelled first scan loses at most
_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

Progress = Callable[[int, int], None]
Check = Callable[[], None]

_SCHEMA = (
    "CREATE TABLE file (path BLOB PRIMARY KEY, stamp TEXT NOT NULL, mark TEXT NOT NULL, record TEXT NOT NULL)"
    " WITHOUT ROWID",
    # Hashes outlive a file that is moved or on a drive that is away: to make them takes minutes.
    "CREATE TABLE hash (path BLOB PRIMARY KEY, name BLOB NOT NULL, stamp TEXT NOT NULL, sha256 TEXT NOT NULL,"
    " tensors TEXT NOT NULL) WITHOUT ROWID",
    "CREATE INDEX hash_by_name ON hash (name, stamp)",
)


def scan(
    roots: Iterable[Path],
    *,
    database: Path | None = None,
    progress: Progress | None = None,
    check: Check | None = None,
) -> tuple[ModelRecord, ...]:
    """As `models.scan`, through the index in `database`, else the user's own."""
    with contextlib.closing(ModelIndex(database or data_dir() / FILE)) as index:
        return index.scan(roots, progress=progress, check=check)


class ModelIndex:
    """Safe from every thread, and beside a second instance on the same file.

    The index can always be made again, so nothing that befalls its file is an error: one that is damaged or was made
    by a newer version is moved to `set_aside` and a new one begun; one that is locked for more than 5 s or cannot be
    written is done without.
    """

    def __init__(self, path: Path) -> None:
        self.set_aside: Path | None = None
        self._path = path
        self._lock = threading.Lock()
        self._connection = self._opened()

    def scan(
        self,
        roots: Iterable[Path],
        *,
        progress: Progress | None = None,
        check: Check | None = None,
        enough: Callable[[], bool] | None = None,
    ) -> tuple[ModelRecord, ...]:
        """The records of all models under `roots`, in order of root and name; only what is new or changed is read.
        A root may be the folder of another program: then its models are found where they lie.

        `progress` hears how many files are done, of how many. `check` is called between two files; what it raises
        ends the scan, and what was read until then is kept. Once `enough` holds, what is known by then is the answer.
        """
        with collector_resting():
            return self._scanned(tuple(roots), progress, check, enough)

    def _scanned(
        self,
        roots: tuple[Path, ...],
        progress: Progress | None,
        check: Check | None,
        enough: Callable[[], bool] | None,
    ) -> tuple[ModelRecord, ...]:
        folders = expanded(roots)
        found = tuple(walk(folders))
        rows = self._try(_rows, {})
        known = {each.path: record for each in found if (record := _known(each, rows))}
        new = [each for each in found if each.path not in known]
        done = len(found) - len(new)
        _tell(progress, done, len(found))
        for record in self._read(new, check):
            known[record.path] = record
            done += 1
            _tell(progress, done, len(found))
            if enough is not None and enough():
                break
        gone = _gone(rows, {key_of(each.path) for each in found}, (*roots, *folders))
        if gone:
            self._try(lambda db: db.executemany("DELETE FROM file WHERE path = ?", gone), None)
        return with_own_ids(completed(known[each.path] for each in found if each.path in known))

    def hashes(self, path: Path) -> Hashes | None:
        """Of a file that is as it was when they were made; a file that was moved since is known by name and size."""
        try:
            stamp = stamp_of(path.stat())
        except OSError:
            return None
        key, name = key_of(str(path.absolute())), key_of(path.name)
        row = self._try(lambda db: _hash_row(db, key, name, stamp), None)
        return Hashes(*row) if row else None

    def keep_hashes(self, path: Path, stamp: str, hashes: Hashes) -> None:
        """`stamp` is the file's from before they were made."""
        row = (key_of(str(path.absolute())), key_of(path.name), stamp, hashes.sha256, hashes.tensors)
        self._try(lambda db: db.execute("INSERT OR REPLACE INTO hash VALUES (?, ?, ?, ?, ?)", row), None)

    def paths_of(self, sha256: str) -> list[str]:
        """Where a file of this content was seen."""
        select = "SELECT path FROM hash WHERE sha256 = ?"
        rows = self._try(lambda db: db.execute(select, (sha256,)).fetchall(), [])
        return [os.fsdecode(path) for (path,) in rows]

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _read(self, new: Sequence[Found], check: Check | None) -> Iterator[ModelRecord]:
        """The records of what is new, each batch kept as soon as it is read."""
        tables, batch = SeenTables(), []
        try:
            for each in new:
                if check is not None:
                    check()
                record = record_of(Path(each.path), tables, each.ends)
                # What an IP-Adapter is depends on folders beside its own.
                if record.kind is not Kind.IP_ADAPTER:
                    batch.append((key_of(each.path), each.stamp, _mark(each), row_of(record)))
                if len(batch) >= _BATCH:
                    self._keep(batch)
                    batch = []
                yield record
        finally:
            self._keep(batch)

    def _keep(self, batch: list[tuple[bytes, str, str, str]]) -> None:
        if batch:
            insert = "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?)"
            self._try(lambda db: db.executemany(insert, batch), None)

    def _try(self, work: Callable[[sqlite3.Connection], _T], otherwise: _T) -> _T:
        """`work` in one transaction; after damage once more, on a new file."""
        with self._lock:
            for _ in range(2):
                try:
                    with self._connection:
                        return work(self._connection)
                except sqlite3.DatabaseError as error:
                    _LOG.warning("%s: %s", self._path, error)
                    if not is_damage(error):
                        return otherwise
                    self._connection.close()
                    self._set_aside("damaged")
                    self._connection = self._opened()
        return otherwise

    def _opened(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            for _ in range(2):
                try:
                    if connection := _prepared(self._path):
                        return connection
                    self._set_aside("newer")
                except sqlite3.DatabaseError as error:
                    if not is_damage(error):
                        raise
                    self._set_aside("damaged")
        except (sqlite3.Error, OSError) as error:
            _LOG.warning("%s cannot be used (%s); nothing is kept", self._path, error)
        connection = sqlite3.connect(":memory:", check_same_thread=False)
        _make(connection)
        return connection

    def _set_aside(self, why: str) -> None:
        with contextlib.suppress(OSError):
            self.set_aside = moved_aside(self._path, why)
            _LOG.warning("%s is %s; it was moved to %s", self._path, why, self.set_aside)


def _prepared(path: Path) -> sqlite3.Connection | None:
    """None for a file that a newer version made. Raises sqlite3.Error."""
    connection = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False)
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            connection.close()
            return None
        begin_wal(connection)
        # A power cut may take the last second of it, which is read again.
        connection.execute("PRAGMA synchronous = NORMAL")
        if version < VERSION:
            _make(connection)
        connection.execute("SELECT path, stamp, mark, record FROM file LIMIT 1")
        connection.execute("SELECT path, name, stamp, sha256, tensors FROM hash LIMIT 1")
    except BaseException:
        connection.close()
        raise
    return connection


def _make(connection: sqlite3.Connection) -> None:
    """In one transaction, so that a second instance that begins at the same time waits and then finds it made."""
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        if connection.execute("PRAGMA user_version").fetchone()[0] < VERSION:
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")


Rows = dict[bytes, tuple[str, str, str]]


def _rows(connection: sqlite3.Connection) -> Rows:
    found = connection.execute("SELECT path, stamp, mark, record FROM file")
    return {path: (stamp, mark, record) for path, stamp, mark, record in found}


def _mark(found: Found) -> str:
    return f"{recogniser()} {found.mark}"


def _known(found: Found, rows: Rows) -> ModelRecord | None:
    """None when it is new, has changed, or what is kept of it cannot be read."""
    stamp, mark, text = rows.get(key_of(found.path), ("", "", ""))
    if not text or stamp != found.stamp or mark != _mark(found):
        return None
    try:
        return record_from(found.path, text)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _gone(rows: Rows, found: set[bytes], roots: Iterable[Path]) -> list[tuple[bytes]]:
    """What lay under these roots and does no more. A root that is away, such as a drive, takes nothing with it."""
    starts = tuple(key_of(os.path.join(os.path.abspath(root), "")) for root in roots if root.is_dir())
    return [(path,) for path in rows if path not in found and path.startswith(starts)]


def _hash_row(connection: sqlite3.Connection, key: bytes, name: bytes, stamp: str) -> tuple[str, str] | None:
    select = "SELECT sha256, tensors FROM hash WHERE path = ? AND stamp = ?"
    if row := connection.execute(select, (key, stamp)).fetchone():
        return row
    alike = connection.execute("SELECT path FROM hash WHERE name = ? AND stamp = ?", (name, stamp))
    moved = next((old for (old,) in alike.fetchall() if not os.path.lexists(old)), None)
    if moved is None:
        return None
    connection.execute("UPDATE OR REPLACE hash SET path = ? WHERE path = ?", (key, moved))
    return connection.execute(select, (key, stamp)).fetchone()


def _tell(progress: Progress | None, done: int, count: int) -> None:
    if progress is not None:
        progress(done, count)
