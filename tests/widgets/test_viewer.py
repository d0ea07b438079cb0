"""The viewer: the point under the cursor stays, the file goes out, the states say what to do."""

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QColor, QImage

from pipelines.spec.events import Preview
from tests.widgets.hands import wheel
from widgets import canvas as canvas_module
from widgets.controls import IconButton
from widgets.viewer import Viewer


@pytest.fixture
def viewer(shown, picture):
    viewer = shown(Viewer(), 640, 480)
    viewer.show_picture("/pictures/<b>1.png", picture, seed=7)
    return viewer


@pytest.mark.parametrize("at", [QPoint(200, 150), QPoint(320, 200), QPoint(500, 260)])
def test_wheel_keeps_the_point_under_the_cursor(viewer, at):
    canvas = viewer.canvas
    before = canvas.picture_point(QPointF(at))
    for angle in (120, 120, 120, -120, 60, -240, 360):
        wheel(canvas, at, angle)
        after = canvas.picture_point(QPointF(at))
        assert after.x() == pytest.approx(before.x(), abs=1e-6)
        assert after.y() == pytest.approx(before.y(), abs=1e-6)
    assert not canvas.is_fitted()


def test_fit_shows_all_in_the_middle_and_follows_the_window(viewer, qtbot):
    canvas = viewer.canvas
    corner = canvas.picture_point(QPointF(0, 0))
    far = canvas.picture_point(QPointF(canvas.width(), canvas.height()))
    assert corner.x() < 0
    assert far.x() > 100
    assert corner.x() + far.x() == pytest.approx(100)
    assert corner.y() + far.y() == pytest.approx(50)
    before = viewer.zoom()
    viewer.resize(900, 700)
    assert viewer.zoom() > before


def test_double_click_and_keys_change_between_fit_and_100_percent(viewer, qtbot):
    canvas = viewer.canvas
    fitted = viewer.zoom()
    qtbot.mouseDClick(canvas, Qt.MouseButton.LeftButton)
    assert viewer.zoom() == 1.0
    qtbot.mouseDClick(canvas, Qt.MouseButton.LeftButton)
    assert viewer.zoom() == fitted
    qtbot.keyClick(canvas, Qt.Key.Key_1)
    assert viewer.zoom() == 1.0
    qtbot.keyClick(canvas, Qt.Key.Key_Plus)
    assert viewer.zoom() == 1.25
    qtbot.keyClick(canvas, Qt.Key.Key_0)
    assert viewer.zoom() == fitted


def test_zoom_stays_within_bounds(viewer):
    for _ in range(60):
        viewer.canvas.zoom_by(2)
    assert viewer.zoom() == 32
    for _ in range(60):
        viewer.canvas.zoom_by(0.5)
    assert 0 < viewer.zoom() <= 1


def drag(qtbot, canvas, start, end, modifier=Qt.KeyboardModifier.NoModifier):
    qtbot.mousePress(canvas, Qt.MouseButton.LeftButton, modifier, start)
    from PySide6.QtGui import QMouseEvent
    from PySide6.QtWidgets import QApplication

    left, move = Qt.MouseButton.LeftButton, QMouseEvent.Type.MouseMove
    event = QMouseEvent(move, QPointF(end), QPointF(canvas.mapToGlobal(end)), left, left, modifier)
    QApplication.sendEvent(canvas, event)
    qtbot.mouseRelease(canvas, Qt.MouseButton.LeftButton, modifier, end)


@pytest.fixture
def dragged(monkeypatch):
    """The file urls of the drags that were started; none runs its own event loop."""
    urls = []

    class Recorder(canvas_module.QDrag):
        def exec(self, supportedActions):  # pyright: ignore[reportIncompatibleMethodOverride]
            urls.append([url.toLocalFile() for url in self.mimeData().urls()])
            assert supportedActions == Qt.DropAction.CopyAction
            return supportedActions

    monkeypatch.setattr(canvas_module, "QDrag", Recorder)
    return urls


