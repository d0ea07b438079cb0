"""The bridge: events on the GUI thread, order of the end, restart with the queue kept, the reference trap."""

import sys
import threading

import pytest
from PySide6.QtCore import QCoreApplication, QEvent, QObject, Signal, Slot

from desktop.engine_bridge import EngineBridge
from desktop.stall_watch import StallWatch
from pipelines.library.jobs import JobState, JobStore
from pipelines.spec.events import (
    Compiling,
    ImageSaved,
    JobCancelled,
    JobFailed,
    JobFinished,
    JobQueued,
    JobStarted,
    LoadProgress,
    Stage,
    StageChanged,
    StepDone,
    WorkerDied,
    WorkerReady,
    is_terminal,
)
from pipelines.spec.options import EngineOptions
from pipelines.spec.request import GenerationRequest, Sampling, Size
from tests.desktop.scripted import DEVICE_LOST, NOT_SAVED, OUT_OF_MEMORY, RECORD

REQUEST = GenerationRequest(
    model="scripted", size=Size(width=64, height=64), sampling=Sampling(num_inference_steps=3)
)


class Listener(QObject):
    def __init__(self):
        super().__init__()
        self.events = []
        self.threads = set()

    @Slot(object)
    def see(self, event):
        self.events.append(event)
        self.threads.add(threading.current_thread())

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    def ends(self):
        return [event for event in self.events if is_terminal(event)]


@pytest.fixture
def listener(qtbot):
    return Listener()


@pytest.fixture
def bridge(script, listener, tmp_path, qtbot):
    bridge = EngineBridge(EngineOptions(output_dir=str(tmp_path)), script.factory)
    bridge.told.connect(listener.see)
    yield bridge
    script.release()
    bridge.shutdown()
    bridge.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


@pytest.fixture
def store(tmp_path):
    store = JobStore(tmp_path / "jobs.sqlite")
    yield store
    store.close()


def test_events_arrive_in_order_on_the_gui_thread(bridge, listener, qtbot):
    bridge.start()
    job = bridge.submit(REQUEST, RECORD)
    qtbot.waitUntil(lambda: bool(listener.ends()))
    assert listener.threads == {threading.main_thread()}
    order = [type(event) for event in listener.events if getattr(event, "job_id", job) == job]
    wanted = (JobQueued, JobStarted, StepDone, ImageSaved, JobFinished)
    places = [order.index(kind) for kind in wanted]
    assert places == sorted(places)
    assert len(listener.of(WorkerReady)) == 1


def test_a_job_submitted_before_the_start_is_kept(bridge, listener, qtbot):
    job = bridge.submit(REQUEST, RECORD)
    gone = bridge.submit(REQUEST, RECORD)
    bridge.cancel(gone)
    bridge.start()
    qtbot.waitUntil(lambda: len(listener.ends()) == 2)
    assert listener.ends() == [
        JobCancelled(job_id=gone),
        JobFinished(job_id=job, seconds=listener.ends()[1].seconds),
    ]


def test_out_of_memory_in_one_of_five(bridge, listener, script, qtbot):
    """G1 as the window sees it."""
    script.faults[1] = OUT_OF_MEMORY
    bridge.start()
    jobs = [bridge.submit(REQUEST, RECORD) for _ in range(5)]
    qtbot.waitUntil(lambda: len(listener.ends()) == 5)
    assert [type(event) for event in listener.ends()] == [
        JobFinished,
        JobFailed,
        JobFinished,
        JobFinished,
        JobFinished,
    ]
    failed = listener.of(JobFailed)[0]
    assert (failed.job_id, failed.kind) == (jobs[1], "OutOfMemory")
    assert "smaller" in failed.hint


def test_g4_a_lost_device_burns_no_second_job_and_restart_keeps_the_queue(bridge, listener, script, qtbot):
    script.faults[0] = DEVICE_LOST
    bridge.start()
    jobs = [bridge.submit(REQUEST, RECORD) for _ in range(3)]
    qtbot.waitUntil(lambda: bool(listener.of(WorkerDied)))
    assert script.seen == jobs[:1]
    bridge.restart()
    qtbot.waitUntil(lambda: len(listener.ends()) == 3)
    assert [event.job_id for event in listener.ends()] == jobs
    assert script.seen == jobs
    assert script.built == 2


