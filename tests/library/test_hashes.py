"""Hashes as other programs make them, the lane that makes them, and files whose table of tensors is the same."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from pathlib import Path

import pytest

from pipelines.library import hashes as hashes_module
from pipelines.library.hash_lane import HashLane
from pipelines.library.hashes import file_hashes
from pipelines.library.index import ModelIndex
from pipelines.library.models import scan
from pipelines.spec.errors import Cancelled
from pipelines.spec.record import State
from tests.library.test_parts import file, kohya


@pytest.mark.parametrize("piece", [1, 7, 64, 4 << 20])
def test_both_hashes_however_the_pieces_fall(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(hashes_module, "_PIECE", piece)
    path = tmp_path / "a.safetensors"
    path.write_bytes((50).to_bytes(8, "little") + b"{" * 50 + bytes(range(200)))
    found = file_hashes(path)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.tensors == hashlib.sha256(bytes(range(200))).hexdigest()
    assert found.autov2 == found.sha256[:10]
    assert found.autov3 == found.tensors[:12]


@pytest.mark.parametrize(("name", "data"), [("a.ckpt", bytes(100)), ("a.safetensors", b"\xff" * 100)])
def test_what_has_no_header_has_no_autov3(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    found = file_hashes(tmp_path / name)
    assert found.sha256 == hashlib.sha256(data).hexdigest()
    assert found.autov3 == ""


def test_progress_and_cancel_between_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(hashes_module, "_PIECE", 100)
    path, heard = tmp_path / "a.gguf", []
    path.write_bytes(bytes(250))
    file_hashes(path, lambda *numbers: heard.append(numbers))
    assert heard == [(100, 250), (200, 250), (250, 250)]

    def check() -> None:
        if len(heard) == 4:
            raise Cancelled("hashes")

    with pytest.raises(Cancelled):
        file_hashes(path, lambda *numbers: heard.append(numbers), check)
    assert heard[3:] == [(100, 250)]


def known(database: Path, *paths: Path) -> list[bool]:
    with contextlib.closing(ModelIndex(database)) as index:
        return [index.hashes(path) is not None for path in paths]


def test_the_lane_hashes_what_is_not_known_and_skips_what_is_gone(tmp_path):
    paths = [tmp_path / name for name in ("a.ckpt", "gone.ckpt", "b.ckpt")]
    for path in (paths[0], paths[2]):
        path.write_bytes(path.name.encode())
    for expected in (["a.ckpt", "b.ckpt"], []):
        heard: list[str] = []
        lane = HashLane(tmp_path / "m.sqlite", paths, lambda path, *_, heard=heard: heard.append(path.name))
        lane.start()
        lane.join(60)
        assert heard == expected
    assert known(tmp_path / "m.sqlite", *paths) == [True, False, True]


def test_the_lane_pauses_and_stops_within_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(hashes_module, "_PIECE", 10)
    paths = [tmp_path / "a.ckpt", tmp_path / "b.ckpt"]
    for path in paths:
        path.write_bytes(bytes(1000))
    begun = threading.Event()

    def progress(path: Path, done: int, size: int) -> None:
        lane.pause()
        begun.set()

    lane = HashLane(tmp_path / "m.sqlite", paths, progress)
    lane.start()
    assert begun.wait(60)
    assert lane.is_alive(), "it waits in the middle of the file"
    lane.stop()
    lane.join(60)
    assert not lane.is_alive()
    assert known(tmp_path / "m.sqlite", *paths) == [False, False]


def test_files_with_the_same_table_differ_in_what_their_metadata_say(tmp_path):
    file(tmp_path / "1.safetensors", kohya(768), {"modelspec.title": "One"})
    file(tmp_path / "2.safetensors", kohya(768), {"modelspec.title": "Two", "ss_network_dim": "4"})
    file(tmp_path / "3.safetensors", kohya(2048), {"modelspec.title": "Three"})
    records = scan([tmp_path])
    assert [record.title for record in records] == ["One", "Two", "Three"]
    assert [record.family for record in records] == ["sd1", "sd1", "sdxl"]


@pytest.mark.parametrize(
    ("change", "state"), [(-1, State.INCOMPLETE), (1, State.BROKEN), (0, State.READY)], ids=str
)
def test_a_table_seen_before_does_not_hide_that_a_file_is_not_whole(tmp_path, change, state):
    file(tmp_path / "1.safetensors", kohya(768), {"modelspec.title": "One"})
    path = file(tmp_path / "2.safetensors", kohya(768), {"modelspec.title": "Two"})
    data = path.read_bytes()
    path.write_bytes(data[:change] if change < 0 else data + bytes(change))
    assert [record.state for record in scan([tmp_path])] == [State.READY, state]
