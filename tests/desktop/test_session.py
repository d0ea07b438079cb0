"""The window as a person uses it, with a scripted engine behind the real worker."""

import os
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QPlainTextEdit

from desktop.application import FIRST_PROMPT
from desktop.progress_words import duration, step_text
from desktop.session import Engine
from pipelines.library.metadata.read import read_request
from pipelines.spec.events import (
    ImageSaved,
    JobCancelled,
    JobFailed,
    JobFinished,
    JobStarted,
    LoadProgress,
    StepDone,
)
from pipelines.spec.request import GenerationRequest, Prompt, Sampling, Size
from tests.desktop.scripted import DEVICE_LOST, NOT_SAVED, OUT_OF_MEMORY
from widgets.field import Field


def generate(application, qtbot):
    """Presses Generate and waits for the end; the event of that end."""
    with qtbot.waitSignal(application.session.jobEnded) as ended:
        application.window.button.click()
    qtbot.waitUntil(lambda: application.tasks.idle)
    return ended.args[0]


def stored(path):
    picture = read_request(path)
    assert picture is not None
    return picture.request


def banner(application):
    return application.window.banner.text() if application.window.banner.isVisible() else ""


def test_first_start_is_ready_to_press(application):
    request = application.session.request()
    assert request.prompt == FIRST_PROMPT
    assert request.model == "scripted"
    assert request.size == Size(width=64, height=64)
    assert application.window.button.isEnabled()
    assert application.window.actions_by_id["generate"].isEnabled()


def test_generate_shows_saves_and_lists_the_picture(application, qtbot):
    assert isinstance(generate(application, qtbot), JobFinished)
    path = application.pictures.shown
    assert QImage(path).size() == QImage(path).size().scaled(64, 64, Qt.AspectRatioMode.KeepAspectRatio)
    assert application.window.viewer.path() == path
    assert application.window.model.picture(0).path == path
    assert application.window.strip.current() == path


def test_a_load_tells_bytes_speed_and_time_left(application):
    session = application.session
    session.see(JobStarted(job_id=77))
    half = LoadProgress(
        job_id=77, done=1_200_000_000, total=4_300_000_000, bytes_per_s=850e6, eta_s=3.6, part="unet"
    )
    session.see(half)
    assert session.state.text == "Loading U-Net: 1.2 of 4.3 GB, 850 MB/s, 4 s left"
    session.see(JobFinished(job_id=77))
    assert session.state.text == ""


def test_restore_gives_the_same_request_and_the_same_pixels(application, qtbot):
    generate(application, qtbot)
    first, sent = application.pictures.shown, application.session.request()
    assert stored(first) == sent
    application.session.set_request(
        GenerationRequest(model="scripted", prompt=Prompt(text="other"), size=Size(width=128, height=64))
    )
    application.window.strip.restoreRequested.emit(first)
    qtbot.waitUntil(lambda: application.session.request() == sent)
    generate(application, qtbot)
    second = application.pictures.shown
    assert second != first
    assert QImage(second) == QImage(first)


def test_unlocked_seed_gives_another_picture(application, qtbot):
    generate(application, qtbot)
    seed = application.session.request().sampling.seed
    generate(application, qtbot)
    assert application.session.request().sampling.seed != seed


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"size": Size(width=65, height=64)}, "multiple of 8"),
        ({"count": 0}, "1 to 64"),
        ({"sampling": Sampling(scheduler="flow_euler")}, "does not fit"),
    ],
)
def test_a_problem_stands_at_its_field_and_generate_is_off(application, change, word):
    (field, value), panel = next(iter(change.items())), application.window.panels[next(iter(change))]
    panel.setValue(value)
    assert word in application.session.state.reason
    assert not application.window.button.isEnabled()
    assert word in shown_problem(panel), field
    application.session.generate()
    assert not application.session.state.busy


def shown_problem(panel):
    from widgets.field import Field

    return " ".join(field.problem() for field in panel.findChildren(Field))


def test_advice_leaves_generate_on(application):
    panels = application.window.panels
    panels["prompt"].setValue(Prompt(text="a fox", negative="snow"))
    panels["sampling"].setValue(Sampling(guidance_scale=1.0))
    told = [field.problem() for field in panels["prompt"].findChildren(Field)]
    assert any("does nothing while guidance is 1 or less" in text for text in told)
    assert application.window.button.isEnabled()
    panels["sampling"].setValue(Sampling(guidance_scale=5.0))
    assert not any(field.problem() for field in panels["prompt"].findChildren(Field))


def test_what_was_typed_is_on_disk_before_the_window_closes(application, qtbot):
    application.window.panels["prompt"].setValue(Prompt(text="a fox in a crash"))
    written = application.settings.path
    qtbot.waitUntil(lambda: written.exists() and "a fox in a crash" in written.read_text())


