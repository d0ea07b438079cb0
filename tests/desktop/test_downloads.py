"""From what is typed to the file and the rescan, through the real window and a local server."""

import threading

import keyring
import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import Qt as GuiQt
from PySide6.QtWidgets import QAbstractButton, QComboBox, QLabel, QLineEdit, QListWidget, QWidget

from desktop.dialogs.download import DownloadDialog
from pipelines.library.completing import words_folder
from pipelines.library.download.errors import DownloadError, ManyFiles, TokenWanted
from pipelines.library.download.hosts import Hosts
from pipelines.library.download.plan import Plan, PlannedFile
from pipelines.library.folders import models_dir
from pipelines.spec.downloads import DownloadState
from pipelines.spec.lent_parts import BY_NEED, LENT_PARTS, WORDS
from tests.library.download.conftest import PROXIES
from tests.library.download.site import ETAG, Site, safetensors, says, sha256, whole
from tests.library.download.test_lane import Memory
from tests.library.download.test_look import COMMIT, repository
from tests.widgets.test_every_widget import MARKUP

DATA = safetensors()
CANARY = "hf_CANARYcanary"


@pytest.fixture
def site(monkeypatch):
    for name in (*PROXIES, *map(str.upper, PROXIES), "HF_TOKEN", "CIVITAI_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    made, before = Site(), keyring.get_keyring()
    keyring.set_keyring(Memory())
    yield made
    keyring.set_keyring(before)
    made.close()


@pytest.fixture
def downloads(make_application, site, tmp_path, monkeypatch):
    """Those of a running application, with the local server for Hugging Face."""
    monkeypatch.setenv("EMULSION_HOME", str(tmp_path))
    application = make_application()
    application.downloads._hosts = Hosts(huggingface=site.base, civitai="http://localhost:1")
    return application.downloads


def typed(downloads, qtbot, text):
    downloads.add()
    dialog = downloads._dialog
    qtbot.keyClicks(dialog.source, text)
    dialog.look.click()
    qtbot.waitUntil(lambda: dialog.told.text() not in ("", "Asking…"))
    return dialog


def wait_for(qtbot, downloads, state):
    qtbot.waitUntil(lambda: [s.state for s in downloads.panel.statuses()] == [state])
    return downloads.panel.statuses()[0]


@pytest.mark.local_server
def test_typed_looked_at_confirmed_and_found(downloads, site, qtbot, tmp_path):
    repository(site, {"lora.safetensors": DATA})
    dialog = typed(downloads, qtbot, "org/repo")
    assert "1 file, 200 kB. Goes to" in dialog.told.text()
    assert not [each for each in site.seen if "/resolve/" in each.path and each.method == "GET"], (
        "nothing is fetched before it is confirmed"
    )
    assert not (tmp_path / "data" / "models").exists()
    with qtbot.waitSignal(downloads.finished):
        dialog.download.click()
    path = tmp_path / "data" / "models" / "lora.safetensors"
    assert path.read_bytes() == DATA
    assert wait_for(qtbot, downloads, DownloadState.DONE).path == str(path)
    assert downloads._dialog is None


@pytest.mark.local_server
def test_the_words_that_a_model_lacks_are_fetched_to_where_they_are_looked_for(
    downloads, site, qtbot, tmp_path
):
    repo, _, file = BY_NEED[WORDS].source.partition("/tokenizer_2/")
    repository(site, {f"tokenizer_2/{file}": b"{}", f"tokenizer/{file}": b"[]"}, repo=repo)
    downloads._window.models_page.details.reason.fetchRequested.emit(WORDS)
    dialog = downloads._dialog
    dialog.look.click()
    qtbot.waitUntil(lambda: dialog.told.text() not in ("", "Asking…"))
    with qtbot.waitSignal(downloads.finished):
        dialog.download.click()
    path = words_folder() / "tokenizer.json"
    assert path.is_relative_to(tmp_path)
    assert path.read_bytes() == b"{}"


@pytest.mark.parametrize("part", LENT_PARTS, ids=lambda part: part.id)
def test_the_dialog_of_a_missing_part_has_its_folder_and_what_is_known_of_its_source(downloads, part):
    downloads.add_part(part.id)
    dialog = downloads._dialog
    assert dialog.folder.currentData() == models_dir() / part.folder
    assert dialog.source.text() == part.source
    assert dialog.look.isEnabled() == bool(part.source)
    dialog.reject()


@pytest.mark.local_server
def test_a_change_after_the_look_takes_the_consent_back(downloads, site, qtbot):
    repository(site, {"lora.safetensors": DATA})
    dialog = typed(downloads, qtbot, "org/repo")
    for change in (
        lambda: dialog.source.setText("org/other"),
        lambda: dialog.half.toggle(),
        lambda: dialog.folder.setCurrentIndex(2),
    ):
        dialog.source.setText("org/repo")
        dialog.look.click()
        qtbot.waitUntil(lambda: dialog.download.isEnabled())
        change()
        assert not dialog.download.isEnabled()
        assert not dialog.files.isVisible()
    dialog.reject()


@pytest.mark.local_server
def test_one_of_several_files(downloads, site, qtbot, tmp_path):
    repository(site, {"a.safetensors": DATA, "b.safetensors": DATA})
    dialog = typed(downloads, qtbot, "org/repo")
    assert "Choose one of its files" in dialog.told.text()
    dialog.files.setCurrentRow(1)
    dialog.look.click()
    qtbot.waitUntil(lambda: dialog.download.isEnabled())
    assert "org/repo/b.safetensors" in dialog.told.text()
    dialog.reject()


@pytest.mark.local_server
def test_a_token_is_asked_for_kept_and_used(downloads, site, qtbot):
    repository(site, {"lora.safetensors": DATA})
    page = f"/api/models/org/repo/tree/{COMMIT}"
    good = site.pages[page]
    site.pages[page] = lambda request, seen: (good if "authorization" in seen.headers else says(401))(
        request, seen
    )
    dialog = typed(downloads, qtbot, "org/repo")
    assert dialog.token.isVisible()
    qtbot.keyClicks(dialog.token._line, CANARY)
    qtbot.keyClick(dialog.token._line, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: dialog.download.isEnabled())
    ring = keyring.get_keyring()
    assert list(ring.kept.values()) == [CANARY]  # pyright: ignore[reportAttributeAccessIssue]
    assert site.seen[-1].headers["authorization"] == f"Bearer {CANARY}"
    dialog.reject()


@pytest.mark.local_server
def test_pause_resume_and_what_a_restart_offers(downloads, site, qtbot, tmp_path, make_application):
    repository(site, {"lora.safetensors": DATA})
    address = f"/org/repo/resolve/{COMMIT}/lora.safetensors"
    go_on = threading.Event()

    def stuck(request, seen):
        if seen.range or seen.method == "HEAD":
            whole(DATA)(request, seen)
            return
        request.say(200, DATA[:70_000], Content_Length=str(len(DATA)), ETag=ETAG)
        request.wfile.flush()
        go_on.wait(60)
        request.cut()

    site.pages[address] = stuck
    typed(downloads, qtbot, "org/repo").download.click()
    qtbot.waitUntil(lambda: any(s.done_bytes for s in downloads.panel.statuses()))
    (status,) = downloads.panel.statuses()
    downloads.panel.pauseRequested.emit(status.id)
    wait_for(qtbot, downloads, DownloadState.PAUSED)
    part = tmp_path / "data" / "models" / "lora.safetensors.part"
    came = part.stat().st_size
    assert 0 < came <= 70_000
    go_on.set()

    later = make_application()
    later.downloads._hosts = downloads._hosts
    status = wait_for(qtbot, later.downloads, DownloadState.PAUSED)
    before = len(site.seen)
    assert "A download is not finished." in later.notifications._banner.text()
    with qtbot.waitSignal(later.downloads.finished):
        later.downloads.panel.resumeRequested.emit(status.id)
    assert [each.range for each in site.seen[before:]] == [f"bytes={came}-"]
    assert (tmp_path / "data" / "models" / "lora.safetensors").read_bytes() == DATA


@pytest.mark.local_server
def test_cancel_and_remove(downloads, site, qtbot, tmp_path):
    repository(site, {"lora.safetensors": DATA})
    site.pages[f"/org/repo/resolve/{COMMIT}/lora.safetensors"] = says(404)
    typed(downloads, qtbot, "org/repo").download.click()
    status = wait_for(qtbot, downloads, DownloadState.FAILED)
    assert "404" in status.message
    downloads.panel.cancelRequested.emit(status.id)
    wait_for(qtbot, downloads, DownloadState.CANCELLED)
    downloads.panel.removeRequested.emit(status.id)
    qtbot.waitUntil(lambda: not downloads._lane.statuses())
    assert downloads.panel.statuses() == ()
    assert list((tmp_path / "data" / "downloads").iterdir()) == []


@pytest.mark.local_server
def test_a_host_that_does_not_answer_keeps_nobody_waiting(downloads, site, qtbot):
    """Not the window, not the next question, and not a folder that is to be read."""
    go_on = threading.Event()
    site.pages["/api/models/org/silent/revision/main"] = lambda request, seen: go_on.wait(60)
    repository(site, {"lora.safetensors": DATA})
    downloads.add()
    downloads._dialog.source.setText("org/silent")
    downloads._dialog.look.click()
    qtbot.waitUntil(lambda: bool(site.seen))
    downloads._dialog.reject()
    assert downloads._dialog is None
    done = []
    downloads._tasks.run(lambda: None, lambda _: done.append(1))
    qtbot.waitUntil(lambda: bool(done))
    dialog = typed(downloads, qtbot, "org/repo")
    assert dialog.download.isEnabled()
    assert not go_on.is_set()
    dialog.reject()
    go_on.set()


def test_nothing_of_the_network_is_there_until_it_is_wanted(make_application, monkeypatch):
    monkeypatch.setattr("desktop.downloads.Downloads._opened", lambda self: pytest.fail("opened"))
    application = make_application()
    application.window.actions_by_id["downloads"].trigger()
    assert application.downloads.panel.isVisible()
    assert application.downloads._lane is None


def test_offline_is_told(downloads, qtbot, monkeypatch):
    monkeypatch.setenv("EMULSION_OFFLINE", "1")
    dialog = typed(downloads, qtbot, "org/repo")
    assert "EMULSION_OFFLINE is set" in dialog.told.text()
    dialog.reject()


def test_nonsense_is_told_and_nothing_sent(downloads, qtbot, site):
    dialog = typed(downloads, qtbot, "nonsense")
    assert "names nothing that can be fetched" in dialog.told.text()
    assert not site.seen
    dialog.reject()


@pytest.mark.parametrize(
    "fill",
    [
        lambda d: None,
        lambda d: d.show_failure(DownloadError(MARKUP, MARKUP)),
        lambda d: d.show_failure(ManyFiles(MARKUP, MARKUP, [MARKUP])),
        lambda d: d.show_failure(TokenWanted(MARKUP, MARKUP, "civitai")),
        lambda d: d.show_plan(
            Plan(
                source=MARKUP, title=MARKUP, folder=d.folder.itemData(0), notes=(MARKUP,),
                files=(PlannedFile(url="https://h/x", path=MARKUP, sha256=sha256(b"")),),
            ),
            None,
        ),
    ],
    ids=["empty", "failure", "many", "token", "plan"],
)  # fmt: skip
def test_the_dialog_shows_plain_text_and_names_its_controls(qtbot, tmp_path, fill):
    dialog = DownloadDialog([("Models", tmp_path), (MARKUP, tmp_path)], MARKUP)
    qtbot.addWidget(dialog)
    dialog.show()
    dialog.set_keyring_note(MARKUP)
    fill(dialog)
    for widget in dialog.findChildren(QWidget):
        assert not GuiQt.mightBeRichText(widget.toolTip())
        if isinstance(widget, QLabel):
            assert widget.textFormat() == Qt.TextFormat.PlainText
        inside = widget.objectName().startswith("qt_") or widget.window() is not dialog
        if isinstance(widget, QAbstractButton | QComboBox | QLineEdit | QListWidget) and not inside:
            assert widget.accessibleName(), widget
            assert widget.toolTip(), widget.accessibleName()
    for line in range(dialog.files.count()):
        assert not GuiQt.mightBeRichText(dialog.files.item(line).toolTip())
    assert dialog.minimumSizeHint().width() <= 480


def test_return_does_the_next_thing(qtbot, tmp_path):
    dialog = DownloadDialog([("Models", tmp_path)])
    qtbot.addWidget(dialog)
    dialog.show()
    asked, begun = [], []
    dialog.lookRequested.connect(asked.append)
    dialog.downloadRequested.connect(begun.append)
    qtbot.keyClick(dialog.source, Qt.Key.Key_Return)
    assert asked == []
    qtbot.keyClicks(dialog.source, "org/repo")
    qtbot.keyClick(dialog.source, Qt.Key.Key_Return)
    assert [(each.source, each.folder) for each in asked] == [("org/repo", tmp_path)]
    plan = Plan(
        source="x", title="x", folder=tmp_path, files=(PlannedFile(url="https://h/x", path="x.gguf"),)
    )
    dialog.show_plan(plan, 10**9)
    assert begun == [], "a plan alone begins nothing"
    dialog.download.click()
    assert begun == [plan]
