"""Faults that the window must survive: the rows of faults.md that need no engine of their own."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from PySide6.QtCore import QtMsgType, QUrl, qInstallMessageHandler
from PySide6.QtGui import QTextDocument
from PySide6.QtWidgets import QDialog, QLabel, QPlainTextEdit, QPushButton, QTextEdit, QWidget

from desktop import logs
from desktop.dialogs.about import AboutDialog, parts
from desktop.dialogs.bug import BugDialog
from desktop.dialogs.log_view import LogDialog
from desktop.dialogs.recovered import RecoveredDialog
from desktop.notifications import MAX_TEXT
from desktop.single_instance import SingleInstance
from pipelines.library.jobs import JobState, StoredJob
from pipelines.spec.events import JobCancelled, JobFinished
from pipelines.spec.request import MAX_PROMPT, GenerationRequest, Prompt, Sampling, Size
from tests.desktop.probe import BLOCKED_MS, Probe

ROOT = Path(__file__).resolve().parents[2]
REQUEST = GenerationRequest(
    model="scripted", prompt=Prompt(text="a red circle"), size=Size(width=64, height=64),
    sampling=Sampling(num_inference_steps=3),
)  # fmt: skip
MARKUP = '<img src="file:///etc/passwd"><a href="http://x">k</a> <lora:foo:0.8> & &amp; <b>bold</b>'


def press(application, script):
    """Generate, until the engine is inside a step that does not return."""
    script.hold()
    application.window.button.click()
    assert script.holding.wait(60)


# G7, G9, G14: a step that blocks


def test_g7_cancel_is_acknowledged_at_once_and_saves_nothing(application, script, qtbot):
    press(application, script)
    qtbot.waitUntil(lambda: application.session.state.text.startswith("Step"))
    clicked = time.thread_time()
    application.window.button.click()
    shown = application.window.button.text()
    assert time.thread_time() - clicked < 0.1
    assert shown == "Cancelling…"
    with qtbot.waitSignal(application.session.jobEnded) as ended:
        script.release()
    assert isinstance(ended.args[0], JobCancelled)
    assert not list(application.output_dir().rglob("*.png"))
    assert application.window.button.isEnabled()


def test_g9_a_silent_engine_is_noticed_and_can_be_restarted(make_application, script, qtbot, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "settings.json").write_text(json.dumps({"step_limit_s": 1.0, "load_limit_s": 60}))
    application = make_application()
    press(application, script)
    with Probe() as probe:
        qtbot.waitUntil(lambda: "has not answered" in application.window.banner.text())
        application.window.panels["prompt"].setValue(Prompt(text="still usable"))
    assert probe.worked_ms() < 100
    assert probe.blocked_ms() < BLOCKED_MS
    with qtbot.waitSignal(application.session.jobEnded):
        application.window.banner.actionTriggered.emit()
    script.release()
    qtbot.waitUntil(lambda: application.window.button.isEnabled())
    with qtbot.waitSignal(application.session.jobEnded) as ended:
        application.window.button.click()
    assert isinstance(ended.args[0], JobFinished)
    assert application.session.request().prompt.text == "still usable"


def test_g9_an_engine_that_answers_after_all_is_not_offered_to_be_restarted(application, script, qtbot):
    """A click would end a picture that is being made."""
    press(application, script)
    application.stall_watch.stalled.emit(120.0)
    assert "has not answered" in application.window.banner.text()
    with qtbot.waitSignal(application.session.jobEnded):
        script.release()
    assert not application.window.banner.isVisible()


def test_g14_closing_while_a_step_blocks_ends_in_time(application, script):
    press(application, script)
    start = time.perf_counter()
    application.window.close()
    assert time.perf_counter() - start < 30
    assert not application.window.isVisible()


RUN = """
import sys, time
from pathlib import Path
from PySide6.QtCore import QTimer
from desktop import application as module, process
from pipelines.library import folders
from tests.desktop.scripted import Script

home, mode = Path(sys.argv[1]), sys.argv[2]
folders.default_roots = lambda: (home / "models",)
script = Script(step_s=0.01)
if mode != "finish":
    script.hold()
made = []
start = module.Application.__init__
def remember(self, *arguments, **options):
    start(self, *arguments, **options)
    made.append(self)
module.Application.__init__ = remember

def look():
    app = made[0]
    if mode == "finish" and app.pictures.shown or script.holding.is_set():
        timer.stop()
        if mode == "kill":
            for _ in range(2):
                request = app.session.request()
                app.session.submit(request, app.session.records()[0])
            print("ready", flush=True)
        else:
            app.window.close()
    elif app.session.records() and not app.session.state.busy and app.store is not None:
        app.session.generate()

timer = QTimer()
original = module.Application._start
def started(self):
    original(self)
    timer.timeout.connect(look)
    timer.start(20)