def test_a_repaired_problem_goes_away(application):
    panel = application.window.panels["size"]
    panel.setValue(Size(width=65, height=64))
    panel.setValue(Size(width=72, height=64))
    assert application.window.button.isEnabled()
    assert shown_problem(panel).strip() == ""


def test_g15_each_bad_field_is_ignored_alone(application):
    before = application.session.request()
    pasted = GenerationRequest(
        model="somebody-elses", prompt=Prompt(text="a fox", negative="blur"), count=0,
        sampling=Sampling(scheduler="flow_euler", num_inference_steps=9999, guidance_scale=5.0, seed=7),
        size=Size(width=100_000, height=128),
    )  # fmt: skip
    found = application.session.set_request(pasted)
    now = application.session.request()
    assert now.prompt == pasted.prompt
    assert (now.sampling.guidance_scale, now.sampling.seed, now.size.height) == (5.0, 7, 128)
    assert now.model == before.model
    assert now.size.width == before.size.width
    assert now.sampling.scheduler == before.sampling.scheduler
    assert now.sampling.num_inference_steps == before.sampling.num_inference_steps
    assert now.count == before.count
    assert {problem.field.partition(".")[0] for problem in found} == {"model", "sampling", "size", "count"}
    assert application.session.state.reason == ""
    assert not application.session.state.busy  # nothing starts by itself


def test_several_pictures_count_up(application, qtbot):
    application.window.panels["count"].setValue(3)
    saved = []
    application.session.saved.connect(saved.append)
    generate(application, qtbot)
    assert [event.image for event in saved] == [0, 1, 2]
    assert len({event.seed for event in saved}) == 3
    assert application.window.model.rowCount() == 3
    assert application.pictures.shown == saved[-1].path


def test_previews_follow_the_job_until_another_picture_is_clicked(application, script, qtbot):
    generate(application, qtbot)
    first = application.pictures.shown
    script.hold()
    with qtbot.waitSignal(application.session.previewed):
        application.window.button.click()
    assert script.holding.wait(60)
    qtbot.waitUntil(lambda: application.window.viewer.path() == "")
    application.window.strip.selected.emit(first)
    qtbot.waitUntil(lambda: application.window.viewer.path() == first)
    with qtbot.waitSignal(application.session.jobEnded):
        script.release()
    qtbot.waitUntil(lambda: application.tasks.idle)
    assert application.window.viewer.path() == first
    assert application.window.model.rowCount() == 2


def test_a_failed_job_shows_why_and_the_last_picture_stays_reachable(application, script, qtbot):
    generate(application, qtbot)
    first = application.pictures.shown
    script.faults[1] = OUT_OF_MEMORY
    assert isinstance(generate(application, qtbot), JobFailed)
    assert "Try a smaller size" in application.window.viewer.message()
    assert banner(application) == ""
    assert application.window.button.isEnabled()
    application.window.strip.selected.emit(first)
    qtbot.waitUntil(lambda: application.window.viewer.path() == first)
    assert isinstance(generate(application, qtbot), JobFinished)


def test_a_failure_behind_another_picture_stands_on_the_banner_until_the_next_job(application, script, qtbot):
    generate(application, qtbot)
    first = application.pictures.shown
    script.faults[1] = OUT_OF_MEMORY
    script.hold()
    with qtbot.waitSignal(application.session.previewed):
        application.window.button.click()
    application.window.strip.selected.emit(first)
    with qtbot.waitSignal(application.session.jobEnded):
        script.release()
    assert "Try a smaller size" in banner(application)
    assert isinstance(generate(application, qtbot), JobFinished)
    assert banner(application) == ""


def test_p8_save_elsewhere_makes_the_lost_picture_again(application, script, qtbot, tmp_path, monkeypatch):
    script.faults[0] = NOT_SAVED
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setattr(
        "desktop.failures.QFileDialog.getExistingDirectory", lambda *_arguments: str(elsewhere)
    )
    failed = generate(application, qtbot)
    assert failed.kind == "NotSaved"
    lost = application.session.failed_request
    assert application.bridge.paused
    with qtbot.waitSignal(application.session.saved) as saved:
        application.window.banner.actionTriggered.emit()
    qtbot.waitUntil(lambda: not application.session.state.busy)
    assert str(elsewhere) in saved.args[0].path
    assert stored(saved.args[0].path) == lost
    assert not application.bridge.paused


def test_p8_save_elsewhere_takes_what_waits_along(application, script, qtbot, tmp_path, monkeypatch):
    script.faults[0] = NOT_SAVED
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setattr(
        "desktop.failures.QFileDialog.getExistingDirectory", lambda *_arguments: str(elsewhere)
    )
    session, saved = application.session, []
    session.saved.connect(saved.append)
    for _ in range(3):
        session.submit(session.request(), session.record())
    qtbot.waitUntil(lambda: application.bridge.paused)
    qtbot.waitUntil(lambda: "disk is full" in banner(application))
    application.window.banner.actionTriggered.emit()
    qtbot.waitUntil(lambda: not session.state.busy)
    assert len(saved) == 3
    assert all(str(elsewhere) in event.path for event in saved)


