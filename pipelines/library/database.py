"""What the program's SQLite files have in common: how damage is told, and where a damaged file goes."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from datetime import datetime
from pathlib import Path

BUSY_S = 5.0  # how long a second instance may hold the file


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
