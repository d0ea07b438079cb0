"""Noise to latents: the scheduler out of its row, the diffusers pipeline's own loop with our ears in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import diffusers
import torch

from pipelines.runtime.loader import Model
from pipelines.runtime.pace import Pace
from pipelines.runtime.preview import Previewer, factors
from pipelines.runtime.text.prompts import Conditioning
from pipelines.spec.errors import BadPicture
from pipelines.spec.events import Event, StepDone
from pipelines.spec.families.base import Family, Task
from pipelines.spec.job import Job
from pipelines.spec.request import Size
from pipelines.spec.schedulers import SchedulerRow, scheduler_by_id
from pipelines.spec.validate import prediction_of

Emit = Callable[[Event], None]


def build_scheduler(row: SchedulerRow, config: dict[str, Any], prediction: str) -> Any:
    """The row's class with the model's own betas. `prediction` as in `Prediction`."""
    # The SD 1.x pipeline forces the first two upon every scheduler, warning unless they are there already.
    fixed = {"steps_offset": 1, "clip_sample": False, "prediction_type": prediction}
    build = getattr(diffusers, row.class_name)
    own = {name: value for name, value in config.items() if not name.startswith("_")}
    return build.from_config(build_config(build, {**own, **fixed}), **dict(row.options))


def build_config(build: Any, config: dict[str, Any]) -> dict[str, Any]:
    """What of `config` this class knows; from_config logs a warning about each other one."""
    known = build._get_init_keys(build)
    return {name: value for name, value in config.items() if name in known}


def build_pipeline(job: Job, model: Model, family: Family) -> Any:
    """The family's diffusers pipeline around the loaded parts; costs no copy."""
    row = scheduler_by_id(job.request.sampling.scheduler)
    scheduler = build_scheduler(row, model.parts["scheduler"], prediction_of(job.model, family).value)
    optional = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipe = getattr(diffusers, family.pipelines[Task.TEXT])(
        **{**model.parts, "scheduler": scheduler}, **optional
    )
    pipe.set_progress_bar_config(disable=True)  # it costs 2.5 ms a step
    return pipe


def noise(seed: int, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Generator]:
    """float32 noise on the CPU, whatever the device: half precision draws other numbers from a seed."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float32), generator


def denoise(
    pipe: Any, job: Job, family: Family, conditioning: Conditioning, *, image: int, pace: Pace,
    preview_interval_s: float, emit: Emit,
) -> torch.Tensor:  # fmt: skip
    """Latents [1, channels, height / 8, width / 8] of picture `image`, made with seed + image.

    Raises Cancelled within a block of the denoiser, BadPicture for latents that are not finite.
    """
    request, sampling, denoiser = job.request, job.request.sampling, pipe.unet
    latents, generator = noise(sampling.seed + image, _latent_shape(request.size, family))
    previewer = Previewer(
        factors(job.model, family), pipe.scheduler, sampling.guidance_scale, preview_interval_s
    )
    pace.picture_starts()
    with ExitStack() as undo:
        undo.callback(pipe.maybe_free_model_hooks)  # diffusers skips it when a callback raises
        undo.enter_context(_listening(denoiser, job, previewer))
        undo.enter_context(_noise_in_float32(denoiser, pipe.scheduler))
        latents = pipe(
            **conditioning.call, latents=latents.to(denoiser.dtype), generator=generator,
            output_type="latent", width=request.size.width, height=request.size.height,
            guidance_scale=sampling.guidance_scale, num_inference_steps=sampling.num_inference_steps,
            callback_on_step_end=_Progress(job, image, pace, previewer, emit),
        ).images  # fmt: skip
    if not torch.isfinite(latents).all():
        raise BadPicture(
            f"The model gave invalid numbers (NaN) instead of a picture, at {_name(denoiser.dtype)}.",
            "Choose a lower guidance, another sampler, or full precision (float32).",
        )
    return latents


def _latent_shape(size: Size, family: Family) -> tuple[int, ...]:
    return (1, family.latent.channels, size.height // family.latent.scale, size.width // family.latent.scale)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class _Progress:
    """The pipeline's `callback_on_step_end`: looks for a cancel, tells each finished step."""

    def __init__(self, job: Job, image: int, pace: Pace, previewer: Previewer, emit: Emit) -> None:
        self._job = job
        self._image = image
        self._pace = pace
        self._previewer = previewer
        self._emit = emit
        self._told = 0

    def __call__(self, pipe: Any, call: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        self._job.check()
        steps = self._job.request.sampling.num_inference_steps
        step = _step_of(call, pipe.num_timesteps, steps, pipe.scheduler.order)
        if step > self._told:
            self._told = step
            self._tell(step, steps)
        return tensors

    def _tell(self, step: int, steps: int) -> None:
        # After the last step the picture itself is on its way.
        preview = self._previewer.take() if step < steps else None
        eta_s = self._pace.step_done(self._image, step)
        images = self._job.request.count
        self._emit(
            StepDone(
                job_id=self._job.id, step=step, steps=steps, image=self._image, images=images,
                eta_s=eta_s, preview=preview,
            )
        )  # fmt: skip


def _step_of(call: int, calls: int, steps: int, order: int) -> int:
    """Which step is done after the denoiser's call number `call` (from 0); some samplers call it twice."""
    if call == calls - 1:
        return steps
    warming = max(calls - steps * order, 0)
    return min(max(call + 1 - warming, 0) // order, steps)


@contextmanager
def _listening(denoiser: torch.nn.Module, job: Job, previewer: Previewer) -> Iterator[None]:
    """A cancel is seen before each block, so that a slow step need not be waited for."""
    handles = [denoiser.register_forward_hook(previewer.hook)]
    handles += [block.register_forward_pre_hook(lambda *_: job.check()) for block in _blocks(denoiser)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _blocks(denoiser: torch.nn.Module) -> Iterator[torch.nn.Module]:
    for child in denoiser.children():
        yield from child if isinstance(child, torch.nn.ModuleList) else [child]


@contextmanager
def _noise_in_float32(denoiser: torch.nn.Module, scheduler: Any) -> Iterator[None]:
    """Samplers that add noise draw it in the precision of the denoiser's answer: float32, as in `noise`."""
    if denoiser.dtype is torch.float32 or not draws_noise(scheduler):
        yield
        return
    narrow = denoiser.register_forward_pre_hook(lambda _m, args: (args[0].to(denoiser.dtype), *args[1:]))
    widen = denoiser.register_forward_hook(lambda _m, _args, output: (output[0].float(), *output[1:]))
    try:
        yield
    finally:
        narrow.remove()
        widen.remove()


def draws_noise(scheduler: Any) -> bool:
    name, algorithm = type(scheduler).__name__, str(scheduler.config.get("algorithm_type", ""))
    return "Ancestral" in name or name in ("LCMScheduler", "TCDScheduler") or algorithm.startswith("sde")
