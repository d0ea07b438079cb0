"""What a finished demo-sd knows, as lessons for the demos after it.

A drawing with noise is the same for all families but for its size, so demo-sd can name the drawing that it sees behind
it, and a model that learns from that answer instead of from the one drawing behind this noise has less chance in its
lessons (Kim et al., "BK-SDM: A Lightweight, Fast, and Cheap Version of Stable Diffusion", 2023). With guidance the
answer teaches guidance too (Meng et al., "On Distillation of Guided Diffusion Models", 2023).

Noise levels here are those of a rectified flow: 0 is the drawing and 1 the noise, which is what (1 - level) of the one
and level of the other make.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler
from torch import nn

from assets.demo.recipes.denoiser import SCHEDULE, Encode, finished, loss_of, timesteps
from assets.demo.recipes.training import mixed_precision

SURE = (0.3, 0.8)  # the levels from which the teacher counts, and from which it alone counts


def level_of(alphas: torch.Tensor) -> torch.Tensor:
    """The noise level of where a schedule's alphas_cumprod are `alphas`."""
    noise, picture = (1 - alphas).sqrt(), alphas.sqrt()
    return noise / (noise + picture)


class Teacher:
    """The finished demo-sd in `folder`."""

    def __init__(self, folder: Path, device: str) -> None:
        self._unet, self.encode = finished(folder, device)
        self._alphas = DDPMScheduler(**SCHEDULE).alphas_cumprod.to(device)
        self._levels = level_of(self._alphas)

    def timestep(self, level: torch.Tensor) -> torch.Tensor:
        """Between two of the schedule's, float [batch]; it ends before all is noise, and beyond that it is the last."""
        after = torch.searchsorted(self._levels, level).clamp(1, len(self._levels) - 1)
        low, high = self._levels[after - 1], self._levels[after]
        return (after - 1 + (level - low) / (high - low)).clamp(0, len(self._levels) - 1)

    @torch.no_grad()
    def drawing(
        self, noisy: torch.Tensor, level: torch.Tensor, texts: list[str], guidance: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The latents [batch, 4, 32, 32] seen behind `noisy`, whose variance is 1; guidance [batch], none without."""
        t, embeds = self.timestep(level), self.encode(texts)
        with mixed_precision(noisy.device.type):
            noise = self._unet(noisy, t, embeds).sample.float()
            if guidance is not None:
                nothing = self.encode([""]).expand_as(embeds)
                without = self._unet(noisy, t, nothing).sample.float()
                noise = without + guidance[:, None, None, None] * (noise - without)
        alpha = torch.lerp(self._alphas[t.floor().long()], self._alphas[t.ceil().long()], t.frac())
        alpha = alpha[:, None, None, None]
        return (noisy - (1 - alpha).sqrt() * noise) / alpha.sqrt()

    def goal(
        self,
        noisy: torch.Tensor,
        level: torch.Tensor,
        clean: torch.Tensor,
        texts: list[str],
        *,
        guidance: torch.Tensor | None = None,
        asked: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """What is to be learned: the teacher's drawing where there is much noise, `clean` where there is little.

        `asked` [batch] says for which of them the teacher may be asked; without it for all.
        """
        least, most = SURE
        where = level > least if asked is None else (level > least) & asked
        chosen = where.nonzero()[:, 0]
        if not len(chosen):
            return clean
        guided = None if guidance is None else guidance[chosen]
        seen = self.drawing(noisy[chosen], level[chosen], [texts[i] for i in chosen.tolist()], guided)
        trust = ((level[chosen] - least) / (most - least)).clamp(max=1)[:, None, None, None]
        goal = clean.clone()
        goal[chosen] = torch.lerp(clean[chosen], seen, trust)
        return goal


def taught(
    teacher: Teacher,
    schedule: DDPMScheduler,
    encode: Encode,
    noise_of: Callable[[torch.Tensor], torch.Tensor],
) -> Callable[[nn.Module, torch.Tensor, list[str], np.ndarray, float], torch.Tensor]:
    """The loss, as `unets.train` takes it, of a UNet that reads what `encode` says and learns from `teacher`."""
    levels = level_of(schedule.alphas_cumprod)

    def loss(
        module: nn.Module, z: torch.Tensor, texts: list[str], _numbers: np.ndarray, fraction: float
    ) -> torch.Tensor:
        embeds, of_step = encode(texts), levels.to(z.device)
        return loss_of(
            lambda noisy, t: module(noisy, t, embeds).sample, schedule, z, noise_of(z),
            timesteps(len(z), z.device), fraction,
            lambda noisy, t: teacher.goal(noisy, of_step[t], z, texts),
        )  # fmt: skip

    return loss