def test_drag_of_a_fitted_picture_carries_its_file(viewer, qtbot, dragged):
    drag(qtbot, viewer.canvas, QPoint(300, 200), QPoint(400, 250))
    assert dragged == [["/pictures/<b>1.png"]]
    assert viewer.canvas.is_fitted()


def test_drag_of_a_magnified_picture_moves_it_and_ctrl_takes_the_file(viewer, qtbot, dragged):
    canvas = viewer.canvas
    canvas.zoom_by(4)
    before = canvas.picture_point(QPointF(300, 200))
    drag(qtbot, canvas, QPoint(300, 200), QPoint(340, 220))
    after = canvas.picture_point(QPointF(340, 220))
    assert (after.x(), after.y()) == pytest.approx((before.x(), before.y()))
    assert dragged == []
    drag(qtbot, canvas, QPoint(300, 200), QPoint(400, 250), Qt.KeyboardModifier.ControlModifier)
    assert dragged == [["/pictures/<b>1.png"]]


def test_a_preview_has_no_file(viewer, qtbot, dragged):
    viewer.show_preview(Preview(width=2, height=1, rgb=bytes((255, 0, 0, 0, 0, 255))), "Step 1 of 2")
    drag(qtbot, viewer.canvas, QPoint(300, 200), QPoint(400, 250))
    assert dragged == []
    assert viewer.path() == ""


def test_preview_shows_its_pixels(viewer):
    viewer.show_preview(Preview(width=2, height=1, rgb=bytes((255, 0, 0, 0, 0, 255))), "Step 1 of 2")
    canvas = viewer.canvas
    seen = canvas.grab().toImage()
    middle = seen.height() // 2
    assert seen.pixelColor(seen.width() // 8, middle) == QColor("red")
    assert seen.pixelColor(seen.width() * 7 // 8, middle) == QColor("blue")
    assert viewer._caption.text() == "Step 1 of 2"


def test_picture_is_painted_where_the_maths_says(viewer):
    canvas = viewer.canvas
    canvas.zoom_by(32)
    canvas.pan(QPointF(10_000, 10_000))
    seen = canvas.grab().toImage()
    corner = canvas.picture_point(QPointF(seen.width() - 10, seen.height() - 10))
    assert 0 <= corner.x() < 2
    assert seen.pixelColor(seen.width() - 40, seen.height() - 40) == QColor("blue")


def test_reduced_picture_is_averaged(shown):
    stripes = QImage(bytes((0, 255)) * (600 * 600), 1200, 600, 1200, QImage.Format.Format_Grayscale8).copy()
    viewer = shown(Viewer(), 332, 400)
    viewer.show_picture("/p/stripes.png", stripes)
    assert viewer.zoom() < 0.3
    middle = viewer.canvas.grab().toImage().pixelColor(166, viewer.canvas.height() // 2)
    assert 110 <= middle.red() <= 145


def test_actions_carry_the_path_and_rest_without_one(viewer, qtbot):
    for name, signal in (
        ("copy", viewer.copyRequested),
        ("save", viewer.saveAsRequested),
        ("folder", viewer.revealRequested),
        ("restore", viewer.restoreRequested),
        ("trash", viewer.deleteRequested),
    ):
        with qtbot.waitSignal(signal, check_params_cb=lambda path: path == "/pictures/<b>1.png"):
            viewer._actions[name].trigger()
    viewer.show_error("No picture", "There is <b>not</b> enough memory.")
    assert not any(action.isEnabled() for action in viewer._actions.values())
    assert not any(button.isEnabled() for button in viewer.findChildren(IconButton))


def test_caption_tells_size_seed_and_name(viewer):
    assert viewer._caption.text() == "100 × 50 · seed 7 · <b>1.png"


def test_the_states_show_their_texts(viewer):
    viewer.show_empty("Nothing yet", "Press Generate.")
    assert viewer._message.isVisible()
    assert (viewer._message.accessibleName(), viewer.path()) == ("Nothing yet", "")
    viewer.show_error("Stopped", "Too large.")
    assert viewer._message.accessibleDescription() == "Too large."
    viewer.show_picture("/p/2.png", QImage(8, 8, QImage.Format.Format_RGB32))
    assert viewer.canvas.isVisible()