def test_g12_a_dead_worker_is_told_and_restartable(bridge, listener, script, qtbot):
    script.faults[0] = SystemExit(3)
    bridge.start()
    jobs = [bridge.submit(REQUEST, RECORD) for _ in range(2)]
    qtbot.waitUntil(lambda: bool(listener.of(WorkerDied)))
    bridge.restart()
    qtbot.waitUntil(lambda: bool(listener.of(JobFinished)))
    assert listener.of(JobFinished)[0].job_id == jobs[1]


def test_a_factory_that_fails_keeps_the_queue(bridge, listener, script, qtbot):
    script.factory_fault = ImportError("no torch here")
    job = bridge.submit(REQUEST, RECORD)
    bridge.start()
    qtbot.waitUntil(lambda: bool(listener.of(WorkerDied)))
    assert "no torch here" in listener.of(WorkerDied)[0].message
    script.factory_fault = None
    bridge.restart()
    qtbot.waitUntil(lambda: bool(listener.ends()))
    assert listener.ends()[0].job_id == job


def test_g9_restart_leaves_a_stuck_call_behind(bridge, listener, script, qtbot):
    script.hold()
    bridge.start()
    stuck, waiting = bridge.submit(REQUEST, RECORD), bridge.submit(REQUEST, RECORD)
    assert script.holding.wait(60)
    first_lane = [thread for thread in threading.enumerate() if thread.name == "engine"]
    bridge.restart()
    script.release()
    qtbot.waitUntil(lambda: len(listener.ends()) == 2)
    first_lane[0].join(5)
    qtbot.wait(20)
    assert [(type(e), e.job_id) for e in listener.ends()] == [(JobFailed, stuck), (JobFinished, waiting)]
    assert "restarted" in listener.of(JobFailed)[0].message


def test_p8_a_full_disk_pauses_the_queue(bridge, listener, script, qtbot):
    script.faults[0] = NOT_SAVED
    bridge.start()
    jobs = [bridge.submit(REQUEST, RECORD) for _ in range(3)]
    qtbot.waitUntil(lambda: bool(listener.of(JobFailed)))
    qtbot.wait(50)
    assert bridge.paused
    assert script.seen == jobs[:1]
    bridge.resume()
    qtbot.waitUntil(lambda: len(listener.ends()) == 3)
    assert [type(event) for event in listener.ends()] == [JobFailed, JobFinished, JobFinished]


def test_cancel_reaches_a_job_that_a_pause_holds(bridge, listener, script, qtbot):
    script.faults[0] = NOT_SAVED
    bridge.start()
    jobs = [bridge.submit(REQUEST, RECORD) for _ in range(3)]
    qtbot.waitUntil(lambda: bridge.paused)
    bridge.cancel(jobs[1])
    qtbot.waitUntil(lambda: bool(listener.of(JobCancelled)))
    qtbot.wait(50)
    assert [event.job_id for event in listener.ends()] == jobs[:2]
    assert bridge.paused


def test_restart_takes_over_the_job_that_a_pause_holds(bridge, listener, script, qtbot):
    script.faults[0] = NOT_SAVED
    bridge.start()
    jobs = [bridge.submit(REQUEST, RECORD) for _ in range(3)]
    qtbot.waitUntil(lambda: bridge.paused)
    qtbot.waitUntil(lambda: bridge._lane.worker.busy_with() is not None)
    bridge.restart()
    qtbot.waitUntil(lambda: len(listener.ends()) == 3)
    assert [(type(event), event.job_id) for event in listener.ends()[1:]] == [
        (JobFinished, jobs[1]), (JobFinished, jobs[2]),
    ]  # fmt: skip


def test_closing_leaves_the_job_that_a_pause_holds_in_the_store(bridge, script, store, qtbot):
    bridge.use_store(store)
    script.faults[0] = NOT_SAVED
    bridge.start()
    jobs = [bridge.submit(REQUEST, RECORD) for _ in range(3)]
    qtbot.waitUntil(lambda: bridge.paused)
    qtbot.waitUntil(lambda: bridge._lane.worker.busy_with() is not None)
    bridge.shutdown()
    assert [store.job(job).state for job in jobs] == [JobState.FAILED, JobState.QUEUED, JobState.QUEUED]


