"""Times of pictures on disk: there after a start, whatever befell the file."""

import sqlite3
from contextlib import closing

import pytest

from pipelines.library.runs import FILE, KEPT, VERSION, Runs, runs_of
from pipelines.spec.errors import EngineError
from pipelines.spec.run_time import Run, Work

WORK = Work(model="demo-sd", family="sd1", width=256, height=320, evaluations=20, branches=2, way="lora=1")
RUN = Run(
    device="card <0>", work=WORK, denoise_s=1.5, decode_s=0.25, seconds=2.0, predicted_s=1.9, when=100.0
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / FILE


def test_what_was_added_is_there_after_a_start_the_newest_first(path):
    other = Run(device="cpu", work=WORK, denoise_s=1, decode_s=1, seconds=2, when=50.0)
    with closing(Runs(path)) as runs:
        runs.add(RUN)
        runs.add(other)
    with closing(Runs(path)) as runs:
        assert runs.all() == (other, RUN)
    assert runs_of(path.parent) == (other, RUN)


def test_a_run_without_a_day_gets_that_of_now(path):
    with closing(Runs(path)) as runs:
        runs.add(Run(device="cpu", work=WORK, denoise_s=1, decode_s=1, seconds=2))
        assert runs.all()[0].when > 1.6e9


def test_the_oldest_go(path):
    with closing(Runs(path)) as runs:
        runs.add(RUN)
        runs._connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'run'", (KEPT,))
        runs.add(Run(device="cpu", work=WORK, denoise_s=1, decode_s=1, seconds=2, when=1.0))
        assert [run.device for run in runs.all()] == ["cpu"]


def test_a_damaged_file_is_moved_aside(path):
    path.parent.mkdir()
    path.write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    with closing(Runs(path)) as runs:
        assert runs.all() == ()
        runs.add(RUN)
    assert len(list(path.parent.glob("runs.damaged-*"))) == 1


def test_a_file_of_a_newer_version_is_left_alone(path):
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(EngineError, match="newer version"):
        Runs(path)
    assert path.read_bytes() == before


def test_looking_makes_nothing_and_fails_at_nothing(tmp_path):
    assert runs_of(tmp_path / "nowhere") == ()
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / FILE).write_bytes(b"no database")
    assert runs_of(tmp_path) == ()


@pytest.mark.parametrize("odd", ["branches = 0", "width = 'wide'", "denoise_s = 'long'", "evaluations = -1"])
def test_a_row_that_cannot_be_costs_itself_alone(path, odd):
    with closing(Runs(path)) as runs:
        runs.add(RUN)
        runs.add(RUN)
        runs._connection.execute(f"UPDATE run SET {odd} WHERE id = 1")
        assert runs.all() == (RUN,)
    assert runs_of(path.parent) == (RUN,)
