"""The panels of the left dock: values there and back, problems at the field, what a family shows."""

import pytest
from PySide6.QtCore import QLocale, QMimeData, Qt
from PySide6.QtWidgets import QPlainTextEdit

from pipelines.spec.families.base import SizeRule
from pipelines.spec.families.sd1 import SD1
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import MAX_PROMPT, MAX_SEED, Prompt, Sampling, Size
from pipelines.spec.schedulers import SCHEDULERS
from pipelines.spec.validate import Problem
from widgets.aspect import ASPECTS, size_of
from widgets.controls import DecimalField, NumberField
from widgets.count_panel import CountPanel
from widgets.field import Field
from widgets.metrics import TONE_ROLES, Tone
from widgets.model_panel import ModelPanel
from widgets.prompt_panel import PromptPanel, TokenCounter
from widgets.sampling_panel import SamplingPanel
from widgets.seed_field import SeedField
from widgets.size_panel import AspectButton, SizePanel

RECORD = ModelRecord(id="demo-sd", path="/models/sd", title="Demo", description="Shapes & scenes")
BROKEN = ModelRecord(id="bad", path="/models/bad", title="Bad", problem="A file is missing.")

VALUES = [
    (PromptPanel, Prompt(text="a <b>red</b> circle 🦊\nand <lora:x:1.5>", negative="blur")),
    (ModelPanel, "a-model-that-is-gone"),
    (SizePanel, Size(width=512, height=768)),
    (SizePanel, Size(width=500, height=9000)),
    (
        SamplingPanel,
        Sampling(scheduler="euler_a", num_inference_steps=33, guidance_scale=3.25, seed=MAX_SEED),
    ),
    (SamplingPanel, Sampling(scheduler="from-elsewhere", num_inference_steps=500, seed=MAX_SEED + 1)),
    (SamplingPanel, Sampling(scheduler="flow_euler", guidance_scale=0.0)),
    (CountPanel, 64),
]


@pytest.mark.parametrize(("panel_class", "value"), VALUES)
def test_value_there_and_back_with_one_signal(qtbot, panel_class, value):
    panel = panel_class()
    qtbot.addWidget(panel)
    seen = []
    panel.valueChanged.connect(seen.append)
    panel.setValue(value)
    assert panel.value() == value
    assert seen == [value]


@pytest.mark.parametrize("put", ["set", "paste"])
def test_a_prompt_of_a_megabyte_is_cut_to_what_is_read(qtbot, put):
    """W3: Qt lays out one word of a megabyte for minutes, and the window stands still."""
    panel = PromptPanel()
    qtbot.addWidget(panel)
    panel.setValue(Prompt(text="ab"))
    text = "w" * 1_000_000
    if put == "set":
        panel.setValue(Prompt(text=text, negative=text))
        assert panel.value() == Prompt(text=text[:MAX_PROMPT], negative=text[:MAX_PROMPT])
    else:
        mime = QMimeData()
        mime.setText(text)
        panel._text.selectAll()
        panel._text.insertFromMimeData(mime)
        assert set(panel.value().text) == {"w"}
        assert MAX_PROMPT - 2 <= len(panel.value().text) <= MAX_PROMPT


@pytest.mark.parametrize("row", [r for r in SCHEDULERS if SD1.prediction in r.fits], ids=lambda r: r.id)
def test_every_sampler_that_fits_comes_back(qtbot, row):
    panel = SamplingPanel()
    qtbot.addWidget(panel)
    panel.set_family(SD1)
    panel.setValue(Sampling(scheduler=row.id))
    assert panel.value().scheduler == row.id
    assert (panel._sampler.currentText(), panel._schedule.currentText()) == (row.sampler, row.schedule)


PROBLEMS = [
    (PromptPanel, "prompt.text"),
    (PromptPanel, "prompt.negative"),
    (ModelPanel, "model"),
    (SizePanel, "size.width"),
    (SizePanel, "size.height"),
    (SamplingPanel, "sampling.scheduler"),
    (SamplingPanel, "sampling.num_inference_steps"),
    (SamplingPanel, "sampling.guidance_scale"),
    (SamplingPanel, "sampling.seed"),
    (CountPanel, "count"),
]


@pytest.mark.parametrize(("panel_class", "path"), PROBLEMS)
def test_problem_stands_at_its_field_and_goes(shown, panel_class, path):
    panel = shown(panel_class(), 260, 700)
    panel.set_problems((Problem(path, "It is <b>wrong</b>.", "Mend it."), Problem("elsewhere", "Not here.")))
    texts = [field.problem() for field in panel.findChildren(Field) if field.problem()]
    assert texts == ["It is <b>wrong</b>. Mend it."]
    marked = [w for w in panel.findChildren(object) if w.property("problem")]
    assert [w.accessibleDescription() for w in marked] == ["It is <b>wrong</b>."]
    panel.set_problems(())
    assert not any(field.problem() for field in panel.findChildren(Field))
    assert not any(w.property("problem") for w in panel.findChildren(object))


