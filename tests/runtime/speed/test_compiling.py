"""A compiler at work is told of and timed: each program once, and nothing once all are there."""

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from pipelines.runtime.speed.compiling import Compiling, listened
from pipelines.spec import events
from pipelines.spec.errors import Cancelled
from pipelines.spec.events import ImageSaved, StepDone
from tests.runtime.conftest import run
from tests.runtime.speed.test_quickened import flux, switched

pytestmark = pytest.mark.usefixtures("by_dynamo_alone")


def test_each_program_is_told_when_it_begins_and_timed_until_it_ends():
    now, told = [0.0], []

    def slow(module, _inputs):
        """A compiler that takes five seconds."""
        now[0] += 5.0
        return module

    def began():
        told.append(now[0])

    work = torch.compile(lambda x: x * 2 + 1, backend=slow, fullgraph=True)
    compiling = Compiling(began, clock=lambda: now[0])
    with listened(compiling):
        work(torch.ones(2))
        now[0] += 100
        work(torch.ones(2))
        assert (told, compiling.seconds) == ([0.0], 5.0)
        work(torch.ones(2, dtype=torch.int64))
    assert (told, compiling.seconds) == ([0.0, 105.0], 10.0)
    work(torch.ones(2, dtype=torch.float64))
    assert len(told) == 2, "nobody listens any more"


def test_a_compiler_that_fails_is_timed_too():
    now = [0.0]

    def broken(_module, _inputs):
        now[0] += 3.0
        raise RuntimeError("no compiler")

    compiling = Compiling(lambda: None, clock=lambda: now[0])
    with listened(compiling), pytest.raises(TorchDynamoException):
        torch.compile(lambda x: x + 1, backend=broken, fullgraph=True)(torch.ones(2))
    assert compiling.seconds == 3.0


def test_a_job_tells_before_its_first_step_and_the_next_one_waits_for_nothing(engine):
    job = switched(flux(steps=2), compile=True)
    first, second = (run(engine, job) for _ in range(2))
    kinds = [type(event) for event in first]
    assert kinds.index(events.Compiling) < kinds.index(StepDone)
    (saved,) = (event for event in first if isinstance(event, ImageSaved))
    assert 0 < saved.compile_s < saved.denoise_s
    assert not any(isinstance(event, events.Compiling) for event in second)
    (saved,) = (event for event in second if isinstance(event, ImageSaved))
    assert saved.compile_s == 0


def test_a_cancel_while_it_compiles_ends_the_job_before_the_first_step(engine):
    job, seen = switched(flux(steps=4), compile=True), []

    def cancel(event):
        seen.append(event)
        if isinstance(event, events.Compiling):
            job.cancel()

    with pytest.raises(Cancelled):
        run(engine, job, cancel)
    assert any(isinstance(event, events.Compiling) for event in seen)
    assert not any(isinstance(event, StepDone) for event in seen)
