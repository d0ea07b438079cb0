"""The lane: order of events, cancel (G7, G8, G10), errors (G11), death (G4, G12). Scripted engines, no torch."""

import random
import subprocess
import sys
import threading

import pytest

from pipelines.runtime.worker import Worker
from pipelines.spec.errors import DeviceLost, EngineError, ModelError
from pipelines.spec.events import (
    JobFailed,
    JobFinished,
    JobQueued,
    JobStarted,
    KernelsTried,
    MemoryChanged,
    Stage,
    StageChanged,
    WorkerDied,
    WorkerReady,
    is_terminal,
)
from pipelines.spec.machine import Option
from pipelines.spec.memory import Holder
from tests.runtime.scripted import LIMIT_S, Listener, Script, job, started


def walk(one, emit):
    """All stages, with the safe points that the real engine has."""
    for stage in Stage:
        one.check()
        emit(StageChanged(job_id=one.id, stage=stage))


def test_importing_the_lane_loads_no_torch():
    code = (
        "import sys; import pipelines.runtime.worker, pipelines.runtime.engine; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'diffusers', 'transformers', 'PySide6')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_job_is_told_from_queue_to_end_in_order():
    listener = Listener()
    worker = started(walk, listener)
    listener.ready()
    worker.submit(job(1))
    listener.end_of(1)
    assert worker.stop()
    kinds = [type(event) for event in listener.events if not isinstance(event, MemoryChanged)]
    assert kinds == [WorkerReady, JobQueued, JobStarted, *[StageChanged] * len(Stage), JobFinished]
    kinds = [type(event) for event in listener.events]
    assert kinds[-2:] == [MemoryChanged, JobFinished], "what a job leaves in memory is known before its end"
    assert kinds.count(MemoryChanged) == 2, "once for the engine that is ready, once for the job"


def test_jobs_run_one_after_the_other_in_their_order():
    order, listener = [], Listener()
    worker = started(lambda one, emit: order.append(one.id), listener)
    for number in range(10):
        worker.submit(job(number))
    for number in range(10):
        listener.end_of(number)
    assert worker.stop()
    assert order == list(range(10))


def test_cancel_during_a_step_ends_at_the_next_safe_point():  # G7
    in_step, go_on, listener = threading.Event(), threading.Event(), Listener()
    saved = []

    def act(one, emit):
        in_step.set()
        assert go_on.wait(LIMIT_S)
        one.check()
        saved.append(one.id)

    worker = started(act, listener)
    worker.submit(job(1))
    assert in_step.wait(LIMIT_S)
    assert worker.busy_with() is not None
    worker.cancel(1)
    assert not any(is_terminal(event) for event in listener.events), "it was still in the step"
    go_on.set()
    listener.end_of(1)
    assert worker.stop()
    assert listener.ends() == {1: ["JobCancelled"]}
    assert not saved


@pytest.mark.parametrize("stage", Stage)
def test_cancel_at_each_phase(stage):  # G8
    for _ in range(20):
        listener = Listener()
        reached, go_on, passed = threading.Event(), threading.Event(), []

        def act(one, emit, reached=reached, go_on=go_on, passed=passed):
            for now in Stage:
                one.check()
                if now is stage and one.id == 1:
                    reached.set()
                    assert go_on.wait(LIMIT_S)
                    one.check()
                passed.append((one.id, now))

        worker = started(act, listener)
        worker.submit(job(1))
        worker.submit(job(2))
        assert reached.wait(LIMIT_S)
        worker.cancel(1)
        go_on.set()
        listener.end_of(2)
        assert worker.stop()
        assert listener.ends() == {1: ["JobCancelled"], 2: ["JobFinished"]}
        assert (1, stage) not in passed
        assert [now for number, now in passed if number == 2] == list(Stage)


def test_a_waiting_job_is_cancelled_at_once_and_never_starts():
    in_step, go_on, ran, listener = threading.Event(), threading.Event(), [], Listener()

    def act(one, emit):
        ran.append(one.id)
        in_step.set()
        assert go_on.wait(LIMIT_S)

    worker = started(act, listener)
    for number in (1, 2, 3):
        worker.submit(job(number))
    assert in_step.wait(LIMIT_S)
    assert [waiting.id for waiting in worker.pending()] == [2, 3]
    worker.cancel(2)
    assert listener.ends() == {2: ["JobCancelled"]}
    go_on.set()
    listener.end_of(3)
    assert worker.stop()
    assert ran == [1, 3]


def test_cancel_out_of_the_queued_event_is_not_lost():
    listener = Listener()

    def emit(event):
        if isinstance(event, JobQueued):
            worker.cancel(event.job_id)
        listener(event)

    worker = Worker(lambda: Script(walk), emit)
    worker.start()
    worker.submit(job(1))
    listener.end_of(1)
    assert worker.stop()
    assert listener.ends() == {1: ["JobCancelled"]}
    assert not any(isinstance(event, JobStarted) for event in listener.events)


def test_cancel_after_the_end_changes_nothing_and_spares_the_next():
    listener = Listener()
    worker = started(walk, listener)
    worker.submit(job(1))
    listener.end_of(1)
    worker.cancel(1)
    worker.cancel(77)
    worker.submit(job(2))
    listener.end_of(2)
    assert worker.stop()
    assert listener.ends() == {1: ["JobFinished"], 2: ["JobFinished"]}


def test_random_cancels_leave_one_end_a_job():  # G10
    """500 rounds of jobs and cancels (of one, twice, of all, of the one just started or ended) from two threads."""
    for seed in range(500):
        _random_round(random.Random(seed))


def _random_round(chance):
    listener, count = Listener(), chance.randint(1, 5)
    worker = started(walk, listener)
    untouched = set(range(count))
    plans = [chance.sample(range(count), chance.randint(0, count)) for _ in range(2)]
    everything = chance.random() < 0.1

    def pester(plan):
        for number in plan:
            for _ in range(2):
                worker.cancel(number)

    threads = [threading.Thread(target=pester, args=(plan,)) for plan in plans]
    for number in range(count):
        if number == count // 2:
            [thread.start() for thread in threads]
        worker.submit(job(number))
    if everything:
        worker.cancel_all()
    for thread in threads:
        thread.join(LIMIT_S)
    for number in range(count):
        listener.end_of(number)
    assert worker.stop()
    assert worker.pending() == ()
    assert worker.busy_with() is None
    ends = listener.ends()
    assert set(ends) == set(range(count))
    assert all(len(names) == 1 for names in ends.values()), ends
    if not everything:
        untouched -= {number for plan in plans for number in plan}
        assert all(ends[number] == ["JobFinished"] for number in untouched), ends


class BrokenText(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class TextIsNoText(Exception):
    def __str__(self):  # pyright: ignore[reportIncompatibleMethodOverride] - that is the fault
        return None


class Abrupt(BaseException):
    pass


EXCEPTIONS = [
    RuntimeError("device-side assert"), ValueError(""), TypeError("x" * 100_000), KeyError("unet"), IndexError(3),
    AttributeError("a\nb\nc"), OSError(28, "No space left on device"), MemoryError(), RecursionError("deep"),
    ZeroDivisionError("0"), AssertionError(), NotImplementedError("op"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    StopIteration(5), KeyboardInterrupt(), GeneratorExit(), Abrupt("gone"), BrokenText(), TextIsNoText(),
    ExceptionGroup("two", [ValueError("a"), TypeError("b")]),
]  # fmt: skip


@pytest.mark.parametrize("stage", Stage)
def test_any_exception_fails_its_job_alone(stage, caplog):  # G11
    listener = Listener()

    def act(one, emit):
        for now in Stage:
            emit(StageChanged(job_id=one.id, stage=now))
            if now is stage and one.id < len(EXCEPTIONS):
                raise EXCEPTIONS[one.id]

    worker = started(act, listener)
    for number in range(len(EXCEPTIONS) + 1):
        worker.submit(job(number))
    listener.end_of(len(EXCEPTIONS))
    assert worker.stop()
    failures = {event.job_id: event for event in listener.events if isinstance(event, JobFailed)}
    assert listener.ends()[len(EXCEPTIONS)] == ["JobFinished"]
    assert set(failures) == set(range(len(EXCEPTIONS)))
    for number, error in enumerate(EXCEPTIONS):
        failure = failures[number]
        assert failure.is_bug
        assert failure.kind == type(error).__name__
        assert failure.kind in failure.message
        assert len(failure.message) < 400
        assert "\n" not in failure.message
    assert "Traceback" in caplog.text
    assert "device-side assert" in caplog.text


def test_an_expected_error_is_told_in_its_own_words():
    listener = Listener()

    def act(one, emit):
        raise ModelError("The model folder is gone: /m", "Was it moved?")

    worker = started(act, listener)
    worker.submit(job(1))
    listener.end_of(1)
    assert worker.stop()
    assert listener.events[-1] == JobFailed(
        job_id=1, message="The model folder is gone: /m", hint="Was it moved?", kind="ModelError"
    )


@pytest.mark.parametrize("error", [SystemExit(3), DeviceLost("The device cuda:0 has stopped working.")])
def test_what_takes_the_lane_along_is_told_and_burns_no_second_job(error):  # G4, G12
    listener, ran, go_on = Listener(), [], threading.Event()

    def act(one, emit):
        ran.append(one.id)
        assert go_on.wait(LIMIT_S)
        raise error

    worker = started(act, listener)
    for number in (1, 2, 3):
        worker.submit(job(number))
    go_on.set()
    listener.death()
    worker.join(LIMIT_S)
    assert ran == [1]
    assert listener.ends() == {1: ["JobFailed"]}
    assert [waiting.id for waiting in worker.pending()] == [2, 3]
    second = started(walk, listener)
    for waiting in worker.pending():
        second.submit(waiting)
    listener.end_of(3)
    assert second.stop()
    assert listener.ends() == {1: ["JobFailed"], 2: ["JobFinished"], 3: ["JobFinished"]}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (EngineError("There is no device 'cuda'.", "Choose 'auto'."), "There is no device 'cuda'."),
        (ImportError("libcudart.so.12"), "The engine has stopped: ImportError: libcudart.so.12"),
        (SystemExit(1), "The engine has stopped: SystemExit: 1"),
    ],
)
def test_an_engine_that_cannot_be_built_is_told_and_the_queue_kept(error, message):
    def factory():
        raise error

    listener = Listener()
    worker = Worker(factory, listener)
    worker.submit(job(1))
    worker.start()
    death = listener.death()
    worker.join(LIMIT_S)
    assert isinstance(death, WorkerDied)
    assert death.message == message
    assert [waiting.id for waiting in worker.pending()] == [1]


def test_stop_cancels_all_takes_no_more_and_tells_no_death():
    in_step, listener, engines = threading.Event(), Listener(), []

    def act(one, emit):
        in_step.set()
        assert one._cancel.wait(LIMIT_S)
        one.check()

    def factory():
        engines.append(Script(act))
        return engines[0]

    worker = Worker(factory, listener)
    worker.start()
    worker.submit(job(1))
    worker.submit(job(2))
    assert in_step.wait(LIMIT_S)
    assert worker.stop()
    assert listener.ends() == {1: ["JobCancelled"], 2: ["JobCancelled"]}
    assert engines[0].closed
    assert not any(isinstance(event, WorkerDied) for event in listener.events)
    with pytest.raises(EngineError):
        worker.submit(job(3))


def test_stop_says_when_the_lane_does_not_end():
    in_step, go_on, listener = threading.Event(), threading.Event(), Listener()

    def act(one, emit):
        in_step.set()
        assert go_on.wait(LIMIT_S)

    worker = started(act, listener)
    worker.submit(job(1))
    assert in_step.wait(LIMIT_S)
    assert not worker.stop(timeout_s=0.01)
    go_on.set()
    worker.join(LIMIT_S)
    assert not worker.is_alive()


def test_stop_before_start():
    assert Worker(lambda: Script(walk), Listener()).stop()


def test_a_listener_that_fails_costs_no_picture():
    listener = Listener()

    def emit(event):
        listener(event)
        if isinstance(event, StageChanged):
            raise RuntimeError("the window is gone")

    worker = Worker(lambda: Script(walk), emit)
    worker.start()
    worker.submit(job(1))
    listener.end_of(1)
    assert worker.stop()
    assert listener.ends() == {1: ["JobFinished"]}


class Holding(Script):
    """An engine that holds what its jobs loaded."""

    def __init__(self, act) -> None:
        super().__init__(act)
        self.held: list[int] = []
        self.lanes: list[str] = []

    def run(self, job, emit):
        super().run(job, emit)
        self.held.append(job.id)

    def memory(self):
        held = tuple(Holder(name=f"model {number}", size_bytes=number) for number in self.held)
        return MemoryChanged(device_name="one", holders=held)

    def free(self):
        self.lanes.append(threading.current_thread().name)
        self.held.clear()


def freed(event) -> bool:
    return isinstance(event, MemoryChanged) and not event.holders


def test_an_idle_lane_lets_go_of_its_models_at_once():
    engine, listener = Holding(walk), Listener()
    worker = Worker(lambda: engine, listener)
    worker.start()
    worker.submit(job(7))
    listener.end_of(7)
    told = next(e for e in listener.events if isinstance(e, MemoryChanged) and e.holders)
    assert told.holders[0].name == "model 7"
    listener.events.clear()
    worker.free()
    listener.wait(freed)
    assert worker.stop()
    assert engine.lanes == ["engine"], "the caller's thread touches no model"


def test_a_running_job_is_let_through_before_memory_is_freed():
    in_step, go_on, listener = threading.Event(), threading.Event(), Listener()
    at_start = []

    def act(one, emit):
        at_start.append(list(engine.held))
        in_step.set()
        assert go_on.wait(LIMIT_S)

    engine = Holding(act)
    worker = Worker(lambda: engine, listener)
    worker.start()
    worker.submit(job(1))
    worker.submit(job(2))
    assert in_step.wait(LIMIT_S)
    worker.free()
    worker.free()
    assert not engine.lanes
    go_on.set()
    listener.end_of(2)
    assert worker.stop()
    assert engine.lanes == ["engine"], "two clicks free once"
    assert at_start == [[], []], "between the two jobs"
    assert listener.ends() == {1: ["JobFinished"], 2: ["JobFinished"]}


def test_memory_that_cannot_be_freed_or_told_costs_no_picture():
    class Broken(Holding):
        def memory(self):
            raise RuntimeError("no answer")

        def free(self):
            raise RuntimeError("no answer")

    listener = Listener()
    worker = Worker(lambda: Broken(walk), listener)
    worker.start()
    worker.free()
    worker.submit(job(1))
    listener.end_of(1)
    assert worker.stop()
    assert listener.ends() == {1: ["JobFinished"]}


def test_kernels_are_looked_at_on_the_lane_and_what_cannot_be_costs_nothing():
    class Looking(Script):
        def kernels(self, job):
            if job.id == 1:
                raise EngineError("A broken model.")
            return (Option(id=threading.current_thread().name, title="where"),)

    listener = Listener()
    worker = Worker(lambda: Looking(walk), listener)
    worker.start()
    worker.look(job(1))
    worker.submit(job(3))
    listener.end_of(3)
    worker.look(job(2))
    told = listener.wait(lambda event: isinstance(event, KernelsTried))
    assert told == KernelsTried(model="m", attention=(Option(id="engine", title="where"),))
    assert worker.stop()
    assert listener.ends() == {3: ["JobFinished"]}
