"""The names that the single files of Stable Diffusion (LDM) give the layers of U-Nets and ControlNets, by those of
diffusers."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from pipelines.spec.errors import ModelError

_UNET_OUTER = {
    "time_embedding.linear_1.": "time_embed.0.",
    "time_embedding.linear_2.": "time_embed.2.",
    "add_embedding.linear_1.": "label_emb.0.0.",
    "add_embedding.linear_2.": "label_emb.0.2.",
    "conv_in.": "input_blocks.0.0.",
    "conv_norm_out.": "out.0.",
    "conv_out.": "out.2.",
}
_RESNET = (
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("time_emb_proj", "emb_layers.1"),
    ("conv_shortcut", "skip_connection"),
)
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")


_HINT = "controlnet_cond_embedding."
_HINT_BLOCK = re.compile(r"controlnet_cond_embedding\.blocks\.(\d+)\.(.+)")
_ZERO = re.compile(r"controlnet_down_blocks\.(\d+)\.(.+)")
_MIDDLE_OUT = "controlnet_mid_block."


def applied(name: str, rules: Iterable[tuple[str, str]]) -> str:
    for old, new in rules:
        name = name.replace(old, new)
    return name


def attentive(names: Iterable[str]) -> set[int]:
    """The levels upwards that have attention."""
    found = (_BLOCK.match(name) for name in names)
    return {int(m[2]) for m in found if m and m[1] == "up" and m[3] == "attentions"}


def unet_name(name: str, stride: int, attentive: Collection[int] = ()) -> str:
    """A level has `stride` places: its layers, and one that halves it; upwards the last layer doubles it."""
    for old, new in _UNET_OUTER.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    if match := _MIDDLE.fullmatch(name):
        kind, number, rest = match[1], int(match[2]), match[3]
        return (
            f"middle_block.{2 * number}.{applied(rest, _RESNET)}"
            if kind == "resnets"
            else f"middle_block.{2 * number + 1}.{rest}"
        )
    match = _BLOCK.fullmatch(name)
    if match is None:
        raise ModelError(f"The weight '{name}' of the U-Net has no name in a single file.")
    way, level, kind, layer, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    if kind == "downsamplers":
        return f"input_blocks.{(level + 1) * stride}.0.{rest.replace('conv', 'op')}"
    if kind == "upsamplers":
        return f"output_blocks.{(level + 1) * stride - 1}.{2 if level in attentive else 1}.{rest}"
    place = (
        f"input_blocks.{level * stride + layer + 1}"
        if way == "down"
        else f"output_blocks.{level * stride + layer}"
    )
    return f"{place}.0.{applied(rest, _RESNET)}" if kind == "resnets" else f"{place}.1.{rest}"


def control_name(name: str, stride: int, hints: int) -> str:
    """`hints` are the blocks that a control picture goes through, between the first layer and the last."""
    if match := _ZERO.fullmatch(name):
        return f"zero_convs.{match[1]}.0.{match[2]}"
    if name.startswith(_MIDDLE_OUT):
        return f"middle_block_out.0.{name.removeprefix(_MIDDLE_OUT)}"
    if match := _HINT_BLOCK.fullmatch(name):
        return f"input_hint_block.{2 * int(match[1]) + 2}.{match[2]}"
    if name.startswith(_HINT):
        layer, _, leaf = name.removeprefix(_HINT).partition(".")
        return f"input_hint_block.{0 if layer == 'conv_in' else 2 * hints + 2}.{leaf}"
    return unet_name(name, stride)


def hints_of(names: Iterable[str]) -> int:
    return len({match[1] for name in names if (match := _HINT_BLOCK.fullmatch(name))})
