"""In how many pictures each model was used: read out of the pictures themselves, each once until it changes."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from pipelines.library.database import BUSY_S, begin_wal, is_damage, moved_aside
from pipelines.library.files import day_folders
from pipelines.library.index_rows import key_of
from pipelines.library.metadata.read import read_request
from pipelines.library.pictures import SUFFIXES
from pipelines.library.walk import stamp_of
from pipelines.spec.request import GenerationRequest

VERSION = 1
FILE = "picture_models.sqlite3"
_BATCH = 200
_LOG = logging.getLogger(__name__)
_SCHEMA = (
    "CREATE TABLE picture (path BLOB PRIMARY KEY, stamp TEXT NOT NULL, models TEXT NOT NULL) WITHOUT ROWID"
)


def count_uses(output_dir: Path, cache_dir: Path, check: Callable[[], None] | None = None) -> dict[str, int]:
    """By the id of a model the pictures of `output_dir` that name it, as what drew or as what went with it.

    Deleted pictures do not count. `check` is called between two pictures; what it raises ends the count, and what was
    read until then is kept in `cache_dir`. A cache that cannot be used costs time, nothing else.
    """
    counts: Counter[str] = Counter()
    with contextlib.closing(_cache(cache_dir / FILE)) as cache:
        known = {path: (stamp, models) for path, stamp, models in _rows(cache)}
        fresh: list[tuple[bytes, str, str]] = []
        seen: set[bytes] = set()
        try:
            for path, stamp in _pictures(output_dir):
                if check is not None:
                    check()
                key = key_of(os.path.abspath(path))
                seen.add(key)
                kept, models = known.get(key, ("", ""))
                if kept != stamp:
                    models = json.dumps(sorted(models_of(Path(path))))
                    fresh.append((key, stamp, models))
                counts.update(_listed(models))
                if len(fresh) >= _BATCH:
                    _keep(cache, fresh)
                    fresh = []
        finally:
            _keep(cache, fresh)
        _forget(cache, known.keys() - seen, output_dir)
    return dict(counts)


def models_of(picture: Path) -> set[str]:
    """The ids that its settings name; none for a picture without settings."""
    stored = read_request(picture)
    return _named(stored.request) if stored is not None else set()


def _named(request: GenerationRequest) -> set[str]:
    beside = (*request.loras, *request.controls, *request.embeddings, *request.ip_adapters)
    names = {request.model, *(each.model for each in beside)}
    if request.refiner is not None:
        names.add(request.refiner.model)
    return names - {""}


def _pictures(output_dir: Path) -> Iterator[tuple[str, str]]:
    """Paths with their stamps."""
    for folder in day_folders(output_dir):
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if os.path.splitext(entry.name)[1].lower() in SUFFIXES and entry.is_file():
                    yield entry.path, stamp_of(entry.stat())


def _listed(models: str) -> list[str]:
    try:
        return [str(each) for each in json.loads(models)]
    except (ValueError, TypeError):
        return []


def _cache(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):
            try:
                return _opened(path)
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                moved_aside(path)
    except (sqlite3.Error, OSError) as error:
        _LOG.warning("%s cannot be used (%s); pictures are read anew each time", path, error)
    connection = sqlite3.connect(":memory:")
    connection.execute(_SCHEMA)
    return connection


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_S)
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise sqlite3.OperationalError("it was made by a newer version")
        begin_wal(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        if version < VERSION:
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                if connection.execute("PRAGMA user_version").fetchone()[0] < VERSION:
                    connection.execute(_SCHEMA)
                    connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("SELECT path, stamp, models FROM picture LIMIT 1")
    except BaseException:
        connection.close()
        raise
    return connection


def _rows(cache: sqlite3.Connection) -> list[tuple[bytes, str, str]]:
    try:
        return cache.execute("SELECT path, stamp, models FROM picture").fetchall()
    except sqlite3.Error as error:
        _LOG.warning("the cache of models by picture: %s", error)
        return []


def _keep(cache: sqlite3.Connection, rows: list[tuple[bytes, str, str]]) -> None:
    if rows:
        with contextlib.suppress(sqlite3.Error), cache:
            cache.executemany("INSERT OR REPLACE INTO picture VALUES (?, ?, ?)", rows)


def _forget(cache: sqlite3.Connection, gone: set[bytes], output_dir: Path) -> None:
    """Pictures of this folder that are gone; those of another pictures folder are kept for the way back."""
    start = key_of(os.path.join(os.path.abspath(output_dir), ""))
    rows = [(path,) for path in gone if path.startswith(start)]
    if rows:
        with contextlib.suppress(sqlite3.Error), cache:
            cache.executemany("DELETE FROM picture WHERE path = ?", rows)
