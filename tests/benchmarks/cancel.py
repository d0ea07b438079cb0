"""From `cancel` to an idle engine (goal 19), at points all over a step."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from pipelines.runtime import engine as runtime_engine
from pipelines.spec.events import ImageSaved, JobCancelled, StepDone, is_terminal
from tests.benchmarks.engine import options_for
from tests.benchmarks.lane import Lane, step_times
from tests.benchmarks.models import record_of, request_for
from tests.benchmarks.pairs import worst_of
from tests.benchmarks.rows import Goal, Row, measured
from tests.benchmarks.terms import Terms

RUNS = 20
ACKNOWLEDGED_S = 0.1


def rows(terms: Terms) -> Iterator[Row]:
    record = record_of(terms.model)
    rng = random.Random(0)
    with (
        tempfile.TemporaryDirectory(prefix="emulsion-bench-") as folder,
        Lane(lambda: runtime_engine.build(options_for(terms, Path(folder), threads=0))) as lane,
    ):
        step_s = median(step_times(lane.run(record, request_for(record, steps=8))))
        limit_s = max(step_s, ACKNOWLEDGED_S)
        # Long enough that a job cannot end by itself before it is cancelled.
        request = request_for(record, steps=100)
        taken = [_cancelled_s(lane, record, request, rng.random() * step_s) for _ in range(terms.times(RUNS))]
    yield measured(
        "cancel.denoise",
        median(taken) * 1e3,
        "ms",
        worst_of([seconds / limit_s for seconds in taken]),
        baseline_name="a step or 100 ms",
        baseline=limit_s * 1e3,
        n=len(taken),
        goal=Goal(sign="<=", bound=1.0),
        note=f"the interval holds all runs; a step takes {step_s * 1e3:.0f} ms; nothing saved",
    )


def _cancelled_s(lane: Lane, record, request, delay_s: float) -> float:
    """Seconds from `cancel`, called `delay_s` after a step, until the job has ended and the lane is free."""
    job_id = lane.submit(record, request)
    lane.wait_for(lambda event: isinstance(event, StepDone) and event.step >= 2)
    time.sleep(delay_s)
    start = time.perf_counter()
    lane.cancel(job_id)
    at, end = lane.wait_for(is_terminal)
    assert lane.idle(), "the job has ended, but the worker is still busy with it"
    assert isinstance(end, JobCancelled), f"cancelled, but the end is {end}"
    assert not any(isinstance(event, ImageSaved) for _, event in lane.told()), (
        "a cancelled job saved a picture"
    )
    return at - start
