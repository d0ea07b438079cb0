"""Step caches of diffusers around a FLUX transformer: parts of a step are left out where they would hardly differ.

First block: ParaAttention (chengzeyi), after TeaCache, arXiv 2411.19108. TaylorSeer: arXiv 2503.06923, in its lite
form, which predicts only the last projection and keeps no answer of each block. MagCache: arXiv 2506.09045.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from diffusers.hooks import FirstBlockCacheConfig, MagCacheConfig, TaylorSeerCacheConfig
from diffusers.hooks.mag_cache import FLUX_MAG_RATIOS

from pipelines.spec.request import GenerationRequest
from pipelines.spec.speed import cache_limit

_FLUX_BLOCKS = (19, 38)  # of the models that FLUX_MAG_RATIOS were measured with
Tell = Callable[[str], None]


@dataclass(slots=True)
class Magnitudes:
    """By how much each step changes a picture of a model, as MagCache measures it: `known` by the record's id."""

    known: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def of(self, record: str, denoiser: Any, calls: int) -> torch.Tensor | None:
        """For a picture of so many calls of the denoiser; None for a model that nobody has measured.

        Neither has who saw less than half of the calls: one call alone would say that nothing ever changes.
        """
        config = denoiser.config
        if 2 * len(self.known.get(record, ())) >= calls:
            return torch.tensor(self.known[record])
        real = (config.num_layers, config.num_single_layers) == _FLUX_BLOCKS
        return FLUX_MAG_RATIOS.clone() if real else None


@dataclass(frozen=True, slots=True)
class Caching:
    """What a cache must know: `calls` of the denoiser make the picture, of the model `record`; `tell` the user."""

    request: GenerationRequest
    record: str
    calls: int
    magnitudes: Magnitudes
    tell: Tell

    def measured(self, denoiser: Any) -> torch.Tensor | None:
        """How much each call is expected to change, or None."""
        return self.magnitudes.of(self.record, denoiser, self.calls)


@contextmanager
def step_cache(denoiser: Any, caching: Caching) -> Iterator[None]:
    """For one picture: what was seen of another one is not believed."""
    name, limit = caching.request.speed.step_cache, cache_limit(caching.request)
    if name == "magcache" and caching.measured(denoiser) is None:
        caching.tell(
            "MagCache measured this model while it drew this picture in full; it works from the next on."
        )
        with _measured(denoiser, caching):
            yield
        return
    try:
        denoiser.enable_cache(_CONFIGS[name](denoiser, caching, limit))
        yield
    finally:
        if denoiser.is_cache_enabled:
            denoiser.disable_cache()


def _first_block(denoiser: Any, caching: Caching, limit: float) -> FirstBlockCacheConfig:
    return FirstBlockCacheConfig(threshold=limit)


def _taylorseer(denoiser: Any, caching: Caching, limit: float) -> TaylorSeerCacheConfig:
    return TaylorSeerCacheConfig(
        cache_interval=int(limit), disable_cache_before_step=3, max_order=1, use_lite_mode=True,
        taylor_factors_dtype=torch.float32,
    )  # fmt: skip


def _magcache(denoiser: Any, caching: Caching, limit: float) -> MagCacheConfig:
    ratios = caching.measured(denoiser)
    return MagCacheConfig(threshold=limit, mag_ratios=ratios, num_inference_steps=caching.calls)


_CONFIGS: Mapping[str, Callable[[Any, Caching, float], Any]] = {
    "first_block": _first_block,
    "taylorseer": _taylorseer,
    "magcache": _magcache,
}


@contextmanager
def _measured(denoiser: Any, caching: Caching) -> Iterator[None]:
    """As MagCache's calibration does it: what all blocks add to the picture's tokens, against the step before.

    The calibration of diffusers 0.42 prints what it finds, and its pipelines forget it before anyone can read it.
    """
    came, lengths = list[torch.Tensor](), list[torch.Tensor]()  # lengths [tokens] of each call

    def before(_block: Any, _args: Any, named: Mapping[str, torch.Tensor]) -> None:
        came.append(named["hidden_states"])

    def after(_block: Any, _args: Any, answer: tuple[torch.Tensor, torch.Tensor]) -> None:
        lengths.append((answer[1] - came.pop()).float().norm(dim=-1).flatten())

    first = denoiser.transformer_blocks[0].register_forward_pre_hook(before, with_kwargs=True)
    last = denoiser.single_transformer_blocks[-1].register_forward_hook(after)
    with first, last:
        yield
    prompts, rest = divmod(len(lengths), caching.calls)
    if prompts and not rest:  # of two prompts the first is the one that is asked for
        own = lengths[::prompts]
        ratios = [float((now / (then + 1e-8)).mean()) for then, now in pairwise(own)]
        caching.magnitudes.known[caching.record] = (1.0, *ratios)
