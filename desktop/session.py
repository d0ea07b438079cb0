"""`Session`: the state of the window. Panel values become a request, events become what is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from PySide6.QtCore import QObject, Signal, Slot

from desktop.engine_bridge import EngineBridge
from desktop.model_defaults import defaults_for, family_of, native_size, with_defaults, with_own_defaults
from desktop.progress_words import STAGE_TEXTS, step_text
from pipelines.spec.adding import added, names
from pipelines.spec.advice import advice
from pipelines.spec.compile_words import CANCELLING, COMPILING
from pipelines.spec.errors import shortened
from pipelines.spec.events import (
    Compiling,
    ImageSaved,
    JobCancelled,
    JobFailed,
    JobFinished,
    JobStarted,
    LoadProgress,
    StageChanged,
    StepDone,
    WorkerDied,
    WorkerReady,
)
from pipelines.spec.families.base import Family
from pipelines.spec.job import Job
from pipelines.spec.load_words import load_text
from pipelines.spec.model_note import ModelDefaults
from pipelines.spec.previews import tiny_vae_of
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import MAX_PROMPT, GenerationRequest, Prompt
from pipelines.spec.validate import Problem, problems

_STARTING = "Starting the engine"


class Engine(StrEnum):
    """What the engine's thread is doing, as far as events told."""

    STARTING = "starting"
    READY = "ready"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """`busy`: jobs wait or run; `fraction` 0..1 of the running one; `reason` why Generate is off.

    `compiling`: the running one waits for a compiler, and so would a cancel.
    """

    engine: Engine = Engine.STARTING
    device: str = ""
    busy: bool = False
    cancelling: bool = False
    compiling: bool = False
    text: str = ""
    fraction: float = 0.0
    reason: str = ""


