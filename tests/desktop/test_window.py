"""The window as one sees it: what fits, what has a name, the way of the Tab key, the layout that comes back."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLineEdit,
    QPlainTextEdit,
    QScrollBar,
    QWidget,
)

from desktop.actions import ACTIONS
from desktop.model_lookup import Scanned
from widgets.scroll_column import ScrollColumn

CONTROLS = (QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox, QLineEdit, QPlainTextEdit)


@pytest.fixture
def window(application, qtbot):
    window = application.window
    window.resize(1280, 800)
    qtbot.waitUntil(lambda: application.tasks.idle)
    QApplication.processEvents()
    return window


def test_all_settings_are_in_view_at_1280_by_800(window):
    column = window.docks["settings"].findChild(ScrollColumn)
    assert not column.verticalScrollBar().isVisible()
    assert window.panels["count"].visibleRegion().boundingRect().height() == window.panels["count"].height()


def test_fields_and_generate_stand_on_the_same_edges(window):
    from widgets.generate_button import RING

    button = window.button.mapTo(window, window.button.rect().topLeft()).x() + RING

    def left(widget):
        return widget.mapTo(window, widget.rect().topLeft()).x() - button

    wide = window.button.width() - 2 * RING
    for name in ("prompt", "size", "sampling"):
        panel = window.panels[name]
        assert (left(panel), panel.width()) == (0, wide)
    beside = window.panels["speed"].head
    assert left(window.panels["count"]) == 0
    assert left(beside) + beside.width() == wide


def test_every_control_of_the_window_has_a_name_and_a_tooltip(window):
    controls = [w for w in window.findChildren(QWidget) if isinstance(w, CONTROLS) and w.isVisible()]
    assert len(controls) > 30
    for control in controls:
        if isinstance(control, QScrollBar) or control.objectName().startswith("qt_"):
            continue
        assert control.accessibleName(), control
        assert control.toolTip(), control.accessibleName()


def test_tab_goes_down_the_settings_and_to_generate(window, qtbot):
    window.activateWindow()
    window.focus_prompt()
    seen = []
    for _ in range(60):
        widget = QApplication.focusWidget()
        assert widget is not None
        seen.append(widget)
        if widget is window.button:
            break
        qtbot.keyClick(widget, Qt.Key.Key_Tab)
    assert seen[0].accessibleName() == "Prompt"
    assert seen[-1] is window.button
    places = [widget.mapTo(window, widget.rect().center()) for widget in seen]
    for (first, before), (second, after) in zip(
        zip(seen, places, strict=True), list(zip(seen, places, strict=True))[1:], strict=False
    ):
        below = after.y() > before.y() + 8
        beside = abs(after.y() - before.y()) <= 8 and after.x() > before.x()
        assert below or beside, (first.accessibleName(), second.accessibleName())


def test_docks_come_back_as_they_were_and_can_be_reset(make_application, tmp_path):
    first = make_application(root=tmp_path / "run")
    first.window.docks["inputs"].close()
    first.window.addDockWidget(Qt.DockWidgetArea.TopDockWidgetArea, first.window.docks["strip"])
    first.close()
    window = make_application(root=tmp_path / "run").window
    assert not window.docks["inputs"].isVisible()
    assert window.dockWidgetArea(window.docks["strip"]) == Qt.DockWidgetArea.TopDockWidgetArea
    window.resize(1280, 800)
    window.actions_by_id["reset_layout"].trigger()
    assert window.docks["inputs"].isVisible()
    assert window.dockWidgetArea(window.docks["strip"]) == Qt.DockWidgetArea.BottomDockWidgetArea


def test_without_a_model_the_window_says_where_one_goes(application):
    application.models._scanned(Scanned())
    QApplication.processEvents()
    window = application.window
    assert "no model" in window.viewer.message().lower()
    assert "models" in window.viewer.message()
    assert "noticed by itself" in window.viewer.message()
    assert not window.button.isEnabled()
    assert "No model was found" in window.button.toolTip()


def test_no_two_actions_share_a_shortcut_and_each_says_what_it_does(window):
    shortcuts = [row.shortcut for row in ACTIONS if row.shortcut]
    assert len(shortcuts) == len(set(shortcuts))
    assert all(action.statusTip() for action in window.actions_by_id.values())


def test_the_bar_of_the_viewer_restores_and_deletes_what_it_shows(application, qtbot):
    window = application.window
    asked = []
    window.viewer.restoreRequested.connect(lambda path: asked.append(("restore", path)))
    window.viewer.deleteRequested.disconnect()
    window.viewer.deleteRequested.connect(lambda path: asked.append(("trash", path)))
    with qtbot.waitSignal(application.session.jobEnded):
        window.button.click()
    qtbot.waitUntil(lambda: bool(window.viewer.path()))
    for name in ("restore", "trash"):
        window.viewer._actions[name].trigger()
    assert asked == [("restore", window.viewer.path()), ("trash", window.viewer.path())]
    qtbot.waitUntil(window.panels["sampling"].seed_locked)
