"""What the live preview costs (goal 18): steps of the engine with one against steps with none."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, pairwise
from pathlib import Path
from statistics import median
from unittest import mock

from pipelines.runtime import engine as runtime_engine
from pipelines.runtime.preview import Previewer
from pipelines.runtime.worker import Engine
from pipelines.spec.events import Event, StepDone
from pipelines.spec.job import Job
from pipelines.spec.record import ModelRecord
from tests.benchmarks.engine import job_run, middle_step, one_thread, options_for
from tests.benchmarks.models import NARROW, job_for, record_of, request_for, write_sd
from tests.benchmarks.pairs import Interval, Pairs, in_turns
from tests.benchmarks.rows import Goal, Row, measured
from tests.benchmarks.terms import Terms

PAIRS, RUNS = 10, 5
NARROW_RUNS, WARM_UPS = 60, 5
STEPS = 20
EVERY_STEP_S = 1e-9
NEVER_S = 0.0


def rows(terms: Terms) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="emulsion-bench-") as folder, one_thread():
        yield (_cpu_row if terms.device == "cpu" else _row)(terms, Path(folder))


def previews(told: list[Event]) -> int:
    return sum(isinstance(event, StepDone) and event.preview is not None for event in told)


def _job(record: ModelRecord, terms: Terms) -> Job:
    return job_for(record, request_for(record, steps=6 if terms.quick else STEPS))


def _row(terms: Terms, folder: Path) -> Row:
    """An engine with a preview at every step, and one with none."""
    job, seen = _job(record_of(terms.model), terms), list[int]()
    engines = [
        runtime_engine.build(options_for(terms, folder, preview_interval_s=s))
        for s in (EVERY_STEP_S, NEVER_S)
    ]

    def run(engine: Engine, wanted: bool):
        sample, told = job_run(engine, job, terms.device)
        assert wanted == bool(previews(told)), "previews were made where none were wanted, or none at all"
        seen.append(previews(told))
        return sample

    for engine, wanted in zip(engines, (True, False), strict=True):
        run(engine, wanted)
    pairs = in_turns(
        lambda: run(engines[0], True), lambda: run(engines[1], False), terms.times(PAIRS), terms.order
    )
    return _measured(
        pairs,
        "wall",
        pairs.middles("wall")[1],
        f"{max(seen)} previews in {job.request.sampling.num_inference_steps} steps",
    )


def _cpu_row(terms: Terms, folder: Path) -> Row:
    """What previews add is taken with a network that computes little, whose noise is as little.

    Its steps with one and with none are neighbours, so that what others do meanwhile hits both alike; a pair is a run.
    """
    own = _job(record_of(terms.model), terms)
    narrow = _job(record_of(write_sd(folder / "models" / "narrow", NARROW)), terms)
    engine = runtime_engine.build(options_for(terms, folder, preview_interval_s=EVERY_STEP_S))
    with by_turns():
        runs = [steps_of(engine, narrow) for _ in range(terms.times(WARM_UPS + NARROW_RUNS))]
    runs = runs[-NARROW_RUNS:]
    pairs = Pairs(*(tuple({"cpu": median(side)} for side in sides) for sides in zip(*runs, strict=True)))
    engine.close()
    without = runtime_engine.build(options_for(terms, folder, preview_interval_s=NEVER_S))
    baseline = median(middle_step(without, own, terms.device)[0]["cpu"] for _ in range(terms.times(RUNS) + 1))
    without.close()
    made, steps = min(len(seen) for seen, _ in runs), narrow.request.sampling.num_inference_steps
    note = f"{made} previews in {steps} steps, by turns; taken with a narrow network of the same latents"
    return _measured(pairs, "cpu", baseline, note)


@contextmanager
def by_turns() -> Iterator[None]:
    """Engines that would make a preview at every step make one at every second."""
    turns, take = count(), Previewer.take

    def every_second(previewer: Previewer):
        previewer._interval_s = EVERY_STEP_S if next(turns) % 2 else NEVER_S
        return take(previewer)

    with mock.patch.object(Previewer, "take", every_second):
        yield


def steps_of(engine: Engine, job: Job) -> tuple[list[float], list[float]]:
    """CPU seconds of the steps with a preview and of those with none. Not of the first and the last."""
    marks: list[tuple[float, bool]] = []

    def emit(event: Event) -> None:
        if isinstance(event, StepDone):
            marks.append((time.process_time(), event.preview is not None))

    engine.run(job, emit)
    taken = [(end - begin, seen) for (begin, _), (end, seen) in pairwise(marks[:-1])]
    return [s for s, seen in taken if seen], [s for s, seen in taken if not seen]


def _measured(pairs: Pairs, key: str, baseline: float, note: str) -> Row:
    """`baseline`: seconds of a step of the model that is measured, without previews."""
    added = pairs.difference(key)
    return measured(
        "preview.latent_rgb",
        (baseline + added.middle) * 1e3,
        "CPU-ms" if key == "cpu" else "ms",
        Interval(*(1 + each / baseline for each in (added.middle, added.lo, added.hi))),
        baseline_name="step without",
        baseline=baseline * 1e3,
        n=len(pairs),
        goal=Goal(sign="<=", bound=1.01),
        note=note,
    )
