"""Who hears the events of a picture that `generate` makes: JSON lines, or a person at a terminal."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from pipelines.cli import output
from pipelines.cli.output import DONE, FAILED, INTERRUPTED, WRONG_REQUEST
from pipelines.cli.progress import Progress
from pipelines.spec.events import (
    Compiling,
    Event,
    ImageSaved,
    JobCancelled,
    JobFailed,
    JobFinished,
    JobQueued,
    JobStarted,
    LoadProgress,
    MemoryChanged,
    StageChanged,
    StepDone,
    WorkerDied,
    WorkerReady,
    is_terminal,
)
from pipelines.spec.request import GenerationRequest

EVENTS = {
    JobQueued: "queued",
    JobStarted: "started",
    StageChanged: "stage",
    LoadProgress: "load",
    Compiling: "compiling",
    StepDone: "step",
    ImageSaved: "saved",
    JobFinished: "finished",
    JobCancelled: "cancelled",
    JobFailed: "failed",
    WorkerReady: "ready",
    WorkerDied: "failed",
    MemoryChanged: "memory",
}


def ends(event: Event) -> bool:
    """Whether it is the last that a listener hears."""
    return is_terminal(event) or isinstance(event, WorkerDied)


class Listener:
    """Hears every event; `status` is the exit status once the last was heard."""

    def __init__(self, request: GenerationRequest) -> None:
        self.request = request
        self.paths: list[str] = []
        self.status = FAILED
        self.stdout = sys.stdout

    def hear(self, event: Event) -> None:
        """The event that ends the job comes once, as the last."""
        match event:
            case ImageSaved():
                self.paths.append(event.path)
            case JobFinished():
                self.status = DONE
            case JobCancelled():
                self.status = INTERRUPTED
            case JobFailed(kind="RequestError"):
                self.status = WRONG_REQUEST

    def interrupted(self) -> None:
        """The job was asked to end."""


class JsonLines(Listener):
    def __init__(self, request: GenerationRequest, notes: Sequence[str]) -> None:
        super().__init__(request)
        self._print({"event": "request", "request": request.to_dict(), "notes": notes})

    def hear(self, event: Event) -> None:
        super().hear(event)
        data: dict[str, Any] = {"event": EVENTS[type(event)]}
        if not isinstance(event, StepDone):
            data |= dataclasses.asdict(event)
        else:  # pixels are no JSON, and copying them takes its time
            data |= {f.name: getattr(event, f.name) for f in dataclasses.fields(event) if f.name != "preview"}
        if ends(event):
            data["paths"] = self.paths
        if isinstance(event, WorkerDied):
            data["field"] = ""  # told as a failed job, whose fields it lacks
        self._print(data)

    def _print(self, data: dict[str, Any]) -> None:
        output.json_line(data, self.stdout)


class Terminal(Listener):
    """Progress on stderr, the paths of the pictures on stdout."""

    def __init__(self, request: GenerationRequest, notes: Sequence[str]) -> None:
        super().__init__(request)
        self._progress = Progress(request, sys.stderr)
        last = request.sampling.seed + request.count - 1
        seeds = f"Seed {request.sampling.seed}" + (f" to {last}" if request.count > 1 else "")
        output.say(f"{seeds}, model {request.model}, {request.size.width}x{request.size.height}")
        for note in notes:
            output.say(f"Note: {note}")

    def interrupted(self) -> None:
        self._progress.interrupted()

    def hear(self, event: Event) -> None:
        super().hear(event)
        self._progress.show(event)
        match event:
            case WorkerReady():
                for problem in event.machine.problems:
                    self._progress.clear()
                    output.say(f"Note: {problem}")
            case ImageSaved():
                self._progress.clear()
                print(event.path, file=self.stdout, flush=True)
                for mark in event.marks:
                    output.say(f"  This picture is marked: {mark}.")
            case JobFailed() | WorkerDied():
                self._progress.clear()
                output.say_error(event.message, event.hint)
            case JobCancelled():
                self._progress.clear()
                output.say("Cancelled.")
