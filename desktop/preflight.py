"""`Preflight`: keeps the card under Generate and the gauge of memory up to date, and remembers drawing times."""

from __future__ import annotations

import logging
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, QTimer, Slot

from desktop.engine_bridge import EngineBridge, planned
from desktop.model_defaults import family_of
from desktop.planner import Planner
from desktop.session import Engine, Session
from desktop.tasks import Tasks
from pipelines.spec.compile_words import COMPILING
from pipelines.spec.errors import EngineError
from pipelines.spec.events import ImageSaved, MemoryChanged, WorkerReady
from pipelines.spec.job import Job
from pipelines.spec.measured import Measured, Rates
from pipelines.spec.memory import Memory, Room
from pipelines.spec.outlook import Change, Cheaper, Outlook
from pipelines.spec.request import GenerationRequest
from pipelines.spec.run_time import Run, estimate, work_of
from widgets.memory_gauge import MemoryGauge
from widgets.preflight_card import PreflightCard

if TYPE_CHECKING:
    from pipelines.library.known_sizes import KnownSizes
    from pipelines.library.runs import Runs

log = logging.getLogger(__name__)

LOOK_MS = 2000  # between two looks at RAM
MOVED = 0.03  # of a memory: what has to change until a plan is made anew


class Preflight(QObject):
    """`dtype` as in `EngineOptions`. While a picture is made, plans are for the memory that was there before it."""

    def __init__(
        self, data: Path, tasks: Tasks, session: Session, bridge: EngineBridge, card: PreflightCard,
        gauge: MemoryGauge, parent: QObject | None = None,
    ) -> None:  # fmt: skip
        super().__init__(parent)
        self.dtype = "auto"
        self._data, self._tasks, self._session = data, tasks, session
        self._card, self._gauge = card, gauge
        self.planner = Planner(self)
        self._sizes: KnownSizes | None = None
        self._engine: MemoryChanged | None = None
        self._budget: Memory | None = None
        self._runs: tuple[Run, ...] = ()
        self._store: Runs | None = None
        self._seen: tuple[Measured, ...] = ()
        self._rates: Rates | None = None
        self._undo: tuple[Change, GenerationRequest, GenerationRequest] | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(LOOK_MS)
        self._timer.timeout.connect(self._look)
        session.requestChanged.connect(self._request_changed)
        session.stateChanged.connect(self._state_changed)
        bridge.told.connect(self._engine_said)
        self.planner.told.connect(card.show_outlook)
        card.chosen.connect(self._choose)
        card.undone.connect(self._take_back)

    def start(self) -> None:
        """Reads what earlier runs took; begins to look at the memory."""
        self._tasks.run(self._open_runs, self._runs_read, lambda error: log.warning("times: %s", error))
        self._timer.start()
        self._look()

    def close(self) -> None:
        self._timer.stop()
        self.planner.close()
        if self._store is not None:
            self._store.close()

    # what is known

    def _open_runs(self) -> tuple[Runs, tuple[Run, ...]]:
        from pipelines.library.runs import FILE, Runs

        store = Runs(self._data / FILE)
        return store, store.all()

    def _runs_read(self, read: tuple[Runs, tuple[Run, ...]]) -> None:
        self._store, known = read
        self._runs += known
        self.plan()

    @Slot(object)
    def _engine_said(self, event: object) -> None:
        match event:
            case WorkerReady():
                self._budget, self._rates = None, event.machine.rates
            case MemoryChanged():
                self._engine = event
                self._tasks.run(partial(self._measured, event.device_name), self._set_seen, key="measured")
                self._look()
            case ImageSaved():
                self._remember(event)

    def _measured(self, device: str) -> tuple[Measured, ...]:
        from pipelines.library.measured import FILE, measured_on

        try:
            return measured_on(self._data / FILE, device)
        except EngineError as error:
            log.warning("measured: %s", error)
            return ()

    def _set_seen(self, seen: tuple[Measured, ...]) -> None:
        if seen != self._seen:
            self._seen = seen
            self.plan()

    def _remember(self, event: ImageSaved) -> None:
        request, engine = self._session.request_of(event.job_id), self._engine
        record = next((r for r in self._session.records() if request and r.id == request.model), None)
        family = family_of(record)
        if request is None or engine is None or family is None or not event.seconds:
            return
        work = work_of(request, family, event.pace)
        said = estimate(work, self._runs, engine.device_name)
        own = event.compile_s  # the next picture does not wait for it
        run = Run(
            device=engine.device_name, work=work, denoise_s=event.denoise_s - own, decode_s=event.decode_s,
            seconds=event.seconds - own, predicted_s=said.seconds if said else 0.0, when=time.time(),
        )  # fmt: skip
        self._runs = (run, *self._runs)
        if self._store is not None:
            keep = partial(self._store.add, run)
            self._tasks.run(keep, None, lambda error: log.warning("times: %s", error))
        self.plan()

    # the memory

    @Slot()
    def _look(self) -> None:
        """Some microseconds; a window that nobody sees is left alone."""
        if self._gauge.window().isMinimized():
            return
        memory = self._memory()
        if self._engine is not None:
            self._gauge.setValue(memory)
        # Jobs that a start before has left may be drawn before there was any quiet moment to look in.
        quiet = not self._session.state.busy or self._budget is None
        if self._engine is not None and quiet and _moved(self._budget, memory):
            self._budget = memory
            self.plan()

    def _memory(self) -> Memory:
        import psutil  # not before the first paint

        found = psutil.virtual_memory()
        ram = Room(total=found.total, free=found.available, ours=psutil.Process().memory_info().rss)
        engine = self._engine
        if engine is None:
            return Memory(ram=ram)
        return Memory(ram=ram, card=engine.card, encoders=engine.encoders, holders=engine.holders)

    # the plan

    @Slot(object)
    def _request_changed(self, request: GenerationRequest) -> None:
        if self._undo is not None:
            change, _before, after = self._undo
            # Somebody changed it by hand meanwhile, or chose another model, which it was not done for.
            if request.model != after.model or change.undone(request, after) != request:
                self._forget_undo()
        self.plan()

    @Slot(object)
    def _state_changed(self, _state: object) -> None:
        state = self._session.state
        self._card.set_busy(state.busy, COMPILING if state.compiling else "")
        if state.engine is not Engine.READY:
            self._engine = self._budget = None  # the next one may have another device
            self.plan()
        elif not state.busy:
            self._look()

    def plan(self) -> None:
        """Asks for the plan of what the panels say."""
        job, record = self._session.job(), self._session.record()
        if record is not None and record.problem:
            self.planner.drop()
            self._card.show_outlook(Outlook(fits=False, problem=record.problem))
        elif record is not None and job is None:
            self.planner.drop()
            self._card.show_outlook(Outlook(fits=False, problem=self._session.state.reason))
        elif job is None:
            self.planner.drop()
            self._card.wait("Choose a model to see whether it fits.")
        elif self._engine is None or self._budget is None:
            self.planner.drop()
            if self._session.state.engine is Engine.STOPPED:
                self._card.wait("The engine has stopped.")
            elif self._session.state.engine is Engine.STARTING:
                self._card.wait()
        else:
            known = {
                "runs": self._runs,
                "device": self._engine.device_name,
                "dtype": self.dtype,
                "seen": self._seen,
                "rates": self._rates,
            }
            self.planner.ask(partial(self._planned, job, self._budget, known))

    def _planned(self, job: Job, memory: Memory, known: dict[str, Any]) -> Outlook:
        """On the planner's thread, which alone knows the sizes; to import what reads them would hold up the window."""
        if self._sizes is None:
            from pipelines.library.known_sizes import KnownSizes

            self._sizes = KnownSizes()
        return planned(job, memory, self._sizes, **known)

    # a cheaper way, and back

    @Slot(object)
    def _choose(self, cheaper: Cheaper) -> None:
        before = self._session.request()
        after = cheaper.change.applied(before)
        self._undo = (cheaper.change, before, after)
        self._session.set_request(after)
        # A plan is shown until there is a newer one: what it offers may not be for the request of now.
        self._card.set_undo(_before(cheaper.change, before) if self._undo is not None else "")

    @Slot()
    def _take_back(self) -> None:
        if self._undo is not None:
            change, before, _after = self._undo
            self._forget_undo()
            self._session.set_request(change.undone(self._session.request(), before))

    def _forget_undo(self) -> None:
        self._undo = None
        self._card.set_undo("")


def _before(change: Change, request: GenerationRequest) -> str:
    """What a click would bring back."""
    if change.size is not None:
        return f"{request.size.width} × {request.size.height} pixels"
    return "what was added to the model" if change.bare else "the weights as they were"


def _moved(before: Memory | None, now: Memory) -> bool:
    if before is None or before.holders != now.holders or (before.card is None) != (now.card is None):
        return True
    rooms = [(before.ram, now.ram)]
    if before.card is not None and now.card is not None:
        rooms.append((before.card, now.card))
    return any(abs(a.free - b.free) > MOVED * b.total for a, b in rooms)
