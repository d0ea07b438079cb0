"""How the layers of a LoRA are called in a file, and what else the file tells: as diffusers and as kohya write it."""

from __future__ import annotations

import json

import torch

State = dict[str, torch.Tensor]


def as_diffusers(layers: State, part: str) -> State:
    """With the part's name in front."""
    return {f"{part}.{key}": tensor for key, tensor in layers.items()}


def as_kohya(layers: State, alpha: float) -> State:
    """Under the names of sd-scripts for a U-Net, with an alpha a layer."""
    named: State = {}
    halves = {"lora_A": "lora_down", "lora_B": "lora_up"}
    for key, tensor in layers.items():
        module, half, _ = key.rsplit(".", 2)
        name = "lora_unet_" + module.replace(".", "_")
        named[f"{name}.{halves[half]}.weight"] = tensor
        named[f"{name}.alpha"] = torch.tensor(alpha, dtype=torch.float16)
    return named


def told_of(family: str, title: str, description: str) -> dict[str, str]:
    """What every program that reads `modelspec` or Emulsion's own word knows of the file."""
    return {"emulsion.family": family, "modelspec.title": title, "modelspec.description": description}


def told_by_kohya(name: str, rank: int, alpha: float, steps: int) -> dict[str, str]:
    """The metadata that sd-scripts writes for SD 1.x, as far as they say something here."""
    return {
        "ss_base_model_version": "sd_v1", "ss_network_module": "networks.lora", "ss_network_dim": str(rank),
        "ss_network_alpha": str(alpha), "ss_output_name": name, "ss_steps": str(steps),
        "ss_network_args": json.dumps({"conv_dim": str(rank), "conv_alpha": str(alpha)}),
    }  # fmt: skip


def told_by_diffusers(part: str, rank: int, alpha: float, targets: str | list[str]) -> dict[str, str]:
    """What `save_lora_weights` of diffusers writes: peft's settings, alpha among them."""
    settings = {f"{part}.r": rank, f"{part}.lora_alpha": alpha, f"{part}.target_modules": targets}
    return {"format": "pt", "lora_adapter_metadata": json.dumps(settings, indent=2, sort_keys=True)}
