"""How quickly each device copies and computes, kept on disk: measured once, and anew after another driver."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from pipelines.library.database import as_engine_error, opened, opened_or_new
from pipelines.spec.errors import EngineError
from pipelines.spec.measured import Rates

log = logging.getLogger(__name__)

VERSION = 1
FILE = "rates.sqlite"
_WHAT = "The table of speeds"
_SCHEMA = (
    "CREATE TABLE rates (device TEXT PRIMARY KEY, versions TEXT NOT NULL, copied REAL NOT NULL,"
    " flops REAL NOT NULL)"
)
_PROBE = "SELECT device, versions, copied, flops FROM rates LIMIT 1"


def rates_of(path: Path, device: str, versions: str | None = None) -> Rates | None:
    """Those of `device`, by its maker's name, where they were measured with these `versions`, or with any.

    None where there is no file or none that can be read, and for numbers that cannot be: plans are made without them.
    """
    if not path.is_file():
        return None
    select = "SELECT versions, copied, flops FROM rates WHERE device = ?"
    try:
        with (
            as_engine_error(path, _WHAT),
            contextlib.closing(opened(path, _WHAT, VERSION, _SCHEMA, _PROBE)) as connection,
        ):
            row = connection.execute(select, (device,)).fetchone()
    except EngineError as error:
        log.warning("%s", error)
        return None
    if row is None or versions not in (None, row[0]):
        return None
    sound = all(isinstance(number, float) and number >= 0 for number in row[1:]) and row[1] > 0
    return Rates(copied=row[1], flops=row[2]) if sound else None


def keep(path: Path, device: str, versions: str, rates: Rates) -> None:
    """In the place of what was kept of the device; a damaged file is moved aside. Raises EngineError."""
    connection, _aside = opened_or_new(path, _WHAT, VERSION, _SCHEMA, _PROBE)
    with as_engine_error(path, _WHAT), contextlib.closing(connection):
        row = (device, versions, rates.copied, rates.flops)
        connection.execute("INSERT OR REPLACE INTO rates VALUES (?, ?, ?, ?)", row)
