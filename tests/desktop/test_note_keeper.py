"""`NoteKeeper`: nothing that a person wrote is lost to a copy in memory that knew less."""

from contextlib import closing

import pytest

from desktop.note_keeper import NoteKeeper
from desktop.tasks import Tasks
from pipelines.library.model_notes import FILE, ModelNotes
from pipelines.spec.model_note import ModelNote

PATH = "/m.safetensors"


@pytest.fixture
def keeper(tmp_path, qtbot):
    with closing(ModelNotes(tmp_path / FILE)) as notes:
        notes.keep(PATH, ModelNote(text="mine", favourite=True))
    tasks = Tasks()
    keeper = NoteKeeper(tmp_path, tasks, lambda error: pytest.fail(str(error)))
    yield keeper
    tasks.close()
    keeper.close()


def on_disk(tmp_path):
    with closing(ModelNotes(tmp_path / FILE)) as notes:
        return notes.all()


def test_a_use_before_the_notes_were_read_takes_nothing_away(keeper, tmp_path, qtbot):
    keeper.set_read({})  # the file was locked
    keeper.keep(PATH, ModelNote(used=7.0))
    keeper.store()
    keeper._write()
    assert on_disk(tmp_path)[PATH] == ModelNote(text="mine", favourite=True, used=7.0)


def test_what_a_scan_read_earlier_does_not_undo_what_was_typed_since(keeper, tmp_path):
    stale = keeper.store().all()
    keeper.set_read(stale)
    keeper.keep(PATH, ModelNote(text="mine, and more", favourite=True))
    keeper._write()
    keeper.set_read(stale)
    assert keeper.note(PATH).text == "mine, and more"
    keeper.keep(PATH, ModelNote(text="mine, and more", favourite=True, used=9.0))
    keeper._write()
    assert on_disk(tmp_path)[PATH].text == "mine, and more"
