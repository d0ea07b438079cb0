"""What a finished demo-sd knows, said as the velocity of a rectified flow: lessons for demo-flux.

A drawing with noise is the same for both families but for its size, so demo-sd can name the drawing it sees behind it, with
any guidance, and a model that learns from that answer instead of from the one drawing behind this noise has less chance
in its lessons (Meng et al., "On Distillation of Guided Diffusion Models", 2023, teach one model's guidance to another
so; Kim et al., "BK-SDM", 2023, a small model everything).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel

from assets.demo.recipes.denoiser import Encode
from assets.demo.recipes.training import mixed_precision

SURE = (0.3, 0.8)  # the noise levels from which the teacher counts, and from which it alone counts
# (noisy latents of the flow, noise level [batch], captions, guidance [batch]) to the drawings behind the noise.
Teacher = Callable[[torch.Tensor, torch.Tensor, list[str], torch.Tensor], torch.Tensor]


def timestep_of(schedule: DDPMScheduler, sigma: torch.Tensor) -> torch.Tensor:
    """The timestep [batch], between two of the schedule's, whose noise is to its picture as `sigma` to 1 - `sigma`.

    The schedule ends before all is noise; beyond its end it is the last.
    """
    alphas = schedule.alphas_cumprod.to(sigma.device)
    ratios = (1 / alphas - 1).sqrt()
    wanted = sigma / (1 - sigma).clamp(min=1e-4)
    after = torch.searchsorted(ratios, wanted).clamp(1, len(ratios) - 1)
    low, high = ratios[after - 1], ratios[after]
    return (after - 1 + (wanted - low) / (high - low)).clamp(0, len(ratios) - 1)


def teacher_of(unet: UNet2DConditionModel, schedule: DDPMScheduler, encode: Encode) -> Teacher:
    """`unet` predicts the noise of `schedule` for what `encode` reads."""
    unet = unet.eval().requires_grad_(False)

    @torch.no_grad()
    def teach(noisy: torch.Tensor, sigma: torch.Tensor, texts: list[str], guidance: torch.Tensor) -> torch.Tensor:
        t, s = timestep_of(schedule, sigma), sigma[:, None, None, None]
        x = noisy / ((1 - s) ** 2 + s**2).sqrt()
        nothing = encode([""]).expand(len(texts), -1, -1)
        with mixed_precision(x.device.type):
            both = unet(torch.cat([x, x]), torch.cat([t, t]), torch.cat([nothing, encode(texts)])).sample.float()
        without, with_text = both.chunk(2)
        noise = without + guidance[:, None, None, None] * (with_text - without)
        alphas = schedule.alphas_cumprod.to(x.device)
        alpha = torch.lerp(alphas[t.floor().long()], alphas[t.ceil().long()], t.frac())[:, None, None, None]
        return (x - (1 - alpha).sqrt() * noise) / alpha.sqrt()

    return teach


def blended(drawing: torch.Tensor, clean: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """The teacher's `drawing` where there is much noise, the `clean` one where there is little and no chance in it."""
    least, most = SURE
    trust = ((sigma - least) / (most - least)).clamp(0, 1)[:, None, None, None]
    return torch.lerp(clean, drawing, trust)
