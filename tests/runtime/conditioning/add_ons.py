"""Tiny LoRAs and ControlNets with random weights for the tiny models, in the key formats that people have."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, FluxControlNetModel, FluxTransformer2DModel, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import save_file

from pipelines.library.models import scan
from pipelines.spec.families.base import Family
from pipelines.spec.record import ModelRecord

RANK, ALPHA = 4, 2.0
_TARGETS = re.compile(r".*(attn2?|attn1|self_attn)\.(to_q|to_k|to_v|to_out\.0|q_proj|v_proj)\.weight")


def layers(record: ModelRecord, part: str, seed: int = 0) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Module name -> (down [rank, in], up [out, rank]) for the attentions of one part of the model."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for file in (Path(record.path) / part).glob("*.safetensors"):
        with safe_open(file, framework="pt") as weights:
            for name in sorted(n for n in weights.keys() if _TARGETS.fullmatch(n)):  # noqa: SIM118
                out, into = weights.get_slice(name).get_shape()
                down = torch.randn(RANK, into, generator=generator)
                up = torch.randn(out, RANK, generator=generator)
                found[name.removesuffix(".weight")] = (down, up * 2)
    assert found
    return found


def peft(record: ModelRecord, parts: tuple[str, ...], seed: int = 0) -> dict[str, torch.Tensor]:
    """As diffusers saves it."""
    return {
        f"{part}.{name}.lora_{half}.weight": tensor
        for part in parts
        for name, pair in layers(record, part, seed).items()
        for half, tensor in zip("AB", pair, strict=True)
    }


PREFIX = {
    "unet": "lora_unet_",
    "text_encoder": "lora_te_text_model_",
    "text_encoder_2": "lora_te2_text_model_",
}


def kohya(
    record: ModelRecord, parts: tuple[str, ...], seed: int = 0, prefix: Mapping[str, str] = PREFIX
) -> dict[str, torch.Tensor]:
    """As kohya's trainer saves it for the diffusers U-Net: underscores for dots, and an alpha a layer."""
    state: dict[str, torch.Tensor] = {}
    for part in parts:
        for name, (down, up) in layers(record, part, seed).items():
            key = prefix[part] + name.replace(".", "_")
            state |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
            state[f"{key}.alpha"] = torch.tensor(ALPHA)
    return state


def kohya_flux(record: ModelRecord, seed: int = 0) -> dict[str, torch.Tensor]:
    """In the names of the original code: queries, keys and values are one layer."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}
    with safe_open(
        next((Path(record.path) / "transformer").glob("*.safetensors")), framework="pt"
    ) as weights:
        out, into = weights.get_slice("transformer_blocks.0.attn.to_q.weight").get_shape()
    for block in (0, 1):
        for stream in ("img", "txt"):
            key = f"lora_unet_double_blocks_{block}_{stream}_attn_qkv"
            state[f"{key}.lora_down.weight"] = torch.randn(RANK, into, generator=generator)
            state[f"{key}.lora_up.weight"] = torch.randn(3 * out, RANK, generator=generator) * 2
            state[f"{key}.alpha"] = torch.tensor(ALPHA)
    return state


def write(path: Path, state: dict[str, torch.Tensor], metadata: dict[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path, metadata)
    return path


def found(path: Path, family: Family | None, state: dict[str, Any]) -> ModelRecord:
    """The record of a LoRA of these tensors, as the library finds it; `family` is told in the metadata."""
    write(path, state, {"emulsion.family": family.id} if family else {})
    (record,) = scan([path.parent])
    return record


def controlnet(folder: Path, family: Family, record: ModelRecord, seed: int = 0, **facts: Any) -> ModelRecord:
    """A tiny ControlNet for the family's tiny model that steers it at once, as the library finds it."""
    network = _NETWORKS[family.denoiser](record)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    network.half().save_pretrained(folder)
    (folder / "emulsion.json").write_text(json.dumps({"family": family.id, **facts}))
    (record,) = scan([folder])
    assert not record.problem, record.problem
    return record


def _of_unet(record: ModelRecord) -> Any:
    unet = UNet2DConditionModel.from_pretrained(record.path, subfolder="unet")
    return ControlNetModel.from_unet(unet, conditioning_channels=3)


def _of_transformer(record: ModelRecord) -> Any:
    transformer = FluxTransformer2DModel.from_pretrained(record.path, subfolder="transformer")
    heads, width = transformer.config["num_attention_heads"], transformer.config["attention_head_dim"]
    return FluxControlNetModel.from_transformer(
        transformer, num_layers=1, num_single_layers=1, attention_head_dim=width, num_attention_heads=heads
    )


_NETWORKS = {"unet": _of_unet, "transformer": _of_transformer}
