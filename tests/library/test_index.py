"""The index: a file is read once until it changes, and nothing that befalls the database is an error."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.library import index as index_module
from pipelines.library import models
from pipelines.library.hashes import Hashes
from pipelines.library.index import VERSION, ModelIndex, scan
from pipelines.library.index_rows import record_from, row_of
from pipelines.library.walk import stamp_of
from pipelines.spec.errors import Cancelled
from pipelines.spec.record import Format, Kind, ModelRecord, State
from pipelines.spec.request import Sampling
from tests.library.test_models import model
from tests.library.test_parts import file, kohya


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three files and a folder."""
    for name in ("a", "b", "deep/c"):
        file(tmp_path / "models" / f"{name}.safetensors", kohya(768), {"modelspec.title": name})
    model(tmp_path / "models" / "whole")
    return tmp_path / "models"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "data" / "models.sqlite"


@pytest.fixture
def index(database: Path) -> Iterator[ModelIndex]:
    index = ModelIndex(database)
    yield index
    index.close()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is read rather than remembered."""
    names: list[str] = []

    def record_of(path: Path, *args):
        names.append(path.name)
        return models.record_of(path, *args)

    monkeypatch.setattr(index_module, "record_of", record_of)
    return names


def test_a_second_scan_reads_nothing_and_says_the_same(root, database, read):
    first = scan([root], database=database)
    assert read == ["a.safetensors", "b.safetensors", "c.safetensors", "whole"]
    read.clear()
    assert scan([root], database=database) == first == models.scan([root])
    assert read == []


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("a.safetensors", "a.safetensors"),
        ("b.emulsion.json", "b.safetensors"),
        ("b.yaml", "b.safetensors"),
        ("whole/emulsion.json", "whole"),
        ("whole/unet/config.json", "whole"),
    ],
)
def test_what_changed_is_read_again(root, index, read, name, changed):
    index.scan([root])
    read.clear()
    path = root / name
    path.write_bytes(path.read_bytes() + b" " if path.exists() else b"{}")
    assert index.scan([root]) == models.scan([root])
    assert read == [changed]


def test_a_new_time_alone_is_a_change(root, index, read):
    index.scan([root])
    read.clear()
    os.utime(root / "b.safetensors", ns=(1, 1))
    index.scan([root])
    assert read == ["b.safetensors"]


def test_new_code_reads_all_again(root, index, read, monkeypatch):
    index.scan([root])
    read.clear()
    monkeypatch.setattr(index_module, "recogniser", lambda: "of tomorrow")
    index.scan([root])
    assert len(read) == 4


def test_a_later_piece_that_changes_is_a_change_of_the_first(tmp_path, index, read):
    root = tmp_path / "models"
    for n in (1, 2):
        file(root / f"m-0000{n}-of-00002.safetensors", {f"lora_unet_{n}.lora_down.weight": (4, 8)})
    index.scan([root])
    read.clear()
    (root / "m-00002-of-00002.safetensors").unlink()
    (record,) = index.scan([root])
    assert read == ["m-00001-of-00002.safetensors"]
    assert record.state is State.INCOMPLETE


def test_what_vanished_is_dropped_but_not_what_is_away(root, index, database, tmp_path):
    other = tmp_path / "drive"
    file(other / "d.safetensors", kohya(768))
    index.scan([root, other])
    (root / "a.safetensors").unlink()
    shutil.rmtree(other)
    assert {record.id for record in index.scan([root, other])} == {"b", "c", "whole"}
    with contextlib.closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT path FROM file").fetchall()
    assert {os.path.basename(path) for (path,) in rows} == {
        b"b.safetensors",
        b"c.safetensors",
        b"whole",
        b"d.safetensors",
    }


def test_two_of_one_name_keep_their_ids(tmp_path, database):
    for folder in ("1", "2"):
        file(tmp_path / folder / "same.safetensors", kohya(768))
    roots = [tmp_path / "1", tmp_path / "2"]
    first = scan(roots, database=database)
    assert len({record.id for record in first}) == 2
    assert scan(roots, database=database) == first


def test_progress_counts_what_is_done_of_all(root, index):
    heard: list[tuple[int, int]] = []
    index.scan([root], progress=lambda *numbers: heard.append(numbers))
    assert heard == [(n, 4) for n in range(5)]
    heard.clear()
    index.scan([root], progress=lambda *numbers: heard.append(numbers))
    assert heard == [(4, 4)]


def test_a_cancelled_scan_keeps_what_was_read(root, index, read):
    def check() -> None:
        if len(read) == 2:
            raise Cancelled("scan")

    with pytest.raises(Cancelled):
        index.scan([root], check=check)
    read.clear()
    assert len(index.scan([root])) == 4
    assert read == ["c.safetensors", "whole"]


def hashed(index: ModelIndex, path: Path) -> Hashes:
    hashes = Hashes("ab" * 32, "cd" * 32)
    index.keep_hashes(path, stamp_of(path.stat()), hashes)
    return hashes


def test_hashes_hold_until_the_file_changes(root, index):
    path = root / "a.safetensors"
    assert index.hashes(path) is None
    assert index.hashes(root / "b.safetensors") is None
    hashes = hashed(index, path)
    assert index.hashes(path) == hashes
    os.utime(path, ns=(1, 1))
    assert index.hashes(path) is None


def test_hashes_follow_a_file_that_is_moved_and_no_copy(root, index):
    path = root / "a.safetensors"
    hashes = hashed(index, path)
    copy = Path(shutil.copy2(path, root / "deep" / path.name))
    assert index.hashes(copy) is None, "both are there: which of them was hashed is known"
    path.rename(copy)
    assert index.hashes(copy) == hashes
    index.scan([root])
    assert index.hashes(copy) == hashes


def damage_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 : 4096 + 8192] = os.urandom(len(data[4096 : 4096 + 8192]))
    path.write_bytes(data)


def other_table(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript("DROP TABLE file; CREATE TABLE file (x)")


DAMAGES = {
    "no database": lambda path: path.write_bytes(b"not a database" * 1000),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "the middle overwritten": damage_middle,
    "a foreign table": other_table,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_database_is_set_aside_and_built_anew(root, database, damage, read):
    first = scan([root], database=database)
    assert not list(database.parent.glob("models.sqlite-*")), "the last to close it leaves one file"
    damage(database)
    assert scan([root], database=database) == first
    assert list(database.parent.glob("models.damaged-*.sqlite"))
    read.clear()
    assert scan([root], database=database) == first
    assert read == []


def test_one_of_a_newer_version_is_set_aside_whole(root, database):
    scan([root], database=database)
    with sqlite3.connect(database) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    before = database.read_bytes()
    assert len(scan([root], database=database)) == 4
    (kept,) = database.parent.glob("models.newer-*.sqlite")
    assert kept.read_bytes() == before


def test_a_row_that_cannot_be_read_is_read_from_the_file(root, database, read):
    first = scan([root], database=database)
    with sqlite3.connect(database) as connection:
        connection.execute("""UPDATE file SET record = '{"kind": "no such"}'""")
    connection.close()
    read.clear()
    assert scan([root], database=database) == first
    assert len(read) == 4


def test_without_a_place_for_the_database_all_is_found_all_the_same(root, tmp_path):
    (tmp_path / "data").write_text("a file where the folder should be")
    assert scan([root], database=tmp_path / "data" / "models.sqlite") == models.scan([root])


def test_a_locked_database_is_done_without(root, database, monkeypatch):
    scan([root], database=database)
    monkeypatch.setattr(index_module, "BUSY_S", 0.01)
    file(root / "new.safetensors", kohya(768))
    holder = sqlite3.connect(database, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert scan([root], database=database) == models.scan([root])
    holder.execute("COMMIT")
    holder.close()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_name_that_is_no_text_is_remembered(tmp_path, database, read):
    path = Path(os.fsdecode(os.fsencode(tmp_path / "models") + b"/caf\xe9.safetensors"))
    try:
        file(path, kohya(768))
    except OSError:
        pytest.skip("this file system wants text")
    first = scan([path.parent], database=database)
    read.clear()
    assert scan([path.parent], database=database) == first
    assert read == []


def test_a_row_holds_every_field():
    record = ModelRecord(
        id="x",
        path="/m/x",
        title="Ü \ud800",
        kind=Kind.LORA,
        format=Format.SINGLE_FILE,
        state=State.UNSAFE,
        sampling=Sampling(scheduler="euler", num_inference_steps=4, guidance_scale=1.5, seed=7),
        latent_rgb=((1.0, 2.0, 3.0),),
        latent_rgb_bias=(0.1, 0.2, 0.3),
        trigger_words=("a", "b"),
        preferred_weight=-0.5,
        preview="/m/x.png",
        needs=("vae",),
        sharded=True,
        parameters=7,
    )
    assert record_from("/m/x", row_of(record)) == record
    assert json.loads(row_of(ModelRecord(id="y", path="/m/y", title="Y"))) == {"id": "y", "title": "Y"}
