"""Latents to a picture, with the two ways out a VAE needs: tiles when memory is short, float32 for NaN."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from PIL import Image

from pipelines.runtime import device as devices
from pipelines.runtime.placement import TILE
from pipelines.spec.errors import BadPicture
from pipelines.spec.families.base import LatentFormat
from pipelines.spec.job import Job

Note = Callable[[str], None]
Found = TypeVar("Found")

TILED = "Not enough memory for the whole picture at once; it is decoded in tiles."
AGAIN = "The VAE gave invalid numbers at half precision; it decodes again at full precision (float32)."


def decode(
    pipe: Any,
    latents: torch.Tensor,
    job: Job,
    note: Note,
    latent: LatentFormat | None = None,
    tiled: bool = False,
) -> Image.Image:
    """`latents` [1, channels, h, w]; `note` is told what had to be done differently. `latent` is the family's.

    `tiled`: in tiles from the start, as for the whole picture there is no room.

    Raises BadPicture when the VAE answers with NaN or infinity also in float32, Cancelled between tiles.
    """
    vae = pipe.vae
    overflows = latent is not None and latent.upcast and vae.config.get("force_upcast", False)
    wide = overflows and vae.dtype is torch.float16  # bfloat16 has float32's range
    with ExitStack() as undo:
        undo.enter_context(torch.no_grad())
        undo.enter_context(_cancel_between_tiles(vae, job))
        undo.enter_context(_at(vae, torch.float32 if wide else vae.dtype))
        if tiled:
            undo.enter_context(_in_tiles(vae))
        pixels = _with_room(pipe, latents, note)
        if not _finite(pixels):
            pixels = _at_full_precision(pipe, latents, note)
    return pipe.image_processor.postprocess(pixels, output_type="pil")[0]


def encode(pipe: Any, pixels: torch.Tensor, latent: LatentFormat) -> torch.Tensor:
    """Latents [1, channels, h, w] of `pixels` [1, 3, height, width] in -1..1, the most likely ones, without noise."""
    vae = pipe.vae
    wide = latent.upcast and vae.config.get("force_upcast", False) and vae.dtype is torch.float16
    with torch.no_grad(), _at(vae, torch.float32 if wide else vae.dtype):
        pixels = pixels.to(vae.device, vae.dtype)
        found = with_room(vae, lambda: vae.encode(pixels).latent_dist.mode())
    return _as_trained(vae, found.float())


def with_room(vae: Any, encode: Callable[[], Found]) -> Found:
    """What `encode` answers; in tiles where memory is too small for the whole picture at once."""
    try:
        return encode()
    except Exception as error:
        if not devices.is_out_of_memory(error):
            raise
        devices.forget_frames(error)
    with _in_tiles(vae):
        return encode()


def _as_trained(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """As a denoiser has them; `_decoded` is the way back."""
    config = vae.config
    mean, std = (config.get(name) for name in ("latents_mean", "latents_std"))
    if mean and std:
        mean, std = (latents.new_tensor(values).view(1, -1, 1, 1) for values in (mean, std))
        return (latents - mean) * config.scaling_factor / std
    return (latents - (config.get("shift_factor") or 0)) * config.scaling_factor


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
    with _in_tiles(pipe.vae):
        return _decoded(pipe.vae, latents)


@contextmanager
def _in_tiles(vae: Any) -> Iterator[None]:
    """Of `TILE` pixels a side at the most: a VAE takes tiles of the size it learned with, which saves nothing there."""
    before = vae.tile_sample_min_size, vae.tile_latent_min_size
    scale = 2 ** (len(vae.config.block_out_channels) - 1)
    cells = min(before[1], TILE // scale)
    vae.tile_sample_min_size, vae.tile_latent_min_size = cells * scale, cells
    vae.enable_tiling()
    try:
        yield
    finally:
        vae.disable_tiling()
        vae.tile_sample_min_size, vae.tile_latent_min_size = before


def _at_full_precision(pipe: Any, latents: torch.Tensor, note: Note) -> torch.Tensor:
    dtype = pipe.vae.dtype
    if dtype is torch.float32:
        raise _bad()
    note(AGAIN)
    with _at(pipe.vae, torch.float32):
        pixels = _with_room(pipe, latents.float(), note)
    if not _finite(pixels):
        raise _bad()
    return pixels


def _bad() -> BadPicture:
    return BadPicture(
        "The VAE gave invalid numbers (NaN) instead of a picture, also at full precision (float32).",
        "The model's VAE may be damaged; try another model or a lower guidance.",
    )


@contextmanager
def _at(vae: Any, dtype: torch.dtype) -> Iterator[None]:
    """The VAE at another precision for a while."""
    before = vae.dtype
    if dtype is before:
        yield
        return
    vae.to(dtype)
    try:
        yield
    finally:
        vae.to(before)


def _decoded(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """[1, 3, height, width] in -1..1."""
    config, latents = vae.config, latents.to(vae.device, vae.dtype)
    mean, std = (config.get(name) for name in ("latents_mean", "latents_std"))
    if mean and std:  # some SDXL VAEs have their own normal form
        mean, std = (latents.new_tensor(values).view(1, -1, 1, 1) for values in (mean, std))
        scaled = latents * std / config.scaling_factor + mean
    else:
        scaled = latents / config.scaling_factor
    shift = config.get("shift_factor")
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
