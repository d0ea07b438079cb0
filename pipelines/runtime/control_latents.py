"""FLUX's ControlNets see latents, which the pipeline has the VAE make of each control picture within its call.

By then the denoiser is on the device, planned to the last block, and the VAE may be in RAM. So they are made before,
by the very same numbers, and given when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pipelines.runtime.decoding import with_room
from pipelines.runtime.phases import Phase


def sees_latents(phase: Phase) -> bool:
    """As FluxControlNetPipeline decides it."""
    return any(getattr(network, "input_hint_block", False) is None for network in phase.beside)


@contextmanager
def seen(phase: Phase) -> Iterator[None]:
    """The VAE, which is on the device, sees the control pictures now; within the context it knows them."""
    vae, pipe, call = phase.pipe.vae, phase.pipe, phase.call
    given = call[phase.family.control_image]
    pictures = given if isinstance(given, list) else [given]
    size = {"width": call["width"], "height": call["height"]}
    found = iter([_encoded(vae, pipe.image_processor.preprocess(each, **size)) for each in pictures])
    vae.encode = lambda pixels: next(found)
    try:
        yield
    finally:
        del vae.encode


@torch.no_grad()
def _encoded(vae: Any, pixels: torch.Tensor) -> Any:
    """An AutoencoderKLOutput, from which the pipeline draws with its own generator."""
    pixels = pixels.to(vae.device, vae.dtype)
    return with_room(vae, lambda: vae.encode(pixels))
