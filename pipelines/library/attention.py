"""What trials of attention kernels found on each device, kept on disk, so that a start does not try them again."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from pipelines.library.database import as_engine_error, opened, opened_or_new
from pipelines.spec.attention import NAMES, Shape, Tried

VERSION = 1
FILE = "attention.sqlite"
_WHAT = "The table of attention kernels"
_SCHEMA = (
    "CREATE TABLE tried (device TEXT NOT NULL, versions TEXT NOT NULL, dtype TEXT NOT NULL, width INTEGER NOT NULL,"
    " tokens INTEGER NOT NULL, kernel TEXT NOT NULL, ms REAL NOT NULL, why TEXT NOT NULL, repeats INTEGER NOT NULL,"
    " own INTEGER NOT NULL, PRIMARY KEY (device, versions, dtype, width, tokens, kernel))"
)
_COLUMNS = "kernel, ms, why, repeats, own"
_PROBE = f"SELECT device, versions, dtype, width, tokens, {_COLUMNS} FROM tried LIMIT 1"


def tried_at(path: Path, shape: Shape) -> tuple[Tried, ...]:
    """All kernels that were tried there; nothing where there is no file. Raises EngineError."""
    if not path.is_file():
        return ()
    select = (
        f"SELECT {_COLUMNS} FROM tried WHERE device = ? AND versions = ? AND dtype = ? AND width = ? AND tokens = ?"
        " ORDER BY rowid"
    )
    with (
        as_engine_error(path, _WHAT),
        contextlib.closing(opened(path, _WHAT, VERSION, _SCHEMA, _PROBE)) as connection,
    ):
        rows = connection.execute(select, _key(shape)).fetchall()
    found = tuple(
        Tried(id=i, ms=ms, why=why, repeats=bool(same), own=bool(own)) for i, ms, why, same, own in rows
    )
    known = {"", *NAMES}
    return tuple(each for each in found if each.id in known)


def keep(path: Path, shape: Shape, tried: Sequence[Tried]) -> None:
    """In the place of what was kept of the shape; a damaged file is moved aside. Raises EngineError."""
    connection, _aside = opened_or_new(path, _WHAT, VERSION, _SCHEMA, _PROBE)
    key = _key(shape)
    rows = [(*key, each.id, each.ms, each.why, int(each.repeats), int(each.own)) for each in tried]
    with as_engine_error(path, _WHAT), contextlib.closing(connection):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "DELETE FROM tried WHERE device = ? AND versions = ? AND dtype = ? AND width = ? AND tokens = ?",
            key,
        )
        connection.executemany("INSERT INTO tried VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        connection.execute("COMMIT")


def _key(shape: Shape) -> tuple[str, str, str, int, int]:
    return shape.device, shape.versions, shape.dtype, shape.width, shape.tokens
