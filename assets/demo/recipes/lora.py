"""Rebuilds `assets/demo/sd-loras`: one LoRA a style that demo-sd does not know by itself.

    python -m assets.demo.recipes.lora --style neon --work FOLDER [--minutes 10] [--device cuda]

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", for the convolutions too: in so small a UNet they
and not the attention paint. The style comes with the LoRA alone; captions don't name it. `mosaic` is written with the
key names, the alpha and the metadata of kohya's sd-scripts, the others as diffusers writes them. The same command goes
on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from assets.demo.recipes import denoiser, loop, small
from assets.demo.recipes.captions import trained_caption
from assets.demo.recipes.control import frozen_unet, reader_of
from assets.demo.recipes.latents import Latents
from assets.demo.recipes.stages import checkpoint, vae_of
from assets.demo.recipes.styles import STYLES, drawing_number, styled
from assets.demo.recipes.training import log

RANK, ALPHA = 4, 2.0
KOHYA = "mosaic"  # the style that is written as sd-scripts does
_TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "conv1", "conv2"]
State = dict[str, torch.Tensor]


def with_layers(unet: UNet2DConditionModel) -> nn.Module:
    """The UNet with a LoRA in it, which alone is trained."""
    config = LoraConfig(r=RANK, lora_alpha=int(ALPHA), target_modules=_TARGETS, init_lora_weights="gaussian")
    inject_adapter_in_model(config, unet, "style")
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return unet


def layers_of(unet: nn.Module) -> State:
    """`MODULE.lora_A.weight` and `MODULE.lora_B.weight`, in half precision."""
    state = get_peft_model_state_dict(unet, adapter_name="style")
    return {key: tensor.detach().cpu().half().contiguous() for key, tensor in state.items()}


def as_kohya(layers: State) -> State:
    """The same under the names of sd-scripts, with an alpha a layer."""
    named: State = {}
    halves = {"lora_A": "lora_down", "lora_B": "lora_up"}
    for key, tensor in layers.items():
        module, half, _ = key.rsplit(".", 2)
        name = "lora_unet_" + module.replace(".", "_")
        named[f"{name}.{halves[half]}.weight"] = tensor
        named[f"{name}.alpha"] = torch.tensor(ALPHA, dtype=torch.float16)
    return named


def told_of(style: str, steps: int) -> dict[str, str]:
    """What every program that reads `modelspec` or Emulsion's own word knows of the file."""
    return {
        "emulsion.family": "sd1",
        "modelspec.title": f"Demo: {style} (LoRA for SD 1.x)",
        "modelspec.description": f"{style.capitalize()}, after {steps} steps on drawings made by program.",
    }


def told_by_kohya(style: str, steps: int) -> dict[str, str]:
    """The metadata that sd-scripts writes, as far as they say something here."""
    return {
        "ss_base_model_version": "sd_v1", "ss_network_module": "networks.lora", "ss_network_dim": str(RANK),
        "ss_network_alpha": str(ALPHA), "ss_output_name": f"sd-{style}", "ss_steps": str(steps),
        "ss_network_args": json.dumps({"conv_dim": str(RANK), "conv_alpha": str(ALPHA)}),
    }  # fmt: skip


def told_by_diffusers() -> dict[str, str]:
    """What `save_lora_weights` of diffusers writes: peft's settings, alpha among them."""
    settings = {"unet.r": RANK, "unet.lora_alpha": ALPHA, "unet.target_modules": _TARGETS}
    return {"format": "pt", "lora_adapter_metadata": json.dumps(settings, indent=2, sort_keys=True)}


def as_diffusers(layers: State) -> State:
    """With the part's name in front."""
    return {f"unet.{key}": tensor for key, tensor in layers.items()}


def train(options: argparse.Namespace) -> None:
    """Runs, or resumes, `--minutes` of training into `work`/lora.pt."""

    def sheet(index: int) -> Image.Image:
        return styled(drawing_number(index), index, options.style)

    latents = Latents(options.work, options.drawings, sheet=sheet)
    coder = vae_of(options.sd).to(options.device)
    latents.fill(coder, options.work, 0, options.device)
    scale = coder.config["scaling_factor"]
    encode, schedule = reader_of(options), DDPMScheduler(**denoiser.SCHEDULE)
    torch.manual_seed(1)
    unet = with_layers(frozen_unet(options))
    rng = random.Random()

    def loss(module: nn.Module, _fraction: float) -> torch.Tensor:
        indices = [rng.randrange(options.drawings) for _ in range(options.batch)]
        z = latents.read(np.array(indices)).to(options.device) * scale
        dropped = [rng.random() < 0.1 for _ in indices]
        embeds = encode(
            [
                "" if no else trained_caption(drawing_number(i), rng)
                for i, no in zip(indices, dropped, strict=True)
            ]
        )
        times = denoiser.timesteps(len(indices), z.device)
        # The style is as much on the ground as on the subject, so no place counts more.
        return denoiser.loss_of(lambda noisy, t: module(noisy, t, embeds).sample, schedule, z,
                                denoiser.noise_like(z), times, 1.0)  # fmt: skip

    loop.train(options.work / "lora.pt", unet, loss, 60 * options.minutes, rate=options.rate, decay=0.99)


def export(options: argparse.Namespace) -> Path:
    """One safetensors file beside the others', in fp16."""
    unet = with_layers(frozen_unet(options))
    state = checkpoint(options.work / "lora.pt", "lora")
    unet.load_state_dict(state["average"]["module"])
    layers = layers_of(unet)
    told = told_of(options.style, state["step"])
    if options.style == KOHYA:
        named, more = as_kohya(layers), told_by_kohya(options.style, state["step"])
    else:
        named, more = as_diffusers(layers), told_by_diffusers()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"sd-{options.style}.safetensors"
    save_file(named, path, metadata={**told, **more})
    path.chmod(0o644)
    log(options.work, "export", steps=state["step"], bytes=path.stat().st_size)
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    parser = small.parser_of(__doc__ or "", "sd-loras", minutes=10, drawings=1000, batch=8, rate=2e-3)
    parser.add_argument("--style", choices=STYLES, required=True)
    options = parser.parse_args(arguments)
    options.work = options.work / options.style
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    train(options)
    export(options)


if __name__ == "__main__":
    main()
