"""File > Settings: what is chosen reaches the engine that is built next, and never in the middle of a picture."""

from dataclasses import replace

import pytest

from desktop.dialogs.engine_dialog import EngineDialog
from desktop.session import Engine
from desktop.settings import SettingsFile
from pipelines.spec.attention import NAMES
from pipelines.spec.machine import Machine, Option
from pipelines.spec.options import EngineChoice

MACHINE = Machine(
    devices=(Option(id="cpu", title="Processor of the script"),),
    attention=tuple(Option(id=name, title=name, why="off" if name == "sage" else "") for name in NAMES),
)
CHOICE = EngineChoice(
    device="cpu",
    encoders_device="cuda:1",
    dtype="float32",
    attention="math",
    deterministic=True,
    threads=1,
    preview="tiny",
)


@pytest.fixture
def application(make_application, script):
    script.machine = MACHINE
    return make_application()


def dialog_of(application) -> EngineDialog:
    application.window.actions_by_id["settings"].trigger()
    dialog = application.window.findChild(EngineDialog)
    assert dialog is not None
    return dialog


def ready(application, script, built, qtbot):
    qtbot.waitUntil(
        lambda: script.built == built and application.session.state.engine is Engine.READY, timeout=10_000
    )


def test_what_is_used_is_built_anew_kept_and_told(application, script, qtbot):
    dialog = dialog_of(application)
    assert dialog.panel.value() == EngineChoice()
    dialog.panel.setValue(CHOICE)
    dialog.accept()
    ready(application, script, 2, qtbot)
    options = script.options
    assert options is not None
    for name in ("device", "encoders_device", "dtype", "attention", "deterministic", "threads"):
        assert getattr(options, name) == getattr(CHOICE, name)
    assert application.preflight.dtype == "float32"
    assert "starts anew" in application.window.banner.text()
    qtbot.waitUntil(lambda: application.tasks.idle)
    assert SettingsFile(application.settings.path).load().attention == "math"


def test_what_the_engine_found_is_what_the_dialog_lists(application):
    dialog = dialog_of(application)
    assert dialog.panel._machine == MACHINE
    dialog.reject()


def test_nothing_happens_where_nothing_changed_or_it_was_cancelled(application, script, qtbot):
    dialog_of(application).accept()
    qtbot.wait(20)
    dialog = dialog_of(application)
    dialog.panel.setValue(CHOICE)
    dialog.reject()
    assert script.built == 1
    assert application.settings.value.attention == "auto"


def test_a_picture_that_is_being_made_is_not_lost(application, script, qtbot):
    script.hold()
    application.window.button.click()
    qtbot.waitUntil(script.holding.is_set, timeout=10_000)
    dialog = dialog_of(application)
    dialog.panel.setValue(CHOICE)
    dialog.accept()
    assert script.built == 1
    assert "once the pictures that are asked for are done" in application.window.banner.text()
    with qtbot.waitSignal(application.session.saved, timeout=10_000):
        script.release()
    ready(application, script, 2, qtbot)
    assert script.options is not None
    assert script.options.attention == "math"


def test_what_is_off_is_told_in_the_dialog(make_application, script):
    script.machine = replace(MACHINE, problems=("The folder for compiled programs cannot be written.",))
    told = dialog_of(make_application()).panel._problems
    assert "cannot be written" in told.text()
    assert not told.isHidden()
