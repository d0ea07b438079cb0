"""The card under Generate and the gauge, in the whole window with a scripted engine on a card of the test's own."""

import threading
from dataclasses import replace

import pytest

from desktop import preflight
from desktop.engine_bridge import planned as planned_
from desktop.planner import Planner
from pipelines.library.runs import runs_of
from pipelines.runtime.placement import MARGIN
from pipelines.spec.compile_words import CANCELLING, COMPILING
from pipelines.spec.events import MemoryChanged
from pipelines.spec.machine import Machine
from pipelines.spec.measured import Rates
from pipelines.spec.memory import Holder, Room
from pipelines.spec.outlook import Change, Cheaper, Outlook
from pipelines.spec.request import LoraInput, Prompt, Size
from tests.desktop.conftest import make_model, write_json
from widgets.memory_gauge import lines
from widgets.preflight_card import NO_CARD

MB = 10**6


def on_card(free_mb, *holders):
    return MemoryChanged(
        device_name="One card", card=Room(total=8000 * MB, free=free_mb * MB, ours=50 * MB), holders=holders
    )


@pytest.fixture
def ready(make_application, qtbot, script):
    def make(memory):
        script.memory = memory
        application = make_application()
        planned(application, qtbot)
        return application

    return make


def planned(application, qtbot):
    """Waits until the newest plan is shown; the Outlook."""
    card, planner = application.window.card, application.preflight.planner
    qtbot.waitUntil(lambda: application.tasks.idle and planner.idle and card.outlook() is not None)
    return card.outlook()


def texts(application):
    return application.window.card._head.text(), application.window.card._words.text()


def test_without_a_card_it_says_where_it_computes(ready):
    application = ready(MemoryChanged(device_name="A processor"))
    outlook = application.window.card.outlook()
    assert outlook.fits
    assert outlook.card is None
    assert NO_CARD in texts(application)[1]
    assert texts(application)[0] == "Fits, time not known yet"


def test_what_does_not_fit_is_offered_smaller_by_a_click_that_can_be_undone(ready, qtbot):
    application = ready(on_card(900))
    card, session = application.window.card, application.session
    application.window.panels["size"].setValue(Size(width=2048, height=1024))
    outlook = planned(application, qtbot)
    assert not outlook.fits
    assert texts(application)[0] == "It will not fit"
    assert "card's memory" in texts(application)[1]
    offered = outlook.cheaper[0]
    assert offered.change.size is not None
    card._buttons[0].click()
    assert session.request().size == offered.change.size
    assert planned(application, qtbot).fits
    application.window.panels["prompt"].setValue(Prompt(text="typed meanwhile"))
    assert card._undo.isVisible()
    card._undo.click()
    assert session.request().size == Size(width=2048, height=1024)
    assert session.request().prompt.text == "typed meanwhile"
    assert not card._undo.isVisible()


def test_undo_goes_once_the_size_was_changed_by_hand(ready, qtbot):
    application = ready(on_card(900))
    application.window.panels["size"].setValue(Size(width=2048, height=2048))
    planned(application, qtbot)
    application.window.card._buttons[0].click()
    application.window.panels["size"].setValue(Size(width=64, height=64))
    assert not application.window.card._undo.isVisible()


def test_undo_goes_with_the_model_that_it_was_for(ready, model_root):
    make_model(model_root / "other", "Other model")
    application = ready(on_card(900))
    session, card = application.session, application.window.card
    first, second = (record.id for record in session.records() if "model" in record.title)
    session.set_request(replace(session.request(), model=first))
    application.preflight._choose(Cheaper(words="", plan="", change=Change(weights="int8")))
    assert card._undo.isVisible()
    session.set_request(replace(session.request(), model=second))
    assert not card._undo.isVisible()


def test_an_offer_that_does_not_suit_the_request_of_now_leaves_nothing_to_undo(ready):
    """The card shows the last plan until the next one is there."""
    application = ready(on_card(900))
    before = application.session.request()
    application.preflight._choose(Cheaper(words="", plan="", change=Change(size=Size(width=3, height=64))))
    assert application.session.request() == before
    assert not application.window.card._undo.isVisible()


def test_what_the_models_hold_counts_as_free(ready):
    held = Holder(name="Scripted model: U-Net", size_bytes=3000 * MB, on_card=True)
    application = ready(on_card(500, held))
    assert application.window.card.outlook().card.free == 3500 * MB - MARGIN


def test_headers_are_read_once_however_much_is_typed(ready, qtbot):
    application = ready(on_card(6000))
    reads = application.preflight._sizes.reads
    for word in ("a", "a b", "a b c"):
        application.window.panels["prompt"].setValue(Prompt(text=word))
        planned(application, qtbot)
    assert application.preflight._sizes.reads == reads


