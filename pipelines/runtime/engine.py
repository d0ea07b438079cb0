"""`Engine`: the life of a job on one screen, load -> encode -> denoise -> decode -> save.

Importing this module loads no torch; `build` does, quietly, on the thread that calls it.
"""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.library.outputs import save_picture
from pipelines.runtime.meter import Meter
from pipelines.runtime.optional import leave_out_broken
from pipelines.runtime.pace import Pace
from pipelines.runtime.quiet_import import quietly
from pipelines.spec.errors import DeviceLost, OutOfMemory, RequestError
from pipelines.spec.events import Event, ImageSaved, Stage, StageChanged
from pipelines.spec.families import FAMILIES, by_id
from pipelines.spec.families.base import Family
from pipelines.spec.job import Job
from pipelines.spec.options import EngineOptions
from pipelines.spec.validate import problems

if TYPE_CHECKING:
    from pipelines.runtime.compute import Compute
    from pipelines.runtime.phases import Source

log = logging.getLogger(__name__)

Emit = Callable[[Event], None]


def build(options: EngineOptions) -> Engine:
    """Imports torch and diffusers (seconds), chooses the device; EngineError for one that does not answer."""
    quietly(_import_all)
    from pipelines.runtime.compute import Compute

    return Engine(Compute(options), options)


def _import_all() -> None:
    """diffusers imports a class's modules when it is first named: here, not in the first job."""
    leave_out_broken()
    diffusers = importlib.import_module("diffusers")
    for family in FAMILIES:
        getattr(diffusers, next(iter(family.pipelines.values())))
    importlib.import_module("pipelines.runtime.compute")


class Engine:
    """Runs one job at a time, on the thread that built it. `compute` holds everything that touches torch."""

    def __init__(self, compute: Compute, options: EngineOptions) -> None:
        self.compute = compute
        self.device = compute.name
        self._options = options

    def run(self, job: Job, emit: Emit) -> None:
        """Draws and saves each picture of the request, telling every stage and step.

        Raises Cancelled after `job.cancel()`, RequestError, ModelError, OutOfMemory, BadPicture, NotSaved,
        DeviceLost.
        """
        try:
            self._draw(job, emit)
            return
        except Exception as error:
            if self.compute.is_lost(error):
                raise DeviceLost(
                    f"The device {self.device} has stopped working.", "Restart the engine."
                ) from error
            if not self.compute.is_out_of_memory(error):
                raise
            log.warning("job %d: out of memory", job.id, exc_info=error)
            self.compute.forget(error)
        self.compute.drop_caches()  # out here, where nothing holds the failed job's tensors any more
        raise _out_of_memory(job, self.device)

    def _draw(self, job: Job, emit: Emit) -> None:
        family, compute = _family(job), self.compute
        self._enter(job, Stage.LOAD, emit)
        roles = compute.roles(job, family)
        meter = Meter(job, emit)
        loaded = compute.load_all(job, roles, meter)
        with compute.conditioned(job, roles, loaded, meter) as models:
            self._enter(job, Stage.ENCODE, emit)
            sources = compute.cast(job, roles, models)
            for note in dict.fromkeys(note for source in sources for note in source.notes):
                self._enter(job, Stage.ENCODE, emit, note=note)
            self._draw_each(job, sources, emit)

    def _draw_each(self, job: Job, sources: Sequence[Source], emit: Emit) -> None:
        request, compute = job.request, self.compute
        pace: Pace | None = None
        for image in range(request.count):
            start = time.perf_counter()
            self._enter(job, Stage.DENOISE, emit, image)
            phases = compute.phases(job, sources)
            pace = pace or Pace(request.count, sum(phase.steps for phase in phases))
            latents = compute.denoise(phases, job, image, pace, emit)
            self._enter(job, Stage.DECODE, emit, image)
            note = partial(self._enter, job, Stage.DECODE, emit, image)
            picture = compute.decode(phases[-1], latents, job, note)
            self._enter(job, Stage.SAVE, emit, image)
            emit(self._saved(job, image, picture, time.perf_counter() - start))
            pace.picture_done()

    def _saved(self, job: Job, image: int, picture: Any, seconds: float) -> ImageSaved:
        seed = job.request.sampling.seed + image
        marks = self.compute.marks(picture)
        path = save_picture(
            picture, job.request, record=job.model, seed=seed, image_index=image, seconds=seconds,
            marks=marks, refiner=job.refiner, output_dir=Path(self._options.output_dir),
            pattern=self._options.filename_pattern,
        )  # fmt: skip
        return ImageSaved(
            job_id=job.id, path=str(path), seed=seed, width=picture.width, height=picture.height,
            image=image, marks=marks,
        )  # fmt: skip

    @staticmethod
    def _enter(job: Job, stage: Stage, emit: Emit, image: int = 0, note: str = "") -> None:
        job.check()
        emit(StageChanged(job_id=job.id, stage=stage, image=image, note=note))

    def close(self) -> None:
        """Lets go of the models."""
        self.compute.drop_caches()


def _family(job: Job) -> Family:
    """The job's family. Raises RequestError for the first thing that is wrong with the request."""
    family = by_id(job.model.family)
    for problem in problems(job.request, job.model, family, job.refiner, job.parts):
        raise RequestError(problem.field, problem.message, problem.hint)
    return family


def _out_of_memory(job: Job, device: str) -> OutOfMemory:
    size = job.request.size
    return OutOfMemory(
        f"Not enough memory on {device} for {size.width} × {size.height} pixels with {job.model.title}.",
        "Try a smaller size, or close other programs that use memory.",
    )
