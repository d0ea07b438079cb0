"""Model folders, ControlNets and LoRAs of true size that take no disk: true headers, and holes where the weights are.

A hole reads as zeros. So the engine finds, plans and loads them as it does any other; what is drawn with them is black.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from tests.benchmarks.truesize.configs import TrueSize
from tests.benchmarks.truesize.writing import on_meta, write_configs

_NAMES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32"}
RANK = 32
# What trainers of LoRAs change: attention of the denoiser, and in a U-Net the layers around it.
_LORA = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "proj_mlp")

Shapes = Mapping[str, tuple[int, ...]]


def write_hollow(size: TrueSize, folder: Path, dtype: torch.dtype) -> Path:
    """A diffusers folder with weights in `dtype`."""
    write_configs(size, folder)
    for name, part in size.parts.items():
        module = on_meta(part)
        if module is not None:
            stem = "model" if part.library == "transformers" else "diffusion_pytorch_model"
            hollow_file(folder / name / f"{stem}.safetensors", shapes_of(module), dtype)
    return folder


def write_hollow_lora(network: nn.Module, part: str, path: Path, family: str, dtype: torch.dtype) -> Path:
    """For all attention and feed-forward layers of the denoiser, under diffusers' names."""
    halves: dict[str, tuple[int, ...]] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and name.endswith(_LORA) and "." in name:
            halves[f"{part}.{name}.lora_A.weight"] = (RANK, module.in_features)
            halves[f"{part}.{name}.lora_B.weight"] = (module.out_features, RANK)
    path.parent.mkdir(parents=True, exist_ok=True)
    hollow_file(path, halves, dtype, {"emulsion.family": family})
    return path


def write_hollow_network(network: nn.Module, folder: Path, family: str, dtype: torch.dtype) -> Path:
    """A ControlNet."""
    folder.mkdir(parents=True, exist_ok=True)
    network.save_config(folder)  # pyright: ignore[reportCallIssue] - of diffusers
    hollow_file(folder / "diffusion_pytorch_model.safetensors", shapes_of(network), dtype)
    (folder / "emulsion.json").write_text(json.dumps({"family": family}))
    return folder


def shapes_of(module: nn.Module) -> Shapes:
    return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}


def hollow_file(
    path: Path, shapes: Shapes, dtype: torch.dtype, metadata: Mapping[str, str] | None = None
) -> None:
    """A safetensors file: the length and JSON of its header, and then nothing but a hole."""
    table, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + torch.Size(shape).numel() * dtype.itemsize
        table[name] = {"dtype": _NAMES[dtype], "shape": shape, "data_offsets": [begin, end]}
    header = json.dumps({"__metadata__": {"format": "pt", **(metadata or {})}, **table}).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + end)
