"""A progress bar in plain text: one line that is rewritten on a terminal, few lines elsewhere."""

from __future__ import annotations

import math
import shutil
from typing import TextIO

from pipelines.cli.output import plain
from pipelines.spec.compile_words import CANCELLING, COMPILING
from pipelines.spec.events import (
    Compiling,
    Event,
    ImageSaved,
    JobQueued,
    LoadProgress,
    Stage,
    StageChanged,
    StepDone,
)
from pipelines.spec.load_words import load_text
from pipelines.spec.request import GenerationRequest

_WORDS = {
    Stage.LOAD: "Loading the model",
    Stage.ENCODE: "Reading the prompt",
    Stage.DENOISE: "Drawing",
    Stage.DECODE: "Decoding",
    Stage.SAVE: "Saving",
}

_LONG = 1e9  # bytes; fewer are there before somebody has read the line


class Progress:
    """Shows stages, steps and the time left. `stream` is where; a bar only when it is a terminal."""

    def __init__(self, request: GenerationRequest, stream: TextIO) -> None:
        self._count = request.count
        self._stream = stream
        self._bar = stream.isatty()
        self._quarter = 0
        self._compiling = False

    def show(self, event: Event) -> None:
        match event:
            case JobQueued():
                self._line("Starting the engine")
            case StageChanged(note=note) if note:
                self.clear()
                self._write(f"{plain(note)}\n")
            case StageChanged(stage=stage, image=image):
                self._quarter = 0
                self._line(self._picture(image) + _WORDS[stage])
            case LoadProgress():
                self._load(event)
            case Compiling() if not self._compiling:
                self._line(COMPILING)
            case StepDone():
                self._step(event)
            case ImageSaved():
                self.clear()
        self._compiling = isinstance(event, Compiling)

    def interrupted(self) -> None:
        """A cancel is on its way, which a compiler has to be waited for."""
        if self._compiling:
            self._line(CANCELLING)

    def clear(self) -> None:
        """Takes the bar away before something else is printed."""
        if self._bar:
            self._write("\r\x1b[K")

    def _load(self, event: LoadProgress) -> None:
        quarter = 4 * event.done // event.total
        if not self._bar and (quarter == self._quarter or event.total < _LONG):
            return
        self._quarter = quarter
        self._line(plain(load_text(event)))

    def _step(self, event: StepDone) -> None:
        quarter = 4 * event.step // event.steps
        if not self._bar and quarter == self._quarter:
            return
        self._quarter = quarter
        eta_s = math.nan if event.eta_s is None else event.eta_s
        left = f", {_duration(eta_s)} left" if math.isfinite(eta_s) else ""
        steps = f"{event.step}/{event.steps}{left}"
        self._line(f"{self._picture(event.image)}Drawing {_bar(event.step, event.steps)} {steps}")

    def _picture(self, image: int) -> str:
        return f"[{image + 1}/{self._count}] " if self._count > 1 else ""

    def _line(self, text: str) -> None:
        if self._bar:
            width = shutil.get_terminal_size().columns - 1
            self._write(f"\r\x1b[K{text[:width]}")
        else:
            self._write(f"{text}\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _bar(step: int, steps: int, width: int = 24) -> str:
    full = width * step // steps
    return f"[{'#' * full}{'.' * (width - full)}]"


def _duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"
