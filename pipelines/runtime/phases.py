"""Which pipeline does which part of the steps of a picture, and with which arguments."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import diffusers

from pipelines.runtime.arguments import by_feature
from pipelines.runtime.beta import over_timesteps
from pipelines.runtime.loader import Model
from pipelines.runtime.low_rank import NONE, Adapter
from pipelines.runtime.text.prompts import Conditioning
from pipelines.spec.families.base import Family, Task
from pipelines.spec.job import Job
from pipelines.spec.record import ModelRecord
from pipelines.spec.refining import refiner_family
from pipelines.spec.request import Prompt, Refiner
from pipelines.spec.schedulers import BETA, SchedulerRow, scheduler_by_id
from pipelines.spec.validate import prediction_of


@dataclass(frozen=True, slots=True)
class Role:
    """A model of the job, and what it is asked to draw."""

    record: ModelRecord
    family: Family
    prompt: Prompt


@dataclass(frozen=True, slots=True)
class Source:
    """A role whose model is loaded and whose prompt is read."""

    role: Role
    model: Model
    conditioning: Conditioning

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self.model.notes, *self.conditioning.notes)


@dataclass(frozen=True, slots=True)
class Phase:
    """`pipe(**call)` draws `steps` steps; `takes` is the argument that carries the latents.

    `scale` is what unit noise must be multiplied with before, where the pipeline expects latents and not noise;
    `adapter` what LoRAs make of the denoiser.
    """

    pipe: Any
    record: ModelRecord
    family: Family
    call: Mapping[str, Any]
    steps: int
    takes: str = "latents"
    scale: float = 1.0
    adapter: Adapter = NONE

    @property
    def denoiser(self) -> Any:
        return getattr(self.pipe, self.family.denoiser)

    @property
    def beside(self) -> tuple[Any, ...]:
        """ControlNets."""
        controlnet = getattr(self.pipe, "controlnet", None)
        return () if controlnet is None else tuple(getattr(controlnet, "nets", (controlnet,)))

    @property
    def networks(self) -> tuple[Any, ...]:
        """All that is asked in a step, in its order."""
        controlnet = getattr(self.pipe, "controlnet", None)
        return (self.denoiser,) if controlnet is None else (controlnet, self.denoiser)


def roles(job: Job, family: Family) -> tuple[Role, ...]:
    """The models that draw the picture, in their order: the base of this family, and the refiner if it has a part."""
    request, refiner = job.request, job.request.refiner
    base = Role(job.model, family, request.prompt)
    if refiner is None or job.refiner is None or refiner.switch_at >= 1:
        return (base,)
    prompt = request.prompt if refiner.prompt is None else replace(request.prompt, text=refiner.prompt)
    own = refiner_family(job.refiner, family)
    return (base,) if own is None else (base, Role(job.refiner, own, prompt))


def phases(job: Job, sources: Sequence[Source]) -> tuple[Phase, ...]:
    """The parts of one picture, in their order. Each has a fresh scheduler, which keeps a state."""
    base, *refiners = sources
    refiner = job.request.refiner
    if not refiners or refiner is None:
        return (_base(job, base, None),)
    finish = _refiner(job, refiners[0], refiner)
    parts = (finish,) if refiner.switch_at <= 0 else (_base(job, base, refiner.switch_at), finish)
    return tuple(phase for phase in parts if phase.steps) or parts[:1]


def _base(job: Job, source: Source, end: float | None) -> Phase:
    """All of the picture, or its part up to `end`, 0 to 1 of the schedule."""
    request = job.request
    pipe, steps = build_pipeline(job, source, source.model.task), request.sampling.num_inference_steps
    size = {"width": request.size.width, "height": request.size.height}
    call = {**_call(job, source, steps), **size, **source.model.call}
    if end is not None:
        call["denoising_end"] = end
        steps = _shared(pipe.scheduler, steps, end).before
    return Phase(pipe, source.role.record, source.role.family, call, steps, adapter=_adapter(source))


def _refiner(job: Job, source: Source, refiner: Refiner) -> Phase:
    """The rest from `switch_at` on. From 0 on it begins with the noise, which no base has scaled."""
    steps, start = refiner.num_inference_steps or job.request.sampling.num_inference_steps, refiner.switch_at
    pipe = build_pipeline(job, source, Task.REFINE)
    call = _call(job, source, steps) | {"denoising_start": start, "strength": 1.0}
    shared = _shared(pipe.scheduler, steps, start)
    scale = 1.0 if start > 0 else shared.noise
    role = source.role
    adapter = _adapter(source)
    return Phase(
        pipe, role.record, role.family, call, shared.after, takes="image", scale=scale, adapter=adapter
    )


def _adapter(source: Source) -> Adapter:
    return source.model.adapters.get(source.role.family.denoiser, NONE)


def _call(job: Job, source: Source, steps: int) -> dict[str, Any]:
    return {
        **source.conditioning.call,
        **source.model.always,
        **by_feature(job.request, source.role.family),
        "guidance_scale": job.request.sampling.guidance_scale,
        "num_inference_steps": steps,
    }


@dataclass(frozen=True, slots=True)
class _Shared:
    """Steps `before` and `after` the switch; `noise` is the spread that the sampler's first latents have."""

    before: int
    after: int
    noise: float