def test_a_finished_picture_tells_the_time_of_the_next(ready, qtbot, tmp_path):
    application = ready(on_card(6000))
    for _ in range(2):
        with qtbot.waitSignal(application.session.jobEnded):
            application.window.button.click()
        qtbot.waitUntil(lambda: application.tasks.idle)
    assert planned(application, qtbot).time.seconds == pytest.approx(10.0)
    assert texts(application)[0].startswith("Fits, about 10 s a picture")
    assert "The last one took 10 s, 10 s were predicted" in application.window.card._head.toolTip().replace(
        "\n", " "
    )
    last, first = runs_of(tmp_path / "data")
    assert (first.predicted_s, last.predicted_s) == (0.0, pytest.approx(10.0))
    assert last.device == "One card"


def test_while_a_picture_is_made_the_card_is_about_the_next(ready, qtbot, script):
    application = ready(on_card(6000))
    script.hold()
    application.window.button.click()
    qtbot.waitUntil(script.holding.is_set)
    assert texts(application)[0].startswith("Next picture: fits")
    script.release()
    qtbot.waitUntil(lambda: not application.session.state.busy)
    assert texts(application)[0].startswith("Fits")


def test_a_lora_that_is_not_here_is_named(ready):
    application = ready(on_card(6000))
    session = application.session
    session._base = replace(session.request(), loras=(LoraInput(model="gone"),))
    session._panel_changed()
    assert "gone" in application.window.card.outlook().problem


def test_jobs_of_the_last_start_do_not_keep_the_card_silent(make_application, qtbot, script):
    script.memory = on_card(6000)
    script.hold()
    script.ready_gate.clear()
    application = make_application(start=False)
    application.window.show()
    qtbot.waitUntil(lambda: bool(application.session.records()))
    application.session.generate()
    script.ready_gate.set()
    qtbot.waitUntil(script.holding.is_set)
    assert planned(application, qtbot).fits
    assert texts(application)[0].startswith("Next picture: fits")
    script.release()


def test_a_model_that_is_gone_says_so(ready, qtbot, model_root):
    application = ready(on_card(6000))
    write_json(model_root / "scripted" / "unet" / "model.safetensors", "no weights")
    application.preflight.plan()
    qtbot.waitUntil(lambda: bool(application.window.card.outlook().problem))
    assert "cannot be planned" in texts(application)[0]


def test_free_now_asks_the_engine_and_the_gauge_names_the_holders(ready, qtbot, script):
    held = Holder(name="Scripted model: U-Net", size_bytes=300 * MB, on_card=True)
    application = ready(on_card(6000, held))
    named = dict(lines(application.window.gauge.value()))
    assert named["Scripted model: U-Net, on the card"] == "0.3 GB"
    assert named["Other programs, on the card"] == "1.9 GB"
    script.memory = on_card(6300)
    application.window.actions_by_id["free_memory"].trigger()
    qtbot.waitUntil(lambda: not application.window.gauge.value().holders)
    assert script.freed == 1


def test_only_the_newest_question_is_answered(qtbot):
    planner, go_on, begun, asked, answers = Planner(), threading.Event(), threading.Event(), [], []
    planner.told.connect(answers.append)

    def plan(name):
        def work():
            asked.append(name)
            begun.set()
            go_on.wait(60)
            return Outlook(words=name)

        return work

    planner.ask(plan("first"))
    assert begun.wait(60)
    planner.ask(plan("skipped"))
    planner.ask(plan("newest"))
    go_on.set()
    qtbot.waitUntil(lambda: planner.idle)
    planner.close()
    assert [answer.words for answer in answers] == ["newest"]
    assert asked == ["first", "newest"]


def test_the_plan_knows_how_quick_the_card_is(ready, qtbot, script, monkeypatch):
    """By the engine's own figures, so that the card under Generate says what will be done."""
    rates, asked = Rates(copied=12.8e9, flops=30e12), []
    script.machine = Machine(rates=rates)
    monkeypatch.setattr(
        preflight, "planned", lambda *given, **known: asked.append(known) or planned_(*given, **known)
    )
    ready(on_card(6000))
    assert asked[-1]["rates"] == rates
    assert asked[-1]["device"] == "One card"


def test_what_waits_for_a_compiler_is_told_and_counts_for_no_estimate(ready, qtbot, script, tmp_path):
    application = ready(on_card(6000))
    script.compiles = True
    script.hold()
    application.window.button.click()
    qtbot.waitUntil(lambda: application.session.state.compiling)
    assert application.session.state.text == COMPILING
    assert COMPILING in texts(application)[1]
    with qtbot.waitSignal(application.session.jobEnded):
        script.release()
    qtbot.waitUntil(lambda: application.tasks.idle)
    assert not application.session.state.compiling
    assert planned(application, qtbot).time.seconds == pytest.approx(10.0)
    assert COMPILING not in texts(application)[1]
    (run,) = runs_of(tmp_path / "data")
    assert (run.denoise_s, run.seconds) == (8.0, 10.0)


def test_a_cancel_says_that_it_waits_for_the_compiler(ready, qtbot, script):
    application = ready(on_card(6000))
    script.compiles = True
    script.hold()
    application.window.button.click()
    qtbot.waitUntil(lambda: application.session.state.compiling)
    application.session.cancel()
    assert application.session.state.text == CANCELLING
    with qtbot.waitSignal(application.session.jobEnded):
        script.release()
    assert application.session.state.text == ""
