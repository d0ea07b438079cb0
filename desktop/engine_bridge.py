"""`EngineBridge`: the one door from the window to the engine's thread. Requests go down, events come up."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Signal, Slot

from pipelines.runtime.worker import Engine, Worker
from pipelines.spec.errors import EngineError
from pipelines.spec.events import (
    Event,
    ImageSaved,
    JobCancelled,
    JobFailed,
    JobFinished,
    JobQueued,
    JobStarted,
    is_terminal,
)
from pipelines.spec.job import Job
from pipelines.spec.memory import Memory
from pipelines.spec.options import EngineOptions
from pipelines.spec.outlook import Outlook
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest

if TYPE_CHECKING:
    from pipelines.library.jobs import JobStore
    from pipelines.library.known_sizes import KnownSizes

log = logging.getLogger(__name__)

EngineFactory = Callable[[], Engine]


def engine_factory(options: EngineOptions) -> EngineFactory:
    """Builds the real engine. Called on the worker's thread, so torch is imported there and only there."""

    def build() -> Engine:
        from pipelines.runtime import engine

        return engine.build(options)

    return build


def planned(job: Job, memory: Memory, sizes: KnownSizes, **known: Any) -> Outlook:
    """Of the job on a device with so much memory; off the GUI thread. `known` as in `runtime.outlook`."""
    from pipelines.runtime.outlook import budget_of, outlook

    return outlook(job, budget_of(memory), sizes=sizes, **known)