def test_p8_generate_goes_on_after_a_full_disk(application, script, qtbot):
    """Whoever makes room and presses Generate, without the banner's button, must not wait for ever."""
    script.faults[0] = NOT_SAVED
    assert generate(application, qtbot).kind == "NotSaved"
    assert isinstance(generate(application, qtbot), JobFinished)


def test_a_dead_engine_is_offered_a_restart(application, script, qtbot):
    script.faults[0] = SystemExit(1)
    generate(application, qtbot)
    qtbot.waitUntil(lambda: not application.window.button.isEnabled())
    qtbot.waitUntil(lambda: "engine" in banner(application).lower())
    application.window.banner.actionTriggered.emit()
    qtbot.waitUntil(lambda: application.window.button.isEnabled())
    assert isinstance(generate(application, qtbot), JobFinished)


def test_an_engine_that_works_again_is_not_offered_a_restart(application, script, qtbot):
    """A click would end the picture that it makes by then."""
    script.faults[0] = SystemExit(1)
    generate(application, qtbot)
    qtbot.waitUntil(lambda: application.session.state.engine is Engine.STOPPED)
    assert application.window.banner.isVisible()
    application.window.actions_by_id["restart_engine"].trigger()
    qtbot.waitUntil(lambda: application.session.state.engine is Engine.READY)
    qtbot.waitUntil(lambda: not application.window.banner.isVisible())


def test_while_a_dead_engine_starts_anew_nothing_says_that_it_has_stopped(application, script, qtbot):
    session, window = application.session, application.window
    script.faults[0] = DEVICE_LOST
    script.hold()
    window.button.click()
    assert script.holding.wait(60)
    session.submit(session.request(), session.record())
    script.release()
    qtbot.waitUntil(lambda: session.state.engine is Engine.STOPPED)
    assert "stopped" in window.stage.text()
    assert "stopped" in window.card._head.text(), "what was planned for its device is not so any more"
    script.ready_gate.clear()
    session.restart_engine()
    assert window.stage.text() == "Starting the engine"
    assert "will tell" in window.card._head.text()
    script.ready_gate.set()
    qtbot.waitUntil(lambda: not session.state.busy)
    qtbot.waitUntil(lambda: "fits, " in window.card._head.text().lower())


def test_escape_cancels_and_the_viewer_goes_back(application, script, qtbot):
    generate(application, qtbot)
    first = application.pictures.shown
    script.hold()
    application.window.actions_by_id["generate"].trigger()
    assert script.holding.wait(60)
    with qtbot.waitSignal(application.session.jobEnded) as ended:
        application.window.actions_by_id["cancel"].trigger()
        script.release()
    assert isinstance(ended.args[0], JobCancelled)
    qtbot.waitUntil(lambda: application.window.viewer.path() == first)
    assert application.window.model.rowCount() == 1


def test_the_film_strip_is_filled_at_start(make_application, application, qtbot):
    generate(application, qtbot)
    path = application.pictures.shown
    application.close()
    again = make_application()
    assert [again.window.model.picture(row).path for row in range(again.window.model.rowCount())] == [path]
    qtbot.waitUntil(lambda: again.window.model.thumbnail(path) is not None)


def test_the_next_start_is_as_it_was_left(make_application, application):
    request = GenerationRequest(
        model="scripted", prompt=Prompt(text="a blue star", negative="blur"), size=Size(width=64, height=128),
        sampling=Sampling(scheduler="euler", num_inference_steps=7, guidance_scale=3.0, seed=11), count=2,
    )  # fmt: skip
    application.session.set_request(request)
    application.window.docks["inputs"].show()
    application.window.docks["strip"].hide()
    application.window.actions_by_id["theme_dark"].trigger()
    application.close()
    again = make_application()
    assert again.session.request() == request
    assert again.window.docks["strip"].isHidden()
    assert not again.window.docks["inputs"].isHidden()
    assert again.window.actions_by_id["theme_dark"].isChecked()


def test_w10_a_window_from_a_larger_screen_ends_on_this_one(application):
    application.window.setGeometry(5000, 5000, 4000, 3000)
    application.window.fit_on_screen()
    room = application.window.screen().availableGeometry()
    assert room.contains(application.window.geometry())


def test_a_small_window_gives_the_picture_the_room(application):
    for width, there in ((800, False), (1280, True)):
        application.window.resize(width, 600)
        application.window.first_layout()
        assert application.window.docks["inputs"].isHidden() is not there


