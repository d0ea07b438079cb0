"""Model files as people have them by the thousand: LoRAs with true tables of tensors and holes for the weights."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path

# (name of the layer, out, in)
Layer = tuple[str, int, int]
_RANKS = range(1, 129)
_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


def write_library(root: Path, count: int, seed: int = 0) -> None:
    """`count` LoRAs in folders of 500, no two alike: each has a rank, a type and training tags drawn for it."""
    draw = random.Random(seed)
    kinds = (tuple(_sd1()), tuple(_sdxl()), tuple(_flux()))
    for number in range(count):
        folder = root / f"{number // 500:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        layers = draw.choices(kinds, (5, 3, 2))[0]
        _write(folder / f"lora {number:05d}.safetensors", layers, draw)


def _write(path: Path, layers: tuple[Layer, ...], draw: random.Random) -> None:
    rank, kind, end = draw.choice(_RANKS), draw.choice(tuple(_BYTES)), 0
    table: dict[str, object] = {"__metadata__": _metadata(path.stem, rank, draw)}
    for layer, out, into in layers:
        for name, shape in (
            ("alpha", []),
            ("lora_down.weight", [rank, into]),
            ("lora_up.weight", [out, rank]),
        ):
            begin, end = end, end + _BYTES[kind] * (shape[0] * shape[1] if shape else 1)
            table[f"{layer}.{name}"] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(table, separators=(",", ":")).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


def _metadata(name: str, rank: int, draw: random.Random) -> dict[str, str]:
    tags = {f"tag {draw.randrange(10_000)}": draw.randrange(1, 200) for _ in range(200)}
    return {
        "ss_output_name": name,
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_tag_frequency": json.dumps({"10_things": tags}),
        "modelspec.title": name,
    }


def _blocks(where: str, width: int, text: int, depth: int) -> Iterator[Layer]:
    """The attention of one block of a U-Net."""
    yield f"lora_unet_{where}_proj_in", width, width
    yield f"lora_unet_{where}_proj_out", width, width
    for block in range(depth):
        name = f"lora_unet_{where}_transformer_blocks_{block}"
        for part, wide in (("attn1", width), ("attn2", text)):
            yield f"{name}_{part}_to_q", width, width
            yield f"{name}_{part}_to_k", width, wide
            yield f"{name}_{part}_to_v", width, wide
            yield f"{name}_{part}_to_out_0", width, width
        yield f"{name}_ff_net_0_proj", 8 * width, width
        yield f"{name}_ff_net_2", width, 4 * width


def _clip(prefix: str, layers: int, width: int) -> Iterator[Layer]:
    for number in range(layers):
        name = f"{prefix}_text_model_encoder_layers_{number}"
        for part in ("k_proj", "out_proj", "q_proj", "v_proj"):
            yield f"{name}_self_attn_{part}", width, width
        yield f"{name}_mlp_fc1", 4 * width, width
        yield f"{name}_mlp_fc2", width, 4 * width


def _sd1() -> Iterator[Layer]:
    """264 layers."""
    yield from _clip("lora_te", 12, 768)
    for level, width in enumerate((320, 640, 1280)):
        for number in range(2):
            yield from _blocks(f"down_blocks_{level}_attentions_{number}", width, 768, 1)
    yield from _blocks("mid_block_attentions_0", 1280, 768, 1)
    for level, width in enumerate((1280, 640, 320), start=1):
        for number in range(3):
            yield from _blocks(f"up_blocks_{level}_attentions_{number}", width, 768, 1)


def _sdxl() -> Iterator[Layer]:
    """722 layers without the text encoders."""
    for block in (4, 5):
        yield from _blocks(f"input_blocks_{block}_1", 640, 2048, 2)
    for block in (7, 8):
        yield from _blocks(f"input_blocks_{block}_1", 1280, 2048, 10)
    yield from _blocks("middle_block_1", 1280, 2048, 10)
    for block in range(3):
        yield from _blocks(f"output_blocks_{block}_1", 1280, 2048, 10)
    for block in range(3, 6):
        yield from _blocks(f"output_blocks_{block}_1", 640, 2048, 2)


def _flux() -> Iterator[Layer]:
    """304 layers."""
    for block in range(19):
        for side in ("img", "txt"):
            name = f"lora_unet_double_blocks_{block}_{side}"
            yield f"{name}_attn_proj", 3072, 3072
            yield f"{name}_attn_qkv", 9216, 3072
            yield f"{name}_mlp_0", 12288, 3072
            yield f"{name}_mlp_2", 3072, 12288
            yield f"{name}_mod_lin", 18432, 3072
    for block in range(38):
        name = f"lora_unet_single_blocks_{block}"
        yield f"{name}_linear1", 21504, 3072
        yield f"{name}_linear2", 3072, 15360
        yield f"{name}_modulation_lin", 9216, 3072
