"""`NoteKeeper`: what is noted of models, in memory for the window and on disk for the next start."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from desktop.tasks import Tasks
from pipelines.spec.errors import EngineError
from pipelines.spec.model_note import NO_NOTE, ModelNote

if TYPE_CHECKING:
    from pipelines.library.model_notes import ModelNotes

log = logging.getLogger(__name__)


class NoteKeeper:
    """`notes`, by path, are for the GUI thread. Without a file they last as long as the program."""

    def __init__(self, data: Path, tasks: Tasks, failed: Callable[[Exception], None]) -> None:
        self.notes: dict[str, ModelNote] = {}
        self._data, self._tasks, self._failed = data, tasks, failed
        self._store: ModelNotes | None = None
        self._changed: dict[
            str, dict[str, Any]
        ] = {}  # in this run: by path the fields with their last values
        self._unwritten: dict[str, set[str]] = {}
        self._lock = threading.Lock()
        self._writing = threading.Lock()

    def store(self) -> ModelNotes:
        """Opens the file the first time; for the I/O lane. Raises EngineError."""
        from pipelines.library.model_notes import FILE, ModelNotes

        with self._writing:
            if self._store is None:
                self._store = ModelNotes(self._data / FILE)
            return self._store

    @property
    def set_aside(self) -> Path | None:
        """Where a file that was damaged is now."""
        return self._store.set_aside if self._store is not None else None

    def set_read(self, notes: dict[str, ModelNote]) -> None:
        """What the file held when it was read; what was changed in this run comes on top."""
        with self._lock:
            over = {path: replace(notes.get(path, NO_NOTE), **told) for path, told in self._changed.items()}
            self.notes = {**notes, **over}
            left = bool(self._unwritten)
        if left:
            self._tasks.run(self._write, None, self._failed)

    def note(self, path: str) -> ModelNote:
        return self.notes.get(path, NO_NOTE)

    def keep(self, path: str, note: ModelNote) -> None:
        """Only what differs is written: the file may hold more than was ever read of it."""
        before = self.note(path)
        told = {f.name: getattr(note, f.name) for f in fields(note)
                if getattr(note, f.name) != getattr(before, f.name)}  # fmt: skip
        self.notes = {**self.notes, path: note}
        with self._lock:
            self._changed.setdefault(path, {}).update(told)
            self._unwritten.setdefault(path, set()).update(told)
        self._tasks.run(self._write, None, self._failed)

    def _write(self) -> None:
        """All that is not written, one writer at a time, so that of two the newer stays."""
        with self._writing:
            with self._lock:
                paths = list(self._unwritten)
            if self._store is None:
                return
            for path in paths:
                with self._lock:
                    names, told = self._unwritten.pop(path, set()), dict(self._changed[path])
                try:
                    self._store.keep(path, replace(NO_NOTE, **told), names)
                except EngineError:
                    with self._lock:
                        self._unwritten.setdefault(path, set()).update(names)
                    raise

    def close(self) -> None:
        """Writes what is left."""
        try:
            self._write()
        except EngineError as error:
            log.warning("notes: %s", error)
        with self._writing:
            if self._store is not None:
                self._store.close()
                self._store = None
