"""Noise to latents: the diffusers pipelines' own loops with our ears in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch

from pipelines.runtime.beside import seen_beside
from pipelines.runtime.latents import pack, shape_of, unpack
from pipelines.runtime.pace import Pace
from pipelines.runtime.phases import Phase, build_scheduler
from pipelines.runtime.preview import Previewer, factors
from pipelines.runtime.tiny_vae import TinyPreviews
from pipelines.spec.errors import BadPicture
from pipelines.spec.events import Event, StepDone
from pipelines.spec.job import Job

__all__ = ["build_scheduler", "denoise", "draws_noise", "noise"]

Emit = Callable[[Event], None]


def noise(seed: int, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Generator]:
    """float32 noise on the CPU, whatever the device: half precision draws other numbers from a seed."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float32), generator


def denoise(
    phases: Sequence[Phase],
    job: Job,
    *,
    image: int,
    pace: Pace,
    preview_interval_s: float,
    emit: Emit,
    before: Callable[[Phase], None] = lambda phase: None,
    tiny: TinyPreviews | None = None,
) -> torch.Tensor:
    """Latents [1, channels, height / 8, width / 8] of picture `image`, made with seed + image.

    `before` is called with each phase when its turn comes; `tiny` draws the previews where it is given.
    Raises Cancelled within a block of the denoiser, BadPicture for latents that are not finite.
    """
    first = phases[0]
    latent, channels = first.family.latent, first.pipe.vae.config.latent_channels
    shape = shape_of(job.request.size, latent, channels)
    latents, generator = noise(job.request.sampling.seed + image, shape)
    latents = pack(latents, latent.patch)
    unpacked = partial(unpack, patch=latent.patch, height=shape[2], width=shape[3])
    progress = _Progress(job, image, sum(phase.steps for phase in phases), pace, emit)
    pace.picture_starts()
    for phase in phases:
        before(phase)
        previewer = Previewer(
            factors(phase.record, phase.family),
            phase.pipe.scheduler,
            phase.family.cfg_scale(job.request),
            preview_interval_s,
            unpacked,
            tiny,
        )
        progress.begins(phase.steps, previewer)
        latents = _drawn(phase, latents * phase.scale, generator, job, progress)
    return unpacked(latents)


def _drawn(
    phase: Phase, latents: torch.Tensor, generator: torch.Generator, job: Job, progress: _Progress
) -> torch.Tensor:
    pipe, denoiser = phase.pipe, phase.denoiser
    with ExitStack() as undo:
        undo.callback(pipe.maybe_free_model_hooks)  # diffusers skips it when a callback raises
        undo.enter_context(_listening(phase.networks, job, progress.previewer))
        undo.enter_context(seen_beside(phase, latents))
        undo.enter_context(_noise_in_float32(phase.networks, pipe.scheduler))
        given = {phase.takes: latents.to(denoiser.device, denoiser.dtype), "generator": generator}
        latents = pipe(**phase.call, **given, output_type="latent", callback_on_step_end=progress).images
    if not torch.isfinite(latents).all():
        raise BadPicture(
            f"The model gave invalid numbers (NaN) instead of a picture, at {_name(denoiser.dtype)}.",
            "Choose a lower guidance, another sampler, or full precision (float32).",
        )
    return latents


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class _Progress:
    """The pipelines' `callback_on_step_end`: looks for a cancel, tells each finished step of all `steps`."""

    previewer: Previewer

    def __init__(self, job: Job, image: int, steps: int, pace: Pace, emit: Emit) -> None:
        self._job = job
        self._image = image
        self._steps = steps
        self._pace = pace
        self._emit = emit
        self._told = 0
        self._before = self._here = 0  # steps of the phases before and of this one

    def begins(self, steps: int, previewer: Previewer) -> None:
        """The next phase, with its number of steps."""
        self._before += self._here
        self._here, self.previewer = steps, previewer

    def __call__(self, pipe: Any, call: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        self._job.check()
        step = self._before + _step_of(call, pipe.num_timesteps, self._here, pipe.scheduler.order)
        if step > self._told:
            self._told = step
            self._tell(step)
        return tensors

    def _tell(self, step: int) -> None:
        # After the last step the picture itself is on its way.
        preview = self.previewer.take() if step < self._steps else None
        eta_s = self._pace.step_done(self._image, step)
        images = self._job.request.count
        self._emit(
            StepDone(
                job_id=self._job.id, step=step, steps=self._steps, image=self._image, images=images,
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
def _listening(networks: Sequence[torch.nn.Module], job: Job, previewer: Previewer) -> Iterator[None]:
    """A cancel is seen before each block, so that a slow step need not be waited for. The last is the denoiser."""
    blocks = [block for network in networks for block in _blocks(network)]
    handles = [networks[-1].register_forward_hook(previewer.named_hook, with_kwargs=True)]
    handles += [block.register_forward_pre_hook(lambda *_: job.check()) for block in blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _blocks(denoiser: torch.nn.Module) -> Iterator[torch.nn.Module]:
    for child in denoiser.children():
        yield from child if isinstance(child, torch.nn.ModuleList) else [child]


@contextmanager
def _noise_in_float32(networks: Sequence[Any], scheduler: Any) -> Iterator[None]:
    """Samplers that add noise draw it in the precision of the denoiser's answer: float32, as in `noise`."""
    denoiser = networks[-1]
    if denoiser.dtype is torch.float32 or not draws_noise(scheduler):
        yield
        return
    handles = [denoiser.register_forward_hook(lambda _m, _args, output: (output[0].float(), *output[1:]))]
    handles += [
        network.register_forward_pre_hook(lambda _m, args: (args[0].to(denoiser.dtype), *args[1:]))
        for network in networks
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def draws_noise(scheduler: Any) -> bool:
    name, algorithm = type(scheduler).__name__, str(scheduler.config.get("algorithm_type", ""))
    return "Ancestral" in name or name in ("LCMScheduler", "TCDScheduler") or algorithm.startswith("sde")
