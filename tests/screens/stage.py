"""`Stage`: a window with an engine that draws at once, and the moves that bring it into a state."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from PySide6.QtCore import QCoreApplication, QEvent, QEventLoop, QTimer

from assets.demo.recipes.drawings import Drawing, render
from desktop.application import Application, Places
from desktop.engine_bridge import engine_factory
from desktop.main_window import MainWindow
from desktop.session import Engine
from pipelines.spec.errors import OutOfMemory
from pipelines.spec.job import Job
from pipelines.spec.request import Prompt
from tests.desktop.scripted import Script

DRAWINGS = {
    "a purple boat at sunset": Drawing(kind="scene", thing="boat", color="purple", time="sunset"),
    "two green stars on a white background": Drawing(
        kind="count", shape="star", color="green", count=2, background="white", size="small"
    ),
    "a yellow house by day": Drawing(kind="scene", thing="house", color="yellow", time="day"),
    "a pink flower at night": Drawing(kind="scene", thing="flower", color="pink", time="night"),
    "an orange triangle above a blue circle": Drawing(
        kind="pair",
        shape="triangle",
        color="orange",
        other_shape="circle",
        other_color="blue",
        relation="above",
    ),
    "a small white heart on a black background": Drawing(
        shape="heart", color="white", background="black", size="small"
    ),
    "a large red circle on a blue background": Drawing(background="blue", size="large"),
    "a red car in the daytime": Drawing(kind="scene", thing="car", color="red", time="day"),
}


def drawn(job: Job, image: int) -> Image.Image:
    """What the drawing program paints for the prompt of one of our screens."""
    seed = job.request.sampling.seed + image
    picture = render(DRAWINGS[job.request.prompt.text], seed)
    return picture.resize((job.request.size.width, job.request.size.height), Image.Resampling.LANCZOS)


def _rest(milliseconds: int) -> None:
    """Events go on meanwhile. QTest.qWait of PySide6 6.11 keeps the GIL all the time: the engine would stand still."""
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


class Stage:
    """`root` gets settings, cache and pictures; with `real` the bundled model draws."""

    def __init__(self, root: Path, model_roots: tuple[Path, ...], real: bool = False) -> None:
        self.script = Script(draw=drawn)
        self.log_file = root / "emulsion.log"
        places = Places(root / "config", root / "data", root / "cache", root / "outputs")
        factory = engine_factory if real else self.script.factory
        self.application = Application(places, factory, log_file=self.log_file, model_roots=model_roots)
        self.window: MainWindow = self.application.window

    def open(self, width: int, height: int, theme: str) -> None:
        self.application.settings.change(theme=theme)
        self.application._show_theme()
        self.window.setGeometry(0, 0, width, height)
        self.window.first_layout()
        self.window.show()
        self.wait(lambda: self.application.session.state.engine is Engine.READY)
        self.settle()

    def panel(self, field: str) -> Any:
        return self.window.panels[field]

    def set_prompt(self, text: str) -> None:
        self.panel("prompt").setValue(Prompt(text=text))

    def draw(self, text: str) -> None:
        self.set_prompt(text)
        self.generate()

    def generate(self, wait: bool = True) -> None:
        self.window.button.click()
        if wait:
            self.wait(lambda: not self.application.session.state.busy)
            self.settle()
        else:
            self.wait(self.script.holding.is_set)
            self.settle()

    def pause_at(self, fraction: float) -> None:
        self.script.hold_at = fraction
        self.script.hold()

    def fail_next(self) -> None:
        self.script.faults[len(self.script.seen)] = OutOfMemory(
            "Not enough memory on cuda:0 for a picture of 2048 × 2048 pixels with Demo.",
            "Try a smaller size, or close other programs that use memory.",
        )

    def kill_next(self) -> None:
        self.script.faults[len(self.script.seen)] = SystemExit(1)

    def settle(self) -> None:
        """Until nothing is under way any more and everything is painted."""
        self.wait(lambda: self.application.tasks.idle)
        _rest(250)  # the film strip asks for thumbnails, the prompt for its tokens, once things rest
        self.wait(lambda: self.application.tasks.idle)
        QCoreApplication.processEvents()

    def wait(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 120
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError("the window did not come into the state")
            _rest(10)

    def close(self) -> None:
        self.script.release()
        self.script.ready_gate.set()
        self.application.close()
        self.window.deleteLater()
        self.application.deleteLater()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
