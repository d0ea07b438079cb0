"""The lane: one thread that builds the engine and runs one job after the other.

It needs no torch: whatever is heavy is imported by the engine factory, inside this thread. The only place of
terminal events.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from pipelines.spec.errors import Cancelled, DeviceLost, EngineError
from pipelines.spec.events import (
    Event,
    JobCancelled,
    JobFailed,
    JobFinished,
    JobQueued,
    JobStarted,
    KernelsTried,
    MemoryChanged,
    Terminal,
    WorkerDied,
    WorkerReady,
)
from pipelines.spec.job import Job
from pipelines.spec.machine import Machine, Option

log = logging.getLogger(__name__)

Emit = Callable[[Event], None]
LANE = "engine"  # the thread's name


class Engine(Protocol):
    """What the lane needs. `run` tells its progress by `emit`; it raises Cancelled after `job.cancel()`.

    `free` lets go of all that is loaded; `memory` tells what is. `machine` is what it found to choose from, `kernels`
    which of the kernels of attention can compute the models of a job.
    """

    device: str

    @property
    def machine(self) -> Machine: ...

    def run(self, job: Job, emit: Emit) -> None: ...
    def memory(self) -> MemoryChanged: ...
    def kernels(self, job: Job) -> tuple[Option, ...]: ...
    def free(self) -> None: ...
    def close(self) -> None: ...


class Worker(threading.Thread):
    """`emit` is called from the lane and from whoever calls `submit` and `cancel`; it must not block.

    After WorkerDied the thread is over; `pending()` still holds the jobs that another worker can take over.
    """

    def __init__(self, engine_factory: Callable[[], Engine], emit: Emit) -> None:
        super().__init__(name=LANE, daemon=True)
        self._factory = engine_factory
        self._listener = emit
        self._changed = threading.Condition()
        self._live: dict[int, Job] = {}  # every job without its terminal event
        self._pending: deque[Job] = deque()
        self._busy: Job | None = None
        self._stopping = False
        self._free_wanted = False
        self._looked_at: Job | None = None

    def submit(self, job: Job) -> None:
        """Raises EngineError after `stop()`."""
        with self._changed:
            if self._stopping:
                raise EngineError("The engine is stopping.", "No more pictures can be queued.")
            self._live[job.id] = job
        # Told before the lane can see it, so that JobStarted never comes first; it can be cancelled already.
        self._emit(JobQueued(job_id=job.id))
        with self._changed:
            self._pending.append(job)
            self._changed.notify_all()

    def cancel(self, job_id: int) -> None:
        """A waiting job ends at once, a running one at its next safe point; others are left alone."""
        with self._changed:
            job = self._live.get(job_id)
            if job is None:
                return
            job.cancel()
            waiting = job in self._pending
            if waiting:
                self._pending.remove(job)
        if waiting:
            self._end(job, JobCancelled(job_id=job.id))

    def cancel_all(self) -> None:
        with self._changed:
            ids = tuple(self._live)
        for job_id in reversed(
            ids
        ):  # the running one last, or it would make room for one that is to go as well
            self.cancel(job_id)

    def free(self) -> None:
        """What is loaded is let go of, on the lane: at once where it rests, else right after the job at hand."""
        with self._changed:
            self._free_wanted = True
            self._changed.notify_all()

    def look(self, job: Job) -> None:
        """Tells KernelsTried of its model, on the lane, before the next job. Of several the last is answered."""
        with self._changed:
            self._looked_at = job
            self._changed.notify_all()

    def pending(self) -> tuple[Job, ...]:
        """The jobs that wait, in their order."""
        with self._changed:
            return tuple(self._pending)

    def busy_with(self) -> Job | None:
        with self._changed:
            return self._busy

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Takes no more jobs, cancels all, ends the thread; False if it still runs after `timeout_s`."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self.cancel_all()
        if self.ident is not None:
            self.join(timeout_s)
        return not self.is_alive()

    def run(self) -> None:
        try:
            death = self._serve()
        except (
            BaseException
        ) as error:  # SystemExit too: a lane that ends in silence leaves the window waiting
            _log("the engine could not be started or closed", error)
            death = _death(error)
        if death is not None and not self._stopping:
            self._emit(death)

    def _serve(self) -> WorkerDied | None:
        """Runs jobs until `stop()` or until one of them took the lane with it; answers what it died of."""
        start = time.perf_counter()
        engine = self._factory()
        seconds = time.perf_counter() - start
        self._emit(WorkerReady(seconds=seconds, device=engine.device, machine=engine.machine))
        self._tell_memory(engine)
        death = None
        while death is None and (job := self._next(engine)) is not None:
            death = self._run_job(engine, job)
        engine.close()
        return death

    def _next(self, engine: Engine) -> Job | None:
        """The next job, waiting for one and doing what else is asked meanwhile; None once the lane is to stop."""
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._pending or self._stopping or self._free_wanted or self._looked_at
                )
                free, self._free_wanted = self._free_wanted, False
                looked_at, self._looked_at = self._looked_at, None
                if self._stopping or not (free or looked_at):
                    return self._taken()
            if free:
                self._let_go(engine)
            if looked_at:
                self._tell_kernels(engine, looked_at)

    def _taken(self) -> Job | None:
        """Under the lock."""
        if self._stopping:
            return None
        self._busy = self._pending.popleft()
        return self._busy

    def _let_go(self, engine: Engine) -> None:
        try:
            engine.free()
        except Exception as error:  # a device that is lost says so again at the next job
            _log("freeing memory", error)
        self._tell_memory(engine)

    def _tell_memory(self, engine: Engine) -> None:
        try:
            event = engine.memory()
        except Exception as error:
            _log("looking at the memory", error)
        else:
            self._emit(event)

    def _tell_kernels(self, engine: Engine, job: Job) -> None:
        try:
            event = KernelsTried(model=job.model.id, attention=engine.kernels(job))
        except Exception as error:  # a model that cannot be read says so when it is drawn with
            _log(f"looking at {job.model.id}", error)
        else:
            self._emit(event)

    def _run_job(self, engine: Engine, job: Job) -> WorkerDied | None:
        start, death = time.perf_counter(), None
        try:
            job.check()
            self._emit(JobStarted(job_id=job.id))
            engine.run(job, self._emit)
            end: Terminal = JobFinished(job_id=job.id, seconds=time.perf_counter() - start)
        except Cancelled:
            end = JobCancelled(job_id=job.id)
        except BaseException as error:  # whatever a library throws, the jobs behind it must run
            _log(f"job {job.id}", error)
            end = _failure(job, error)
            death = _death(error) if isinstance(error, DeviceLost | SystemExit) else None
        if death is None:
            self._tell_memory(engine)
        self._end(job, end)
        return death

    def _end(self, job: Job, event: Terminal) -> None:
        with self._changed:
            if self._busy is job:
                self._busy = None
            known = self._live.pop(job.id, None) is job
        if known:
            self._emit(event)

    def _emit(self, event: Event) -> None:
        """A listener that fails must not cost a picture."""
        try:
            self._listener(event)
        except Exception as error:
            _log(f"telling {type(event).__name__}", error)


def _failure(job: Job, error: BaseException) -> JobFailed:
    kind = type(error).__name__
    if isinstance(error, EngineError):
        field = getattr(error, "field", "")
        return JobFailed(job_id=job.id, message=error.message, hint=error.hint, kind=kind, field=field)
    return JobFailed(
        job_id=job.id,
        message=f"Something unexpected went wrong: {_text(error)}",
        hint="The log file has the details.",
        kind=kind,
        is_bug=True,
    )


def _death(error: BaseException) -> WorkerDied:
    if isinstance(error, EngineError):
        return WorkerDied(message=error.message, hint=error.hint)
    return WorkerDied(
        message=f"The engine has stopped: {_text(error)}", hint="Restart the engine; the queue is kept."
    )


def _text(error: BaseException) -> str:
    """The error's name and first line. Its own `__str__` may be broken; libraries put pages into it."""
    name = type(error).__name__
    try:
        text = str(error).strip().partition("\n")[0]
    except BaseException:
        return name
    return f"{name}: {text[:300]}" if text else name


def _log(what: str, error: BaseException) -> None:
    """`log.exception` that holds no memory afterwards and survives an error that cannot be printed."""
    expected = isinstance(error, EngineError)
    try:
        log.log(logging.WARNING if expected else logging.ERROR, "%s", what, exc_info=error)
    except BaseException:
        log.error("%s: %s", what, type(error).__name__)
