"""What a denoiser sees beside the latents where it was trained with more than those: `BESIDE`.

An inpainting model (Rombach et al. 2022, section 4.5) takes a mask, 1 where it is to paint, and the latents of the
picture without what the mask hides, which is grey. From a prompt alone all is to be painted, as other programs do it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from pipelines.runtime.decoding import encode
from pipelines.runtime.phases import Phase


def all_masked(phase: Phase, latents: torch.Tensor) -> torch.Tensor:
    """[1, 1 + channels, h, w] for `latents` [1, channels, h, w]: a whole mask, and a grey picture."""
    scale = phase.family.latent.scale
    grey = torch.zeros(1, 3, latents.shape[2] * scale, latents.shape[3] * scale)  # of -1..1
    picture = encode(phase.pipe, grey, phase.family.latent).to(latents)
    return torch.cat([torch.ones_like(latents[:, :1]), picture], dim=1)


BESIDE: Mapping[str, Callable[[Phase, torch.Tensor], torch.Tensor]] = {"mask": all_masked}


@contextmanager
def seen_beside(phase: Phase, latents: torch.Tensor) -> Iterator[None]:
    """The denoiser of the phase gets its `latents` with what its variant was trained to see beside them."""
    variants = {variant.id: variant.beside for variant in phase.family.signs.variants}
    name = variants.get(phase.record.variant, "")
    if not name:
        yield
        return
    more = BESIDE[name](phase, latents)

    def widened(_module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        sample, *rest = args
        return torch.cat([sample, more.to(sample).expand(len(sample), -1, -1, -1)], dim=1), *rest

    handle = phase.denoiser.register_forward_pre_hook(widened)
    try:
        yield
    finally:
        handle.remove()