def test_delete_asks_and_moves_to_the_trash(application, qtbot, monkeypatch):
    from PySide6.QtWidgets import QMessageBox

    trashed = []
    monkeypatch.setattr("send2trash.send2trash", trashed.append)
    generate(application, qtbot)
    path = application.pictures.shown
    application.window.actions_by_id["delete"].trigger()
    box = application.window.findChild(QMessageBox)
    assert trashed == []
    next(b for b in box.buttons() if b.text() == "Move to trash").click()
    qtbot.waitUntil(lambda: application.window.model.rowCount() == 0)
    assert trashed == [path]
    assert application.window.viewer.path() == ""


def test_a_picture_that_was_deleted_elsewhere_says_so_and_can_be_taken_off(application, qtbot):
    generate(application, qtbot)
    path = application.pictures.shown
    Path(path).unlink()
    application.window.strip.restoreRequested.emit(path)
    qtbot.waitUntil(lambda: "there is no such file. Was it moved or deleted?" in banner(application))
    application.pictures._trash(path)
    qtbot.waitUntil(lambda: application.window.model.rowCount() == 0)


def test_token_counts_arrive(application, qtbot):
    from widgets.prompt_panel import TokenCounter

    application.window.panels["prompt"].setValue(Prompt(text="one two three", negative="four"))
    counters = application.window.panels["prompt"].findChildren(TokenCounter)
    qtbot.waitUntil(lambda: [c.text() for c in counters] == ["3/75", "1/75"])


def test_words_of_progress():
    step = StepDone(job_id=1, step=7, steps=20, image=1, images=4, eta_s=3.2)
    assert step_text(step) == "Picture 2 of 4 · Step 7 of 20 · 3 s left"
    assert step_text(StepDone(job_id=1, step=1, steps=2)) == "Step 1 of 2"
    assert duration(150) == "2 min"


def test_every_control_has_a_name_and_a_tip(application):
    from PySide6.QtWidgets import (
        QAbstractButton,
        QAbstractSlider,
        QAbstractSpinBox,
        QComboBox,
        QLineEdit,
        QScrollBar,
    )

    kinds = QAbstractButton | QAbstractSlider | QAbstractSpinBox | QComboBox | QLineEdit
    for control in application.window.findChildren(object):
        inner = isinstance(control, QScrollBar) or control.objectName().startswith("qt_")
        if isinstance(control, kinds) and not inner and control.isVisibleTo(application.window):
            name = control.accessibleName() or getattr(control, "text", str)()
            assert name, control
            parent = control.parentWidget()
            assert control.toolTip() or (parent and parent.toolTip()), (control, name)


def test_saved_is_the_path_of_a_whole_file(application, qtbot):
    with qtbot.waitSignal(application.session.saved) as saved:
        application.window.button.click()
    assert isinstance(saved.args[0], ImageSaved)
    assert not QImage(saved.args[0].path).isNull()
    qtbot.waitUntil(lambda: not application.session.state.busy)


def test_a_start_takes_away_what_a_killed_run_left_half_written(make_application, tmp_path, qtbot):
    day = tmp_path / "outputs" / "2026-01-01"
    day.mkdir(parents=True)
    left, other = day / f".emulsion-{'a' * 16}.tmp", day / "notes.tmp"
    for path in (left, other):
        path.write_bytes(b"half")
        os.utime(path, (0, 0))
    application = make_application()
    qtbot.waitUntil(lambda: application.tasks.idle)
    assert not left.exists()
    assert other.exists()


def test_go_to_prompt_puts_the_cursor_there(application, qtbot):
    edit = application.window.panels["prompt"].findChildren(QPlainTextEdit)[0]
    application.window.activateWindow()
    application.window.button.setFocus()
    application.window.actions_by_id["focus_prompt"].trigger()
    focused = application.window.focusWidget()
    assert focused is edit


def test_tab_stops_at_controls_only(application):
    """A scroll area in the chain has no name that a screen reader could say."""
    widget = application.window.panels["prompt"].findChildren(QPlainTextEdit)[0]
    first, chain = widget, []
    while (widget := widget.nextInFocusChain()) is not first:
        if widget.focusPolicy() & Qt.FocusPolicy.TabFocus and widget.isVisibleTo(application.window):
            chain.append(widget)
    assert application.window.button in chain
    assert all(w.accessibleName() for w in chain if w.focusProxy() is None), [
        w for w in chain if not w.accessibleName()
    ]


def test_ctrl_enter_in_the_prompt_generates(application, qtbot):
    edit = application.window.panels["prompt"].findChildren(QPlainTextEdit)[0]
    application.window.activateWindow()
    edit.setFocus()
    with qtbot.waitSignal(application.session.saved):
        qtbot.keyClick(edit, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: not application.session.state.busy)
    assert application.window.model.rowCount() == 1
