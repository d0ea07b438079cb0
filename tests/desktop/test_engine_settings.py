"""File > Settings: what is chosen reaches the engine that is built next, and never in the middle of a picture."""

from dataclasses import replace

import pytest
from PySide6.QtCore import Qt

from desktop.dialogs.engine_dialog import EngineDialog
from desktop.session import Engine
from desktop.settings import SettingsFile
from pipelines.spec.attention import NAMES
from pipelines.spec.errors import EngineError
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


def test_a_kernel_that_the_chosen_model_cannot_use_is_greyed_with_its_reason(application, script, qtbot):
    """It would fail only once Generate is pressed."""
    why = "it cannot take heads of 160 numbers in this precision on this device"
    script.kernels = tuple(replace(o, why=why if o.id == "cudnn" else o.why) for o in MACHINE.attention)
    dialog = dialog_of(application)
    box = dialog.panel._attention
    at = box.findData("cudnn")
    qtbot.waitUntil(lambda: why in box.itemText(at), timeout=10_000)
    assert not box.model().flags(box.model().index(at, 0)) & Qt.ItemFlag.ItemIsEnabled
    assert box.model().flags(box.model().index(box.findData("math"), 0)) & Qt.ItemFlag.ItemIsEnabled
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


def test_settings_changed_and_changed_back_leave_the_engine_and_its_models_alone(application, script, qtbot):
    script.hold()
    application.window.button.click()
    qtbot.waitUntil(script.holding.is_set, timeout=10_000)
    application.engine_settings.set(CHOICE)
    application.engine_settings.set(EngineChoice())
    assert "already" in application.window.banner.text()
    with qtbot.waitSignal(application.session.jobEnded, timeout=10_000):
        script.release()
    assert application.session.state.engine is Engine.READY
    assert script.built == 1
    application.engine_settings.set(CHOICE)
    ready(application, script, 2, qtbot)


def test_one_restart_by_hand_takes_the_settings_that_wait(application, script, qtbot):
    script.hold()
    application.window.button.click()
    qtbot.waitUntil(script.holding.is_set, timeout=10_000)
    application.engine_settings.set(CHOICE)
    application.session.restart_engine()
    script.release()
    ready(application, script, 2, qtbot)
    assert not application.session.state.busy
    assert not application.bridge.outdated


def test_what_waits_for_an_engine_that_could_not_start_is_drawn_with_the_settings_that_help(
    make_application, script, qtbot
):
    """Nothing is done any more by an engine that has stopped: settings that wait for its jobs would never be used."""
    script.factory_fault = EngineError("There is no device cuda:1.", "Choose another in the settings.")
    script.ready_gate.clear()
    application = make_application(start=False)
    application.window.show()
    qtbot.waitUntil(lambda: bool(application.session.records()) and application.tasks.idle)
    application.session.generate()
    script.ready_gate.set()
    qtbot.waitUntil(lambda: application.session.state.engine is Engine.STOPPED)
    assert application.session.state.busy
    script.factory_fault = None
    with qtbot.waitSignal(application.session.saved, timeout=10_000):
        application.engine_settings.set(CHOICE)
        assert "starts anew" in application.window.banner.text()
    assert script.options is not None
    assert script.options.device == "cpu"


def test_the_same_folder_again_is_no_other_engine(application, script, tmp_path, qtbot):
    application.window.folderChosen.emit(str(tmp_path / "elsewhere"))
    ready(application, script, 2, qtbot)
    application.window.folderChosen.emit(str(tmp_path / "elsewhere"))
    assert application.session.state.engine is Engine.READY
    assert script.built == 2


def test_what_is_off_is_told_in_the_dialog(make_application, script):
    script.machine = replace(MACHINE, problems=("The folder for compiled programs cannot be written.",))
    told = dialog_of(make_application()).panel._problems
    assert "cannot be written" in told.text()
    assert not told.isHidden()