def test_advice_is_told_without_an_outline(shown):
    panel = shown(PromptPanel(), 260, 700)
    panel.set_problems((Problem("prompt.negative", "It does nothing.", "Set it.", stops=False),))
    (field,) = [field for field in panel.findChildren(Field) if field.problem()]
    assert field.problem() == "It does nothing. Set it."
    assert field._problem.foregroundRole() == TONE_ROLES[Tone.WARNING]
    assert not any(w.property("problem") for w in panel.findChildren(object))
    panel.set_problems((Problem("prompt.negative", "It cannot be."),))
    assert field._problem.foregroundRole() == TONE_ROLES[Tone.ERROR]


def test_prompt_without_use_for_a_negative_one(shown, plain_family):
    panel = shown(PromptPanel())
    panel.setValue(Prompt(text="fox", negative="blur"))
    panel.set_family(plain_family)
    assert not panel._negative.isVisible()
    assert panel.value() == Prompt(text="fox")
    panel.set_family(SD1)
    assert panel._negative.isVisible()
    assert panel.value() == Prompt(text="fox", negative="blur")


def test_prompt_grows_to_its_most_and_shrinks_back(shown, qtbot):
    panel = shown(PromptPanel(), 260, 700)
    edit = panel._text
    line = edit.fontMetrics().lineSpacing()
    for text, lines in (("\n" * 7, 8), ("word " * 2000, 12), ("", 3)):
        panel.setValue(Prompt(text=text))
        qtbot.waitUntil(lambda least=lines: least * line < edit.height() < (least + 2) * line)


def test_a_prompt_that_is_all_in_view_has_no_scroll_bar(theme, shown, qtbot):
    panel = shown(PromptPanel(), 316, 700)
    bar = panel._text.verticalScrollBar()
    for text, scrolls in (("word " * 60, False), ("word " * 2000, True), ("word " * 60, False)):
        panel.setValue(Prompt(text=text))
        qtbot.waitUntil(lambda scrolls=scrolls: bar.isVisible() == scrolls == bool(bar.maximum()))


def test_a_restored_prompt_can_be_taken_back(qtbot):
    panel = PromptPanel()
    qtbot.addWidget(panel)
    panel.setValue(Prompt(text="mine"))
    panel.setValue(Prompt(text="restored"))
    panel._text.undo()
    assert panel.value().text == "mine"


def test_pasted_markup_stays_text(qtbot):
    panel = PromptPanel()
    qtbot.addWidget(panel)
    assert all(isinstance(edit, QPlainTextEdit) for edit in (panel._text, panel._negative))


def test_token_counter_warns_past_the_limit(qtbot):
    counter = TokenCounter("Prompt")
    qtbot.addWidget(counter)
    counter.set_count(75, 75)
    calm = counter.foregroundRole()
    counter.set_count(160, 75)
    assert counter.text() == "160/75"
    assert counter.foregroundRole() != calm
    assert "3 parts" in " ".join(counter.toolTip().split())


def test_model_panel_takes_the_first_that_works_and_keeps_it(qtbot):
    panel = ModelPanel()
    qtbot.addWidget(panel)
    seen = []
    panel.valueChanged.connect(seen.append)
    panel.set_records((BROKEN, RECORD))
    assert (panel.value(), seen) == ("demo-sd", ["demo-sd"])
    assert not panel._rows.flags(panel._rows.index(0, 0)) & Qt.ItemFlag.ItemIsEnabled
    panel.set_records((RECORD,))
    assert (panel.value(), seen) == ("demo-sd", ["demo-sd"])
    panel.set_records(())
    assert panel.value() == "demo-sd"
    assert panel._choice.currentText() == "demo-sd (not found)"


@pytest.mark.parametrize("native", [256, 512, 1024])
@pytest.mark.parametrize("aspect", ASPECTS, ids=lambda a: a.name)
def test_aspects_keep_the_area_and_the_step(aspect, native):
    rule = SizeRule()
    size = size_of(aspect, rule, native)
    assert size.width % rule.step == size.height % rule.step == 0
    assert size.width * size.height == pytest.approx(native**2, rel=0.04)
    assert size.width / size.height == pytest.approx(aspect.width / aspect.height, rel=0.06)


def test_size_swap_aspect_and_megapixels(shown, qtbot):
    panel = shown(SizePanel())
    panel.set_rule(SD1.sizes, 512)
    panel.setValue(Size(width=640, height=448))
    qtbot.mouseClick(panel._swap, Qt.MouseButton.LeftButton)
    assert panel.value() == Size(width=448, height=640)
    square, *_others = panel.findChildren(AspectButton)
    assert not square.isChecked()
    qtbot.mouseClick(square, Qt.MouseButton.LeftButton)
    assert panel.value() == Size(width=512, height=512)
    assert square.isChecked()
    assert panel._megapixels.text() == "0.26 MP"


