"""`SCREENS`: one row for each state of the window that is photographed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pipelines.spec.request import Prompt, Sampling, Size
from tests.screens.stage import DRAWINGS, Stage

LONG = (
    "an extraordinarily detailed watercolor painting of a large orange house by day, beautiful, masterpiece, best "
    "quality, highly detailed, simple, clean, sharp focus, with several further words that go on and on until the "
    "field has to grow, and then some more, so that the token counter says it is too long for one reading, truly"
)


@dataclass(frozen=True, slots=True)
class Screen:
    """`arrange` brings the window into the state; `sizes` empty means the two usual ones."""

    name: str
    arrange: Callable[[Stage], None]
    sizes: tuple[tuple[int, int], ...] = ((1280, 800), (1920, 1080))


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


def about(stage: Stage) -> None:
    done(stage)
    stage.window.actions_by_id["about"].trigger()


NARROW = ((800, 600),)
SCREENS = (
    Screen("empty", empty),
    Screen("problem", problem),
    Screen("busy", busy),
    Screen("cancelling", cancelling, ((1280, 800),)),
    Screen("done", done),
    Screen("error", failed),
    Screen("restored", restored, ((1280, 800),)),
    Screen("stopped", stopped, ((1280, 800),)),
    Screen("long", long_texts, ((1280, 800),)),
    Screen("about", about, ((1280, 800),)),
    Screen("narrow-empty", empty, NARROW),
    Screen("narrow-done", done, NARROW),
    Screen("narrow-problem", problem, NARROW),
)
