"""The window's hash lane: it hashes what the scan found, rests while pictures are made, and ends with the window."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from desktop.hashing import Hashing
from pipelines.library.index import FILE, ModelIndex
from pipelines.spec.record import Format, Kind, ModelRecord


@pytest.fixture
def record(tmp_path: Path) -> ModelRecord:
    path = tmp_path / "a.safetensors"
    path.write_bytes(bytes(100))
    return ModelRecord(id="a", path=str(path), title="a", kind=Kind.LORA, format=Format.SINGLE_FILE)


def known(data: Path, record: ModelRecord) -> bool:
    with contextlib.closing(ModelIndex(data / FILE)) as index:
        return index.hashes(Path(record.path)) is not None


def test_what_was_found_is_hashed_once_no_picture_is_made(qtbot, tmp_path, record):
    hashing = Hashing(tmp_path / "data")
    hashing.rest(True)
    hashing.start([record])
    assert not known(tmp_path / "data", record)
    hashing.rest(False)
    qtbot.waitUntil(lambda: known(tmp_path / "data", record))
    assert hashing.stop()


def test_a_lane_that_rests_ends_all_the_same(tmp_path, record):
    hashing = Hashing(tmp_path / "data")
    hashing.rest(True)
    hashing.start([record])
    assert hashing.stop()
    assert not known(tmp_path / "data", record)