module.Application._start = started
code = process.run([], script.factory)
print("code", code, "torch" in sys.modules, flush=True)
sys.exit(code)
"""


def environment(home, **more):
    return {
        **os.environ,
        "EMULSION_HOME": str(home),
        "QT_QPA_PLATFORM": "offscreen",
        "PYTHONPATH": str(ROOT),
        **more,
    }


@pytest.fixture
def home(tmp_path, model_root):
    """One folder for everything, with the scripted model in it."""
    return tmp_path


@pytest.mark.parametrize("mode", ["finish", "busy"])
def test_g14_the_process_ends_with_code_0(home, mode):
    command = [sys.executable, "-c", RUN, str(home), mode]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(home), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert len(list((home / "outputs").rglob("*.png"))) == (1 if mode == "finish" else 0)
    assert not list((home / "data" / "logs").glob("crash-*"))
    if mode == "finish":
        assert "code 0 False" in done.stdout


def test_g13_a_killed_program_offers_its_queue_again(home, make_application, qtbot):
    command = [sys.executable, "-c", RUN, str(home), "kill"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(home), stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "ready\n"
        killed.send_signal(signal.SIGKILL)
    application = make_application(root=home)
    qtbot.waitUntil(lambda: "1 picture was interrupted" in application.window.banner.text())
    assert "2 pictures were still waiting" in application.window.banner.text()
    application.window.banner.actionTriggered.emit()
    dialog = application.window.findChild(RecoveredDialog)
    ended = []
    application.session.jobEnded.connect(ended.append)
    next(b for b in dialog.findChildren(QPushButton) if b.text() == "Make them now").click()
    qtbot.waitUntil(lambda: len(ended) == 3)
    assert all(isinstance(event, JobFinished) for event in ended)
    assert len(list((home / "outputs").rglob("*.png"))) == 3
    qtbot.waitUntil(lambda: application.tasks.idle)
    assert application.store.queued() == []


# W1: what nobody expected


class Boom(RuntimeError):
    pass


def boom(*_arguments):
    raise Boom("unexpected")


@pytest.fixture
def hooked(application):
    restore = logs.install_hooks(application.notifications.bug)
    yield application
    restore()


def dialogs_of(application):
    return [
        AboutDialog("Emulsion 1", parts(), application.window),
        LogDialog(Path("x"), "text", application.window),
        RecoveredDialog([], [], application.window),
        BugDialog("summary", None, application.window),
    ]


def test_w1_a_slot_of_each_window_may_raise(hooked, caplog, qtbot):
    for dialog in dialogs_of(hooked):
        dialog.finished.connect(boom)
        dialog.open()
        dialog.reject()
    hooked.window.closing.disconnect(hooked.close)
    hooked.window.themeChosen.connect(boom)
    hooked.window.themeChosen.emit("dark")
    qtbot.waitUntil(lambda: len(open_bugs(hooked)) == 1)
    assert caplog.text.count("Boom: unexpected") == 5
    hooked.window.closing.connect(hooked.close)
    open_bugs(hooked)[0].reject()


def open_bugs(application):
    return [d for d in application.window.findChildren(BugDialog) if d.isVisible()]


def test_w1_a_storm_is_one_dialog_and_the_state_is_saved(hooked, qtbot):
    hooked.window.panels["prompt"].setValue(Prompt(text="do not lose me"))
    for _ in range(200):
        hooked.notifications.bug("Boom at one place", "Boom")
    qtbot.waitUntil(lambda: len(open_bugs(hooked)) == 1)
    for place in range(20):
        hooked.notifications.bug(f"Boom at {place}", "Boom")
    qtbot.wait(50)
    assert len(open_bugs(hooked)) == 1
    open_bugs(hooked)[0].reject()
    qtbot.waitUntil(lambda: hooked.tasks.idle)
    saved = json.loads(hooked.settings.path.read_text())
    assert saved["last_request"]["prompt"]["text"] == "do not lose me"


def test_d7_a_prompt_outlives_a_field_that_is_not_known_any_more(make_application, tmp_path):
    (tmp_path / "config").mkdir()
    last = {"model": "scripted", "prompt": {"text": "do not lose me"}, "speed": {"turbo": True}}
    (tmp_path / "config" / "settings.json").write_text(json.dumps({"last_request": last}))
    application = make_application()
    assert application.session.request().prompt.text == "do not lose me"
    assert "speed.turbo" in application.window.banner.text()


def test_what_the_last_time_was_drawn_with_and_is_gone_is_named(make_application, tmp_path):
    (tmp_path / "config").mkdir()
    last = {"model": "gone", "prompt": {"text": "do not lose me"}}
    (tmp_path / "config" / "settings.json").write_text(json.dumps({"last_request": last}))
    application = make_application()
    assert application.session.request().prompt.text == "do not lose me"
    assert application.session.request().model == "scripted"
    assert "'gone'" in application.window.banner.text()


def test_w1_a_thread_and_a_finaliser_may_raise(hooked, caplog, qtbot):
    thread = threading.Thread(target=boom, name="somewhere")
    thread.start()
    thread.join()

    class Dying:
        def __del__(self):
            raise Boom("while deleted")

    Dying()
    qtbot.waitUntil(lambda: bool(open_bugs(hooked)))
    assert "in thread somewhere" in caplog.text
    assert "while deleted" in caplog.text
    open_bugs(hooked)[0].reject()


# W3: the event loop


@pytest.fixture
def quick_switching():
    """As desktop.app sets it for the whole process."""
    former = sys.getswitchinterval()
    sys.setswitchinterval(0.001)
    yield
    sys.setswitchinterval(former)


def test_w3_nothing_blocks_the_window(application, quick_switching, qtbot):
    """500 pictures to list with their thumbnails, 6 MB of metadata, a job with previews: no turn over 100 ms."""
    day = application.output_dir() / "2026-01-01"
    day.mkdir(parents=True)
    picture = Image.effect_noise((256, 256), 80)
    for number in range(500):
        picture.save(day / f"{number:05d}.png", compress_level=0)
    info = PngInfo()
    fields = f"Steps: 3, Sampler: Euler, Seed: 5, Model: {'m' * 50_000}"
    info.add_text("parameters", f"{'f' * 3_000_000}\nNegative prompt: {'a fox ' * 500_000}\n{fields}")
    big = day / "zz.png"
    picture.save(big, pnginfo=info, compress_level=0)
    with Probe() as probe:
        application.pictures.load(application.output_dir())
        qtbot.waitUntil(lambda: application.window.model.rowCount() == 501, timeout=60_000)
        for row in range(500):
            application.window.model.want(range(row, row + 1))
        application.pictures.select(str(big))
        application.pictures.restore(str(big))
        qtbot.waitUntil(lambda: "were not taken over" in application.window.banner.text(), timeout=60_000)
        with qtbot.waitSignal(application.session.jobEnded, timeout=60_000):
            application.session.generate()
        qtbot.waitUntil(lambda: application.tasks.idle, timeout=120_000)
    assert probe.worked_ms() < 100, sorted(probe.turns_ms)[-5:]
    assert probe.blocked_ms() < BLOCKED_MS, sorted(probe.gaps_ms)[-5:]
    assert len(probe.gaps_ms) > 20
    prompt = application.session.request().prompt
    assert (prompt.text, len(prompt.negative)) == ("f" * MAX_PROMPT, MAX_PROMPT)
    assert len(application.window.banner.text()) <= MAX_TEXT


def test_w4_qt_has_nothing_to_complain_about(make_application, script, qtbot):
    """A window that is closed in mid-work: no object is used from another thread or after its end."""
    messages = []
    former = qInstallMessageHandler(lambda kind, _context, text: messages.append((kind, text)))
    try:
        application = make_application()
        press(application, script)
        application.pictures.load(application.output_dir())
        application.window.close()
        qtbot.wait(50)
    finally:
        qInstallMessageHandler(former)
    known = "This plugin does not support"  # the offscreen platform itself
    assert [text for kind, text in messages if kind != QtMsgType.QtDebugMsg and known not in text] == []


# W5: text of others


def test_w5_foreign_text_is_never_markup(application, qtbot, tmp_path):
    window = application.window
    request = GenerationRequest(model=MARKUP, prompt=Prompt(text=MARKUP, negative=MARKUP))
    application.session.set_request(request)
    application.notifications.error(MARKUP, "Show")
    window.viewer.show_error(MARKUP, MARKUP)
    job = StoredJob(id=1, request=request, state=JobState.QUEUED, created=0.0)
    dialogs: list[QDialog] = [
        RecoveredDialog([job], [job], window), LogDialog(tmp_path / MARKUP.replace("/", "_"), MARKUP, window),
        BugDialog(MARKUP, None, window), AboutDialog(MARKUP, [(MARKUP, MARKUP)], window),
    ]  # fmt: skip
    application.pictures.delete(f"/x/{MARKUP}.png")
    qtbot.wait(20)
    assert MARKUP in window.panels["prompt"].value().text
    for widget in [window, *window.findChildren(QWidget)]:
        assert not rich(widget.toolTip()), (widget, widget.toolTip())
        if isinstance(widget, QLabel) and widget.text():
            assert widget.textFormat().name == "PlainText" or not rich(widget.text()), widget.text()
        if isinstance(widget, QTextEdit | QPlainTextEdit):
            assert "<img" not in plain_html(widget.document()), widget
    for dialog in dialogs:
        dialog.deleteLater()


def rich(text):
    from PySide6 import QtGui

    return QtGui.Qt.mightBeRichText(text)


def plain_html(document: QTextDocument) -> str:
    """The document as HTML: a text that was taken for markup stands there as tags, not as entities."""
    return document.toHtml().replace("&lt;img", "")


# W7, D9: strange surroundings

MAIN = "import sys; from desktop.app import main; sys.exit(main([]))"


@pytest.mark.parametrize(
    "more", [{"QT_QPA_PLATFORM": "nonsense"}, {"QT_QPA_PLATFORM": "", "DISPLAY": "", "WAYLAND_DISPLAY": ""}]
)
def test_w7_no_display_is_one_clear_line(tmp_path, more):
    done = subprocess.run(
        [sys.executable, "-c", MAIN], cwd=ROOT, env=environment(tmp_path, **more), capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("Emulsion cannot open a window")]
    assert len(lines) == 1
    assert "Traceback" not in done.stderr


def test_w7_an_ascii_locale_is_enough(home):
    ascii_only = environment(home, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    command = [sys.executable, "-c", RUN, str(home), "finish"]
    done = subprocess.run(command, cwd=ROOT, env=ascii_only, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(list((home / "outputs").rglob("*.png"))) == 1


def test_w7_a_home_that_cannot_be_written_costs_no_picture(make_application, tmp_path, qtbot):
    for name in ("config", "data", "cache"):
        (tmp_path / name).write_text("a file where a folder should be")
    application = make_application()
    with qtbot.waitSignal(application.session.saved):
        application.window.button.click()
    qtbot.waitUntil(lambda: not application.session.state.busy)
    assert "queue cannot be kept" in application.window.banner.text()


TAKE = """
import os, sys
from pathlib import Path
from desktop.single_instance import SingleInstance
print(SingleInstance(Path(sys.argv[1])).take(), flush=True)
os._exit(9)
"""


def test_d9_a_second_start_shows_the_first_window(tmp_path, qtbot):
    first, second = SingleInstance(tmp_path), SingleInstance(tmp_path)
    assert first.take()
    with qtbot.waitSignal(first.asked):
        assert not second.take()
    first.release()


def test_d9_the_lock_of_a_dead_process_bars_nobody(tmp_path, qtbot):
    done = subprocess.run(
        [sys.executable, "-c", TAKE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout == "True\n"
    instance = SingleInstance(tmp_path)
    assert instance.take()
    instance.release()


PAINT = """
import sys
from pathlib import Path
from PySide6.QtWidgets import QApplication
from desktop.application import Application, Places
app = QApplication([])
root = Path(sys.argv[1])
application = Application(Places(root / "c", root / "d", root / "k", root / "o"))
heavy = {"torch", "diffusers", "transformers"}
application.window.painted.connect(lambda: (print(sorted(heavy & set(sys.modules))), app.exit()))
application.bridge.start = lambda: None
application.window.show()
app.exec()
application.close()
"""


def test_no_torch_at_the_first_paint(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PAINT, str(tmp_path)], cwd=ROOT, env=environment(tmp_path), capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize(
    ("urls", "word"),
    [
        (["https://x/a.png"], "nothing was fetched"),
        (["file:///tmp"], "folder"),
        (["file:///a.png", "file:///b.png"], "one picture"),
        (["file:///a.txt"], "not a PNG"),
        ([], "picture file"),
    ],
)
def test_p6_each_drop_has_an_answer(urls, word):
    from PySide6.QtCore import QMimeData

    from desktop.drops import dropped_picture
    from pipelines.spec.errors import EngineError

    mime = QMimeData()
    mime.setUrls([QUrl(url) for url in urls])
    with pytest.raises(EngineError, match=word):
        dropped_picture(mime)


def test_p6_a_dropped_picture_gives_its_settings_back(application, qtbot):
    with qtbot.waitSignal(application.session.jobEnded):
        application.session.generate()
    sent = application.session.request()
    path = next(application.output_dir().rglob("*.png"))
    application.window.panels["prompt"].setValue(Prompt(text="other"))
    application.window.pictureDropped.emit(str(path))
    qtbot.waitUntil(lambda: application.session.request() == sent)
    half = path.with_name("half.png")
    half.write_bytes(path.read_bytes()[:40])
    application.window.pictureDropped.emit(str(half))
    qtbot.waitUntil(lambda: "half.png cannot be shown" in application.window.banner.text())
    bare = path.with_name("bare.png")
    Image.new("RGB", (8, 8)).save(bare)
    application.window.pictureDropped.emit(str(bare))
    qtbot.waitUntil(lambda: "holds no settings" in application.window.banner.text())
