"""The queue on disk: what was committed is there again, whatever happened in between."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.library.jobs import VERSION, JobState, JobStore
from pipelines.spec.errors import EngineError
from pipelines.spec.request import GenerationRequest, Prompt
from tests.library.conftest import REQUEST

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "jobs.db"


@pytest.fixture
def store(path: Path) -> Iterator[JobStore]:
    store = JobStore(path)
    yield store
    store.close()


def state(store: JobStore, job_id: int) -> JobState:
    job = store.job(job_id)
    assert job
    return job.state


def test_states_follow_the_events(store):
    first, second = store.add(REQUEST), store.add(REQUEST)
    assert [job.id for job in store.queued()] == [first, second]
    assert store.queued()[0].request == REQUEST
    store.started(first)
    assert state(store, first) == JobState.RUNNING
    assert [job.id for job in store.queued()] == [second]
    store.ended(first, "failed", "out of memory")
    assert store.job(first).message == "out of memory"
    store.ended(first, JobState.DONE)
    assert state(store, first) == JobState.FAILED
    store.ended(second, "cancelled")
    store.started(second)
    assert state(store, second) == JobState.CANCELLED
    assert store.queued() == []


def test_only_ends_end(store):
    job_id = store.add(REQUEST)
    for wrong in ("running", "queued", "finished", ""):
        with pytest.raises(ValueError):
            store.ended(job_id, wrong)
    assert state(store, job_id) == JobState.QUEUED


def test_hostile_text_is_text(store):
    request = GenerationRequest(model="'; DROP TABLE job; --", prompt=Prompt(text="\ud800 \0 %_' 😀"))
    store.ended(store.add(request), "failed", "\ud800'; DROP TABLE job")
    assert store.job(1).request == request


def test_a_living_instance_keeps_its_jobs(store, path):
    running, waiting = store.add(REQUEST), store.add(REQUEST)
    store.started(running)
    script = (
        "import sys; from pathlib import Path; from pipelines.library.jobs import JobStore;"
        "store = JobStore(Path(sys.argv[1])); print(len(store.recover()), len(store.queued())); store.close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0", "0"]
    assert state(store, running) == JobState.RUNNING
    assert [job.id for job in store.queued()] == [waiting]


# One start of Python, 30 children, each killed in the middle of something. They log what they are about to do
# and what is committed, by plain writes that outlive them.
KILL_WORKERS = """
import os, random, sys, time
from pathlib import Path
from pipelines.library.jobs import JobStore
from tests.library.conftest import REQUEST

log = os.open(sys.argv[2], os.O_CREAT | os.O_APPEND | os.O_WRONLY)
ready, say_ready = os.pipe()

def say(*words):
    os.write(log, (" ".join(map(str, words)) + "\\n").encode())

def live(seed):
    store, chance, running = JobStore(Path(sys.argv[1])), random.Random(seed), []
    for job in store.recover():
        say("interrupted", job.id)
    waiting = [job.id for job in store.queued()]
    os.write(say_ready, b".")
    for _ in range(60):
        todo = chance.choice("aasse")
        if todo == "a":
            waiting.append(store.add(REQUEST)); say("queued", waiting[-1])
        elif todo == "s" and waiting and not running:
            running.append(waiting.pop(0)); say("starting", running[0])
            store.started(running[0]); say("running", running[0])
        elif todo == "e" and running:
            end = chance.choice(["done", "cancelled", "failed"]); say("ending", running[0], end)
            store.ended(running[0], end); say(end, running.pop())
    time.sleep(600)

for seed in range(30):
    child = os.fork()
    if not child:
        live(seed)
    os.read(ready, 1)
    time.sleep(random.uniform(0, 0.03))
    os.kill(child, 9)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="30 starts of a process would take minutes without fork")