class Session(QObject):
    """`panels`: the widgets by request field, each with value(), setValue(), valueChanged, set_problems()."""

    stateChanged = Signal(object)
    saved = Signal(object)
    previewed = Signal(object)
    jobEnded = Signal(object)
    engineDied = Signal(object)
    requestChanged = Signal(object)
    submitted = Signal(object)

    def __init__(
        self, bridge: EngineBridge, panels: Mapping[str, Any], parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._bridge = bridge
        self._panels = panels
        self._records: dict[str, ModelRecord] = {}  # of what draws
        self._parts: dict[str, ModelRecord] = {}  # of what goes with it
        self._looked = False
        self._base = GenerationRequest(model="")
        self._open: dict[int, GenerationRequest] = {}
        self._current: int | None = None
        self._filling = False
        self._model = ""
        # What a person set for a model, by its id.
        self.own_defaults: Mapping[str, ModelDefaults] = {}
        self.state = State()
        self.failed_request: GenerationRequest | None = None
        for panel in panels.values():
            panel.valueChanged.connect(self._panel_changed)
        bridge.told.connect(self.see)

    # the request

    def request(self) -> GenerationRequest:
        return replace(self._base, **{field: panel.value() for field, panel in self._panels.items()})

    def request_of(self, job_id: int) -> GenerationRequest | None:
        """Of a job of this run that has not ended."""
        return self._open.get(job_id)

    def job(self) -> Job | None:
        """What Generate would submit, for planning; None without a model, or where a part of it is not here."""
        request = self.request()
        record = self._records.get(request.model)
        if record is None or any(name not in self._parts for name in names(request)):
            return None
        parts, refiner = added(request, self._parts), self._refiner(request)
        return Job(id=0, request=request, model=record, refiner=refiner, parts=parts)

    def record(self) -> ModelRecord | None:
        return self._records.get(self.request().model)

    def family(self) -> Family | None:
        return family_of(self.record())

    def set_records(self, records: tuple[ModelRecord, ...]) -> None:
        """All there is. The chosen model is kept if it is still there, else the first usable one is taken."""
        self._parts = {record.id: record for record in records if not record.draws}
        records = tuple(record for record in records if record.draws)
        self._records = {record.id: record for record in records}
        self._looked = True
        now = self.request()
        usable = [record.id for record in records if not record.problem]
        model = now.model if now.model in usable or not usable else usable[0]
        self._filling = True
        try:
            for panel in self._panels.values():
                if hasattr(panel, "set_records"):
                    panel.set_records(records)
        finally:
            self._filling = False
        self._fill(replace(now, model=model))

    def _refiner(self, request: GenerationRequest) -> ModelRecord | None:
        return self._records.get(request.refiner.model) if request.refiner else None

    def _problems(self, request: GenerationRequest, record: ModelRecord | None) -> tuple[Problem, ...]:
        return problems(request, record, family_of(record), self._refiner(request), self._parts)

    def knows(self, job_id: int) -> bool:
        """Whether the job was submitted in this run and has not ended."""
        return job_id in self._open

    def records(self) -> tuple[ModelRecord, ...]:
        """The models, without what goes with them."""
        return tuple(self._records.values())

    def set_request(self, request: GenerationRequest) -> tuple[Problem, ...]:
        """Shows `request`; a field that cannot be used here keeps what it had, and is answered."""
        now = self.request()
        if request.model not in self._records and self._records:
            request, left_out = replace(request, model=now.model), [_no_model(request.model)]
        else:
            left_out = []
        left_out += _long_prompts(request.prompt)
        record = self._records.get(request.model)
        found = self._problems(request, record)
        for problem in found:
            request = _with_field_of(request, now, problem.field)
        self._fill(request)
        return (*left_out, *found)

    def _fill(self, request: GenerationRequest) -> None:
        self._base = request = self._without_hidden(request)
        self._filling = True
        try:
            self._model = request.model
            self._fit_panels(self._records.get(request.model))
            for field, panel in self._panels.items():
                panel.setValue(getattr(request, field))
        finally:
            self._filling = False
        self._panel_changed()

    def _without_hidden(self, request: GenerationRequest) -> GenerationRequest:
        """What does not fit the model and has no panel is left out: nobody could take it away."""
        record = self._records.get(request.model)
        for problem in self._problems(request, record) if record else ():
            name = problem.field.partition(".")[0].partition("[")[0]
            if name not in self._panels:
                request = replace(request, **{name: getattr(GenerationRequest(model=""), name)})
        return request

    @Slot()
    def _panel_changed(self) -> None:
        if self._filling:
            return
        request = self.request()
        if request.model != self._model:
            self._model_changed(request)
            return
        self._check(request)
        self.requestChanged.emit(request)

    def _model_changed(self, request: GenerationRequest) -> None:
        """A model's own defaults follow its choice, where the former model's were left as they were."""
        former, record = self._records.get(self._model), self._records.get(request.model)
        if record is not None:
            request = with_defaults(request, self._defaults(former), self._defaults(record))
            request = with_own_defaults(request, self.own_defaults.get(record.id))
        self._fill(request)

    def misfit(self, own: ModelDefaults, record: ModelRecord) -> str:
        """Why requests to the model cannot begin with these settings; '' if they can."""
        request = GenerationRequest(model=record.id, sampling=own.sampling, size=own.size)
        found = (p for p in self._problems(request, record) if p.field.startswith(("sampling", "size")))
        return next((p.message for p in found), "")

    def choose(self, model: str) -> None:
        """As if it was chosen in the panel of models."""
        self._panels["model"].setValue(model)

    def _defaults(self, record: ModelRecord | None) -> dict[str, Any]:
        if record is None:
            return {}
        own = self.own_defaults.get(record.id)
        return {"sampling": own.sampling, "size": own.size} if own else defaults_for(record)

    def _fit_panels(self, record: ModelRecord | None) -> None:
        family = family_of(record)
        for panel in self._panels.values():
            if hasattr(panel, "set_family"):
                panel.set_family(family)
            if family and hasattr(panel, "set_rule"):
                panel.set_rule(family.sizes, native_size(record, family))

    def _check(self, request: GenerationRequest) -> None:
        record = self._records.get(request.model)
        found = self._problems(request, record) if self._records else ()
        told = (*found, *advice(request, family_of(record)))
        for panel in self._panels.values():
            panel.set_problems(told)
        reason = found[0].message if found else ""
        if not self._records:
            reason = "No model was found." if self._looked else "Looking for models…"
        self._change(reason=reason)

    # jobs

    @Slot()
    def generate(self) -> None:
        """Submits what the panels say, or does nothing while Generate is off or a job is open."""
        if self.state.busy or self._blocked():
            return
        sampling = self._panels.get("sampling")
        if sampling is not None:
            sampling.next_seed()
        request = self.request()
        record = self._records[request.model]
        self.submit(request, record)

    def submit(self, request: GenerationRequest, record: ModelRecord, job_id: int | None = None) -> None:
        """Also for jobs of an earlier run, with their id. A pause that holds no other job ends with it."""
        if not self._open:
            self._bridge.resume()
        parts = added(request, self._parts)
        family = family_of(record)
        tiny_vae = tiny_vae_of(family, self._parts.values()) if family else None
        job_id = self._bridge.submit(request, record, job_id, self._refiner(request), parts, tiny_vae)
        self._open.setdefault(job_id, request)
        self.submitted.emit(request)
        text = _STARTING if self.state.engine is Engine.STARTING else "Waiting"
        if not self.state.busy:
            self._change(busy=True, cancelling=False, text=text, fraction=0.0)

    @Slot()
    def cancel(self) -> None:
        """Acknowledged at once; the job ends at its next safe point."""
        if not self._open or self.state.cancelling:
            return
        self._change(cancelling=True, text=CANCELLING if self.state.compiling else "Cancelling")
        self._bridge.cancel(self._current if self._current in self._open else next(iter(self._open)))

    def _blocked(self) -> bool:
        return bool(self.state.reason) or self.state.engine is Engine.STOPPED or not self._records

    @Slot(object)
    def see(self, event: object) -> None:
        """Every event of the engine, on the GUI thread."""
        match event:
            case WorkerReady(device=device):
                self._change(engine=Engine.READY, device=device)
            case WorkerDied():
                self._change(engine=Engine.STOPPED, compiling=False, text="The engine has stopped")
                self.engineDied.emit(event)
            case JobStarted(job_id=job_id):
                self._current = job_id
                self._change(busy=True, cancelling=False, text="Starting", fraction=0.0)
            case StageChanged():
                self._change(compiling=False, text=self._stage_text(event))
            case Compiling():
                self._change(compiling=True, text=CANCELLING if self.state.cancelling else COMPILING)
            case LoadProgress() if not self.state.cancelling:
                self._change(text=load_text(event))
            case StepDone():
                self._step_done(event)
            case ImageSaved():
                self.saved.emit(event)
            case JobFinished() | JobCancelled() | JobFailed():
                self._ended(event)

    def _stage_text(self, event: StageChanged) -> str:
        if self.state.cancelling:
            return self.state.text
        return event.note or STAGE_TEXTS[event.stage]

    def _step_done(self, event: StepDone) -> None:
        self._change(compiling=False)
        if not self.state.cancelling:
            whole = (event.image + event.step / event.steps) / event.images
            self._change(text=step_text(event), fraction=whole)
        if event.preview is not None:
            self.previewed.emit(event)

    def _ended(self, event: JobFinished | JobCancelled | JobFailed) -> None:
        request = self._open.pop(event.job_id, None)
        if self._current == event.job_id:
            self._current = None
        self._change(
            busy=bool(self._open),
            cancelling=False,
            compiling=False,
            text="Waiting" if self._open else "",
            fraction=0.0,
        )
        if isinstance(event, JobFailed):
            self.failed_request = request
        self.jobEnded.emit(event)

    @Slot()
    def restart_engine(self) -> None:
        self._change(engine=Engine.STARTING, device="", cancelling=False, compiling=False)
        self._bridge.restart()
        self._change(text=_STARTING if self._open else "", fraction=0.0)

    def _change(self, **values: Any) -> None:
        state = replace(self.state, **values)
        if state != self.state:
            self.state = state
            self.stateChanged.emit(state)


def _with_field_of(request: GenerationRequest, other: GenerationRequest, path: str) -> GenerationRequest:
    """`request`, with the field at the dotted `path` taken from `other`."""
    name, _, inner = path.partition(".")
    name, listed, _ = name.partition(
        "["
    )  # of one in a list the whole list is taken: the other's may be shorter
    inner = "" if listed else inner
    if not inner or "." in inner or None in (getattr(request, name), getattr(other, name)):
        return replace(request, **{name: getattr(other, name)})
    value = replace(getattr(request, name), **{inner: getattr(getattr(other, name), inner)})
    return replace(request, **{name: value})


def _no_model(model: str) -> Problem:
    return Problem("model", f"The model '{shortened(model)}' is not here.", "The chosen model is kept.")


def _long_prompts(prompt: Prompt) -> list[Problem]:
    """The panel shows as much of a text as the engine reads of it."""
    texts = {"prompt.text": prompt.text, "prompt.negative": prompt.negative}
    message = f"The text of {{:,}} characters was cut to the {MAX_PROMPT:,} that are read."
    return [Problem(f, message.format(len(t))) for f, t in texts.items() if len(t) > MAX_PROMPT]
