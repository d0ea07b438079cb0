"""`Watching`: one signal when files have come to rest, none while one grows; new folders are watched by themselves."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from PySide6.QtCore import Qt

from desktop import watching as watching_module
from desktop.tasks import Tasks
from desktop.watching import Watching
from pipelines.library.watched import sizes, watched_folders
from tests.desktop.conftest import make_model


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "models" / "loras" / "deep").mkdir(parents=True)
    return tmp_path / "models"


@pytest.fixture
def make(qtbot, monkeypatch):
    monkeypatch.setattr(watching_module, "REST_MS", 100)
    monkeypatch.setattr(watching_module, "YOUNG_MS", 300)
    tasks, made = Tasks(), []

    def make(*roots: Path) -> Watching:
        watching = Watching(tasks)
        made.append(watching)
        watching.watch(roots)
        qtbot.waitUntil(lambda: bool(watching.watched()))
        return watching

    yield make
    for watching in made:
        watching.stop()
        watching.deleteLater()
    assert tasks.close(5.0) is not False


def test_a_file_that_comes_and_one_that_goes_are_told_once_each(make, root, qtbot):
    watching, heard = make(root), []
    watching.changed.connect(lambda: heard.append(time.monotonic()))
    with qtbot.waitSignal(watching.changed):
        for n in range(5):
            (root / "loras" / f"{n}.safetensors").write_bytes(bytes(10))
    qtbot.wait(700)
    assert len(heard) == 1
    with qtbot.waitSignal(watching.changed):
        (root / "loras" / "3.safetensors").unlink()
    qtbot.wait(700)
    assert len(heard) == 2


def test_nothing_is_told_while_a_file_grows(make, root, qtbot):
    watching, heard = make(root), []
    watching.changed.connect(lambda: heard.append(path.stat().st_size))
    path = root / "loras" / "a.safetensors"
    with path.open("wb") as file:
        for _ in range(20):
            file.write(bytes(1000))
            file.flush()
            qtbot.wait(50)
        assert heard == []
    qtbot.waitUntil(lambda: bool(heard))
    assert heard == [20_000]


def test_a_file_that_goes_on_after_a_pause_is_told_again(make, root, qtbot):
    """The system tells nothing of a file that grows."""
    watching = make(root)
    path = root / "loras" / "a.safetensors"
    with qtbot.waitSignal(watching.changed):
        path.write_bytes(bytes(10))
    with qtbot.waitSignal(watching.changed), path.open("ab") as file:
        file.write(bytes(1000))


def test_a_folder_that_comes_is_watched_and_one_that_goes_no_more(make, root, qtbot):
    watching = make(root)
    with qtbot.waitSignal(watching.changed):
        make_model(root / "new" / "whole")
    qtbot.waitUntil(lambda: str(root / "new" / "whole" / "unet") in watching.watched())
    with qtbot.waitSignal(watching.changed):
        (root / "new" / "whole" / "unet" / "model.safetensors").unlink()
    with qtbot.waitSignal(watching.changed):
        (root / "loras" / "deep").rmdir()
    qtbot.waitUntil(lambda: str(root / "loras" / "deep") not in watching.watched())


def test_a_root_that_is_made_later_is_seen(make, tmp_path, qtbot):
    watching, heard = make(tmp_path / "later"), []
    watching.changed.connect(lambda: heard.append(True))
    (tmp_path / "models.sqlite").write_bytes(b"of the index")
    qtbot.wait(600)
    assert heard == []
    with qtbot.waitSignal(watching.changed):
        (tmp_path / "later").mkdir()
        (tmp_path / "later" / "a.safetensors").write_bytes(bytes(10))


def test_coming_back_after_a_while_is_a_change_and_after_a_moment_none(make, root, qtbot, monkeypatch):
    watching, heard = make(root), []
    watching.changed.connect(lambda: heard.append(True))
    states = Qt.ApplicationState
    now = [100.0]
    monkeypatch.setattr(watching_module.time, "monotonic", lambda: now[0])
    for seconds in (5, 31):
        watching._application_changed(states.ApplicationInactive)
        watching._application_changed(states.ApplicationSuspended)
        now[0] += seconds
        watching._application_changed(states.ApplicationActive)
    assert len(heard) == 1


def test_after_stop_nothing_is_told(make, root, qtbot):
    watching, heard = make(root), []
    watching.changed.connect(lambda: heard.append(True))
    watching.stop()
    (root / "loras" / "a.safetensors").write_bytes(bytes(10))
    qtbot.wait(600)
    assert heard == []
    assert watching.watched() == ()


def test_the_number_of_folders_is_bounded_and_the_upper_ones_come_first(root):
    for n in range(20):
        (root / f"{n:02d}" / "below").mkdir(parents=True)
    found = watched_folders([root], 10)
    assert len(found) == 10
    assert not any(folder.endswith("below") for folder in found)
    if hasattr(os, "symlink"):
        (root / "loop").symlink_to(root)
        assert len(watched_folders([root], 1000)) == 1 + 20 + 20 + 2


def test_of_a_tree_its_places(tmp_path):
    for name in ("comfy", "custom_nodes/a", "models/loras/x", "output/day"):
        (tmp_path / name).mkdir(parents=True)
    names = {os.path.relpath(folder, tmp_path) for folder in watched_folders([tmp_path], 100)}
    assert names == {"models", "models/loras", "models/loras/x"}
    assert sizes([str(tmp_path / "models")]).keys() == {
        str(tmp_path / "models" / "loras"),
        str(tmp_path / "models" / "loras" / "x"),
    }


def test_a_model_that_comes_is_in_the_window_without_a_restart(make_application, model_root, qtbot):
    application = make_application()
    qtbot.waitUntil(lambda: len(application.session.records()) == 1)
    qtbot.waitUntil(lambda: bool(application.models.watching.watched()))
    make_model(model_root / "second", title="The second")
    qtbot.waitUntil(lambda: len(application.session.records()) == 2)


def test_the_last_model_that_goes_and_the_first_that_comes(make_application, model_root, qtbot):
    application = make_application()
    qtbot.waitUntil(lambda: bool(application.models.watching.watched()))
    shutil.rmtree(model_root / "scripted")
    qtbot.waitUntil(lambda: application.session.records() == ())
    assert "no model" in application.window.viewer.message().lower()
    make_model(model_root / "new", title="New")
    qtbot.waitUntil(lambda: len(application.session.records()) == 1)
    assert "no model" not in application.window.viewer.message().lower()
    assert application.window.banner.isHidden()
