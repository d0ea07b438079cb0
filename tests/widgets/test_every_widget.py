"""What holds for every control: a name, a tooltip, no rich text, both themes, narrow docks, large fonts."""

import re
from pathlib import Path

import pytest
from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QColor, QIcon, QPalette
from PySide6.QtGui import Qt as GuiQt
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QTextEdit,
    QWidget,
)

from desktop.theme import COLOURS, Theme, apply, colour
from pipelines.spec.downloads import DownloadState, DownloadStatus
from pipelines.spec.families.sd1 import SD1
from pipelines.spec.families.sdxl import SDXL
from pipelines.spec.machine import Machine, Option
from pipelines.spec.memory import Holder, Memory, Room
from pipelines.spec.outlook import Change, Cheaper, Need, Outlook
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import Prompt, Refiner, Sampling, Size
from pipelines.spec.validate import Problem
from widgets.banner import Banner
from widgets.canvas import Canvas
from widgets.count_panel import CountPanel
from widgets.downloads_panel import DownloadsPanel
from widgets.engine_panel import EnginePanel
from widgets.film_strip import FilmStrip, Picture
from widgets.generate_button import GenerateButton
from widgets.icons import icon
from widgets.inputs_panel import InputsPanel
from widgets.memory_gauge import MemoryGauge
from widgets.model_panel import ModelPanel
from widgets.plain import ElidedLabel, Label, plain_tooltip
from widgets.preflight_card import PreflightCard
from widgets.prompt_panel import PromptPanel
from widgets.refiner_panel import RefinerPanel
from widgets.sampling_panel import SamplingPanel
from widgets.size_conditioning_panel import SizeConditioningPanel
from widgets.size_panel import SizePanel
from widgets.true_cfg_panel import TrueCfgPanel
from widgets.viewer import Viewer

ROOT = Path(__file__).resolve().parents[2]
MARKUP = '<img src="file:///etc/passwd"><b>bold</b> &lt;i&gt; & <lora:x:0.8>'
CONTROLS = (QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox, QLineEdit, QPlainTextEdit, Canvas)


def filled_panel(panel_class):
    panel = panel_class()
    panel.set_problems(
        (Problem("prompt.text", MARKUP, MARKUP), Problem("model", MARKUP), Problem("count", MARKUP))
    )
    return panel


def prompt():
    panel = filled_panel(PromptPanel)
    panel.setValue(Prompt(text=MARKUP, negative=MARKUP))
    return panel


def model():
    panel = filled_panel(ModelPanel)
    panel.set_records((ModelRecord(id="m", path=MARKUP, title=MARKUP, description=MARKUP),))
    return panel


def sampling():
    panel = filled_panel(SamplingPanel)
    panel.set_family(SD1)
    panel.setValue(Sampling(scheduler=MARKUP))
    return panel


def button():
    widget = GenerateButton()
    widget.set_idle(False, MARKUP)
    return widget


def viewer():
    widget = Viewer()
    widget.show_error(MARKUP, MARKUP)
    return widget


def strip():
    widget = FilmStrip()
    widget.model.set_pictures(
        [Picture(path=MARKUP, created=1e9, width=8, height=8, marks=("uniform", MARKUP))]
    )
    widget.view._offer_restore(widget.model.index(0))
    return widget


def inputs():
    widget = InputsPanel()
    widget.set_family(SD1)
    return widget


def banner():
    widget = Banner()
    widget.show_message("error", MARKUP, "Restart")
    return widget


def refiner():
    panel = RefinerPanel()
    panel.set_family(SDXL)
    panel.set_records((ModelRecord(id="r", path="/r", title=MARKUP, family="sdxl-refiner"),))
    panel.setValue(Refiner(model="r", prompt=MARKUP))
    return panel


def downloads():
    panel = DownloadsPanel()
    for number, state in enumerate(DownloadState):
        panel.show_status(
            DownloadStatus(id=number, title=MARKUP, state=state, total_bytes=100, message=MARKUP, hint=MARKUP)
        )
    return panel


def card():
    made = PreflightCard()
    cheaper = Cheaper(words=MARKUP, plan=MARKUP, change=Change(size=Size(width=64, height=64)))
    need = Need(peak=3 * 10**9, free=10**9)
    made.show_outlook(
        Outlook(fits=False, words=MARKUP, ram=need, card=need, parts=(MARKUP,), cheaper=(cheaper, cheaper))
    )
    made.set_undo(MARKUP)
    return made


def gauge():
    made = MemoryGauge()
    room = Room(total=8 * 10**9, free=10**9, ours=10**9)
    made.setValue(Memory(ram=room, card=room, holders=(Holder(name=MARKUP, size_bytes=10**8, on_card=True),)))
    return made


def engine():
    panel = EnginePanel()
    panel.set_machine(
        Machine(
            devices=(Option(id="cuda:0", title=MARKUP),),
            attention=(Option(id="sage", title="x", why=MARKUP),),
        )
    )
    return panel


