"""Which pipeline does which part of the steps of a picture, and with which arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import diffusers

from pipelines.runtime.arguments import by_feature
from pipelines.runtime.loader import Model
from pipelines.runtime.text.prompts import Conditioning
from pipelines.spec.families.base import Family, Task
from pipelines.spec.job import Job
from pipelines.spec.record import ModelRecord
from pipelines.spec.schedulers import SchedulerRow, scheduler_by_id
from pipelines.spec.validate import prediction_of


@dataclass(frozen=True, slots=True)
class Phase:
    """`pipe(**call)` draws `steps` steps; `takes` is the argument that carries the latents."""

    pipe: Any
    record: ModelRecord
    family: Family
    call: Mapping[str, Any]
    steps: int
    takes: str = "latents"

    @property
    def denoiser(self) -> Any:
        return getattr(self.pipe, self.family.denoiser)


def phases(job: Job, model: Model, family: Family, conditioning: Conditioning) -> tuple[Phase, ...]:
    """The parts of one picture, in their order. Each has a fresh scheduler, which keeps a state."""
    request, sampling = job.request, job.request.sampling
    call = {
        **conditioning.call,
        **by_feature(request, family),
        "width": request.size.width,
        "height": request.size.height,
        "guidance_scale": sampling.guidance_scale,
        "num_inference_steps": sampling.num_inference_steps,
    }
    pipe = build_pipeline(job, job.model, model, family, Task.TEXT)
    return (Phase(pipe, job.model, family, call, sampling.num_inference_steps),)


def build_pipeline(job: Job, record: ModelRecord, model: Model, family: Family, task: Task) -> Any:
    """The family's diffusers pipeline around the loaded parts; costs no copy."""
    row = scheduler_by_id(job.request.sampling.scheduler)
    scheduler = build_scheduler(
        row, model.parts["scheduler"], prediction_of(record, family).value, family.scheduler
    )
    build = getattr(diffusers, family.pipelines[task])
    pipe = build(**{**model.parts, "scheduler": scheduler}, **family.fixed, **model.settings)
    pipe.set_progress_bar_config(disable=True)  # it costs 2.5 ms a step
    return pipe


def build_scheduler(
    row: SchedulerRow, config: Mapping[str, Any], prediction: str, forced: Mapping[str, object] | None = None
) -> Any:
    """The row's class with the model's own betas. `prediction` as in `Prediction`, `forced` as `Family.scheduler`."""
    build = getattr(diffusers, row.class_name)
    own = {name: value for name, value in config.items() if not name.startswith("_")}
    known = build_config(build, {**own, **(forced or {}), "prediction_type": prediction})
    return build.from_config(known, **dict(row.options))


def build_config(build: Any, config: dict[str, Any]) -> dict[str, Any]:
    """What of `config` this class knows; from_config logs a warning about each other one."""
    known = build._get_init_keys(build)
    return {name: value for name, value in config.items() if name in known}
