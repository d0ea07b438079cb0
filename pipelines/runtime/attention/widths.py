"""Which heads the attentions of a denoiser have, and at which of its resolutions, read from its layers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import nn

_LEVEL = re.compile(r"(down|up)_blocks\.(\d+)\.")


def tokens_by_width(network: nn.Module) -> Mapping[int, int]:
    """Width of a head -> how many cells of latents one of its tokens stands for, where there are the most tokens.

    Each level of a U-Net has a quarter of the tokens of the one before.
    """
    levels = len(getattr(network, "down_blocks", ()))
    found = dict[int, int]()
    for name, module in network.named_modules():
        heads, width = module.__dict__.get("heads"), module.__dict__.get("inner_dim")
        if not heads or not width:
            continue
        shrunk = 4 ** _level(name, levels) if levels else 4  # FLUX takes cells two by two
        head = width // heads
        found[head] = min(shrunk, found.get(head, shrunk))
    return found


def _level(name: str, levels: int) -> int:
    """Down blocks count from the full resolution, up blocks towards it; the middle is the lowest."""
    found = _LEVEL.match(name)
    if found is None:
        return levels - 1
    at = int(found[2])
    return at if found[1] == "down" else levels - 1 - at
