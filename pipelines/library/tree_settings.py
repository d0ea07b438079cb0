"""Where the settings of other programs say that models lie outside of their own folder. Read, never written."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from pipelines.library.beside import read_small
from pipelines.spec.errors import ModelError

_MAX_BYTES = 256_000
_MAX_FOLDERS = 50
_MAX_ROWS = 20_000
_HINT = "The other folders are used without it."


def swarm_roots(settings: Path, home: Path) -> Iterator[Path]:
    """`ModelRoot` of SwarmUI's `Data/Settings.fds`: folders with a ';' between them, relative ones from its own.

    Raises ModelError for what cannot be read. (mcmonkeyprojects/SwarmUI, src/Core/Settings.cs: `PathsData`)
    """
    try:
        lines = read_small(settings, _MAX_BYTES).decode("utf-8", "replace").splitlines()
    except (OSError, ValueError) as error:
        raise ModelError(f"SwarmUI's settings cannot be read: {settings}", _HINT) from error
    for line in lines:
        name, _, value = line.strip().partition(":")
        if name == "ModelRoot":
            # FreneticDataSyntax (FDSUtility.Escape): nothing is "\\x", a tab "\\t", a backslash "\\s".
            for mark, sign in (("\\x", ""), ("\\t", "\t"), ("\\s", "\\")):
                value = value.replace(mark, sign)
            given = [part.strip() for part in value.split(";") if part.strip()]
            yield from (home / os.path.expanduser(part) for part in given[:_MAX_FOLDERS])
            return


def invoke_folders(database: Path) -> Iterator[Path]:
    """Folders of the models that InvokeAI uses where they lie, by the whole paths in its database.

    Raises ModelError for what cannot be read. (invoke-ai/InvokeAI, model_records_sql.py: a JSON `config` a row)
    """
    try:
        # Opened like this SQLite makes no file beside it.
        name = database.absolute().as_uri() + "?mode=ro&immutable=1"
        with contextlib.closing(sqlite3.connect(name, uri=True)) as connection:
            for table in ("models", "model_config"):
                with contextlib.suppress(sqlite3.OperationalError):
                    query = f"SELECT config FROM {table} LIMIT {_MAX_ROWS}"
                    rows = connection.execute(query).fetchall()
                    yield from list(dict.fromkeys(_outside(text for (text,) in rows)))[:_MAX_FOLDERS]
                    return
    except sqlite3.Error as error:
        raise ModelError(f"InvokeAI's list of models cannot be read: {database} ({error})", _HINT) from error


def _outside(configs: Iterator[object]) -> Iterator[Path]:
    for text in configs:
        try:
            path = json.loads(str(text)).get("path")
        except (ValueError, AttributeError, RecursionError):
            continue
        if isinstance(path, str) and "\0" not in path and os.path.isabs(path):
            yield Path(path).parent
