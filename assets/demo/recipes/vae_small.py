"""A VAE of half the size with the latents of a larger one: what was learned with the one goes on with the other.

Its encoder learns to give the larger one's latents, and its decoder to draw from them; the levels of the same width
begin with the larger one's weights.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL

from assets.demo.recipes import loop, vae
from assets.demo.recipes.drawings import random_drawing, render
from assets.demo.recipes.stages import checkpoint
from assets.demo.recipes.training import log

DEEP = 40
NEAR, BLUR = 2.0, 0.04  # the weight of a difference of latents, and how far what is decoded is off


def build(larger: AutoencoderKL) -> AutoencoderKL:
    """0.43 M parameters."""
    small = vae.build(DEEP)
    small.register_to_config(scaling_factor=larger.config["scaling_factor"])
    return small


@torch.no_grad()
def warm(small: AutoencoderKL, larger: AutoencoderKL) -> None:
    """Copies what is of the same name and shape."""
    known = larger.state_dict()
    for name, parameter in small.named_parameters():
        if known[name].shape == parameter.shape:
            parameter.copy_(known[name])


def _sheets(rng: random.Random, count: int, device: str) -> torch.Tensor:
    """[count, 3, 256, 256] in -1..1."""
    sheets = [np.asarray(render(random_drawing(rng), rng.getrandbits(31))) for _ in range(count)]
    return torch.from_numpy(np.stack(sheets)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def train(work: Path, larger: AutoencoderKL, device: str, seconds: float, batch: int, *, rate: float) -> None:
    """Runs, or resumes, `seconds` of training with `batch` sheets a step, into `work`/vae_small.pt."""
    torch.manual_seed(1)
    small = build(larger)
    warm(small, larger)
    teacher: Any = larger.to(device)
    rng = random.Random()

    def loss(module: Any, _fraction: float) -> torch.Tensor:
        x = _sheets(rng, batch, device)
        with torch.no_grad():
            wanted = teacher.encode(x).latent_dist.mode()
        given = module.encode(x).latent_dist.mode()
        near = (given - wanted).abs().mean() / wanted.std()
        # What it decodes is now its own and now the larger one's, and never exact, as a denoiser's is not.
        off = torch.where(torch.rand(len(x), 1, 1, 1, device=device) < 0.5, given.detach(), wanted)
        off = off + BLUR * wanted.std() * torch.randn_like(wanted)
        return NEAR * near + vae.distance(module.decode(off).sample, x)

    loop.train(work / "vae_small.pt", small.to(device), loss, seconds, rate=rate, decay=0.995)
    finished = load(work, larger).to(device)
    figures = {"larger": vae.psnr(teacher, device), "small": vae.psnr(finished, device)}
    log(work, "vae_small", **{name: round(figure, 2) for name, figure in figures.items()})


def load(work: Path, larger: AutoencoderKL) -> AutoencoderKL:
    """The best there is in `work`, frozen. Raises FileNotFoundError naming the stage that has to run first."""
    small = build(larger)
    small.load_state_dict(checkpoint(work / "vae_small.pt", "vae")["average"]["module"])
    return small.eval().requires_grad_(False)
