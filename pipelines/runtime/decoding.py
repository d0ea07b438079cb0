"""Latents to a picture, with the two ways out a VAE needs: tiles when memory is short, float32 for NaN."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image

from pipelines.runtime import device as devices
from pipelines.spec.errors import BadPicture
from pipelines.spec.job import Job

Note = Callable[[str], None]

TILED = "Not enough memory for the whole picture at once; it is decoded in tiles."
AGAIN = "The VAE gave invalid numbers at half precision; it decodes again at full precision (float32)."


def decode(pipe: Any, latents: torch.Tensor, job: Job, note: Note) -> Image.Image:
    """`latents` as the pipeline gave them; `note` is told what had to be done differently.

    Raises BadPicture when the VAE answers with NaN or infinity also in float32, Cancelled between tiles.
    """
    with torch.no_grad(), _cancel_between_tiles(pipe.vae, job):
        pixels = _with_room(pipe, latents, note)
        if not _finite(pixels):
            pixels = _at_full_precision(pipe, latents, note)
    return pipe.image_processor.postprocess(pixels, output_type="pil")[0]


def is_uniform(picture: Image.Image) -> bool:
    """Every pixel has the same colour: mostly a fault, sometimes what was asked."""
    bands = picture.convert("RGB").split()
    return all(low == high for low, high in (band.getextrema() for band in bands))


def _with_room(pipe: Any, latents: torch.Tensor, note: Note) -> torch.Tensor:
    try:
        return _decoded(pipe.vae, latents)
    except Exception as error:
        if not devices.is_out_of_memory(error) or pipe.vae.use_tiling:
            raise
        devices.forget_frames(error)
    devices.release(latents.device)
    note(TILED)
    pipe.vae.enable_tiling()
    try:
        return _decoded(pipe.vae, latents)
    finally:
        pipe.vae.disable_tiling()


def _at_full_precision(pipe: Any, latents: torch.Tensor, note: Note) -> torch.Tensor:
    dtype = pipe.vae.dtype
    if dtype is torch.float32:
        raise _bad()
    note(AGAIN)
    pipe.vae.to(torch.float32)
    try:
        pixels = _with_room(pipe, latents.float(), note)
    finally:
        pipe.vae.to(dtype)
    if not _finite(pixels):
        raise _bad()
    return pixels


def _bad() -> BadPicture:
    return BadPicture(
        "The VAE gave invalid numbers (NaN) instead of a picture, also at full precision (float32).",
        "The model's VAE may be damaged; try another model or a lower guidance.",
    )


def _decoded(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """[1, 3, height, width] in -1..1."""
    scaled = latents.to(vae.dtype) / vae.config.scaling_factor
    shift = vae.config.get("shift_factor")
    return vae.decode(scaled + shift if shift else scaled, return_dict=False)[0]


def _finite(pixels: torch.Tensor) -> bool:
    return bool(torch.isfinite(pixels).all())


@contextmanager
def _cancel_between_tiles(vae: Any, job: Job) -> Iterator[None]:
    handle = vae.decoder.register_forward_pre_hook(lambda *_: job.check())
    try:
        yield
    finally:
        handle.remove()
