"""The work of a denoiser's step, block by block, counted on the meta device (1 multiply-add = 2)."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from pipelines.runtime.streaming import blocks_of
from tests.benchmarks.truesize.inputs import inputs_for


def step_flops(network: Any, side: int, tokens: int) -> tuple[int, tuple[int, ...]]:
    """Of the whole step, and of each block in its order. `network` is on the meta device, in bfloat16."""
    like = torch.empty(0, device="meta", dtype=torch.bfloat16)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(**inputs_for(network, side, tokens, like, torch.Generator()), return_dict=False)
    counts = counter.get_flop_counts()
    root = type(network).__name__
    own = tuple(sum(counts.get(f"{root}.{name}", {}).values()) for name in blocks_of(network))
    return counter.get_total_flops(), own
