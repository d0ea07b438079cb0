"""Black Forest Labs' names of the tensors of FLUX.1 beside those of diffusers.

The layout of `flux1-dev.safetensors` (black-forest-labs/flux: src/flux/model.py), which ComfyUI's bundles and GGUF
keep.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum


class Way(StrEnum):
    SAME = "same"
    JOINED = "joined"  # theirs is those of diffusers one below the other
    SWAPPED = "swapped"  # the two halves stand the other way round: shift and scale


@dataclass(frozen=True, slots=True)
class Row:
    """`bfl` is one tensor of theirs, `diffusers` those that are made of it, the first at the top."""

    bfl: str
    diffusers: tuple[str, ...]
    way: Way = Way.SAME


MARK = "double_blocks.0.img_attn.qkv.weight"
_BLOCK = re.compile(r"^(double|single)_blocks\.(\d+)\.")

# Layers, which have a weight and a bias each.
_ENDS = {
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "txt_in": "context_embedder",
    "img_in": "x_embedder",
    "final_layer.linear": "proj_out",
}
_DOUBLE = {
    "img_mod.lin": ("norm1.linear",),
    "txt_mod.lin": ("norm1_context.linear",),
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "img_attn.proj": ("attn.to_out.0",),
    "txt_attn.proj": ("attn.to_add_out",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
}
_DOUBLE_SCALES = {
    "img_attn.norm.query_norm": "attn.norm_q",
    "img_attn.norm.key_norm": "attn.norm_k",
    "txt_attn.norm.query_norm": "attn.norm_added_q",
    "txt_attn.norm.key_norm": "attn.norm_added_k",
}
_SINGLE = {
    "modulation.lin": ("norm.linear",),
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
}
_SINGLE_SCALES = {"norm.query_norm": "attn.norm_q", "norm.key_norm": "attn.norm_k"}


def depth(names: Collection[str]) -> tuple[int, int]:
    """How many double and how many single blocks the file has, whose `names` are without a prefix."""
    most = {"double": 0, "single": 0}
    for name in names:
        if match := _BLOCK.match(name):
            most[match[1]] = max(most[match[1]], int(match[2]) + 1)
    return most["double"], most["single"]


def rows(double: int, single: int) -> Iterator[Row]:
    """All tensors of a transformer with so many blocks. [schnell] lacks those of the guidance."""
    for theirs, ours in _ENDS.items():
        yield from _layer(theirs, (ours,))
    yield from _layer("final_layer.adaLN_modulation.1", ("norm_out.linear",), Way.SWAPPED)
    for kind, count, layers, scales, block in (
        ("double_blocks", double, _DOUBLE, _DOUBLE_SCALES, "transformer_blocks"),
        ("single_blocks", single, _SINGLE, _SINGLE_SCALES, "single_transformer_blocks"),
    ):
        for number in range(count):
            theirs, ours = f"{kind}.{number}.", f"{block}.{number}."
            for name, parts in layers.items():
                way = Way.JOINED if len(parts) > 1 else Way.SAME
                yield from _layer(theirs + name, tuple(ours + part for part in parts), way)
            for name, part in scales.items():
                yield Row(f"{theirs}{name}.scale", (f"{ours}{part}.weight",))


def _layer(theirs: str, ours: tuple[str, ...], way: Way = Way.SAME) -> Iterator[Row]:
    for end in ("weight", "bias"):
        yield Row(f"{theirs}.{end}", tuple(f"{name}.{end}" for name in ours), way)