class _Lane:
    """One worker with its way up. Once closed, nothing of it reaches the window, however long it lives."""

    def __init__(
        self,
        options: EngineOptions,
        factory: EngineFactory,
        record: Callable[[Event], None],
        deliver: Callable[[Event], None],
    ) -> None:
        self.options = options
        self._record, self._deliver = record, deliver
        self._changed = threading.Condition(threading.RLock())
        self._closed = False
        self._paused = False
        self._let_through: set[int] = set()
        self._running: int | None = None
        self.worker = Worker(factory, self._emit)

    @property
    def paused(self) -> bool:
        return self._paused

    def cancel(self, job_id: int) -> None:
        self.worker.cancel(job_id)
        with self._changed:
            self._let_through.add(job_id)  # a cancelled job that a pause holds must get to its end
            self._changed.notify_all()

    def resume(self) -> None:
        with self._changed:
            self._paused = False
            self._changed.notify_all()

    def close(self) -> int | None:
        """The id of the job that now will have no terminal event, if any."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            return self._running

    def _emit(self, event: Event) -> None:
        if isinstance(event, JobStarted):
            self._wait_while_paused(event.job_id)
        # What begins or is cancelled only because the lane closes stays in the store as it was.
        if not (self._closed and isinstance(event, JobStarted | JobCancelled)):
            self._record(event)
        with self._changed:
            if self._closed:
                return
            if isinstance(event, JobStarted):
                self._running = event.job_id
            elif is_terminal(event):
                self._running = None
            # A full disk would burn the whole queue: the next job waits until resume().
            self._paused |= isinstance(event, JobFailed) and event.kind == "NotSaved"
            self._deliver(event)

    def _wait_while_paused(self, job_id: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._paused or self._closed or job_id in self._let_through)


class EngineBridge(QObject):
    """`told` carries each event; connect bound methods of QObjects only, then they run on the GUI thread.

    `make_factory` makes of options what builds an engine; tests give a scripted one. A store keeps the queue over a
    crash; without one, or when it fails, jobs still run.
    """

    told = Signal(object)  # not `event`: that is QObject's own method
    _arrived = Signal(object)

    def __init__(
        self,
        options: EngineOptions,
        make_factory: Callable[[EngineOptions], EngineFactory] = engine_factory,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._options, self._make_factory = options, make_factory
        self._store: JobStore | None = None
        self._ids = itertools.count(1)
        self._lane: _Lane | None = None
        self._former: list[Worker] = []
        self._early: list[Job] = []
        self._lost: set[int] = set()  # jobs that a restart ended
        self._arrived.connect(self._pass_on)

    def start(self) -> None:
        """Starts the worker, which then imports torch. Jobs submitted before are handed over."""
        factory = self._make_factory(self._options)
        self._lane = _Lane(self._options, factory, self._record, self._arrived.emit)
        self._lane.worker.start()
        early, self._early = self._early, []
        for job in early:
            self._lane.worker.submit(job)

    def use_store(self, store: JobStore) -> None:
        """Jobs that are submitted from now on are written down."""
        self._store = store

    def use_options(self, options: EngineOptions) -> None:
        """Of the engine that the next `start` or `restart` builds."""
        self._options = options

    @property
    def outdated(self) -> bool:
        """Whether the engine was built with other options than are to be used."""
        return self._lane is not None and self._lane.options != self._options

    @property
    def started(self) -> bool:
        return self._lane is not None

    @property
    def paused(self) -> bool:
        return self._lane is not None and self._lane.paused

    def submit(
        self,
        request: GenerationRequest,
        record: ModelRecord,
        job_id: int | None = None,
        refiner: ModelRecord | None = None,
        parts: Mapping[str, ModelRecord] | None = None,
        tiny_vae: ModelRecord | None = None,
    ) -> int:
        """The job's id. `job_id` names a job that the store already holds, of an earlier run."""
        job_id = self._stored(request) if job_id is None else job_id
        job = Job(
            id=job_id, request=request, model=record, refiner=refiner, parts=parts or {}, tiny_vae=tiny_vae
        )
        if self._lane is None:
            self._early.append(job)
        else:
            self._lane.worker.submit(job)
        return job.id

    def cancel(self, job_id: int) -> None:
        for job in [job for job in self._early if job.id == job_id]:
            self._early.remove(job)
            self._tell(JobCancelled(job_id=job_id))
        if self._lane is not None:
            self._lane.cancel(job_id)

    def cancel_all(self) -> None:
        for job in tuple(self._early):
            self.cancel(job.id)
        if self._lane is not None:
            self._lane.worker.cancel_all()
            self._lane.resume()

    def resume(self) -> None:
        """Goes on after a pause (a picture could not be saved)."""
        if self._lane is not None:
            self._lane.resume()

    def free_memory(self) -> None:
        """Models are let go of, right after a picture that is being made. Returns at once."""
        if self._lane is not None:
            self._lane.worker.free()

    def look(self, job: Job) -> None:
        """`told` carries KernelsTried of the job's model, after a picture that is being made. Returns at once."""
        if self._lane is not None:
            self._lane.worker.look(job)

    def restart(self) -> None:
        """A new worker takes over what was waiting; a job that was running ends as failed. Never waits."""
        former, self._lane = self._lane, None
        if former is not None:
            waiting = {job.id: job for job in former.worker.pending()}
            lost = former.close()
            if (held := former.worker.busy_with()) is not None and held.id != lost:
                held.cancel()  # only there: it has not begun, a pause held it, and so it goes first here
                waiting = {held.id: held} | waiting
            self._early = [
                Job(
                    id=j.id,
                    request=j.request,
                    model=j.model,
                    refiner=j.refiner,
                    parts=j.parts,
                    tiny_vae=j.tiny_vae,
                )
                for j in waiting.values()
                if j.id != lost
            ]
            self._former = [worker for worker in (*self._former, former.worker) if worker.is_alive()]
            threading.Thread(target=former.worker.stop, name="engine-stop", daemon=True).start()
            if lost is not None:
                self._lost.add(lost)
                self._tell(
                    JobFailed(
                        job_id=lost,
                        message="The engine was restarted while it made this picture.",
                        hint="Press Generate to make it again.",
                    )
                )
        self.start()

    def shutdown(self, timeout_s: float = 5.0) -> bool:
        """Stop accepting, cancel, join. False if a worker is still inside a call that does not return.

        Jobs that never began stay in the store and are offered at the next start.
        """
        lane, self._lane = self._lane, None
        stopped = True
        if lane is not None:
            running = lane.close()
            stopped = lane.worker.stop(timeout_s)
            if running is not None:
                self._record(JobCancelled(job_id=running))
        # Also those that a restart left behind: Python must not end beneath a thread that is in foreign code.
        return stopped and not any(worker.is_alive() for worker in self._former)

    @Slot(object)
    def _pass_on(self, event: Event) -> None:
        """On the GUI thread. What was on its way when a restart ended its job would begin that again."""
        if isinstance(event, ImageSaved) or getattr(event, "job_id", None) not in self._lost:
            self.told.emit(event)

    def _tell(self, event: Event) -> None:
        self._record(event)
        self.told.emit(event)

    def _stored(self, request: GenerationRequest) -> int:
        if self._store is not None:
            try:
                return self._store.add(request)
            except EngineError as error:
                self._without_store(error)
        # Ids of an earlier run may still be in the store, and ours must not meet them.
        return 2**40 + next(self._ids)

    def _record(self, event: Event) -> None:
        if self._store is None or isinstance(event, JobQueued):
            return
        try:
            _write_down(self._store, event)
        except EngineError as error:
            self._without_store(error)

    def _without_store(self, error: Exception) -> None:
        log.error("the queue cannot be kept on disk: %s", error)
        self._store = None


def _write_down(store: JobStore, event: Any) -> None:
    match event:
        case JobStarted(job_id=job_id):
            store.started(job_id)
        case JobFinished(job_id=job_id):
            store.ended(job_id, "done")
        case JobCancelled(job_id=job_id):
            store.ended(job_id, "cancelled")
        case JobFailed(job_id=job_id, message=message):
            store.ended(job_id, "failed", message)
