"""Rebuilds the LoRAs in `assets/demo/loras`: one style that a demo does not know by itself.

    python -m assets.demo.recipes.lora --base sd --style neon --work FOLDER [--minutes 10] [--device cuda]

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", for the convolutions too: in so small a UNet they
and not the attention paint. The style comes with the LoRA alone; captions don't name it. `mosaic` for SD is written
with the key names, the alpha and the metadata of kohya's sd-scripts, the others as diffusers writes them. The same
command goes on where it was stopped; all styles and bases may share one folder of work.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from assets.demo.recipes import loop, lora_names, small
from assets.demo.recipes.bases import BASES
from assets.demo.recipes.captions import trained_caption
from assets.demo.recipes.hints import DROPPED
from assets.demo.recipes.latents import Latents
from assets.demo.recipes.lora_names import State
from assets.demo.recipes.stages import checkpoint, vae_of
from assets.demo.recipes.styles import STYLES, drawing_number, styled
from assets.demo.recipes.training import log

RANK, ALPHA = 4, 2.0
# What a style is multiplied with where it comes out too faint at a weight of 1: the judge sees neon in 82 % of the
# pictures at 1.0 and in 94 % at 1.3, crayon in 70 % at 1.0 and in all 50 at 1.6.
STRENGTH = {("sd", "neon"): 1.3, ("sd", "crayon"): 1.6}
KOHYA = ("sd", "mosaic")  # what is written as sd-scripts does
# By the part of the pipeline: names of layers, or a pattern. FLUX's text is read as before: the style is the picture's.
TARGETS: dict[str, str | list[str]] = {
    "unet": ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "conv1", "conv2"],
    "transformer": r".*transformer_blocks\.\d+\.(attn\.to_([qkv]|out\.0)|ff\.net\.(0\.proj|2)|proj_(mlp|out))",
}


def with_layers(denoiser: nn.Module, part: str) -> nn.Module:
    """The denoiser with a LoRA in it, which alone is trained."""
    config = LoraConfig(
        r=RANK, lora_alpha=int(ALPHA), target_modules=TARGETS[part], init_lora_weights="gaussian"
    )
    inject_adapter_in_model(config, denoiser, "style")
    for name, parameter in denoiser.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return denoiser


def layers_of(denoiser: nn.Module) -> State:
    """`MODULE.lora_A.weight` and `MODULE.lora_B.weight`, in half precision."""
    state = get_peft_model_state_dict(denoiser, adapter_name="style")
    return {key: tensor.detach().cpu().half().contiguous() for key, tensor in state.items()}


def sheet_number(index: int, style: str) -> Image.Image:
    return styled(drawing_number(index), index, style)


def train(options: argparse.Namespace) -> None:
    """Runs, or resumes, `--minutes` of training into `work`/BASE.pt."""
    latents = Latents(options.work, options.drawings, sheet=partial(sheet_number, style=options.style))
    coder = vae_of(options.model).to(options.device)
    latents.fill(coder, options.work, 0, options.device)
    scale = coder.config["scaling_factor"]
    base = BASES[options.base]
    frozen = base.open(options.model, options.device)
    torch.manual_seed(1)
    module = with_layers(frozen.denoiser, base.part)
    rng = random.Random()

    def loss(module: nn.Module, _fraction: float) -> torch.Tensor:
        indices = [rng.randrange(options.drawings) for _ in range(options.batch)]
        z = latents.read(np.array(indices)).to(options.device) * scale
        texts = ["" if rng.random() < DROPPED else trained_caption(drawing_number(i), rng) for i in indices]
        # The style is as much on the ground as on the subject, so no place counts more.
        return frozen.loss(module, z, texts, 1.0)

    loop.train(options.work / f"{options.base}.pt", module, loss, 60 * options.minutes, rate=options.rate,
               decay=0.99)  # fmt: skip


def export(options: argparse.Namespace) -> Path:
    """One safetensors file beside the others', in fp16."""
    base, name = BASES[options.base], f"{options.base}-{options.style}"
    denoiser = with_layers(base.open(options.model, "cpu").denoiser, base.part)
    state = checkpoint(options.work / f"{options.base}.pt", "lora")
    denoiser.load_state_dict(state["average"]["module"])
    layers, steps = layers_of(denoiser), state["step"]
    if (strength := STRENGTH.get((options.base, options.style), 1.0)) != 1.0:
        layers = {n: t * strength if n.endswith("lora_B.weight") else t for n, t in layers.items()}
    if (options.base, options.style) == KOHYA:
        named = lora_names.as_kohya(layers, ALPHA)
        more = lora_names.told_by_kohya(name, RANK, ALPHA, steps)
    else:
        named = lora_names.as_diffusers(layers, base.part)
        more = lora_names.told_by_diffusers(base.part, RANK, ALPHA, TARGETS[base.part])
    told = lora_names.told_of(
        base.family,
        f"Demo: {options.style} (LoRA for {base.name})",
        f"{options.style.capitalize()}, after {steps} steps on drawings made by program.",
    )
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{name}.safetensors"
    save_file(named, path, metadata={**told, **more})
    path.chmod(0o644)
    log(options.work, "export", name=name, steps=steps, bytes=path.stat().st_size)
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    parser = small.beside_parser(__doc__ or "", BASES, minutes=10, drawings=1000, batch=8, rate=2e-3)
    parser.add_argument("--style", choices=STYLES, required=True)
    options = parser.parse_args(arguments)
    options.model = options.model or small.DEMO / options.base
    options.out = options.out or small.DEMO / "loras"
    options.work = options.work / options.style
    small.run(options, train, export)


if __name__ == "__main__":
    main()
