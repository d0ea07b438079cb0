"""`SCREENS`: one row for each state of the window that is photographed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QToolTip

from desktop.dialogs.engine_dialog import EngineDialog
from desktop.dialogs.recovered import RecoveredDialog
from pipelines.library.jobs import JobState, StoredJob
from pipelines.spec.attention import ATTENTION
from pipelines.spec.downloads import DownloadState, DownloadStatus
from pipelines.spec.events import MemoryChanged
from pipelines.spec.machine import Machine, Option
from pipelines.spec.memory import Holder, Room
from pipelines.spec.options import EngineChoice
from pipelines.spec.request import Prompt, Sampling, Size, Speed
from tests.screens.stage import DRAWINGS, Stage
from widgets.controls import Choice
from widgets.scroll_column import ScrollColumn

LONG = (
    "an extraordinarily detailed watercolor painting of a large orange house by day, beautiful, masterpiece, best "
    "quality, highly detailed, simple, clean, sharp focus, with several further words that go on and on until the "
    "field has to grow, and then some more, so that the token counter says it is too long for one reading, truly"
)


DEFAULT = EngineChoice()
SET = EngineChoice(
    device="cuda:0", dtype="bfloat16", attention="math", deterministic=True, threads=4, preview="tiny"
)


@dataclass(frozen=True, slots=True)
class Screen:
    """`arrange` brings the window into the state; `sizes` empty means the two usual ones.

    `true_size`: a published model, by its name in the benchmarks' `MODELS`, lies beside the demo without its weights.
    """

    name: str
    arrange: Callable[[Stage], None]
    sizes: tuple[tuple[int, int], ...] = ((1280, 800), (1920, 1080))
    has_model: bool = True
    true_size: str = ""


def empty(stage: Stage) -> None:
    """The very first start."""


def problem(stage: Stage) -> None:
    stage.panel("size").setValue(Size(width=250, height=256))
    stage.panel("sampling").setValue(Sampling(num_inference_steps=500))


def busy(stage: Stage) -> None:
    stage.draw("a purple boat at sunset")
    stage.draw("two green stars on a white background")
    stage.set_prompt("a large red circle on a blue background")
    stage.pause_at(0.6)
    stage.generate(wait=False)


def cancelling(stage: Stage) -> None:
    busy(stage)
    stage.window.button.click()


def done(stage: Stage) -> None:
    for prompt in DRAWINGS:
        stage.draw(prompt)


def failed(stage: Stage) -> None:
    stage.draw("a purple boat at sunset")
    stage.fail_next()
    stage.generate()


def restored(stage: Stage) -> None:
    done(stage)
    path = stage.window.model.picture(3).path
    stage.window.strip.selected.emit(path)
    stage.window.strip.restoreRequested.emit(path)


def stopped(stage: Stage) -> None:
    stage.draw("a purple boat at sunset")
    stage.kill_next()
    stage.generate()


def long_texts(stage: Stage) -> None:
    request = stage.application.session.request()
    prompt = Prompt(text=LONG, negative=LONG[:180])
    stage.application.session.set_request(replace(request, prompt=prompt, count=12))
    stage.application.notifications.warning(
        "Some settings of the picture were not taken over. The sampler Flow Euler does not fit Stable Diffusion 1.x: "
        "the model predicts noise, and this sampler needs a flow. Choose one that does, such as Euler.",
        "Show",
    )


def starting(stage: Stage) -> None:
    """Generate was pressed before the engine was there."""
    stage.script.ready_gate.clear()
    stage.application.session.restart_engine()
    stage.window.button.click()


def several(stage: Stage) -> None:
    stage.panel("count").setValue(4)
    stage.pause_at(0.4)
    stage.generate(wait=False)


def menu(stage: Stage, title: str) -> None:
    done(stage)
    bar = stage.window.menuBar()
    (action,) = [action for action in bar.actions() if action.text() == title]
    bar.setActiveAction(action)


def samplers(stage: Stage) -> None:
    done(stage)
    stage.panel("sampling").findChild(Choice).showPopup()


def pointed_at(stage: Stage) -> None:
    """The pointer over a picture of the strip, and what its tooltip says."""
    done(stage)
    view = stage.window.strip.view
    cell = view.visualRect(stage.window.model.index(2))
    QTest.mouseMove(view.viewport(), cell.center())
    view.entered.emit(stage.window.model.index(2))
    tip = stage.window.model.data(stage.window.model.index(2), Qt.ItemDataRole.ToolTipRole)
    QToolTip.showText(view.viewport().mapToGlobal(cell.topLeft()), str(tip), view)


def by_keyboard(stage: Stage) -> None:
    """Where the focus is: first the button, as the one with the strongest ring."""
    done(stage)
    stage.window.activateWindow()
    stage.window.button.setFocus()


def delete(stage: Stage) -> None:
    done(stage)
    stage.window.actions_by_id["delete"].trigger()


def log(stage: Stage) -> None:
    stage.log_file.write_text("12:00:00 INFO desktop.app: started\n" * 40)
    stage.window.actions_by_id["show_log"].trigger()


def unfinished(stage: Stage) -> None:
    request = stage.application.session.request()
    jobs = [StoredJob(id=number, request=request, state=JobState.QUEUED, created=0) for number in range(1, 4)]
    RecoveredDialog(jobs[:1], jobs[1:], stage.window).open()


def downloads(stage: Stage) -> None:
    stage.window.actions_by_id["downloads"].trigger()
    rows = (
        (DownloadState.FAILED, 1.2e9, "org/gated-model"),
        (DownloadState.PAUSED, 3e9, "black-forest-labs/FLUX.1-schnell"),
        (DownloadState.RUNNING, 1.9e9, "stabilityai/stable-diffusion-xl-base-1.0"),
    )
    for number, (state, done, title) in enumerate(rows):
        failed = "huggingface.co does not accept the token (401)." if state is DownloadState.FAILED else ""
        stage.application.downloads.panel.show_status(
            DownloadStatus(
                id=number, title=title, state=state, done_bytes=int(done), total_bytes=6_940_000_000, speed=2.1e7,
                eta_s=240, message=failed,
            )
        )  # fmt: skip


def add_download(stage: Stage) -> None:
    stage.application.downloads.add("stabilityai/sd-turbo")


def about(stage: Stage) -> None:
    done(stage)
    stage.window.actions_by_id["about"].trigger()


def on_card(stage: Stage, free_mb: int) -> None:
    """A card of 8 GB of which so much is free, with an engine that holds two parts of a model."""
    free = free_mb * 10**6
    held = (
        Holder(name="Demo: shapes and scenes: U-Net", size_bytes=68_000_000, on_card=True),
        Holder(name="Demo: shapes and scenes: VAE", size_bytes=21_000_000, on_card=True),
        Holder(name="Demo: shapes and scenes: first text encoder", size_bytes=31_000_000),
    )
    card = Room(total=8_589_934_592, free=free, ours=150_000_000)
    stage.script.memory = MemoryChanged(device_name="NVIDIA GeForce RTX 4060", card=card, holders=held)
    stage.application.bridge.free_memory()
    stage.wait(lambda: getattr(stage.window.card.outlook(), "card", None) is not None)
    stage.settle()


def fits(stage: Stage) -> None:
    on_card(stage, 6800)
    stage.draw("a purple boat at sunset")
    stage.draw("two green stars on a white background")


def streams(stage: Stage) -> None:
    """SDXL where 4 GB of the card are free."""
    stage.application.session.choose("sdxl")
    on_card(stage, 4000)


def too_large(stage: Stage) -> None:
    on_card(stage, 1400)
    stage.panel("size").setValue(Size(width=2048, height=2048))


def undo(stage: Stage) -> None:
    too_large(stage)
    stage.settle()
    stage.window.card._buttons[0].click()


def next_one(stage: Stage) -> None:
    on_card(stage, 6800)
    busy(stage)


def gauge(stage: Stage) -> None:
    fits(stage)
    stage.window.gauge.open()


def engine_settings(stage: Stage, choice: EngineChoice = DEFAULT, kernels: bool = False) -> None:
    """On a computer with a card; with `kernels` the list of attention is open."""
    why = {
        "cudnn": "it cannot take heads of 160 numbers in this precision on this device",
        "xformers": "its kernels were built for another torch or CUDA (CUDA 1208, this is 1300)",
        "sage": "the package sageattention is not installed",
    }
    stage.script.machine = Machine(
        devices=(
            Option(id="cuda:0", title="NVIDIA GeForce RTX 4060"),
            Option(id="cpu", title="AMD Ryzen 5 5600"),
        ),
        attention=tuple(Option(id=row.id, title=row.title, why=why.get(row.id, "")) for row in ATTENTION),
    )
    stage.application.session.restart_engine()
    stage.wait(lambda: bool(stage.application.engine_settings._machine.devices))
    stage.window.actions_by_id["settings"].trigger()
    dialog = stage.window.findChild(EngineDialog)
    assert dialog is not None
    dialog.panel.setValue(choice)
    if kernels:
        dialog.panel._attention.showPopup()


def settings_while_busy(stage: Stage) -> None:
    busy(stage)
    stage.window.actions_by_id["settings"].trigger()


def speed(stage: Stage, on: Speed, model: str = "") -> None:
    """The switches unfolded; what cannot be is told of."""
    done(stage)
    if model:
        stage.application.session.choose(model)
    panel = stage.panel("speed")
    panel.setValue(on)
    panel._head.setChecked(True)
    stage.settle()
    (column,) = (each for each in stage.window.findChildren(ScrollColumn) if each.isAncestorOf(panel))
    column.ensureWidgetVisible(panel)


FLUX_SPEED = Speed(step_cache="first_block", cache_limit=2.0, compile=True)
USUAL = ((1280, 800),)
NARROW = ((800, 600),)
BOTH = ((1024, 700), (1600, 1000))
SCREENS = (
    Screen("empty", empty),
    Screen("problem", problem),
    Screen("busy", busy),
    Screen("cancelling", cancelling, USUAL),
    Screen("done", done),
    Screen("error", failed),
    Screen("restored", restored, USUAL),
    Screen("stopped", stopped, USUAL),
    Screen("long", long_texts, USUAL),
    Screen("about", about, USUAL),
    Screen("downloads", downloads, USUAL),
    Screen("add-download", add_download, USUAL),
    Screen("settings", engine_settings, USUAL),
    Screen("settings-set", partial(engine_settings, choice=SET), USUAL),
    Screen("settings-kernels", partial(engine_settings, kernels=True), USUAL),
    Screen("settings-busy", settings_while_busy, USUAL),
    Screen("no-model", empty, USUAL, has_model=False),
    Screen("starting", starting, USUAL),
    Screen("several", several, USUAL),
    Screen("menu", partial(menu, title="&Picture"), USUAL),
    Screen("view-menu", partial(menu, title="&View"), USUAL),
    Screen("samplers", samplers, USUAL),
    Screen("pointed-at", pointed_at, USUAL),
    Screen("by-keyboard", by_keyboard, USUAL),
    Screen("delete", delete, USUAL),
    Screen("log", log, USUAL),
    Screen("unfinished", unfinished, USUAL),
    Screen("card-fits", fits, BOTH),
    Screen("card-streams", streams, (*USUAL, *BOTH), true_size="sdxl"),
    Screen("card-too-large", too_large, (*USUAL, *BOTH)),
    Screen("card-undo", undo, BOTH),
    Screen("card-next", next_one, BOTH),
    Screen("card-no-model", empty, BOTH, has_model=False),
    Screen("gauge", gauge, BOTH),
    Screen("speed-flux", partial(speed, on=FLUX_SPEED, model="demo-flux"), ((1600, 1000),)),
    Screen("speed", partial(speed, on=Speed(compile=True, channels_last=True)), (*USUAL, (1600, 1000))),
    Screen("narrow-empty", empty, NARROW),
    Screen("narrow-done", done, NARROW),
    Screen("narrow-problem", problem, NARROW),
    Screen("narrow-long", long_texts, NARROW),
)