def test_killed_thirty_times_nothing_committed_is_lost(path, tmp_path):
    """G13: each new process recovers what the killed one left; what ran is interrupted, never done."""
    log = tmp_path / "log"
    command = [sys.executable, "-c", KILL_WORKERS, str(path), str(log)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["-9"] * 30
    committed: dict[int, str] = {}
    asked: dict[int, str] = {}
    for line in log.read_text().splitlines():
        word, job_id, *end = line.split()
        if word in ("starting", "ending"):
            asked[int(job_id)] = end[0] if end else "running"
        else:
            committed[int(job_id)] = word
    store = JobStore(path)
    store.recover()
    assert store.set_aside is None
    assert len(committed) > 30
    for job_id, word in committed.items():
        found = state(store, job_id).value
        assert found in outcomes(word, asked.get(job_id)), (job_id, word, asked.get(job_id))
        assert found != "done" or asked[job_id] == "done"
    assert "interrupted" in {state(store, job_id).value for job_id in committed}
    store.close()


def outcomes(committed: str, asked: str | None) -> set[str]:
    """What a job may be after the last kill. What was asked for in that moment may have happened or not."""
    if committed == "queued":
        return {"queued", "interrupted"} if asked else {"queued"}
    if committed == "running":
        return {"interrupted"} | ({asked} - {"running"} if asked else set())
    return {committed}


def test_recover_hands_the_queue_over(path):
    script = (
        "import sys; from pathlib import Path; from pipelines.library.jobs import JobStore;"
        "from tests.library.conftest import REQUEST; store = JobStore(Path(sys.argv[1]));"
        "a, b = store.add(REQUEST), store.add(REQUEST); store.started(a)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], cwd=ROOT, check=True)
    store = JobStore(path)
    (left,) = store.recover()
    assert (left.id, left.state, left.request) == (1, JobState.INTERRUPTED, REQUEST)
    assert left.message
    assert [job.id for job in store.queued()] == [2]
    assert store.recover() == []
    store.close()


def filled(path: Path) -> None:
    store = JobStore(path)
    for _ in range(200):
        store.add(REQUEST)
    store.close()


def overwritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(os.urandom(4096))


DAMAGE = {
    "4 KB in the middle": overwritten,
    "no database": lambda path: path.write_bytes(b"not a database, certainly not" * 300),
    "cut short": lambda path: os.truncate(path, path.stat().st_size // 3),
    "a few bytes": lambda path: path.write_bytes(b"SQLite"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_queue_is_moved_aside(path, damage):
    """D2."""
    filled(path)
    DAMAGE[damage](path)
    broken = path.read_bytes()
    store = JobStore(path)
    assert store.set_aside
    assert store.set_aside.name.startswith("jobs.damaged-2")
    assert store.set_aside.read_bytes() == broken
    assert store.queued() == []
    assert store.add(REQUEST) == 1
    store.close()


def test_without_its_journal_or_empty_it_goes_on(path):
    """D2: what was not yet in the main file is lost with the journal; the rest is there, and work goes on."""
    filled(path)
    store = JobStore(path)
    store.add(REQUEST)
    copy = path.with_name("copy.db")
    copy.write_bytes(path.read_bytes())
    store.close()
    for file in (copy, path.with_name("empty.db")):
        file.touch()
        again = JobStore(file)
        assert again.set_aside is None
        assert again.add(REQUEST) in (1, 201)
        again.close()


def test_another_table_layout_is_moved_aside(path):
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE job (name TEXT)")
    connection.close()
    store = JobStore(path)
    assert store.set_aside
    assert store.add(REQUEST) == 1
    store.close()


def test_a_newer_queue_is_refused_and_untouched(path):
    """D3."""
    filled(path)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    before = hashlib.sha256(path.read_bytes()).digest()
    with pytest.raises(EngineError, match="newer version"):
        JobStore(path)
    assert hashlib.sha256(path.read_bytes()).digest() == before


def test_a_locked_queue_is_a_message(store, path, monkeypatch):
    """D1; the five seconds are shortened for the test."""
    store._connection.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(EngineError, match="locked"):
        store.add(REQUEST)
    other.execute("ROLLBACK")
    other.close()
    assert store.add(REQUEST) == 1


def test_a_row_that_cannot_be_read_stands_alone(store):
    """D7."""
    ids = [store.add(REQUEST) for _ in range(3)]
    store._connection.execute("UPDATE job SET request = '{\"model\": 5}' WHERE id = ?", (ids[1],))
    assert [job.id for job in store.queued()] == [ids[0], ids[2]]


def test_threads_share_one_store(store):
    def work() -> None:
        for _ in range(25):
            job_id = store.add(REQUEST)
            store.started(job_id)
            store.ended(job_id, "done")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {state(store, job_id) for job_id in range(1, 101)} == {JobState.DONE}
    assert store.job(101) is None
