"""Previews by a small VAE (TAESD, github.com/madebyollin/taesd): sharper than a map of the latents, and dearer."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path

import torch
from diffusers.models.autoencoders.vae import DecoderTiny

from pipelines.runtime.conditioning import tensors
from pipelines.runtime.device import is_out_of_memory
from pipelines.spec.errors import ModelError
from pipelines.spec.events import Preview
from pipelines.spec.job import Job
from pipelines.spec.record import ModelRecord

log = logging.getLogger(__name__)

SHARE = 0.05  # of the time that previews may take
_HALVED_FROM = 48  # cells a side; a preview of more is decoded from every second one
_WIDTH, _BLOCKS = 64, (3, 3, 3, 1)
# In files by its maker the layers count from the clamp on, which is no layer of diffusers'.
_OWN = re.compile(r"(?:taesd_decoder\.)?(\d+)\.(.+)")
_DIFFUSERS = "decoder.layers."


def decoder_of(record: ModelRecord, job: Job, device: torch.device, dtype: torch.dtype) -> DecoderTiny:
    """Raises ModelError for a file that is gone, whose layers are other ones or have no room; Cancelled between
    tensors.
    """
    found = {
        name: tensor
        for stored, tensor in tensors.read(Path(record.path), job).tensors.items()
        if (name := _name(stored))
    }
    first = found.get("layers.0.weight")
    channels = first.shape[1] if first is not None and first.ndim == 4 else 0
    with torch.device("meta"):
        decoder = DecoderTiny(
            channels, 3, _BLOCKS, (_WIDTH,) * len(_BLOCKS), upsampling_scaling_factor=2, act_fn="relu",
            upsample_fn="nearest",
        )  # fmt: skip
    try:
        decoder.load_state_dict({name: t.to(device, dtype) for name, t in found.items()}, assign=True)
    except RuntimeError as error:  # names or shapes
        if is_out_of_memory(error):
            text = f"There is no memory for the small VAE: {record.path}"
            raise ModelError(text, "Choose the fast previews.") from error
        text = f"This small VAE has other layers than TAESD: {record.path}"
        raise ModelError(text, "Choose the fast previews, or get another file.") from error
    return decoder.eval().requires_grad_(False)


def _name(stored: str) -> str:
    if stored.startswith(_DIFFUSERS):
        return stored.removeprefix("decoder.")
    own = _OWN.fullmatch(stored)
    return f"layers.{int(own[1]) - 1}.{own[2]}" if own else ""


class TinyPreviews:
    """Finished latents -> Preview. `cost_s` is what the last one took; a failure ends it, and answers None."""

    def __init__(self, decoder: DecoderTiny) -> None:
        self._decoder: DecoderTiny | None = decoder
        self.cost_s = 0.0

    def takes(self, channels: int) -> bool:
        return self._decoder is not None and _first(self._decoder).shape[1] == channels

    @torch.inference_mode()
    def __call__(self, latents: torch.Tensor) -> Preview | None:
        """`latents` [channels, h, w]."""
        if self._decoder is None:
            return None
        _computed(latents.device)
        start = time.perf_counter()
        try:
            pixels = _pixels(self._decoder, latents)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            log.info("no memory for a preview by the small VAE")
            self._decoder = None
            return None
        self.cost_s = time.perf_counter() - start
        height, width, _ = pixels.shape
        return Preview(width=width, height=height, rgb=pixels.numpy().tobytes())


def _pixels(decoder: DecoderTiny, latents: torch.Tensor) -> torch.Tensor:
    """uint8 [height, width, 3]."""
    weight = _first(decoder)
    given = latents[None].to(weight.device, weight.dtype)
    if max(given.shape[2:]) >= _HALVED_FROM:
        given = torch.nn.functional.avg_pool2d(given, 2)
    drawn = decoder(given)[0].float().add(1).mul(127.5)  # of -1..1
    return drawn.nan_to_num_().clamp_(0, 255).round_().to(torch.uint8).permute(1, 2, 0).contiguous().cpu()


def _first(decoder: DecoderTiny) -> torch.Tensor:
    """[width, channels, 3, 3]"""
    return next(decoder.parameters())


def _computed(device: torch.device) -> None:
    """What is under way on a card is not the preview's to count."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
