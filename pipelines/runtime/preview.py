"""Small pictures of what is forming: the denoiser's guess of the finished latents, mapped to colours."""

from __future__ import annotations

import time
from typing import Any

import torch

from pipelines.spec.events import Preview
from pipelines.spec.families.base import Family
from pipelines.spec.record import ModelRecord


def factors(record: ModelRecord, family: Family) -> torch.Tensor:
    """[channels + 1, 3], the model's own or the family's: latent to colour in 0..1, the last row the bias."""
    own = record.latent_rgb
    rows = (*own, record.latent_rgb_bias) if own else (*family.latent.rgb, family.latent.rgb_bias)
    return torch.tensor(rows, dtype=torch.float32)


class Previewer:
    """A forward hook of the denoiser that remembers the last call; a Preview of it when one is due."""

    def __init__(self, rgb: torch.Tensor, scheduler: Any, guidance_scale: float, interval_s: float) -> None:
        self._rgb = rgb
        self._prediction = scheduler.config.get("prediction_type", "epsilon")
        self._alphas: torch.Tensor = scheduler.alphas_cumprod
        self._guidance_scale = guidance_scale
        self._interval_s = interval_s
        self._last = time.perf_counter()
        self._seen: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None

    def hook(self, _module: Any, args: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        """Keeps references only; costs nothing."""
        self._seen = (args[0], args[1], output[0])

    def take(self) -> Preview | None:
        """None unless `interval_s` seconds have passed since the last one; 0 is never."""
        now = time.perf_counter()
        if not self._interval_s or now - self._last < self._interval_s or self._seen is None:
            return None
        self._last = now
        return coloured(self._clean_latents(*self._seen), self._rgb)

    def _clean_latents(
        self, sample: torch.Tensor, timestep: torch.Tensor, predicted: torch.Tensor
    ) -> torch.Tensor:
        """x0 [channels, h, w] from the scaled sample at `timestep` (DDPM eq. 15; v: Salimans, Ho 2022)."""
        sample, predicted = sample[0].float(), _guided(predicted.float(), self._guidance_scale)
        alpha = float(self._alphas[min(round(float(timestep)), len(self._alphas) - 1)])
        signal, noise = alpha**0.5, (1 - alpha) ** 0.5
        if self._prediction == "v_prediction":
            return signal * sample - noise * predicted
        return (sample - noise * predicted) / signal


def _guided(predicted: torch.Tensor, guidance_scale: float) -> torch.Tensor:
    """[2 or 1, channels, h, w], first without and then with the prompt -> [channels, h, w]."""
    if len(predicted) == 1:
        return predicted[0]
    return predicted[0] + guidance_scale * (predicted[1] - predicted[0])


def coloured(latents: torch.Tensor, rgb: torch.Tensor) -> Preview:
    """`latents` [channels, h, w] on any device, `rgb` as from `factors`."""
    channels, height, width = latents.shape
    flat = latents.reshape(channels, -1).cpu()
    colours = torch.addmm(rgb[-1], flat.T, rgb[:-1])
    pixels = colours.nan_to_num_().clamp_(0, 1).mul_(255).round_().to(torch.uint8)
    return Preview(width=width, height=height, rgb=pixels.numpy().tobytes())
