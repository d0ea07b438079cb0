"""Notes on models: what a person wrote of them, which are favourites, when each was used, what a request begins with.

They are kept in a file of our own and never beside or in a model, which is somebody else's.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

from pipelines.library.database import as_engine_error, opened_or_new
from pipelines.library.index_rows import key_of
from pipelines.spec.errors import RequestError
from pipelines.spec.model_note import ModelDefaults, ModelNote
from pipelines.spec.request import GenerationRequest

VERSION = 1
FILE = "model_notes.sqlite3"
MAX_TEXT = 20_000
FIELDS = ("text", "favourite", "used", "defaults")
_WHAT = "The file of notes on models"
_LOG = logging.getLogger(__name__)
_SCHEMA = """
CREATE TABLE note (
    path BLOB PRIMARY KEY,
    sha256 TEXT NOT NULL DEFAULT '',
    text TEXT NOT NULL DEFAULT '',
    favourite INTEGER NOT NULL DEFAULT 0,
    used REAL NOT NULL DEFAULT 0,
    defaults TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID
"""
_COLUMNS = "path, sha256, text, favourite, used, defaults"
_PROBE = f"SELECT {_COLUMNS} FROM note LIMIT 1"
_Row = tuple[bytes, str, str, int, float, str]

# The SHA-256 of the file at a path, '' while nobody knows it.
HashOf = Callable[[str], str]
# The paths at which a file of this SHA-256 was seen.
PathsOf = Callable[[str], Iterable[str]]


class ModelNotes:
    """Safe from every thread, and beside a second instance on the same file.

    A damaged file is moved to `set_aside` and a new one begun. Raises EngineError when the file was made by a newer
    version (nothing is written then), is locked for more than 5 s, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection, self.set_aside = opened_or_new(path, _WHAT, VERSION, _SCHEMA, _PROBE)

    def keep(self, path: str, note: ModelNote, fields: Collection[str] = FIELDS, sha256: str = "") -> None:
        """Writes those `fields` of the note and leaves the others as they are on disk, where it is on return.

        A note without anything in it leaves no row.
        """
        row = (key_of(path), sha256, _storable(note.text), note.favourite, note.used, _defaults_text(note))
        changes = "".join(f", {field} = excluded.{field}" for field in FIELDS if field in fields)
        with self._transaction() as connection:
            connection.execute(
                f"INSERT INTO note ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET"
                f" sha256 = CASE excluded.sha256 WHEN '' THEN sha256 ELSE excluded.sha256 END{changes}",
                row,
            )
            connection.execute(
                "DELETE FROM note WHERE path = ? AND text = '' AND NOT favourite AND NOT used AND defaults = ''",
                (key_of(path),),
            )

    def all(self) -> dict[str, ModelNote]:
        """By path."""
        return {os.fsdecode(row[0]): _note(row) for row in self._rows()}

    def follow(self, here: Mapping[str, object] | set[str], hash_of: HashOf, paths_of: PathsOf) -> None:
        """Notes whose file is gone go to the file of the same content, if one is among the paths that are `here`.

        Notes on files that are here learn their hash for that day. A copy of a file takes nothing away from it.
        """
        for path, sha256, *_rest in self._rows():
            name = os.fsdecode(path)
            if name in here:
                if not sha256 and (known := hash_of(name)):
                    self._change("UPDATE note SET sha256 = ? WHERE path = ?", (known, path))
            elif sha256 and not os.path.lexists(name):
                found = next((each for each in paths_of(sha256) if each in here), None)
                if found is not None:  # a note that stands there already is the newer one
                    self._change("UPDATE OR IGNORE note SET path = ? WHERE path = ?", (key_of(found), path))

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _change(self, statement: str, values: tuple[object, ...]) -> None:
        with self._transaction() as connection:
            connection.execute(statement, values)

    def _rows(self) -> list[_Row]:
        with self._lock, as_engine_error(self._path, _WHAT):
            return self._connection.execute(f"SELECT {_COLUMNS} FROM note").fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, as_engine_error(self._path, _WHAT):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


def _note(row: _Row) -> ModelNote:
    _, _, text, favourite, used, defaults = row
    return ModelNote(
        text=str(text), favourite=bool(favourite), used=float(used), defaults=_defaults(defaults)
    )


def _storable(text: str) -> str:
    """Half of a surrogate pair is no text to SQLite."""
    return text[:MAX_TEXT].encode("utf-8", "replace").decode()


def _defaults_text(note: ModelNote) -> str:
    if note.defaults is None:
        return ""
    request = GenerationRequest(model="", sampling=note.defaults.sampling, size=note.defaults.size)
    told = request.to_dict()
    return json.dumps({name: told[name] for name in ("sampling", "size")})


def _defaults(text: str) -> ModelDefaults | None:
    """None for what this version cannot read; the row stays as it is."""
    if not text:
        return None
    try:
        request = GenerationRequest.from_dict({"model": "", **json.loads(text)})
    except (RequestError, ValueError, TypeError, RecursionError) as error:
        _LOG.warning("default settings of a model cannot be read: %s", error)
        return None
    return ModelDefaults(sampling=request.sampling, size=request.size)