MAKERS = (
    engine,
    card, gauge,
    prompt, model, SizePanel, sampling, CountPanel, button, viewer, strip, inputs, banner, refiner,
    TrueCfgPanel, SizeConditioningPanel, downloads,
)  # fmt: skip


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.__name__)
def widget(request, qtbot):
    made = request.param()
    qtbot.addWidget(made)
    return made


def own(widget):
    """The widget and its children, without the inside of Qt's own controls."""
    everything = [widget, *widget.findChildren(QWidget)]
    return [w for w in everything if not w.objectName().startswith("qt_")]


def test_every_control_has_a_name_and_a_tooltip(widget):
    controls = [w for w in own(widget) if isinstance(w, CONTROLS) and not _is_qts_own(w)]
    assert controls or isinstance(widget, InputsPanel)
    for control in controls:
        assert control.accessibleName(), control
        assert control.toolTip(), control.accessibleName()
        assert control.focusPolicy() & Qt.FocusPolicy.TabFocus or (
            control.accessibleName() == "Restore all settings" and isinstance(widget, FilmStrip)
        )


def _is_qts_own(control):
    """Scroll bars and the list that a combo box opens."""
    return control.inherits("QScrollBar") or control.window().inherits("QComboBoxPrivateContainer")


def test_no_text_is_ever_taken_for_markup(widget):
    for each in own(widget):
        assert not GuiQt.mightBeRichText(each.toolTip()), each
        if isinstance(each, QLabel):
            assert each.textFormat() == Qt.TextFormat.PlainText, each.text()
        assert not isinstance(each, QTextEdit)


def test_item_tooltips_are_plain_too(qtbot):
    widget = strip()
    qtbot.addWidget(widget)
    tip = widget.model.data(widget.model.index(0), Qt.ItemDataRole.ToolTipRole)
    assert isinstance(tip, str)
    assert "passwd" in tip
    assert not GuiQt.mightBeRichText(tip)


@pytest.mark.parametrize(
    "text", [MARKUP, "&lt;b&gt;", "plain", "a < b > c", "<?xml version='1.0'?>", "x\n<b>y</b>"]
)
def test_plain_tooltip_keeps_the_words(text):
    tip = plain_tooltip(text)
    assert not GuiQt.mightBeRichText(tip)
    assert "".join(tip.replace("\u2060", "").split()) == "".join(text.split())


def test_plain_tooltip_is_cut_to_a_screen():
    assert len(plain_tooltip("word " * 100_000).splitlines()) <= 25


def test_a_long_path_does_not_widen_a_wrapped_label(qtbot):
    path = "/home/somebody/a_folder_with_a_long_name/" * 4
    label = Label(f"Not found: {path}", wrap=True)
    qtbot.addWidget(label)
    assert label.minimumSizeHint().width() <= 224
    assert label.text() == f"Not found: {path}"


def test_elided_label_tells_the_whole_in_its_tooltip(shown):
    label = shown(ElidedLabel("a long text that has no room at all in here"), 60, 20)
    assert label.minimumSizeHint().width() <= 60
    assert "no room at all" in label.toolTip()


def test_narrow_dock_holds(theme, widget):
    """260 pixels with margins of 12; a scroll bar takes 12 more. Four widgets stand in no dock."""
    if isinstance(widget, Viewer | FilmStrip | Banner | MemoryGauge):
        assert widget.minimumSizeHint().width() <= 480
    else:
        assert widget.minimumSizeHint().width() <= 224


def test_a_large_font_still_fits(qapp, theme, widget):
    before = qapp.font()
    large = qapp.font()
    large.setPointSizeF(before.pointSizeF() * 1.5)
    height = widget.sizeHint().height()
    try:
        qapp.setFont(large)
        assert widget.sizeHint().height() >= height
        if not isinstance(widget, Viewer | FilmStrip | Banner):
            assert widget.minimumSizeHint().width() <= 300
    finally:
        qapp.setFont(before)


def test_a_change_of_theme_repaints(qapp, shown, widget):
    apply(qapp, Theme.LIGHT)
    shown(widget, 300, 300)
    light = widget.grab().toImage()
    apply(qapp, Theme.DARK)
    dark = widget.grab().toImage()
    assert mean_lightness(dark) < mean_lightness(light) - 30


def mean_lightness(image):
    small = image.scaled(16, 16, mode=Qt.TransformationMode.SmoothTransformation)
    return sum(small.pixelColor(x, y).lightness() for x in range(16) for y in range(16)) / 256


