"""The list of downloads: what each state shows, and which buttons it has."""

import pytest

from pipelines.spec.downloads import DownloadState, DownloadStatus
from widgets.downloads_panel import DownloadsPanel

State = DownloadState
BUTTONS = {
    State.WAITING: {"pauseRequested", "cancelRequested"},
    State.RUNNING: {"pauseRequested", "cancelRequested"},
    State.CHECKING: {"pauseRequested", "cancelRequested"},
    State.PAUSED: {"resumeRequested", "cancelRequested"},
    State.FAILED: {"retryRequested", "cancelRequested"},
    State.DONE: {"showRequested", "removeRequested"},
    State.CANCELLED: {"retryRequested", "removeRequested"},
}


def status(state, number=1, **more):
    return DownloadStatus(id=number, title="org/repo", state=state, **more)


@pytest.fixture
def panel(shown):
    return shown(DownloadsPanel(), 400, 300)


def row_of(panel, number=1):
    return panel._rows[number]


@pytest.mark.parametrize("state", list(State))
def test_each_state_has_its_buttons_and_they_say_which(panel, state):
    heard = []
    for name in {name for names in BUTTONS.values() for name in names}:
        getattr(panel, name).connect(lambda number, name=name: heard.append((name, number)))
    panel.show_status(status(state, 7))
    row = row_of(panel, 7)
    visible = {name for name, button in row.buttons.items() if not button.isHidden()}
    assert visible == BUTTONS[state]
    for name in sorted(visible):
        row.buttons[name].click()
    assert heard == [(name, 7) for name in sorted(visible)]


def test_figures(panel):
    running = status(State.RUNNING, done_bytes=500_000_000, total_bytes=2_000_000_000, speed=1e7, eta_s=150)
    panel.show_status(running)
    row = row_of(panel)
    assert row._figures.text() == "Downloading – 500 MB of 2 GB, 10 MB/s, 2 min 30 s left"
    assert row._bar.value() == 250
    panel.show_status(status(State.RUNNING, done_bytes=5))
    assert row._bar.maximum() == 0, "it moves to and fro while the size is not known"
    panel.show_status(status(State.PAUSED, done_bytes=5))
    assert row._bar.maximum() > 0, "and rests when nothing comes"
    panel.show_status(status(State.DONE, done_bytes=5, total_bytes=5))
    assert row._bar.value() == row._bar.maximum()
    panel.show_status(status(State.FAILED, message="It is lost.", hint="Try again."))
    assert row._told.text() == "It is lost. Try again."
    assert not row._told.isHidden()
    assert "It is lost." in row.accessibleName()


def test_the_newest_stands_first_and_rows_go(panel):
    assert not panel._empty.isHidden()
    panel.set_statuses([status(State.DONE, 1), status(State.RUNNING, 2)])
    assert panel._empty.isHidden()
    assert panel._lines.itemAt(0).widget() is row_of(panel, 2)
    panel.set_statuses([status(State.DONE, 1)])
    assert [each.id for each in panel.statuses()] == [1]
    panel.remove(1)
    panel.remove(1)
    assert panel.statuses() == ()
    assert not panel._empty.isHidden()


def test_add(panel, qtbot):
    with qtbot.waitSignal(panel.addRequested):
        panel.add.click()
