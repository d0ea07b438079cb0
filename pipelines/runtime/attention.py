"""Which attention kernel a U-Net uses: torch's own, unless xformers runs, answers the same and is faster."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

log = logging.getLogger(__name__)

_WIN = 0.9  # of torch's time; closer calls would let chance decide, and with it the last bit of a picture
_TOKENS, _HEADS, _HEAD_DIM = 4096, 8, 40  # the largest layer of SD 1.x at 512 x 512


def settle(denoiser: Any, device: torch.device) -> None:
    """Switches the denoiser to xformers where `xformers_wins` on the device that computes.

    Else scaled_dot_product_attention stays.
    """
    if device.type == "cuda" and xformers_wins(device, denoiser.dtype):
        denoiser.enable_xformers_memory_efficient_attention()


@functools.cache
def xformers_wins(device: torch.device, dtype: torch.dtype) -> bool:
    """Runs both kernels, once a process: an installed package proves nothing, its kernels may not load."""
    try:
        from xformers.ops import memory_efficient_attention

        query, key, value = torch.randn(3, 2, _TOKENS, _HEADS, _HEAD_DIM, device=device, dtype=dtype)
        theirs = memory_efficient_attention(query, key, value)
        ours = _sdpa(query, key, value)
        same = torch.allclose(theirs, ours, atol=1e-2)
        return same and _ms(memory_efficient_attention, query, key, value) < _WIN * _ms(
            _sdpa, query, key, value
        )
    except Exception as error:  # an extension built for another torch fails in many ways, all meaning no
        log.info("xformers is not used: %s", type(error).__name__)
        return False


def _sdpa(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """[batch, tokens, heads, width] as xformers has it."""
    return scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    ).transpose(1, 2)


def _ms(kernel: Callable[..., torch.Tensor], *tensors: torch.Tensor) -> float:
    """The best of ten."""
    times = []
    for _ in range(10):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        kernel(*tensors)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return min(times)