def test_every_icon_draws_in_the_colour_of_the_palette(qapp, theme):
    wanted = QApplication.palette().color(QPalette.ColorRole.ButtonText).lightness()
    files = sorted((ROOT / "assets" / "icons").glob("*.svg"))
    assert files
    for path in files:
        assert "currentColor" in path.read_text(encoding="utf-8")
        image = icon(path.stem).pixmap(32, 32).toImage()
        points = [image.pixelColor(x, y) for x in range(image.width()) for y in range(image.height())]
        solid = [point.lightness() for point in points if point.alpha() == 255]
        assert solid, path
        assert all(abs(lightness - wanted) < 12 for lightness in solid), path


def test_a_disabled_icon_is_grey(qapp, theme):
    seen = icon("stop").pixmap(32, 32, QIcon.Mode.Disabled).toImage()
    colours = {seen.pixelColor(x, 16).name() for x in range(32) if seen.pixelColor(x, 16).alpha() == 255}
    assert colour("disabled", theme) in colours


@pytest.mark.parametrize("theme", list(Theme))
@pytest.mark.parametrize(
    ("text", "ground", "least"),
    [
        *[("text", g, 4.5) for g in ("window", "base", "raised", "hover", "ground")],
        *[("muted", g, 4.5) for g in ("window", "base", "ground")],
        *[(t, g, 4.5) for t in ("warning", "danger") for g in ("window", "base")],
        ("on_accent", "accent", 4.5),
        ("accent", "window", 3),
        ("accent", "base", 3),
        ("accent", "ground", 3),
        ("edge", "window", 3),
        ("edge", "base", 3),
    ],
)
def test_contrast(theme, text, ground, least):
    first, second = sorted((luminance(colour(text, theme)), luminance(colour(ground, theme))))
    assert (second + 0.05) / (first + 0.05) >= least


def luminance(name):
    """Relative luminance, WCAG 2.2."""
    shade = QColor(name)
    rgb = (shade.redF(), shade.greenF(), shade.blueF())
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_colours_stand_in_the_theme_only():
    strange = re.compile(
        r"#[0-9a-fA-F]{6}\b|#[0-9a-fA-F]{3}\b|rgba?\(|QColor\(\s*\d|GlobalColor\.(?!transparent)"
    )
    files = [*(ROOT / "widgets").rglob("*.py"), *(ROOT / "desktop").rglob("*.qss")]
    files += [*(ROOT / "assets" / "icons").glob("*.svg")]
    found = {f.name for f in files if strange.search(f.read_text(encoding="utf-8").replace("'#rrggbb'", ""))}
    assert not found
    assert all(len(pair) == 2 for pair in COLOURS.values())


def test_generate_button_states(qtbot):
    widget = GenerateButton()
    qtbot.addWidget(widget)
    asked = []
    widget.generateRequested.connect(lambda: asked.append("generate"))
    widget.cancelRequested.connect(lambda: asked.append("cancel"))
    widget.click()
    widget.set_busy("Step 7 of 20 – 3 s left", 0.35)
    assert (widget.text(), widget.accessibleDescription()) == ("Cancel", "Step 7 of 20 – 3 s left")
    widget.click()
    widget.set_cancelling()
    widget.click()
    widget.set_idle(False, "Choose a model first")
    widget.click()
    assert asked == ["generate", "cancel"]
    assert "Choose a model first" in widget.toolTip()
    widget.set_idle(True, "")
    assert widget.isEnabled()


def test_generate_button_fills_with_the_progress(theme, shown):
    widget = shown(GenerateButton(), 300, 60)
    widget.set_busy("", 0.5)
    seen = widget.grab().toImage()
    done, left = seen.pixelColor(40, 10), seen.pixelColor(260, 10)
    accent = QColor(colour("accent", theme))
    assert distance(done, accent) < distance(left, accent)
    assert left.name() == colour("raised", theme)


def distance(a, b):
    return abs(a.red() - b.red()) + abs(a.green() - b.green()) + abs(a.blue() - b.blue())


def test_banner_says_asks_and_goes(shown, qtbot):
    widget = shown(Banner())
    widget.show_message("warning", "The disk is nearly full.", "Free & easy")
    assert widget.isVisible()
    assert widget.text() == "The disk is nearly full."
    with qtbot.waitSignal(widget.actionTriggered):
        widget._action.click()
    widget._close.click()
    assert not widget.isVisible()
    widget.show_message("info", "Ready.")
    assert not widget._action.isVisible()


@pytest.mark.parametrize(
    ("kind", "action", "stays"),
    [("info", "", False), ("info", "Show", True), ("warning", "", True), ("error", "", True)],
)
def test_banner_goes_by_itself_only_when_nothing_is_left_to_do(shown, qtbot, kind, action, stays):
    widget = shown(Banner())
    widget._fade.setInterval(20)
    qtbot.wait(50)  # the pointer may lie where the window comes up
    widget.show_message(kind, "The picture is copied.", action)
    QApplication.sendEvent(widget, QEvent(QEvent.Type.Leave))  # while one points at it, it stays
    qtbot.wait(80)
    assert widget.isVisible() == stays
