"""The engine against a bare diffusers loop (goal 1); what another seed costs beside its picture (goal 11)."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

from pipelines.runtime import engine as runtime_engine
from pipelines.runtime.worker import Engine
from pipelines.spec.events import Event, ImageSaved, Stage, StageChanged, StepDone
from pipelines.spec.job import Job
from pipelines.spec.options import EngineOptions
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest
from tests.benchmarks.bare import bare_picture, bare_pipeline
from tests.benchmarks.lane import Lane, Told
from tests.benchmarks.models import TINY, job_for, record_of, request_for, write_sd
from tests.benchmarks.pairs import Interval, Pairs, Sample, bootstrap, in_turns, warm_up
from tests.benchmarks.rows import Goal, Row, measured
from tests.benchmarks.terms import Terms

DTYPES = {"cpu": "float32", "cuda": "float16"}
PAIRS = 10
STEPS = 20
RERUNS = 10


def rows(terms: Terms) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="emulsion-bench-") as folder:
        with one_thread():
            yield _step_row(terms, Path(folder))
            if terms.device == "cpu":
                yield _added_row(terms, Path(folder))
        yield _rerun_row(terms, Path(folder))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """What a step takes can then be read from the CPU time: no other thread waits in a loop meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def options_for(terms: Terms, folder: Path, **changes) -> EngineOptions:
    settings = {
        "output_dir": str(folder),
        "device": terms.device,
        "dtype": DTYPES[terms.device],
        "threads": 1,
    }
    return EngineOptions(**(settings | changes))


class Clock:
    """Runs from the end of the first step to the end of the last; `sample` is of one step between them.

    The accelerator is waited for at both ends and never in between.
    """

    def __init__(self, steps: int, device: str) -> None:
        self._steps, self._device = steps, device
        self._marks: list[tuple[float, float]] = []

    def on_step(self, step: int) -> None:
        if step in (1, self._steps):
            if self._device == "cuda":
                torch.cuda.synchronize()
            self._marks.append((time.perf_counter(), time.process_time()))

    def sample(self) -> Sample:
        """Seconds of one step, 'wall' and 'cpu' (of the whole process)."""
        (wall, cpu), (wall_end, cpu_end) = self._marks
        between = self._steps - 1
        return {"wall": (wall_end - wall) / between, "cpu": (cpu_end - cpu) / between}


def engine_run(
    engine: Engine, record: ModelRecord, request: GenerationRequest, device: str
) -> tuple[Sample, list[Event]]:
    return job_run(engine, job_for(record, request), device)


def job_run(engine: Engine, job: Job, device: str) -> tuple[Sample, list[Event]]:
    """What a step took, and all that was told."""
    clock = Clock(job.request.sampling.num_inference_steps, device)
    told: list[Event] = []

    def emit(event: Event) -> None:
        told.append(event)
        if isinstance(event, StepDone):
            clock.on_step(event.step)

    engine.run(job, emit)
    return clock.sample(), told


def middle_step(engine: Engine, job: Job, device: str) -> tuple[Sample, list[Event]]:
    """As `job_run`. On a processor of the middle one of the steps: what others do meanwhile hits some of them."""
    if device != "cpu":
        return job_run(engine, job, device)
    told: list[Event] = []
    marks: list[tuple[float, float]] = []

    def emit(event: Event) -> None:
        told.append(event)
        if isinstance(event, StepDone):
            marks.append((time.perf_counter(), time.process_time()))

    engine.run(job, emit)
    wall, cpu = (median(end - begin for begin, end in pairwise(times)) for times in zip(*marks, strict=True))
    return {"wall": wall, "cpu": cpu}, told


def saved_picture(told: list[Event]) -> Image.Image:
    path = next(event.path for event in told if isinstance(event, ImageSaved))
    with Image.open(path) as image:
        return image.convert("RGB")


def check_same_pixels(ours: Image.Image, theirs: Image.Image) -> None:
    """Raises AssertionError telling how many pixels differ and by how much."""
    a, b = np.asarray(ours, dtype=np.int16), np.asarray(theirs, dtype=np.int16)
    if a.shape != b.shape:
        raise AssertionError(f"the engine's picture is {a.shape}, diffusers' {b.shape}")
    if (different := np.abs(a - b)).any():
        share = (different.max(axis=-1) > 0).mean()
        raise AssertionError(f"{share:.1%} of the pixels differ from diffusers', by up to {different.max()}")