def test_size_steps_land_on_multiples(qtbot):
    field = NumberField("Width", "How wide.")
    qtbot.addWidget(field)
    field.setRange(1, 4096)
    field.setSingleStep(8)
    field.setValue(500)
    field.stepBy(1)
    assert field.value() == 504
    field.setValue(500)
    field.stepBy(-1)
    assert field.value() == 496
    field.stepBy(2)
    assert field.value() == 512


def test_typed_size_lands_on_a_multiple_when_left(shown, qtbot):
    panel = shown(SizePanel())
    panel._width.selectAll()
    qtbot.keyClicks(panel._width, "501")
    assert panel.value().width == 501
    qtbot.keyClick(panel._width, Qt.Key.Key_Return)
    assert panel.value().width == 504


def test_schedules_follow_the_sampler(qtbot):
    panel = SamplingPanel()
    qtbot.addWidget(panel)
    panel.set_family(SD1)
    panel.setValue(Sampling(scheduler="dpmpp_2m_karras"))
    panel._sampler.setCurrentIndex(panel._sampler.findText("Euler"))
    assert panel.value().scheduler == "euler_karras"
    panel._sampler.setCurrentIndex(panel._sampler.findText("PNDM"))
    assert panel.value().scheduler == "pndm"
    assert panel._schedule.count() == 1


def test_family_hides_guidance_and_offers_its_samplers(shown, plain_family):
    panel = shown(SamplingPanel(), 260, 400)
    panel.set_family(SD1)
    panel.setValue(Sampling(scheduler="euler", guidance_scale=7.0))
    assert panel._guidance.isVisible()
    panel.set_family(plain_family)
    assert not panel._guidance.isVisible()
    assert panel.value().guidance_scale == 1.0
    assert panel.value().scheduler == "flow_euler"
    assert panel._sampler.count() == 1


def test_next_seed_draws_until_it_is_locked(qtbot):
    panel = SamplingPanel()
    qtbot.addWidget(panel)
    drawn = {panel.next_seed() for _ in range(20)}
    assert len(drawn) > 1
    assert all(0 <= seed <= MAX_SEED - 63 for seed in drawn)
    panel.set_seed_locked(True)
    panel.setValue(Sampling(seed=7))
    assert panel.next_seed() == panel.value().seed == 7


def test_a_seed_that_is_typed_is_the_one_that_is_used(shown, qtbot):
    panel = shown(SamplingPanel())
    panel._seed.selectAll()
    qtbot.keyClicks(panel._seed, "42")
    assert panel.seed_locked()
    assert panel.next_seed() == panel.value().seed == 42


@pytest.mark.parametrize(
    ("typed", "seed"),
    [
        ("0", 0),
        (str(MAX_SEED), MAX_SEED),
        (str(MAX_SEED + 1), MAX_SEED + 1),
        ("-5", 5),
        ("1a2", 12),
        ("", 41),
    ],
)
def test_seed_field_takes_digits_and_keeps_its_number_when_empty(shown, qtbot, typed, seed):
    field = shown(SeedField("Seed", "The noise."))
    field.set_seed(41)
    field.selectAll()
    qtbot.keyClick(field, Qt.Key.Key_Backspace)
    qtbot.keyClicks(field, typed)
    assert field.seed() == seed
    qtbot.keyClick(field, Qt.Key.Key_Return)
    assert field.text() == str(seed)


def test_seed_arrows(shown, qtbot):
    field = shown(SeedField("Seed", "The noise."))
    field.set_seed(1)
    for key in (Qt.Key.Key_Down, Qt.Key.Key_Down, Qt.Key.Key_Up):
        qtbot.keyClick(field, key)
    assert field.seed() == 1


@pytest.fixture
def german():
    before = QLocale()
    QLocale.setDefault(QLocale("de_DE"))
    yield
    QLocale.setDefault(before)


@pytest.mark.parametrize("typed", ["7.5", "7,5"])
def test_a_comma_locale_reads_the_same_numbers(german, shown, qtbot, typed):
    field = shown(DecimalField("Guidance", "How close."))
    field.setRange(0, 999)
    field.setDecimals(4)
    field.selectAll()
    qtbot.keyClicks(field, typed)
    assert field.value() == 7.5
    field.setValue(1234.5 - 1000)
    assert field.text() == "234.5"


def test_slider_and_box_follow_each_other(qtbot):
    panel = SamplingPanel()
    qtbot.addWidget(panel)
    panel._guidance.slider.setValue(15)
    assert panel.value().guidance_scale == 7.5
    panel._steps.box.setValue(150)
    assert panel._steps.slider.value() == panel._steps.slider.maximum()
    assert panel.value().num_inference_steps == 150


def test_wheel_over_a_field_without_focus_changes_nothing(shown, qtbot):
    from tests.widgets.hands import wheel

    panel = shown(SamplingPanel(), 260, 400)
    panel._seed.setFocus()
    before = panel.value()
    for widget in (panel._sampler, panel._steps.box, panel._guidance.slider):
        wheel(widget, widget.rect().center(), 120)
    assert panel.value() == before
