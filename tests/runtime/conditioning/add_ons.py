"""Tiny LoRAs, ControlNets and IP-Adapters with random weights for the tiny models, in the formats that people have."""

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


EYE, PATCH, SEEN, PROJECTED = (
    32,
    8,
    24,
    20,
)  # sides in pixels, and what the tiny image encoder answers in numbers


def image_encoder(folder: Path, seed: int = 0) -> Path:
    """A tiny CLIP vision model with random weights."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=SEEN, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=EYE,
        patch_size=PATCH, projection_dim=PROJECTED,
    )  # fmt: skip
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        encoder = CLIPVisionModelWithProjection(config)
        for parameter in encoder.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    encoder.half().save_pretrained(folder)
    return folder


def ip_adapter(
    folder: Path, family: Family, record: ModelRecord, seed: int = 0, fine: bool = False
) -> ModelRecord:
    """A tiny IP-Adapter for the family's tiny model, beside its encoder. `fine`: as IP-Adapter Plus has it."""
    unet = UNet2DConditionModel.from_pretrained(record.path, subfolder="unet")
    generator = torch.Generator().manual_seed(seed)
    width = unet.config["cross_attention_dim"]
    state = _resampler(width, generator) if fine else _plain_projection(width, generator)
    crossed = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    for number, name in enumerate(crossed):
        layer: Any = unet.get_submodule(name.removesuffix(".processor"))
        out = layer.to_k.out_features
        for half in ("to_k_ip", "to_v_ip"):
            key = f"ip_adapter.{2 * number + 1}.{half}.weight"
            state[key] = torch.randn(out, width, generator=generator)
    image_encoder(folder / "image_encoder")
    write(folder / "Pictures.safetensors", state, {"emulsion.family": family.id})
    (found,) = (each for each in scan([folder]) if each.id == "pictures")
    assert not found.problem, found.problem
    return found


def _plain_projection(width: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    shapes = {
        "proj.weight": (4 * width, PROJECTED), "proj.bias": (4 * width,), "norm.weight": (width,),
        "norm.bias": (width,),
    }  # fmt: skip
    return {f"image_proj.{name}": torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def _resampler(width: int, generator: torch.Generator, inner: int = 64, queries: int = 3) -> dict[str, Any]:
    """One layer with one head of 64, under the names of the original code."""
    shapes: dict[str, tuple[int, ...]] = {
        "latents": (1, queries, inner), "proj_in.weight": (inner, SEEN), "proj_in.bias": (inner,),
        "proj_out.weight": (width, inner), "proj_out.bias": (width,), "norm_out.weight": (width,),
        "norm_out.bias": (width,), "layers.0.0.norm1.weight": (inner,), "layers.0.0.norm1.bias": (inner,),
        "layers.0.0.norm2.weight": (inner,), "layers.0.0.norm2.bias": (inner,),
        "layers.0.0.to_q.weight": (64, inner), "layers.0.0.to_kv.weight": (128, inner),
        "layers.0.0.to_out.weight": (inner, 64), "layers.0.1.0.weight": (inner,), "layers.0.1.0.bias": (inner,),
        "layers.0.1.1.weight": (4 * inner, inner), "layers.0.1.3.weight": (inner, 4 * inner),
    }  # fmt: skip
    for number in (1, 2, 3):
        shapes |= {
            name.replace("layers.0", f"layers.{number}"): shape
            for name, shape in shapes.items() if name.startswith("layers.0")
        }  # fmt: skip
    return {f"image_proj.{name}": torch.randn(shape, generator=generator) for name, shape in shapes.items()}


_NETWORKS = {"unet": _of_unet, "transformer": _of_transformer}