def _step_row(terms: Terms, folder: Path) -> Row:
    """On the CPU the models are small, so there the limit is an absolute one, in a row of its own."""
    pairs = _step_pairs(terms, folder, terms.model)
    wall, bare_wall = pairs.middles("wall")
    return measured(
        "engine.step",
        wall * 1e3,
        "ms",
        pairs.ratio("wall"),
        baseline_name="bare diffusers loop",
        baseline=bare_wall * 1e3,
        n=len(pairs),
        goal=Goal(sign="<=", bound=1.01) if terms.device == "cuda" else None,
        note="wall; pixels equal",
    )


def _added_row(terms: Terms, folder: Path) -> Row:
    """Of a network that computes little: what a step of a larger one takes varies by more than is added to it."""
    pairs = _step_pairs(terms, folder, write_sd(folder / "models" / "tiny", TINY))
    cpu, bare_cpu = pairs.middles("cpu")
    return measured(
        "engine.step_cpu",
        cpu * 1e3,
        "CPU-ms",
        scaled(pairs.difference("cpu"), 1e3),
        baseline_name="bare diffusers loop",
        baseline=bare_cpu * 1e3,
        n=len(pairs),
        goal=Goal(sign="<=", bound=0.5, of="difference"),
        note="a tiny model; progress events, cancel checks and previews; pixels equal",
    )


def _step_pairs(terms: Terms, folder: Path, model: Path) -> Pairs:
    record = record_of(model)
    request = request_for(record, steps=6 if terms.quick else STEPS)
    options = options_for(terms, folder, preview_interval_s=0.1)
    engine = runtime_engine.build(options)
    pipe = bare_pipeline(record.path, terms.device, getattr(torch, options.dtype))

    def ours() -> Sample:
        return engine_run(engine, record, request, terms.device)[0]

    def bare() -> Sample:
        clock = Clock(request.sampling.num_inference_steps, terms.device)
        bare_picture(pipe, request, clock.on_step)
        return clock.sample()

    picture = saved_picture(engine_run(engine, record, request, terms.device)[1])
    check_same_pixels(picture, bare_picture(pipe, request, lambda step: None))
    warm_up(lambda: bare()["wall"], most=1 if terms.quick else 8)
    pairs = in_turns(ours, bare, terms.times(PAIRS), terms.order)
    engine.close()
    return pairs


def scaled(interval: Interval, by: float) -> Interval:
    return Interval(interval.middle * by, interval.lo * by, interval.hi * by)


PICTURE_STAGES = frozenset({Stage.DENOISE, Stage.DECODE, Stage.SAVE})


def outside_picture_s(told: list[Told]) -> tuple[float, float]:
    """Seconds of a job that went to nothing of denoise, decode and save, and its seconds in all."""
    stages = [(at, event.stage) for at, event in told if isinstance(event, StageChanged)]
    end = told[-1][0]
    ends = [at for at, _ in stages[1:]] + [end]
    picture = sum(b - a for (a, stage), b in zip(stages, ends, strict=True) if stage in PICTURE_STAGES)
    whole = end - told[0][0]
    return whole - picture, whole


def _rerun_row(terms: Terms, folder: Path) -> Row:
    record = record_of(terms.model)
    steps = 6 if terms.quick else STEPS
    with Lane(lambda: runtime_engine.build(options_for(terms, folder, threads=0))) as lane:
        lane.run(record, request_for(record, steps=steps, seed=0))
        taken = [
            outside_picture_s(lane.run(record, request_for(record, steps=steps, seed=seed)))
            for seed in range(1, 1 + terms.times(RERUNS))
        ]
    shares = bootstrap([outside / whole for outside, whole in taken])
    return measured(
        "engine.rerun",
        bootstrap([outside for outside, _ in taken]).middle * 1e3,
        "ms",
        shares,
        baseline_name="whole run",
        baseline=bootstrap([whole for _, whole in taken]).middle * 1e3,
        n=len(taken),
        goal=Goal(sign="<=", bound=0.02),
        note="another seed, nothing else changed; all but denoise, decode and save",
    )