def test_shutdown_in_mid_work_ends_in_time_and_is_silent(bridge, listener, script, qtbot):
    script.hold()
    bridge.start()
    bridge.submit(REQUEST, RECORD)
    assert script.holding.wait(60)
    threading.Timer(0.2, script.release).start()
    assert bridge.shutdown(5.0)
    seen = len(listener.events)
    qtbot.wait(20)
    assert all(isinstance(event, JobQueued | JobStarted | StepDone | WorkerReady) or not is_terminal(event)
               for event in listener.events[seen:])  # fmt: skip


def test_shutdown_says_when_a_call_does_not_return(bridge, script):
    script.hold()
    bridge.start()
    bridge.submit(REQUEST, RECORD)
    assert script.holding.wait(60)
    assert bridge.shutdown(0.1) is False


def test_shutdown_knows_of_the_call_that_a_restart_left_behind(bridge, script):
    """Python must not end beneath a thread that is in foreign code: the process would abort after its window."""
    script.hold()
    bridge.start()
    bridge.submit(REQUEST, RECORD)
    assert script.holding.wait(60)
    stuck = next(thread for thread in threading.enumerate() if thread.name == "engine")
    bridge.restart()
    assert bridge.shutdown(5) is False
    script.release()
    stuck.join(60)
    assert bridge.shutdown(5) is True


def test_the_store_knows_each_end(bridge, listener, script, store, qtbot):
    bridge.use_store(store)
    script.faults[1] = OUT_OF_MEMORY
    bridge.start()
    good, bad = bridge.submit(REQUEST, RECORD), bridge.submit(REQUEST, RECORD)
    qtbot.waitUntil(lambda: len(listener.ends()) == 2)
    assert [store.job(job).state for job in (good, bad)] == [JobState.DONE, JobState.FAILED]


def test_closing_leaves_waiting_jobs_in_the_store(bridge, script, store):
    bridge.use_store(store)
    script.hold()
    bridge.start()
    running, waiting = bridge.submit(REQUEST, RECORD), bridge.submit(REQUEST, RECORD)
    assert script.holding.wait(60)
    bridge.shutdown(0.1)
    assert store.job(running).state is JobState.CANCELLED
    assert store.job(waiting).state is JobState.QUEUED


def test_a_store_that_fails_costs_no_picture(bridge, listener, store, qtbot, caplog):
    bridge.use_store(store)
    store.close()
    bridge.start()
    bridge.submit(REQUEST, RECORD)
    qtbot.waitUntil(lambda: bool(listener.of(JobFinished)))
    assert "queue cannot be kept" in caplog.text


class Emitter(QObject):
    told = Signal(object)


def test_emitting_does_not_eat_references(listener):
    """PySide6 6.12.0 on Python 3.10 and 3.11 loses one reference to True an emit, and then aborts."""
    emitter = Emitter()
    emitter.told.connect(listener.see)
    before = sys.getrefcount(True), sys.getrefcount(None)
    for _ in range(100):
        emitter.told.emit(JobQueued(job_id=1))
    after = sys.getrefcount(True), sys.getrefcount(None)
    assert len(listener.events) == 100
    assert after[0] > before[0] - 50
    assert after[1] > before[1] - 50


def test_stall_watch_speaks_once_and_only_while_a_job_runs(qtbot):
    watch = StallWatch(load_limit_s=60, step_limit_s=0.05, compile_limit_s=60)
    heard = []
    watch.stalled.connect(heard.append)
    watch.see(JobStarted(job_id=1))
    qtbot.wait(120)
    assert heard == []  # loading may take longer
    watch.see(StepDone(job_id=1, step=1, steps=9))
    qtbot.waitUntil(lambda: heard == [0.05])
    qtbot.wait(120)
    assert heard == [0.05]
    watch.see(Compiling(job_id=1))
    qtbot.wait(120)
    assert heard == [0.05]  # compiling may take longest
    watch.see(StepDone(job_id=1, step=2, steps=9))
    watch.see(JobFinished(job_id=1))
    qtbot.wait(120)
    assert heard == [0.05]


def test_a_load_that_goes_on_is_no_silence(qtbot):
    """In whichever stage: text encoders may be read only when the prompt is."""
    watch = StallWatch(load_limit_s=60, step_limit_s=0.05, compile_limit_s=60)
    heard = []
    watch.stalled.connect(heard.append)
    watch.see(StageChanged(job_id=1, stage=Stage.ENCODE))
    watch.see(LoadProgress(job_id=1, done=1, total=9))
    qtbot.wait(120)
    assert heard == []
