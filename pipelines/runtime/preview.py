"""Small pictures of what is forming: the denoiser's guess of the finished latents, mapped to colours."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipelines.runtime.tiny_vae import SHARE, TinyPreviews
from pipelines.spec.events import Preview
from pipelines.spec.families.base import Family
from pipelines.spec.record import ModelRecord


def factors(record: ModelRecord, family: Family) -> torch.Tensor:
    """[channels + 1, 3], the model's own or the family's: latent to colour in 0..1, the last row the bias."""
    own = record.latent_rgb
    rows = (*own, record.latent_rgb_bias) if own else (*family.latent.rgb, family.latent.rgb_bias)
    return torch.tensor(rows, dtype=torch.float32)


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of the denoiser: `answers` [n, ...], two of one where the prompts were asked one after the other."""

    sample: torch.Tensor
    timestep: torch.Tensor
    answers: tuple[torch.Tensor, ...]


class Previewer:
    """A forward hook of the denoiser that remembers the last call; a Preview of it when one is due.

    `guidance_scale` weighs the two answers of one step, `unpack` makes [n, channels, h, w] of the denoiser's input.
    `tiny` draws instead of the factors, as seldom as it must so that it takes no more than its share of the time.
    """

    def __init__(
        self,
        rgb: torch.Tensor,
        scheduler: Any,
        guidance_scale: float,
        interval_s: float,
        unpack: Callable[[torch.Tensor], torch.Tensor] = lambda latents: latents,
        tiny: TinyPreviews | None = None,
    ) -> None:
        self._rgb = rgb
        self._tiny = tiny
        # A scheduler of flow models has no such setting.
        self._clean = _CLEAN[scheduler.config.get("prediction_type", "flow")]
        alphas: torch.Tensor | None = getattr(scheduler, "alphas_cumprod", None)
        self._alphas = None if alphas is None else alphas.tolist()
        self._guidance_scale = guidance_scale
        self._interval_s = interval_s
        self._unpack = unpack
        self._last = time.perf_counter()
        self._seen: _Call | None = None

    def hook(self, _module: Any, args: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        """Keeps references only; costs nothing."""
        sample, timestep = args[:2]
        before = self._seen
        # Some pipelines ask first with the prompt and then, about the same latents, with the negative one.
        again = before is not None and before.sample is sample
        answers = (output[0], *before.answers) if again and before else (output[0],)
        self._seen = _Call(sample, timestep, answers)

    def named_hook(
        self, module: Any, args: tuple[Any, ...], named: dict[str, Any], output: tuple[torch.Tensor, ...]
    ) -> None:
        """The same for either manner: pipelines call U-Nets by position and transformers by name."""
        self.hook(module, args or (named["hidden_states"], named["timestep"]), output)

    def take(self) -> Preview | None:
        """None unless `interval_s` seconds have passed since the last one; 0 is never.

        None also where the model has other latents than the factors are for.
        """
        now = time.perf_counter()
        cost_s = self._tiny.cost_s if self._tiny else 0.0
        wait_s = max(self._interval_s, cost_s / SHARE)
        if not self._interval_s or now - self._last < wait_s or self._seen is None:
            return None
        clean = self._clean_latents(self._seen)
        preview = self._tiny(clean) if self._tiny and self._tiny.takes(len(clean)) else None
        if preview is None and len(clean) == len(self._rgb) - 1:
            preview = coloured(clean, self._rgb)
        self._last = time.perf_counter()
        return preview

    def _clean_latents(self, call: _Call) -> torch.Tensor:
        """The finished latents [channels, h, w] as the denoiser sees them from here."""
        answers = [self._unpack(answer).float() for answer in call.answers]
        predicted = _guided(answers[0] if len(answers) == 1 else torch.cat(answers), self._guidance_scale)
        sample = self._unpack(call.sample)[0].float()[: len(predicted)]  # an inpainting model sees more
        timestep = call.timestep if call.timestep.ndim == 0 else call.timestep.flatten()[0]
        return self._clean(sample, float(timestep), predicted, self._alphas)


def _of_noise(sample: torch.Tensor, timestep: float, predicted: torch.Tensor, alphas: Any) -> torch.Tensor:
    """DDPM eq. 15."""
    signal, noise = _signal_and_noise(timestep, alphas)
    return torch.sub(sample, predicted, alpha=noise).div_(signal)


def _of_v(sample: torch.Tensor, timestep: float, predicted: torch.Tensor, alphas: Any) -> torch.Tensor:
    """Salimans, Ho 2022, "Progressive Distillation"."""
    signal, noise = _signal_and_noise(timestep, alphas)
    return torch.sub(signal * sample, predicted, alpha=noise)


def _of_flow(sample: torch.Tensor, sigma: float, predicted: torch.Tensor, _alphas: Any) -> torch.Tensor:
    """Rectified flow: x = (1 - sigma) picture + sigma noise, the model answers noise - picture; its time is sigma."""
    return torch.sub(sample, predicted, alpha=sigma)


def _signal_and_noise(timestep: float, alphas: Sequence[float]) -> tuple[float, float]:
    alpha = alphas[min(round(timestep), len(alphas) - 1)]
    return alpha**0.5, (1 - alpha) ** 0.5


_CLEAN: Mapping[str, Callable[..., torch.Tensor]] = {
    "epsilon": _of_noise,
    "v_prediction": _of_v,
    "flow": _of_flow,
}


def _guided(predicted: torch.Tensor, guidance_scale: float) -> torch.Tensor:
    """[2 or 1, channels, h, w], first without and then with the prompt -> [channels, h, w]."""
    if len(predicted) == 1:
        return predicted[0]
    return torch.lerp(predicted[0], predicted[1], guidance_scale)


def coloured(latents: torch.Tensor, rgb: torch.Tensor) -> Preview:
    """`latents` [channels, h, w] on any device, `rgb` as from `factors`."""
    channels, height, width = latents.shape
    flat = latents.reshape(channels, -1).cpu()
    colours = torch.addmm(rgb[-1], flat.T, rgb[:-1], beta=255, alpha=255)
    pixels = colours.nan_to_num_().clamp_(0, 255).round_().to(torch.uint8)
    return Preview(width=width, height=height, rgb=pixels.numpy().tobytes())
