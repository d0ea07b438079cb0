"""Query, key and value of an attention as one product instead of three: fewer and larger launches.

The three weights become views of the one that is fused, so that it takes no more memory than before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

_SELF = ("to_q", "to_k", "to_v")
_CROSS = ("to_k", "to_v")
_ADDED = ("add_q_proj", "add_k_proj", "add_v_proj")
_FUSED = {"to_qkv": _SELF, "to_kv": _CROSS, "to_added_qkv": _ADDED}


@contextmanager
def fused_qkv(denoiser: Any) -> Iterator[None]:
    """Of a network without LoRA layers and with weights of 16 bits or more; both would be wrong or fail."""
    try:
        denoiser.fuse_qkv_projections()
        for attention in _attentions(denoiser):
            for name, parts in _FUSED.items():
                if hasattr(attention, name):
                    _share(getattr(attention, name), [getattr(attention, part) for part in parts])
        yield
    finally:
        denoiser.unfuse_qkv_projections()
        for attention in _attentions(denoiser):  # a U-Net of diffusers 0.42 keeps them
            for name in _FUSED:
                if hasattr(attention, name):
                    delattr(attention, name)
        denoiser.__dict__.pop("original_attn_processors", None)


def _attentions(denoiser: nn.Module) -> list[nn.Module]:
    return [module for module in denoiser.modules() if hasattr(module, "to_q")]


def _share(fused: nn.Linear, parts: Sequence[nn.Linear]) -> None:
    """The same numbers, bit for bit, but in the memory of `fused`."""
    fused.requires_grad_(False)
    begin = 0
    for part in parts:
        end = begin + part.weight.shape[0]
        part.weight.data = fused.weight.data[begin:end]
        if part.bias is not None and fused.bias is not None:
            part.bias.data = fused.bias.data[begin:end]
        begin = end
    assert begin == fused.weight.shape[0], "diffusers fuses other parts than these"
