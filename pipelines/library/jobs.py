"""The queue on disk: what was asked survives a killed program (SQLite, one row a job, its state derived)."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil

from pipelines.library.database import as_engine_error, opened_or_new
from pipelines.spec.errors import RequestError
from pipelines.spec.request import GenerationRequest

VERSION = 1
KEPT_ENDED = 1000
_WHAT = "The queue"
_LOG = logging.getLogger(__name__)

# `outcome` is written once, when the job ends; until then queued and running follow from `started`.
_SCHEMA = """
CREATE TABLE job (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    request TEXT NOT NULL,
    owner TEXT NOT NULL,
    created REAL NOT NULL,
    started REAL,
    ended REAL,
    outcome TEXT,
    message TEXT NOT NULL DEFAULT ''
)
"""
_PROBE = "SELECT id, request, owner, created, started, ended, outcome, message FROM job LIMIT 1"


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


_OUTCOMES = {JobState.DONE, JobState.CANCELLED, JobState.FAILED, JobState.INTERRUPTED}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredJob:
    """`created` is in seconds since 1970; `message` says why a job failed."""

    id: int
    request: GenerationRequest
    state: JobState
    created: float
    message: str = ""


class JobStore:
    """Safe from every thread, and beside a second instance on the same file.

    A damaged file is moved to `set_aside` and a new one begun. Raises EngineError when the file was made by a
    newer version (nothing is written then), is locked for more than 5 s, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._owner = _owner_of(os.getpid())
        self._connection, self.set_aside = opened_or_new(path, _WHAT, VERSION, _SCHEMA, _PROBE)

    def add(self, request: GenerationRequest) -> int:
        """The new job's id, never used before. On return the job is on disk."""
        row = (json.dumps(request.to_dict()), self._owner, time.time())
        with self._transaction() as connection:
            cursor = connection.execute("INSERT INTO job (request, owner, created) VALUES (?, ?, ?)", row)
            return int(cursor.lastrowid or 0)

    def started(self, job_id: int) -> None:
        with self._transaction() as connection:
            connection.execute(
                "UPDATE job SET started = ? WHERE id = ? AND started IS NULL AND outcome IS NULL",
                (time.time(), job_id),
            )

    def ended(self, job_id: int, state: JobState | str, message: str = "") -> None:
        """`state` is done, cancelled, failed or interrupted (else ValueError). The first end stays."""
        outcome = JobState(state)
        if outcome not in _OUTCOMES:
            raise ValueError(f"{outcome} is not an end")
        with self._transaction() as connection:
            connection.execute(
                "UPDATE job SET outcome = ?, ended = ?, message = ? WHERE id = ? AND outcome IS NULL",
                (outcome.value, time.time(), message.encode("utf-8", "replace").decode(), job_id),
            )

    def queued(self) -> list[StoredJob]:
        """This instance's jobs that wait, oldest first."""
        return self._jobs("outcome IS NULL AND started IS NULL AND owner = ?", (self._owner,))

    def job(self, job_id: int) -> StoredJob | None:
        return next(iter(self._jobs("id = ?", (job_id,))), None)

    def recover(self) -> list[StoredJob]:
        """At start: takes over what dead processes left. Returns what they were running, now interrupted."""
        with self._transaction() as connection:
            owners = [
                o for (o,) in connection.execute("SELECT DISTINCT owner FROM job WHERE outcome IS NULL")
            ]
            dead = [owner for owner in owners if owner != self._owner and not _is_alive(owner)]
            left = [self._interrupted(connection, owner) for owner in dead]
            connection.execute(
                "DELETE FROM job WHERE outcome IS NOT NULL AND id <= (SELECT MAX(id) FROM job) - ?",
                (KEPT_ENDED,),
            )
        return [job for job_id in sorted(itertools.chain(*left)) if (job := self.job(job_id))]

    def _interrupted(self, connection: sqlite3.Connection, owner: str) -> list[int]:
        running = "owner = ? AND outcome IS NULL AND started IS NOT NULL"
        ids = [i for (i,) in connection.execute(f"SELECT id FROM job WHERE {running}", (owner,))]
        change = (JobState.INTERRUPTED.value, time.time(), "The program ended while this job ran.", owner)
        connection.execute(f"UPDATE job SET outcome = ?, ended = ?, message = ? WHERE {running}", change)
        connection.execute(
            "UPDATE job SET owner = ? WHERE owner = ? AND outcome IS NULL", (self._owner, owner)
        )
        return ids

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _jobs(self, condition: str, values: tuple[Any, ...]) -> list[StoredJob]:
        columns = "id, request, started, outcome, created, message"
        with self._lock, as_engine_error(self._path, _WHAT):
            rows = self._connection.execute(
                f"SELECT {columns} FROM job WHERE {condition} ORDER BY id", values
            ).fetchall()
        return [job for row in rows if (job := _stored(*row))]

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


def _stored(
    job_id: int, text: str, started: float | None, outcome: str | None, created: float, message: str
) -> StoredJob | None:
    """None for a row that this version cannot read; it stays in the file."""
    try:
        request = GenerationRequest.from_dict(json.loads(text))
        state = JobState(outcome) if outcome else JobState.QUEUED if started is None else JobState.RUNNING
    except (RequestError, ValueError, TypeError, RecursionError) as error:
        _LOG.warning("job %s cannot be read: %s", job_id, error)
        return None
    return StoredJob(id=job_id, request=request, state=state, created=created, message=message)


def _owner_of(pid: int) -> str:
    """A process id alone may belong to somebody else by the time it is read."""
    return f"{pid}:{psutil.Process(pid).create_time():.2f}"


def _is_alive(owner: str) -> bool:
    pid, _, born = owner.partition(":")
    try:
        process = psutil.Process(int(pid))
        # The clock may have been set meanwhile, by a second or so.
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - float(born)) < 2
    except (psutil.Error, ValueError, OverflowError):
        return False
