"""Latents as the scheduler has them and as the denoiser takes them, where that is tokens of several cells."""

from __future__ import annotations

import torch

from pipelines.spec.families.base import LatentFormat
from pipelines.spec.request import Size


def shape_of(size: Size, latent: LatentFormat, channels: int) -> tuple[int, int, int, int]:
    """[1, channels, h, w]; `channels` are the VAE's own, which a reduced model may have fewer of."""
    return 1, channels, size.height // latent.scale, size.width // latent.scale


def cells_of(size: Size, latent: LatentFormat) -> int:
    return (size.height // latent.scale) * (size.width // latent.scale)


def pack(latents: torch.Tensor, patch: int) -> torch.Tensor:
    """[n, c, h, w] -> [n, h/p * w/p, c*p*p]; as they are where `patch` is 1."""
    if patch == 1:
        return latents
    n, c, h, w = latents.shape
    cells = latents.view(n, c, h // patch, patch, w // patch, patch)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(n, (h // patch) * (w // patch), c * patch * patch)


def unpack(tokens: torch.Tensor, patch: int, height: int, width: int) -> torch.Tensor:
    """What `pack` did, undone; `height`, `width` in cells."""
    if patch == 1:
        return tokens
    n, _, values = tokens.shape
    cells = tokens.view(n, height // patch, width // patch, values // patch**2, patch, patch)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(n, values // patch**2, height, width)
