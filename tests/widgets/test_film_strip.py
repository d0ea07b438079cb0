"""The film strip with a hundred thousand pictures, and with none."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QImage
from PySide6.QtTest import QAbstractItemModelTester

from widgets import picture_model
from widgets.film_strip import FilmStrip, Picture, PictureModel

MANY = 100_000


def pictures(count):
    return [Picture(path=f"/p/{i}.png", created=1e9 - i, width=512, height=512) for i in range(count)]


@pytest.fixture
def strip(shown):
    return shown(FilmStrip(), 800, 160)


@pytest.fixture
def wanted(strip):
    paths = []
    strip.model.thumbnailWanted.connect(paths.append)
    return paths


def test_only_what_is_in_view_asks_for_thumbnails(strip, wanted, qtbot):
    strip.model.set_pictures(pictures(MANY))
    qtbot.waitUntil(lambda: len(wanted) > 0)
    assert wanted == [f"/p/{i}.png" for i in range(len(wanted))]
    assert len(wanted) <= 8
    seen = set(wanted)
    bar = strip.view.horizontalScrollBar()
    for value in range(0, bar.maximum(), bar.maximum() // 50):
        bar.setValue(value)
    bar.setValue(bar.maximum())
    qtbot.waitUntil(lambda: f"/p/{MANY - 1}.png" in wanted)
    assert len(set(wanted) - seen) <= 9, "rows that flew past asked too"
    assert len(wanted) == len(set(wanted)), "a row asked twice"


def test_rows_in_view_are_those_that_the_view_shows(strip):
    strip.model.set_pictures(pictures(MANY))
    view = strip.view
    view.horizontalScrollBar().setValue(54_321)
    rows = view.rows_in_view()
    left = min(row for row in rows if view.visualRect(view.model().index(row)).right() >= 0)
    right = max(
        row for row in rows if view.visualRect(view.model().index(row)).left() < view.viewport().width()
    )
    assert (rows[0], rows[-1]) == (left, right)
    assert view.indexAt(view.viewport().rect().center()).row() in rows


def test_thumbnails_are_bounded(qtbot, monkeypatch):
    monkeypatch.setattr(picture_model, "_THUMBNAILS_KEPT", 3)
    model = PictureModel()
    model.set_pictures(pictures(10))
    image = QImage(4, 4, QImage.Format.Format_RGB32)
    for i in range(3):
        model.set_thumbnail(f"/p/{i}.png", image)
    assert model.thumbnail("/p/0.png") is not None  # looked at: the oldest is now 1
    model.set_thumbnail("/p/3.png", image)
    assert model.thumbnail("/p/1.png") is None
    assert all(model.thumbnail(f"/p/{i}.png") is not None for i in (0, 2, 3))
    asked = []
    model.thumbnailWanted.connect(asked.append)
    model.want(range(4))
    model.want(range(4))
    assert asked == ["/p/1.png"]


def test_newest_first_and_rows_stay_true(qtbot):
    model = PictureModel()
    QAbstractItemModelTester(model, QAbstractItemModelTester.FailureReportingMode.Fatal)
    model.set_pictures(pictures(3))
    new = Picture(path="/p/new.png", created=2e9, width=256, height=128)
    model.prepend(new)
    assert [model.picture(row).path for row in range(4)] == ["/p/new.png", "/p/0.png", "/p/1.png", "/p/2.png"]
    model.remove("/p/0.png")
    model.remove("/p/never.png")
    assert [model.row_of(path) for path in ("/p/new.png", "/p/1.png", "/p/2.png", "/p/0.png")] == [
        0,
        1,
        2,
        -1,
    ]


def test_arrows_and_keys(strip, qtbot):
    strip.model.set_pictures(pictures(5))
    shown = []
    strip.selected.connect(shown.append)
    strip.select("/p/0.png")
    qtbot.keyClick(strip.view, Qt.Key.Key_Right)
    assert shown == ["/p/0.png", "/p/1.png"]
    assert strip.current() == "/p/1.png"
    with qtbot.waitSignal(strip.restoreRequested, check_params_cb=lambda path: path == "/p/1.png"):
        qtbot.keyClick(strip.view, Qt.Key.Key_A)
    with qtbot.waitSignal(strip.deleteRequested, check_params_cb=lambda path: path == "/p/1.png"):
        qtbot.keyClick(strip.view, Qt.Key.Key_Delete)
    with qtbot.waitSignal(strip.selected, check_params_cb=lambda path: path == "/p/1.png"):
        qtbot.keyClick(strip.view, Qt.Key.Key_Return)


def test_selection_stays_with_its_picture_when_a_new_one_comes(strip):
    strip.model.set_pictures(pictures(5))
    strip.select("/p/2.png")
    strip.model.prepend(Picture(path="/p/new.png", created=2e9, width=256, height=128))
    assert strip.current() == "/p/2.png"


@pytest.mark.parametrize(("gone", "next_one"), [("/p/0.png", "/p/1.png"), ("/p/4.png", "/p/3.png")])
def test_deleting_the_selected_one_shows_its_neighbour(strip, gone, next_one):
    strip.model.set_pictures(pictures(5))
    strip.select(gone)
    shown = []
    strip.selected.connect(shown.append)
    strip.model.remove(gone)
    assert shown == [next_one]
    assert strip.current() == next_one
    assert strip.model.rowCount() == 4


def test_no_key_edits_a_row(strip, qtbot):
    strip.model.set_pictures(pictures(2))
    strip.select("/p/0.png")
    for key in (Qt.Key.Key_F2, Qt.Key.Key_X):
        qtbot.keyClick(strip.view, key)
    qtbot.mouseDClick(strip.view.viewport(), Qt.MouseButton.LeftButton)
    assert strip.view.state() == strip.view.State.NoState
    assert not strip.model.flags(strip.model.index(0)) & Qt.ItemFlag.ItemIsEditable


def test_restore_button_over_a_picture(strip, qtbot):
    strip.model.set_pictures(pictures(5))
    view = strip.view
    assert not view._restore.isVisible()
    view.entered.emit(strip.model.index(2))
    assert view._restore.isVisible()
    assert view.visualRect(strip.model.index(2)).contains(view._restore.geometry())
    with qtbot.waitSignal(strip.restoreRequested, check_params_cb=lambda path: path == "/p/2.png"):
        qtbot.mouseClick(view._restore, Qt.MouseButton.LeftButton)


def test_menu_asks_for_its_picture(strip, qtbot):
    menu = strip.menu("/p/<b>x</b>.png")
    signals = (
        strip.selected,
        strip.restoreRequested,
        strip.copyRequested,
        strip.revealRequested,
        strip.deleteRequested,
    )
    assert len(menu.actions()) == len(signals)
    for action, signal in zip(menu.actions(), signals, strict=True):
        with qtbot.waitSignal(signal, check_params_cb=lambda path: path == "/p/<b>x</b>.png"):
            action.trigger()


def test_empty_strip_says_what_will_be_there(strip):
    assert strip._empty.isVisible()
    strip.model.prepend(Picture(path="/p/new.png", created=2e9, width=256, height=128))
    assert strip.view.isVisible()
    strip.model.remove("/p/new.png")
    assert strip._empty.isVisible()
