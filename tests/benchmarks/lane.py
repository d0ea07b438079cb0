"""A worker with its engine, and what it told when."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from types import TracebackType

from pipelines.runtime.worker import Engine, Worker
from pipelines.spec.events import (
    Event,
    JobFailed,
    Stage,
    StageChanged,
    StepDone,
    WorkerDied,
    WorkerReady,
    is_terminal,
)
from pipelines.spec.job import Job
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest

Told = tuple[float, Event]  # seconds of time.perf_counter(), and what was told then

LIMIT_S = 600.0


class Lane:
    """A context manager: the engine is ready inside, and gone afterwards."""

    def __init__(self, engine_factory: Callable[[], Engine]) -> None:
        self._told: list[Told] = []
        self._news = threading.Condition()
        self._worker = Worker(engine_factory, self._listen)
        self._jobs = 0

    def __enter__(self) -> Lane:
        self._worker.start()
        self.wait_for(lambda event: isinstance(event, WorkerReady))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.stop(30.0)

    def submit(self, record: ModelRecord, request: GenerationRequest) -> int:
        """Forgets what was told before."""
        with self._news:
            self._told.clear()
        self._jobs += 1
        self._worker.submit(Job(id=self._jobs, request=request, model=record))
        return self._jobs

    def cancel(self, job_id: int) -> None:
        self._worker.cancel(job_id)

    def idle(self) -> bool:
        return self._worker.busy_with() is None

    def told(self) -> list[Told]:
        with self._news:
            return list(self._told)

    def run(self, record: ModelRecord, request: GenerationRequest) -> list[Told]:
        """All that is told of one job, the terminal event last."""
        self.submit(record, request)
        self.wait_for(is_terminal)
        return self.told()

    def wait_for(self, wanted: Callable[[Event], bool]) -> Told:
        """The first event since `submit` that is wanted; RuntimeError when the job or the lane failed."""
        with self._news:
            if not self._news.wait_for(lambda: self._found(wanted) or self._found(_failed), LIMIT_S):
                raise RuntimeError(f"nothing came within {LIMIT_S:.0f} s; last: {self._told[-1:]}")
            if (bad := self._found(_failed)) is not None:
                raise RuntimeError(str(bad[1]))
            found = self._found(wanted)
        assert found is not None
        return found

    def _found(self, wanted: Callable[[Event], bool]) -> Told | None:
        return next((told for told in self._told if wanted(told[1])), None)

    def _listen(self, event: Event) -> None:
        now = time.perf_counter()
        with self._news:
            self._told.append((now, event))
            self._news.notify_all()


def _failed(event: Event) -> bool:
    return isinstance(event, JobFailed | WorkerDied)


def step_times(told: list[Told]) -> list[float]:
    """Seconds between one step's end and the next one's."""
    ends = [at for at, event in told if isinstance(event, StepDone)]
    return [b - a for a, b in itertools.pairwise(ends)]


def stage_seconds(run: Callable[[Callable[[Event], None]], object]) -> dict[Stage, float]:
    """Seconds of each stage of a job that tells its events to what `run` is given, until the next one began."""
    told: list[Told] = []
    run(lambda event: told.append((time.perf_counter(), event)))
    ends = [
        *((at, event.stage) for at, event in told if isinstance(event, StageChanged)),
        (time.perf_counter(), None),
    ]
    found: dict[Stage, float] = {}
    for (begin, stage), (end, _) in itertools.pairwise(ends):
        assert stage is not None
        found[stage] = found.get(stage, 0.0) + end - begin
    return found
