"""`Engine`: the life of a job on one screen, load -> encode -> denoise -> decode -> save.

Importing this module loads no torch; `build` does, quietly, on the thread that calls it.
"""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.library.compiled_dir import prepare
from pipelines.library.outputs import save_picture
from pipelines.runtime.meter import Meter
from pipelines.runtime.optional import leave_out_broken
from pipelines.runtime.pace import Pace
from pipelines.runtime.placement import Placement
from pipelines.runtime.placement_words import needed, words
from pipelines.runtime.quiet_import import quietly
from pipelines.spec.errors import DeviceLost, OutOfMemory, RequestError
from pipelines.spec.events import Event, ImageSaved, MemoryChanged, Stage, StageChanged
from pipelines.spec.families import FAMILIES, by_id
from pipelines.spec.families.base import Family
from pipelines.spec.job import Job
from pipelines.spec.machine import Option
from pipelines.spec.options import EngineOptions
from pipelines.spec.validate import problems

if TYPE_CHECKING:
    from pipelines.runtime.compute import Compute
    from pipelines.runtime.phases import Source

log = logging.getLogger(__name__)

Emit = Callable[[Event], None]


def build(options: EngineOptions) -> Engine:
    """Imports torch and diffusers (seconds), chooses the device; EngineError for one that does not answer."""
    problem = prepare(options.compiled_dir)
    quietly(_import_all)
    from pipelines.runtime.compute import Compute

    compute = Compute(options)
    told = tuple(filter(None, (problem, _unused(options, compute))))
    for each in told:
        log.warning("%s", each)
    return Engine(compute, options, told)


def _unused(options: EngineOptions, compute: Compute) -> str:
    """A device of their own for text encoders helps a card only; a setting that does nothing is told."""
    if not options.encoders_device or compute.card.apart:
        return ""
    return f"'{options.encoders_device}' for the text encoders is not used: it helps beside a graphics card only."


def _import_all() -> None:
    """diffusers imports a class's modules when it is first named: here, not in the first job."""
    leave_out_broken()
    diffusers = importlib.import_module("diffusers")
    for family in FAMILIES:
        getattr(diffusers, next(iter(family.pipelines.values())))
    importlib.import_module("pipelines.runtime.compute")


@dataclass(slots=True)
class _Drawing:
    """How far a job is: its stage, and which picture is the first that is not saved.

    `ways` are sentences that tell what memory was too small for, and what was done about it.
    """

    job: Job
    family: Family
    emit: Emit
    stage: Stage = Stage.LOAD
    image: int = 0
    ways: list[str] = field(default_factory=list)

    def enter(self, stage: Stage, image: int = 0, note: str = "") -> None:
        self.job.check()
        self.stage = stage
        self.emit(StageChanged(job_id=self.job.id, stage=stage, image=image, note=note))

    def tell(self, way: str) -> None:
        """Also beside the picture, as it may have taken longer for it."""
        self.ways.append(way)
        self.enter(self.stage, self.image, way)


