"""The Models page without the program around it: what a search finds, what the keys do, what stays plain text."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtGui import Qt as GuiQt
from PySide6.QtWidgets import QLabel

from pipelines.spec.model_note import ModelDefaults, ModelFacts, ModelNote, ModelPart
from pipelines.spec.record import Format, Kind, ModelRecord, State
from pipelines.spec.request import Sampling, Size
from tests.widgets.test_every_widget import CONTROLS, MARKUP, own
from widgets.model_choice import ModelChoice
from widgets.model_choices import FAVOURITES, ID, OTHERS, RECENT
from widgets.model_entries import Listed, ModelFilter, entries_of, filtered
from widgets.model_panel import ModelPanel
from widgets.model_texts import can_draw, count_text, family_name, sentence, size_text
from widgets.models_page import ModelsPage
from widgets.models_table import SIZE, STAR

SD = ModelRecord(
    id="sd", path="/models/sd", title="Plain model", family="sd1", base="sd1", size_bytes=4_000_000_000
)
LORA = ModelRecord(
    id="neon", path="/models/loras/neon.safetensors", title="Neon", kind=Kind.LORA, family="sdxl", base="sdxl",
    format=Format.SINGLE_FILE, size_bytes=200_000_000, trigger_words=("neon light", "glow"), dtype="float16",
)  # fmt: skip
BROKEN = ModelRecord(
    id="bad", path="/models/bad.safetensors", title="Cut off", kind=Kind.UNKNOWN, format=Format.SINGLE_FILE,
    problem="bad.safetensors is incomplete: 1 of 2 bytes. Download it again.", state=State.INCOMPLETE,
    needs=("a VAE",),
)  # fmt: skip
RECORDS = (SD, LORA, BROKEN)


@pytest.fixture
def page(shown):
    page = shown(ModelsPage(), 1280, 800)
    page.set_entries(Listed(entries_of(RECORDS)))
    return page


def shown_ids(page):
    return [page.table.entry(row).record.id for row in range(page.table.rowCount())]


def many(count):
    kinds, states = tuple(Kind), tuple(State)
    return tuple(
        ModelRecord(
            id=f"m{n}", path=f"/m/{n % 97}/m{n}.safetensors", title=f"Model {n} {'fox' if n % 50 == 0 else 'owl'}",
            kind=kinds[n % len(kinds)], state=states[n % len(states)], family=("sd1", "sdxl", "")[n % 3],
            problem="" if n % len(states) == 0 else "It is not.", size_bytes=n * 1000, format=Format.SINGLE_FILE,
        )
        for n in range(count)
    )  # fmt: skip


# what is found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("neon", {"neon"}),
        ("NEON sdxl", {"neon"}),
        ("glow", {"neon"}),
        ("loras", {"neon"}),
        ("cut OFF", {"bad"}),
        ("neon sd1", set()),
        ("%", set()),
        ("'; DROP TABLE", set()),
        ("", {"sd", "neon", "bad"}),
    ],
)
def test_a_search_finds_exactly_what_has_all_its_words(page, text, found):
    page.bar.search.setText(text)
    assert set(shown_ids(page)) == found
    assert page.value().text == text


@pytest.mark.parametrize("title", ["100 % <b>", "'; DROP TABLE x; --", "🦊 fox", "Ünïcode 空间", "a_b*c?"])
def test_a_search_for_a_hostile_name_finds_itself(page, title):
    odd = replace(LORA, id="odd", path="/odd.safetensors", title=title)
    page.set_entries(Listed(entries_of((*RECORDS, odd))))
    page.bar.search.setText(title)
    assert shown_ids(page) == ["odd"]


def test_kind_family_and_state_choose_and_their_counts_are_true():
    entries = entries_of(many(1000))
    listed = Listed(entries)
    for wanted in (
        ModelFilter(kind=Kind.LORA),
        ModelFilter(family="SDXL", state=State.READY),
        ModelFilter(text="fox", family="SD 1.x", kind=Kind.VAE, state=State.BROKEN),
    ):
        shown = filtered(listed, range(len(entries)), wanted, set())
        assert shown.rows == [
            at
            for at, e in enumerate(entries)
            if wanted.text in e.search
            and wanted.kind in (None, e.record.kind)
            and wanted.family in ("", e.family)
            and wanted.state in (None, e.record.state)
        ]
        for kind, count in shown.kinds.items():
            assert len(filtered(listed, range(1000), replace(wanted, kind=kind), set()).rows) == count
        for family, count in shown.families.items():
            assert len(filtered(listed, range(1000), replace(wanted, family=family), set()).rows) == count
        for state, count in shown.states.items():
            assert len(filtered(listed, range(1000), replace(wanted, state=state), set()).rows) == count


def test_the_choices_of_the_page_filter_and_go_back(page):
    page.setValue(ModelFilter(state=State.INCOMPLETE))
    assert shown_ids(page) == ["bad"]
    assert page.value() == ModelFilter(state=State.INCOMPLETE)
    page.clear_filter()
    page.families.setValue("SDXL")
    assert shown_ids(page) == ["neon"]
    assert page.status.counts.text() == "1 of 3 models"
    page.families.setValue("")
    assert page.status.counts.text() == "3 models"


def test_sorting_by_size_begins_with_the_biggest_and_turns_round(page):
    page.view._sort(SIZE)
    assert shown_ids(page) == ["sd", "neon", "bad"]
    page.view._sort(SIZE)
    assert shown_ids(page) == ["bad", "neon", "sd"]


def test_favourites_alone_and_first(page):
    page.set_notes({LORA.path: ModelNote(favourite=True)})
    page.view._sort(STAR)
    assert shown_ids(page)[0] == "neon"
    page.setValue(ModelFilter(favourites=True))
    assert shown_ids(page) == ["neon"]
    page.set_notes({})
    assert shown_ids(page) == []


def test_the_details_are_of_a_model_that_the_filter_shows(page):
    page.view.choose(SD.path)
    page.bar.search.setText("neon")
    assert (page.view.path(), page.details.path()) == (LORA.path, LORA.path)
    page.bar.search.setText("plain")
    assert page.details.path() == SD.path
    page.bar.search.setText("nothing has this")
    assert page.details.path() == ""
    assert page.details._empty.isVisible()
    page.clear_filter()
    assert page.details.path() == SD.path, "the one that was chosen"
    page.bar.search.setText("n")
    page.bar.search.setText("neon")
    page.view.choose(LORA.path)
    page.clear_filter()
    assert page.details.path() == LORA.path, "the one that is chosen now"


def test_one_that_is_shown_stays_chosen_and_a_star_taken_away_hides_it(page):
    page.view.choose(LORA.path)
    page.bar.search.setText("n")
    assert page.details.path() == LORA.path
    page.clear_filter()
    page.set_notes({path: ModelNote(favourite=True) for path in (SD.path, LORA.path)})
    page.setValue(ModelFilter(favourites=True))
    assert page.details.path() == LORA.path
    page.set_notes({SD.path: ModelNote(favourite=True)})
    assert page.details.path() == SD.path


# what is shown


def test_the_details_say_why_it_is_not_usable_and_what_is_missing(page):
    page.view.choose(BROKEN.path)
    assert page.details.reason.isVisible()
    assert BROKEN.problem in page.details.reason.text()
    assert "a VAE" in page.details.reason.text()
    assert not page.details.use.isEnabled()
    page.view.choose(SD.path)
    assert not page.details.reason.isVisible()
    assert page.details.use.isEnabled()
    assert page.details.facts.value()["Size"] == "4.0 GB"


def test_each_missing_part_can_be_fetched_and_no_other(page, qtbot):
    lacking = replace(
        SD, id="flux", path="/m/flux.safetensors", kind=Kind.TRANSFORMER, format=Format.SINGLE_FILE,
        state=State.INCOMPLETE, problem="It needs besides: the text encoder CLIP-L, T5's list of words.",
        needs=("clip_l",), lacks_words=True,
    )  # fmt: skip
    page.set_entries(Listed(entries_of((lacking, BROKEN))))
    reason = page.details.reason
    page.view.choose(lacking.path)
    assert [name for name, button in reason.fetch.items() if button.isVisible()] == ["clip_l", "words"]
    with qtbot.waitSignal(reason.fetchRequested) as asked:
        reason.fetch["words"].click()
    assert asked.args == ["words"]
    page.view.choose(BROKEN.path)
    assert not [name for name, button in reason.fetch.items() if button.isVisible()]


def test_hashes_parts_and_uses_as_they_come(page):
    page.view.choose(LORA.path)
    assert page.details.hashes.value() == {"State": "Looking…"}
    page.set_facts(LORA.path, ModelFacts())
    assert page.details.hashes.value() == {"State": "Not computed yet."}
    assert page.details.hash_now.isVisible()
    page.set_facts(LORA.path, ModelFacts(sha256="ab" * 32, autov2="ab" * 5, autov3="cd" * 6))
    assert page.details.hashes.value() == {"AutoV2": "ab" * 5, "AutoV3": "cd" * 6, "SHA-256": "ab" * 32}
    assert not page.details.hash_now.isVisible()
    page.set_facts(SD.path, ModelFacts(parts=(ModelPart(name="unet"),)))  # comes late, of another
    assert not page.details._parts_section.isVisible()
    for uses, text in (
        (None, "being read"),
        ({}, "no picture"),
        ({"neon": 1}, "1 picture"),
        ({"neon": 2000}, "2,000"),
    ):
        page.set_uses(uses)
        assert text in page.details.facts.value()["Used in"]


def test_the_chosen_model_stays_chosen_over_filters_and_scans(page):
    page.view.choose(LORA.path)
    page.bar.search.setText("plain")
    page.bar.search.setText("")
    assert page.table.entry(page.view.currentIndex().row()).record == LORA
    page.set_entries(Listed(entries_of(RECORDS[::-1])))
    assert page.details.path() == LORA.path
    page.bar.search.setText("plain")
    page.set_entries(Listed(entries_of(RECORDS)))
    page.bar.search.setText("")
    assert page.details.path() == LORA.path
    page.set_entries(Listed(entries_of((SD,))))
    assert page.details.path() == SD.path


def test_no_model_and_no_match_say_what_to_do(page, qtbot):
    page.bar.search.setText("nothing has this")
    assert page._middle.currentWidget() is page._no_match
    page._no_match.button.click()
    assert len(shown_ids(page)) == 3
    page.set_models_folder("/home/me/models")
    page.set_entries(Listed())
    assert page._middle.currentWidget() is page._no_model
    assert "/home/me/models" in page._no_model.text()
    with qtbot.waitSignal(page.folderOpened):
        page._no_model.button.click()


def test_foreign_text_is_never_taken_for_markup(page):
    evil = replace(
        SD, id=MARKUP, path=f"/m/{MARKUP}", title=MARKUP, description=MARKUP, trigger_words=(MARKUP,),
        problem=MARKUP, needs=(MARKUP,), assumed=(MARKUP,), base=MARKUP, family="", variant=MARKUP,
    )  # fmt: skip
    page.set_entries(Listed(entries_of((evil,))))
    page.view.choose(evil.path)
    page.set_facts(evil.path, ModelFacts(parts=(ModelPart(name=MARKUP, what=MARKUP, files=(MARKUP,)),)))
    page.set_notes({evil.path: ModelNote(text=MARKUP)})
    for each in own(page):
        assert not GuiQt.mightBeRichText(each.toolTip()), each
        if isinstance(each, QLabel):
            assert each.textFormat() == Qt.TextFormat.PlainText, each.text()
    for column in range(page.table.columnCount()):
        tip = page.table.data(page.table.index(0, column), Qt.ItemDataRole.ToolTipRole)
        assert not GuiQt.mightBeRichText(str(tip))
    for at in range(page.families.count()):
        assert not GuiQt.mightBeRichText(page.families.item(at).toolTip())


def test_a_path_that_is_no_text_is_shown_all_the_same(page):
    odd = replace(LORA, id="odd", path="/m/\udcff.safetensors", title="x\udcff")
    page.set_entries(Listed(entries_of((odd,))))
    page.view.choose(odd.path)
    assert page.details.facts.value()["File"] == "/m/?.safetensors"
    page.grab()


def test_every_control_of_the_page_has_a_name_and_a_tooltip(page):
    page.view.choose(SD.path)
    controls = [w for w in own(page) if isinstance(w, CONTROLS) and not w.inherits("QScrollBar")]
    controls = [w for w in controls if not w.window().inherits("QComboBoxPrivateContainer")]
    assert len(controls) > 15
    for control in controls:
        if control.inherits("QTableCornerButton"):
            continue
        assert control.accessibleName(), control
        assert control.toolTip(), control.accessibleName()
        assert control.focusPolicy() & Qt.FocusPolicy.TabFocus, control.accessibleName()


def test_a_small_window_has_the_families_as_a_choice(page):
    assert page.families.isVisible()
    page.resize(900, 600)
    assert not page.families.isVisible()
    assert page.bar._families.isVisible()
    assert page.minimumSizeHint().width() <= 900
    page.bar._families.setCurrentIndex(page.bar._families.findData("SDXL"))
    assert shown_ids(page) == ["neon"]
    page.resize(1280, 800)
    assert page.families.value() == "SDXL"


# what is done


def test_enter_uses_space_marks_and_typing_searches(page, qtbot):
    page.view.choose(SD.path)
    page.view.setFocus()
    with qtbot.waitSignal(page.details.useRequested) as used:
        qtbot.keyClick(page.view, Qt.Key.Key_Return)
    assert used.args == ["sd"]
    with qtbot.waitSignal(page.details.favouriteChanged) as marked:
        qtbot.keyClick(page.view, Qt.Key.Key_Space)
    assert marked.args == [SD.path, True]
    qtbot.keyClick(page.view, Qt.Key.Key_N)
    assert page.bar.search.text() == "n"
    qtbot.keyClicks(page.bar.search, "eon")
    assert shown_ids(page) == ["neon"]
    qtbot.keyClick(page.bar.search, Qt.Key.Key_Escape)
    assert page.bar.search.text() == ""
    with qtbot.waitSignal(page.backRequested):
        qtbot.keyClick(page.bar.search, Qt.Key.Key_Escape)


def test_what_cannot_draw_is_not_used(page, qtbot):
    used = []
    page.details.useRequested.connect(used.append)
    for record in (LORA, BROKEN):
        page.view.choose(record.path)
        qtbot.keyClick(page.view, Qt.Key.Key_Return)
        assert not page.menu(record.path).actions()[0].isEnabled()
    assert used == []


def test_a_star_is_clicked_in_its_column(page, qtbot):
    row = page.table.row_of(LORA.path)
    place = page.view.visualRect(page.table.index(row, STAR)).center()
    with qtbot.waitSignal(page.details.favouriteChanged) as marked:
        qtbot.mouseClick(page.view.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert marked.args == [LORA.path, True]


def test_what_is_written_is_kept_before_another_is_shown(page):
    kept = []
    page.details.noteChanged.connect(lambda path, text: kept.append((path, text)))
    page.view.choose(SD.path)
    page.details.notes.setPlainText("nice")
    page.set_notes({})  # news of something else does not take it away
    assert page.details.notes.toPlainText() == "nice"
    page.view.choose(LORA.path)
    assert kept == [(SD.path, "nice")]
    assert page.details.notes.toPlainText() == ""


def test_default_settings_are_told_and_can_be_forgotten(page, qtbot):
    own_defaults = ModelDefaults(sampling=Sampling(num_inference_steps=8), size=Size(width=640, height=384))
    page.view.choose(SD.path)
    assert not page.details.forget.isVisible()
    page.set_notes({SD.path: ModelNote(defaults=own_defaults)})
    assert "8 steps" in page.details._defaults.text()
    assert "640 × 384" in page.details._defaults.text()
    with qtbot.waitSignal(page.details.defaultsRequested) as asked:
        page.details.forget.click()
    assert asked.args == [SD.path, False]


def test_path_and_trigger_words_are_copied(page):
    page.view.choose(LORA.path)
    page.details.copy.click()
    assert QGuiApplication.clipboard().text() == LORA.path
    page.details.copy_words.click()
    assert QGuiApplication.clipboard().text() == "neon light, glow"


def test_a_scan_is_told_and_can_be_stopped(page, qtbot):
    page.status.show_scan((0, 0))
    assert page.status.bar.isVisible()
    page.status.show_scan((50, 100))
    assert page.status.bar.value() == 50
    with qtbot.waitSignal(page.status.cancelRequested):
        page.status.cancel.click()
    page.status.show_scan(None)
    assert not page.status.cancel.isVisible()


def test_ten_thousand_are_filtered_and_sorted_in_a_blink(shown):
    page = shown(ModelsPage(), 1280, 800)
    listed = Listed(entries_of(many(10_000)))
    took = {}

    def measured(name, act):
        begin = time.process_time()
        act()
        page.grab()
        took[name] = (time.process_time() - begin) * 1000

    measured("show", lambda: page.set_entries(listed))
    for text in ("f", "fo", "fox", "fox 9", ""):
        measured(f"search {text!r}", lambda text=text: page.bar.search.setText(text))
    measured("sort", lambda: page.view._sort(SIZE))
    measured("kind", lambda: page.setValue(ModelFilter(kind=Kind.LORA)))
    assert max(took.values()) < 100, took


# words


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, ""), (12, "1 KB"), (999_999, "1000 KB"), (2_132_000_000, "2.1 GB"), (144_000_000, "144 MB")],
)
def test_sizes(size, text):
    assert size_text(size) == text


def test_sentences():
    assert sentence(LORA) == "A LoRA for SDXL, in one file."
    assert sentence(replace(SD, variant="inpainting")) == "A checkpoint of SD 1.x (inpainting), as a folder."
    assert family_name(replace(LORA, base="sd1/sd2")) == "SD 1.x or SD 2.x"
    assert can_draw(SD)
    assert not can_draw(LORA)
    assert (count_text(3072), count_text(860_000_000)) == ("3,072", "860 million")


# the choice of a model


def rows_of(choice: ModelChoice):
    rows = choice.rows
    return [(rows.data(rows.index(at, 0)), rows.data(rows.index(at, 0), ID)) for at in range(rows.rowCount())]


def test_favourites_come_first_then_what_was_used_last(qtbot):
    records = tuple(ModelRecord(id=f"m{n}", path=f"/m{n}", title=f"Model {n}") for n in range(6))
    panel = ModelPanel()
    qtbot.addWidget(panel)
    panel.set_records(records)
    assert [key for _, key in rows_of(panel._choice)] == [f"m{n}" for n in range(6)]
    seen = []
    panel.valueChanged.connect(seen.append)
    panel.setValue("m2")
    panel.set_preferred(frozenset({"m4"}), ("m5", "m4", "m1"))
    assert [key or text for text, key in rows_of(panel._choice)] == [
        FAVOURITES, "m4", RECENT, "m5", "m1", OTHERS, "m0", "m2", "m3",
    ]  # fmt: skip
    assert (panel.value(), seen) == ("m2", ["m2"])
    assert panel._choice.currentText() == "Model 2"


def test_typing_opens_the_list_and_enter_takes_the_first(shown, qtbot):
    records = tuple(ModelRecord(id=f"m{n}", path=f"/m{n}", title=f"{w} {n}") for n, w in enumerate("xay"))
    broken = ModelRecord(id="b", path="/b", title="ya broken", problem="It is broken.")
    panel = shown(ModelPanel(), 300, 100)
    panel.set_records((broken, *records))
    qtbot.keyClicks(panel._choice, "y")
    popup = panel._choice.popup
    assert popup.isVisible()
    assert popup.search.text() == "y"
    qtbot.keyClick(popup.search, Qt.Key.Key_Return)
    assert panel.value() == "m2"
    assert not popup.isVisible()
    panel._choice.showPopup()
    popup.search.setText("nothing")
    qtbot.keyClick(popup.search, Qt.Key.Key_Return)
    assert panel.value() == "m2"
    popup.hide()


def test_a_name_that_is_too_long_keeps_the_end_by_which_it_differs(shown):
    """The demos are all called 'Demo: shapes and scenes' first."""
    panel = shown(ModelPanel(), 210, 100)
    texts = set()
    for family in ("SD 1.x", "SD 2.x", "SDXL", "FLUX"):
        record = replace(SD, id=family, title=f"Demo: shapes and scenes ({family})")
        panel.set_records((record,))
        panel.setValue(family)
        texts.add(panel._choice.shown_text())
    assert len(texts) == 4
    assert all("…" in text for text in texts)
