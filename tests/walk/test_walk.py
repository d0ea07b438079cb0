"""The walk: a prompt typed, the window's own button pressed, the demo model's picture in the gallery."""

from pathlib import Path

import pytest
from PIL import Image, ImageStat
from PySide6.QtCore import QCoreApplication, QEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QPlainTextEdit

from desktop.application import Application, Places
from desktop.session import Engine
from pipelines.library.metadata.read import read_request
from pipelines.spec.events import JobFinished

PROMPT = "a large red circle on a blue background"
PATIENCE_MS = 240_000  # importing torch and drawing on a busy machine


@pytest.fixture
def application(qtbot, tmp_path):
    """The real program in its own folders, with the real engine and the bundled demo model."""
    application = Application(
        Places(tmp_path / "config", tmp_path / "data", tmp_path / "cache", tmp_path / "outputs")
    )
    application.window.show()
    qtbot.waitUntil(lambda: bool(application.session.records()), timeout=PATIENCE_MS)
    yield application
    assert application.close()
    application.window.deleteLater()
    application.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


def draw(application, qtbot) -> Path:
    """Presses Generate; the path of the picture that the film strip then has first."""
    with qtbot.waitSignal(application.session.jobEnded, timeout=PATIENCE_MS) as ended:
        application.window.button.click()
    assert isinstance(ended.args[0], JobFinished), ended.args[0]
    qtbot.waitUntil(lambda: application.tasks.idle)
    return Path(application.window.model.picture(0).path)


def colour(picture: Image.Image, box: tuple[int, int, int, int]) -> tuple[float, ...]:
    return tuple(ImageStat.Stat(picture.crop(box)).mean)


@pytest.mark.slow
def test_a_typed_prompt_becomes_the_picture_it_says(application, qtbot):
    edit = application.window.panels["prompt"].findChildren(QPlainTextEdit)[0]
    edit.selectAll()
    QTest.keyClicks(edit, PROMPT)
    assert application.session.request().model == "demo-sd"
    first = draw(application, qtbot)
    assert application.session.state.engine is Engine.READY
    assert application.window.viewer.path() == str(first)
    with Image.open(first) as picture:
        side = picture.width
        middle = colour(picture, (side * 7 // 16, side * 7 // 16, side * 9 // 16, side * 9 // 16))
        edges = [
            colour(picture, (0, 0, side, side // 16)),
            colour(picture, (0, side - side // 16, side, side)),
        ]
    assert middle[0] > 1.5 * max(middle[1], middle[2]), middle
    for edge in edges:
        assert edge[2] > 1.5 * max(edge[0], edge[1]), edges

    sent = application.session.request()
    assert sent.prompt.text == PROMPT
    stored = read_request(first)
    assert stored is not None
    assert stored.request == sent
    edit.selectAll()
    QTest.keyClicks(edit, "something else")
    application.window.strip.restoreRequested.emit(str(first))
    qtbot.waitUntil(lambda: application.session.request() == sent)
    second = draw(application, qtbot)
    assert second != first
    with Image.open(first) as one, Image.open(second) as other:
        assert one.tobytes() == other.tobytes()
    assert application.window.model.rowCount() == 2
