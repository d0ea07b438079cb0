"""The baseline: Stable Diffusion by diffusers' own parts in the plainest loop, no bar, no callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from pipelines.spec.request import GenerationRequest
from pipelines.spec.schedulers import scheduler_by_id


def bare_pipeline(folder: str, device: str, dtype: torch.dtype) -> Any:
    """As `from_pretrained` loads it; its attention is torch's SDPA."""
    pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=dtype, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)


def bare_scheduler(pipe: Any, scheduler_id: str) -> Any:
    """Raises ValueError for one that needs more than one call of the denoiser a step."""
    row = scheduler_by_id(scheduler_id)
    scheduler = getattr(diffusers, row.class_name).from_config(pipe.scheduler.config, **dict(row.options))
    if scheduler.order != 1:
        raise ValueError(f"{scheduler_id} calls the denoiser {scheduler.order} times a step; use another")
    return scheduler


@torch.no_grad()
def bare_picture(pipe: Any, request: GenerationRequest, on_step: Callable[[int], None]) -> Image.Image:
    """The picture of a request with one count and no inputs; `on_step(n)` after each step, from 1."""
    device = pipe.unet.device
    generator = torch.Generator("cpu").manual_seed(request.sampling.seed)
    pipe.scheduler = bare_scheduler(pipe, request.sampling.scheduler)
    positive, negative = pipe.encode_prompt(
        request.prompt.text, device, 1, True, request.prompt.negative or None
    )
    latents = _denoised(pipe, request, torch.cat([negative, positive]), generator, on_step)
    pixels = pipe.vae.decode(latents / pipe.vae.config.scaling_factor, return_dict=False)[0]
    return pipe.image_processor.postprocess(pixels, output_type="pil")[0]


def _denoised(
    pipe: Any,
    request: GenerationRequest,
    prompt_embeds: torch.Tensor,  # [2, tokens, width], the negative one first
    generator: torch.Generator,
    on_step: Callable[[int], None],
) -> torch.Tensor:
    scheduler, unet, guidance = pipe.scheduler, pipe.unet, request.sampling.guidance_scale
    scheduler.set_timesteps(request.sampling.num_inference_steps, device=unet.device)
    extra = pipe.prepare_extra_step_kwargs(generator, 0.0)
    shape = (1, unet.config.in_channels, request.size.height // 8, request.size.width // 8)
    # Drawn in float32 on the CPU, as the engine does; half precision draws other numbers from the same seed.
    latents = torch.randn(shape, generator=generator).to(unet.device, unet.dtype) * scheduler.init_noise_sigma
    for step, t in enumerate(scheduler.timesteps, 1):
        both = scheduler.scale_model_input(torch.cat([latents] * 2), t)
        noise = unet(both, t, encoder_hidden_states=prompt_embeds, return_dict=False)[0]
        without, with_text = noise.chunk(2)
        noise = without + guidance * (with_text - without)
        latents = scheduler.step(noise, t, latents, **extra, return_dict=False)[0]
        on_step(step)
    return latents
