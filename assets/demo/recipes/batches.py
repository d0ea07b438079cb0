"""What a denoiser is shown: latents of drawings, each with a fresh wording."""

from __future__ import annotations

import random

import numpy as np
import torch

from assets.demo.recipes.captions import trained_caption
from assets.demo.recipes.latents import Latents, drawing_number

DROPPED = 0.1


class Batches:
    """One caption in ten is empty, for classifier-free guidance. `scale` is the VAE's scaling_factor."""

    def __init__(self, latents: Latents, scale: float, seed: int) -> None:
        self._latents, self._scale = latents, scale
        self._rng = random.Random(seed)
        self._ready = latents.ready()

    def refresh(self) -> int:
        """Takes in the latents that came meanwhile; how many there are."""
        self._ready = self._latents.ready()
        return len(self._ready)

    def next(self, size: int, device: str) -> tuple[torch.Tensor, list[str], np.ndarray]:
        """Scaled latents [size, 4, 32, 32], their captions and the numbers of the drawings."""
        indices = self._ready[[self._rng.randrange(len(self._ready)) for _ in range(size)]]
        texts = [
            "" if self._rng.random() < DROPPED else trained_caption(drawing_number(int(i)), self._rng)
            for i in indices
        ]
        return self._latents.read(indices).to(device) * self._scale, texts, indices