class Engine:
    """Runs one job at a time, on the thread that built it. `compute` holds everything that touches torch.

    `problems` as in `Machine`.
    """

    def __init__(self, compute: Compute, options: EngineOptions, problems: tuple[str, ...] = ()) -> None:
        self.compute = compute
        self.device = compute.name
        self.machine = replace(compute.machine(), problems=problems)
        self._options = options

    def run(self, job: Job, emit: Emit) -> None:
        """Draws and saves each picture of the request, telling every stage and step.

        Where memory runs out the job goes on with the next plan that takes less, from the picture it was at.
        Raises Cancelled after `job.cancel()`, RequestError, ModelError, OutOfMemory, BadPicture, NotSaved,
        DeviceLost.
        """
        family = _family(job)
        placement, drawing = self.compute.plan(job), _Drawing(job, family, emit)
        if self.compute.is_hopeless(placement):
            raise _out_of_memory(job, self.device, placement)
        while not self._drawn(drawing, placement):
            stage = self.compute.stage_of(drawing.stage)
            self.compute.retreat(stage)  # out here, where nothing holds the failed try's tensors any more
            placement = placement.cheaper(stage)
            if not placement.fits:
                self.compute.drop_caches()
                raise _out_of_memory(job, self.device, placement)
            drawing.tell(f"Memory ran out, and it was tried again like this: {words(placement)}.")

    def _drawn(self, drawing: _Drawing, placement: Placement) -> bool:
        """Whether all is drawn; False when memory ran out."""
        try:
            self.compute.settle(drawing.job, placement)
            self._draw(drawing)
        except Exception as error:
            if self.compute.is_lost(error):
                raise DeviceLost(
                    f"The device {self.device} has stopped working.", "Restart the engine."
                ) from error
            if not self.compute.is_out_of_memory(error):
                raise
            log.warning("job %d: out of memory", drawing.job.id, exc_info=error)
            self.compute.forget(error)
            return False
        finally:
            self.compute.occupancy.leave()
        return True

    def _draw(self, drawing: _Drawing) -> None:
        job, compute = drawing.job, self.compute
        drawing.enter(Stage.LOAD, drawing.image)
        roles = compute.roles(job, drawing.family)
        meter = Meter(job, drawing.emit)
        loaded = compute.load_all(job, roles, meter)
        drawing.emit(self.memory())
        with compute.conditioned(job, roles, loaded, meter) as models:
            drawing.enter(Stage.ENCODE, drawing.image)
            sources = compute.cast(job, roles, models)
            for note in dict.fromkeys(note for source in sources for note in source.notes):
                drawing.enter(Stage.ENCODE, drawing.image, note=note)
            self._draw_each(drawing, sources)

    def _draw_each(self, drawing: _Drawing, sources: Sequence[Source]) -> None:
        job, compute = drawing.job, self.compute
        pace: Pace | None = None
        for image in range(drawing.image, job.request.count):
            start = time.perf_counter()
            drawing.enter(Stage.DENOISE, image)
            phases = compute.phases(job, sources)
            pace = pace or Pace(job.request.count, sum(phase.steps for phase in phases))
            latents = compute.denoise(phases, job, image, pace, drawing.emit, drawing.tell)
            drawn = time.perf_counter()
            drawing.enter(Stage.DECODE, image)
            picture = compute.decode(phases, sources, latents, job, drawing.tell)
            decoded = time.perf_counter()
            drawing.enter(Stage.SAVE, image)
            saved = self._saved(drawing, image, picture, decoded - start)
            whole = time.perf_counter() - start
            saved = replace(saved, denoise_s=drawn - start, decode_s=decoded - drawn, seconds=whole)
            drawing.emit(replace(saved, compile_s=compute.compile_s))
            pace.picture_done()
            drawing.image = image + 1
            drawing.ways.clear()

    def _saved(self, drawing: _Drawing, image: int, picture: Any, seconds: float) -> ImageSaved:
        job = drawing.job
        seed = job.request.sampling.seed + image
        marks = (*self.compute.marks(picture), *dict.fromkeys(drawing.ways))
        path = save_picture(
            picture, job.request, record=job.model, seed=seed, image_index=image, seconds=seconds,
            marks=marks, refiner=job.refiner, output_dir=Path(self._options.output_dir),
            pattern=self._options.filename_pattern,
        )  # fmt: skip
        return ImageSaved(
            job_id=job.id, path=str(path), seed=seed, width=picture.width, height=picture.height,
            image=image, marks=marks, pace=self.compute.stages.placement.pace,
        )  # fmt: skip

    def memory(self) -> MemoryChanged:
        return self.compute.memory()

    def kernels(self, job: Job) -> tuple[Option, ...]:
        """All kernels of attention that can be asked for; one that the job's models cannot use says why."""
        return self.compute.kernels(job, by_id(job.model.family))

    def free(self) -> None:
        """Lets go of the models; the next job loads what it needs."""
        self.compute.drop_caches()

    def close(self) -> None:
        """Lets go of the models."""
        self.compute.drop_caches()


def _family(job: Job) -> Family:
    """The job's family. Raises RequestError for the first thing that is wrong with the request."""
    family = by_id(job.model.family)
    for problem in problems(job.request, job.model, family, job.refiner, job.parts):
        raise RequestError(problem.field, problem.message, problem.hint)
    return family


def _out_of_memory(job: Job, device: str, placement: Placement) -> OutOfMemory:
    size = job.request.size
    return OutOfMemory(
        f"Not enough memory on {device} for {size.width} × {size.height} pixels with {job.model.title}: "
        f"{needed(placement)}.",
        "Try a smaller size, or close other programs that use memory.",
    )
