"""A scripted engine and a listener, for tests of the lane without torch."""

import threading
from collections.abc import Callable

from pipelines.runtime.worker import Emit, Worker
from pipelines.spec.events import Event, MemoryChanged, WorkerDied, WorkerReady, is_terminal
from pipelines.spec.job import Job
from pipelines.spec.machine import Machine, Option
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest

LIMIT_S = 30.0  # only ever reached by a fault

RECORD = ModelRecord(id="m", path="/nowhere", title="M", family="sd1")


def job(number: int) -> Job:
    return Job(id=number, request=GenerationRequest(model="m"), model=RECORD)


class Listener:
    """Keeps every event; `wait` blocks until there is one that is wanted."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._news = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._news:
            self.events.append(event)
            self._news.notify_all()

    def wait(self, wanted: Callable[[Event], bool]) -> Event:
        def found() -> Event | None:
            return next((event for event in self.events if wanted(event)), None)

        with self._news:
            assert self._news.wait_for(lambda: found() is not None, LIMIT_S), self.events
            event = found()
        assert event is not None
        return event

    def end_of(self, job_id: int) -> Event:
        return self.wait(lambda e: is_terminal(e) and e.job_id == job_id)  # pyright: ignore

    def ends(self) -> dict[int, list[str]]:
        """Job id -> the names of its terminal events."""
        ends: dict[int, list[str]] = {}
        for event in self.events:
            if is_terminal(event):
                ends.setdefault(event.job_id, []).append(type(event).__name__)  # pyright: ignore
        return ends

    def ready(self) -> Event:
        return self.wait(lambda e: isinstance(e, WorkerReady))

    def death(self) -> Event:
        return self.wait(lambda e: isinstance(e, WorkerDied))


class Script:
    """An engine whose `run` is `act(job, emit)`."""

    device = "cpu"
    machine = Machine()

    def __init__(self, act: Callable[[Job, Emit], None]) -> None:
        self._act = act
        self.closed = False

    def run(self, job: Job, emit: Emit) -> None:
        self._act(job, emit)

    def memory(self) -> MemoryChanged:
        return MemoryChanged(device_name="Scripted processor")

    def kernels(self, job: Job) -> tuple[Option, ...]:
        return ()

    def free(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def started(act, listener: Listener) -> Worker:
    worker = Worker(lambda: Script(act), listener)
    worker.start()
    return worker