def _shared(scheduler: Any, steps: int, switch_at: float) -> _Shared:
    """How diffusers 0.42 cuts the schedule: where it falls below (1 - switch_at) of the trained timesteps."""
    scheduler = copy.deepcopy(scheduler)  # counting must leave no trace in the pipeline's own
    scheduler.set_timesteps(steps)
    trained = scheduler.config.num_train_timesteps
    cut = round(trained - switch_at * trained) if switch_at > 0 else trained + 1
    calls = len(scheduler.timesteps)
    before = int((scheduler.timesteps >= cut).sum())
    after = calls - before
    if scheduler.order == 2 and after % 2 == 0 and switch_at > 0:
        after += (
            1  # the second half of a step that Heun began; StableDiffusionXLImg2ImgPipeline.get_timesteps
        )
    order, noise = scheduler.order, float(scheduler.init_noise_sigma)
    return _Shared(math.ceil(before / order), math.ceil(after / order), noise)


_READERS = ("text_encoder", "tokenizer")


@cache
def _beside(build: type, denoiser: str) -> type:
    """The pipeline's class, for parts that are not all on one device.

    diffusers 0.42 takes the device of whichever part comes first for that of the latents; here the denoiser's counts.
    """
    there = property(lambda self: getattr(self, denoiser).device)
    return type(build.__name__, (build,), {"device": there, "_execution_device": there})


def build_pipeline(job: Job, source: Source, task: Task) -> Any:
    """The family's diffusers pipeline around the loaded parts; costs no copy.

    What the job adds to the model is a part of it for the model's own task alone.
    """
    record, family, model = source.role.record, source.role.family, source.model
    row = scheduler_by_id(job.request.sampling.scheduler)
    scheduler = build_scheduler(
        row, model.parts["scheduler"], prediction_of(record, family).value, family.scheduler
    )
    build = getattr(diffusers, family.pipelines[task])
    added = model.added if task is model.task else {}
    # The prompts are read already: their encoders may have left.
    parts = {name: None if name.startswith(_READERS) else model.parts[name] for name in model.parts}
    pipe = build(**{**parts, **added, "scheduler": scheduler}, **family.fixed, **model.settings)
    pipe.__class__ = _beside(build, family.denoiser)
    pipe.set_progress_bar_config(disable=True)  # it costs 2.5 ms a step
    return pipe


def build_scheduler(
    row: SchedulerRow, config: Mapping[str, Any], prediction: str, forced: Mapping[str, object] | None = None
) -> Any:
    """The row's class with the model's own betas. `prediction` as in `Prediction`, `forced` as `Family.scheduler`."""
    build = getattr(diffusers, row.class_name)
    own = {name: value for name, value in config.items() if not name.startswith("_")}
    known = build_config(build, {**own, **(forced or {}), "prediction_type": prediction})
    scheduler = build.from_config(known, **dict(row.options))
    return over_timesteps(scheduler) if row.schedule == BETA else scheduler


def build_config(build: Any, config: dict[str, Any]) -> dict[str, Any]:
    """What of `config` this class knows; from_config logs a warning about each other one."""
    known = build._get_init_keys(build)
    return {name: value for name, value in config.items() if name in known}
