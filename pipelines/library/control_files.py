"""ControlNets in one file: whose names they have, and with which settings they are built."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.library.header import Header, read_header
from pipelines.library.places import table_of
from pipelines.library.single_file import PartFile, bundled, own_configs
from pipelines.spec.errors import ModelError
from pipelines.spec.families.base import Family
from pipelines.spec.families.file_parts import CONTROLS, FilePart, Spelling

PART = "controlnet"
# Of the denoiser's settings those that a ControlNet, which copies its first half, has as well.
_UNET = (
    "cross_attention_dim", "attention_head_dim", "block_out_channels", "layers_per_block", "down_block_types",
    "transformer_layers_per_block", "projection_class_embeddings_input_dim", "use_linear_projection",
    "addition_embed_type", "addition_time_embed_dim",
)  # fmt: skip
_FLUX = (
    "patch_size", "in_channels", "attention_head_dim", "num_attention_heads", "joint_attention_dim",
    "pooled_projection_dim", "axes_dims_rope",
)  # fmt: skip
_BLOCK = re.compile(r"(single_)?transformer_blocks\.(\d+)\.")
_ATTENTION = re.compile(r"(down_blocks\.\d+|mid_block)\.attentions\.\d+\.transformer_blocks\.(\d+)\.")
_MODES = "controlnet_mode_embedder.weight"
_GUIDED = "time_text_embed.guidance_embedder.linear_1.weight"


@dataclass(frozen=True, slots=True)
class ControlFile:
    """`part` is where its tensors lie, `class_name` what is built, with the settings of `config`."""

    part: PartFile
    class_name: str
    config: Mapping[str, Any]


def read_control(path: Path, family: Family) -> ControlFile:
    """Raises ModelError with the path for what is gone, damaged, or no ControlNet that can be used."""
    if not path.is_file():
        raise ModelError(f"The model file is gone: {path}", "Was it moved, renamed or deleted?")
    header = read_header(path)
    row, prefix = row_of(header, family)
    source, table = table_of(path)
    places = {name: place for name, place in table.items() if name.startswith(prefix)}
    part = PartFile(source, row.spelling, prefix, places)
    own = own_configs(header).get(PART)
    return ControlFile(part, row.class_name, own or _config(row, family, part.names))


def row_of(header: Header, family: Family) -> tuple[FilePart, str]:
    """Whose names it has, and what stands before them. Raises ModelError for one that cannot be used."""
    for row in CONTROLS:
        found = next((name for name in header.shapes if name.endswith(row.mark)), None)
        if found is None or (row.class_name == "FluxControlNetModel") != (family.denoiser == "transformer"):
            continue
        prefix = found.removesuffix(row.mark)
        if f"{prefix}{_MODES}" in header.shapes:
            raise ModelError("A ControlNet of several modes in one cannot be used yet.")
        return row, prefix
    raise ModelError("A ControlNet with names of this kind cannot be used yet.", "Use a folder of diffusers.")


def _config(row: FilePart, family: Family, names: Collection[str]) -> dict[str, Any]:
    """That of the published ones, with the blocks that there are."""
    denoiser = bundled(family)[family.denoiser]
    if row.class_name == "FluxControlNetModel":
        most = {"": 0, "single_": 0}
        for match in filter(None, map(_BLOCK.match, names)):
            most[match[1] or ""] = max(most[match[1] or ""], int(match[2]) + 1)
        config = {name: denoiser[name] for name in _FLUX if name in denoiser}
        depth = {"num_layers": most[""], "num_single_layers": most["single_"]}
        return config | depth | {"guidance_embeds": _GUIDED in names}
    config = {name: denoiser[name] for name in _UNET if name in denoiser}
    return config if row.spelling is Spelling.LDM_CONTROL else config | _attention(names, config)


def _attention(names: Collection[str], config: Mapping[str, Any]) -> dict[str, Any]:
    """Small ones for SDXL have fewer transformer blocks than its U-Net, or none."""
    depth = defaultdict[str, int](int)
    for match in filter(None, map(_ATTENTION.match, names)):
        depth[match[1]] = max(depth[match[1]], int(match[2]) + 1)
    levels = [f"down_blocks.{level}" for level in range(len(config["block_out_channels"]))]
    return {
        "down_block_types": ["CrossAttnDownBlock2D" if depth[each] else "DownBlock2D" for each in levels],
        "transformer_layers_per_block": [max(1, depth[each]) for each in levels],
        "mid_block_type": "UNetMidBlock2DCrossAttn" if depth["mid_block"] else "UNetMidBlock2D",
    }
