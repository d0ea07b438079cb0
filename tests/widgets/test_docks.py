"""What a dock puts around its panels: the title, and a column whose edge stays when a scroll bar comes."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDockWidget, QMainWindow, QWidget

from widgets.controls import IconButton
from widgets.dock_title import DockTitle
from widgets.scroll_column import ScrollColumn


def test_panels_keep_their_width_when_the_scroll_bar_comes(theme, shown, qtbot):
    panel = QWidget()
    panel.setMinimumHeight(200)
    column = shown(ScrollColumn(panel), 300, 400)
    before = panel.geometry()
    assert not column.verticalScrollBar().isVisible()
    column.resize(300, 150)
    qtbot.waitUntil(column.verticalScrollBar().isVisible)
    qtbot.waitUntil(lambda: panel.width() == before.width())
    assert panel.x() == before.x()


def test_a_dock_says_its_name_and_can_be_put_away(shown, qtbot):
    window = shown(QMainWindow())
    dock = QDockWidget("Film strip", window)
    window.addDockWidget(Qt.DockWidgetArea.BottomDockWidgetArea, dock)
    dock.setTitleBarWidget(DockTitle(dock))
    (button,) = dock.titleBarWidget().findChildren(IconButton)
    assert button.accessibleName() == "Hide Film strip"
    assert "View menu" in button.toolTip()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert not dock.isVisible()
    assert not dock.toggleViewAction().isChecked()
