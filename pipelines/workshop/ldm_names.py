"""diffusers' names of the tensors of Stable Diffusion and FLUX turned into those of the single files: the way back of
`diffusers.loaders.single_file_utils`, for the same spellings as `FilePart`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from pipelines.library.bfl_names import Way, rows
from pipelines.library.unet_names import applied, attentive, control_name, hints_of, unet_name
from pipelines.spec.errors import ModelError
from pipelines.spec.families.file_parts import Spelling

Make = Callable[..., torch.Tensor]


@dataclass(frozen=True, slots=True)
class Renamed:
    """The tensor `name` of the file is `make` of those of the folder."""

    name: str
    sources: tuple[str, ...]
    make: Make = lambda tensor: tensor


def renamed(spelling: Spelling, names: Iterable[str], config: Mapping[str, Any]) -> list[Renamed]:
    """All tensors of one part, `names` and `config` being the folder's. Raises ModelError for a strange name."""
    return _SPELLINGS[spelling](names, config)


def _unet(names: Iterable[str], config: Mapping[str, Any]) -> list[Renamed]:
    names, stride = list(names), _stride(config)
    levels = attentive(names)
    return [Renamed(unet_name(name, stride, levels), (name,)) for name in names]


def _control(names: Iterable[str], config: Mapping[str, Any]) -> list[Renamed]:
    names, stride = list(names), _stride(config)
    hints = hints_of(names)
    return [Renamed(control_name(name, stride, hints), (name,)) for name in names]


def _stride(config: Mapping[str, Any]) -> int:
    """Places of a level: its layers, and one that halves it."""
    layers = config.get("layers_per_block", 2)
    if not isinstance(layers, int):
        raise ModelError("A U-Net with blocks of different depth has no names in a single file.")
    return layers + 1


def _same(names: Iterable[str], _config: Mapping[str, Any]) -> list[Renamed]:
    return [Renamed(name, (name,)) for name in names]


_VAE = (
    ("conv_norm_out", "norm_out"),
    ("conv_shortcut", "nin_shortcut"),
    ("downsamplers.0", "downsample"),
    ("upsamplers.0", "upsample"),
    ("resnets", "block"),
)
# The second name of each is that of diffusers before 0.15.
_VAE_ATTENTION = (
    ("group_norm.", "norm."),
    ("to_q.", "q."),
    ("query.", "q."),
    ("to_k.", "k."),
    ("key.", "k."),
    ("to_v.", "v."),
    ("value.", "v."),
    ("to_out.0.", "proj_out."),
    ("proj_attn.", "proj_out."),
)
_LEVEL = re.compile(r"(down|up)_blocks\.(\d+)")


def _vae(names: Iterable[str], config: Mapping[str, Any]) -> list[Renamed]:
    levels = len(config["block_out_channels"])
    return [_vae_tensor(name, levels) for name in names]


def _vae_tensor(name: str, levels: int) -> Renamed:
    """Upwards a file counts the levels from the other end; its attention is made of convolutions over one pixel."""
    if (mark := "mid_block.attentions.0.") in name:
        new = applied(name.replace(mark, "mid.attn_1."), _VAE_ATTENTION)
        if name.endswith("weight") and "norm" not in name:
            return Renamed(new, (name,), lambda tensor: tensor.reshape(*tensor.shape[:2], 1, 1))
        return Renamed(new, (name,))
    new = re.sub(r"mid_block\.resnets\.(\d+)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    new = _LEVEL.sub(lambda m: f"{m[1]}.{m[2] if m[1] == 'down' else levels - 1 - int(m[2])}", new)
    return Renamed(applied(new, _VAE), (name,))


def _clip(names: Iterable[str], _config: Mapping[str, Any]) -> list[Renamed]:
    return [Renamed(f"text_model.{name.removeprefix('text_model.')}", (name,)) for name in names]


_OPEN_CLIP_OUTER = {
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_OPEN_CLIP = (
    ("encoder.layers.", "transformer.resblocks."),
    ("layer_norm1", "ln_1"),
    ("layer_norm2", "ln_2"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
    ("self_attn", "attn"),
)
_QUERY = re.compile(r"(.*)self_attn\.q_proj\.(weight|bias)")
_KEY_VALUE = re.compile(r".*self_attn\.[kv]_proj\..*")


def _open_clip(names: Iterable[str], config: Mapping[str, Any]) -> list[Renamed]:
    """Query, key and value are one tensor there.

    A folder of SD 2.x lacks the last layer, as the prompt is read at the one before, where `CLIPTextModel` ends. Other
    programs count from the end: for them that one is written twice, and nobody hears the second.
    """
    found = [_open_clip_tensor(name) for name in names if not _KEY_VALUE.fullmatch(name)]
    if "CLIPTextModel" not in (config.get("architectures") or ()):
        return found
    last = f"transformer.resblocks.{config['num_hidden_layers'] - 1}."
    again = f"transformer.resblocks.{config['num_hidden_layers']}."
    twice = [replace(each, name=again + each.name.removeprefix(last)) for each in found
             if each.name.startswith(last)]  # fmt: skip
    return [*found, *twice]


def _open_clip_tensor(source: str) -> Renamed:
    name = source.removeprefix("text_model.")
    if name == "text_projection.weight":
        return Renamed("text_projection", (source,), lambda tensor: tensor.T)
    if name in _OPEN_CLIP_OUTER:
        return Renamed(_OPEN_CLIP_OUTER[name], (source,))
    if match := _QUERY.fullmatch(source):
        sources = tuple(source.replace("q_proj", f"{letter}_proj") for letter in "qkv")
        new = applied(match[1].removeprefix("text_model."), _OPEN_CLIP)
        return Renamed(f"{new}attn.in_proj_{match[2]}", sources, lambda *three: torch.cat(three))
    return Renamed(applied(name, _OPEN_CLIP), (source,))


def _t5(names: Iterable[str], _config: Mapping[str, Any]) -> list[Renamed]:
    """As transformers has them; its second name of the table of words is left out, as published files do."""
    return [Renamed(name, (name,)) for name in names if name != "encoder.embed_tokens.weight"]


def _flux(names: Iterable[str], config: Mapping[str, Any]) -> list[Renamed]:
    known = set(names)
    found = [
        row for row in rows(config["num_layers"], config["num_single_layers"]) if row.diffusers[0] in known
    ]
    if strange := sorted(known - {name for row in found for name in row.diffusers}):
        raise ModelError(f"The weight '{strange[0]}' of the transformer has no name in a single file.")
    return [Renamed(row.bfl, row.diffusers, _MAKE[row.way]) for row in found]


_MAKE: Mapping[Way, Make] = {
    Way.SAME: lambda tensor: tensor,
    Way.JOINED: lambda *tensors: torch.cat(tensors),
    Way.SWAPPED: lambda tensor: tensor.roll(tensor.shape[0] // 2, 0),
}
_SPELLINGS: Mapping[Spelling, Callable[[Iterable[str], Mapping[str, Any]], list[Renamed]]] = {
    Spelling.LDM_UNET: _unet,
    Spelling.LDM_CONTROL: _control,
    Spelling.DIFFUSERS: _same,
    Spelling.LDM_VAE: _vae,
    Spelling.CLIP: _clip,
    Spelling.OPEN_CLIP: _open_clip,
    Spelling.T5: _t5,
    Spelling.FLUX: _flux,
}
