"""What computing took on each device, kept in the database: estimates of memory get better with every picture."""

from __future__ import annotations

import contextlib
from pathlib import Path

from pipelines.library.database import as_engine_error, opened, opened_or_new
from pipelines.spec.measured import Measured

VERSION = 2
FILE = "measured.sqlite"
_WHAT = "The table of memory"
# Units are those of the numbers in `runtime/activations.py`: with other numbers, another version and another table, as
# what was kept before (version 1: `measured`) would make estimates too small.
_SCHEMA = (
    "CREATE TABLE taken (device TEXT NOT NULL, family TEXT NOT NULL, stage TEXT NOT NULL, units INTEGER NOT NULL,"
    " size_bytes INTEGER NOT NULL, PRIMARY KEY (device, family, stage, units))"
)
_PROBE = "SELECT device, family, stage, units, size_bytes FROM taken LIMIT 1"


def measured_on(path: Path, device: str) -> tuple[Measured, ...]:
    """All that was kept of `device`, by its maker's name; nothing where there is no file. Raises EngineError."""
    if not path.is_file():
        return ()
    select = "SELECT family, stage, units, size_bytes FROM taken WHERE device = ? ORDER BY rowid"
    with (
        as_engine_error(path, _WHAT),
        contextlib.closing(opened(path, _WHAT, VERSION, _SCHEMA, _PROBE)) as connection,
    ):
        rows = connection.execute(select, (device,)).fetchall()
    return tuple(Measured(family=f, stage=s, units=u, size_bytes=b) for f, s, u, b in rows)


def keep(path: Path, device: str, new: Measured) -> None:
    """In the place of what was kept for as much work; a damaged file is moved aside. Raises EngineError."""
    insert = "INSERT OR REPLACE INTO taken VALUES (?, ?, ?, ?, ?)"
    row = (device, new.family, new.stage, new.units, new.size_bytes)
    connection, _aside = opened_or_new(path, _WHAT, VERSION, _SCHEMA, _PROBE)
    with as_engine_error(path, _WHAT), contextlib.closing(connection):
        connection.execute(insert, row)
