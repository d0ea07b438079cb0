"""Notes on models: what was written is there after a start, whatever befell the file, and follows a moved model."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pipelines.library.hash_lane import keep_hashes
from pipelines.library.index import ModelIndex
from pipelines.library.model_notes import FILE, VERSION, ModelNotes
from pipelines.spec.errors import EngineError
from pipelines.spec.model_note import NO_NOTE, ModelDefaults, ModelNote
from pipelines.spec.request import Sampling, Size

DEFAULTS = ModelDefaults(
    sampling=Sampling(scheduler="dpmpp_2m", num_inference_steps=8, guidance_scale=1.5),
    size=Size(width=768, height=512),
)
NOTE = ModelNote(
    text="good for <b>boats</b> & '; DROP TABLE note", favourite=True, used=12.5, defaults=DEFAULTS
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "model_notes.sqlite3"


@pytest.fixture
def notes(path: Path) -> Iterator[ModelNotes]:
    with closing(ModelNotes(path)) as notes:
        yield notes


def test_what_was_kept_is_there_after_a_start(path):
    with closing(ModelNotes(path)) as notes:
        notes.keep("/models/a.safetensors", NOTE)
        notes.keep("/models/odd \udcff name", ModelNote(favourite=True))
    with closing(ModelNotes(path)) as notes:
        assert notes.all() == {
            "/models/a.safetensors": NOTE,
            "/models/odd \udcff name": ModelNote(favourite=True),
        }


def test_a_note_without_anything_in_it_leaves_nothing(notes):
    notes.keep("/a", NOTE)
    notes.keep("/a", NO_NOTE)
    assert notes.all() == {}


def test_half_a_surrogate_pair_and_a_book_are_kept_as_far_as_text_goes(notes):
    notes.keep("/a", ModelNote(text="x\ud800"))
    notes.keep("/b", ModelNote(text="word " * 100_000))
    assert notes.all()["/a"].text == "x?"
    assert len(notes.all()["/b"].text) == 20_000


def known(index: ModelIndex, path: str) -> str:
    hashes = index.hashes(Path(path))
    return hashes.sha256 if hashes else ""


def test_a_note_follows_its_model_that_was_moved(notes, tmp_path):
    old, new = tmp_path / "old.safetensors", tmp_path / "sub" / "renamed.safetensors"
    old.write_bytes(b"weights" * 100)
    with closing(ModelIndex(tmp_path / "models.sqlite")) as index:
        keep_hashes(index, old)
        notes.keep(str(old), NOTE)
        notes.follow({str(old)}, lambda path: known(index, path), index.paths_of)
        new.parent.mkdir()
        old.rename(new)
        keep_hashes(index, new)
        notes.follow({str(new)}, lambda path: "", index.paths_of)
    assert notes.all() == {str(new): NOTE}


def test_a_copy_takes_no_note_away_and_a_drive_that_is_away_keeps_its_own(notes, tmp_path):
    first, copy = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    for each in (first, copy):
        each.write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    notes.keep(str(first), NOTE, sha256)
    notes.keep("/drive/away.safetensors", ModelNote(text="away"), "f" * 64)
    notes.follow({str(copy)}, lambda path: "", lambda _sha: [str(copy)] if _sha == sha256 else [])
    assert set(notes.all()) == {str(first), "/drive/away.safetensors"}


def test_defaults_that_cannot_be_read_are_none_and_the_rest_holds(notes, path):
    notes.keep("/a", NOTE)
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("""UPDATE note SET defaults = '{"sampling": 3}'""")
    assert notes.all()["/a"] == ModelNote(text=NOTE.text, favourite=True, used=12.5)


@pytest.mark.parametrize("damage", [b"not a database", b"", b"SQLite format 3\0" + bytes(5000)])
def test_a_damaged_file_is_kept_aside_and_a_new_one_begun(path, damage):
    path.parent.mkdir(parents=True)
    path.write_bytes(damage)
    with closing(ModelNotes(path)) as notes:
        notes.keep("/a", NOTE)
        assert notes.all() == {"/a": NOTE}
        assert damage == b"" or (notes.set_aside and notes.set_aside.read_bytes() == damage)


def test_a_newer_file_is_refused_and_left_as_it_is(path):
    with closing(ModelNotes(path)) as notes:
        notes.keep("/a", NOTE)
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA user_version = {VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(EngineError, match="newer version"):
        ModelNotes(path)
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written_is_an_expected_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="cannot be used"):
        ModelNotes(tmp_path / "file" / "model_notes.sqlite3")


def test_a_change_of_one_field_leaves_what_was_never_read(tmp_path):
    """The window may have begun without the notes; a picture made then must not blank them."""
    with closing(ModelNotes(tmp_path / FILE)) as notes:
        notes.keep("/m.safetensors", ModelNote(text="mine", favourite=True))
        notes.keep("/m.safetensors", ModelNote(used=7.0), fields=("used",))
        assert notes.all()["/m.safetensors"] == ModelNote(text="mine", favourite=True, used=7.0)
        notes.keep("/m.safetensors", ModelNote(), fields=("text", "favourite", "used"))
        assert notes.all() == {}
