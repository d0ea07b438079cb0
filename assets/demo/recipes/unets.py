"""The UNet of the demos after demo-sd, and how it begins with what another one has learned.

A level less than demo-sd's and no middle: half the bytes, and at 8 x 8 cells the attention sees the whole sheet anyway.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from assets.demo.recipes import loop
from assets.demo.recipes.batches import Batches
from assets.demo.recipes.stages import latents_of, vae_of
from assets.demo.recipes.training import log

# The loss of (unet, latents, captions, numbers of the drawings, how far the training is).
Loss = Callable[[nn.Module, torch.Tensor, list[str], np.ndarray, float], torch.Tensor]


def build(widest: int, cross: int, **more: Any) -> UNet2DConditionModel:
    """`widest` channels where the latent is 8 x 8; text embeddings are `cross` wide."""
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64, widest),
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        mid_block_type=None,
        layers_per_block=1,
        cross_attention_dim=cross,
        attention_head_dim=4,
        norm_num_groups=16,
        use_linear_projection=True,
        **more,
    )


@torch.no_grad()
def warm(unet: UNet2DConditionModel, folder: Path) -> int:
    """Copies from the unet in `folder` the weights of the same place and shape; how many parameters.

    The finest level is the same place, so a deeper unet's `up_blocks` count from their end.
    """
    known = UNet2DConditionModel.from_pretrained(folder, torch_dtype=torch.float32).state_dict()
    deeper = sum(name.endswith("conv1.weight") and ".resnets.0." in name and name.startswith("up_blocks")
                 for name in known) - len(unet.up_blocks)  # fmt: skip
    copied = 0
    for name, parameter in unet.named_parameters():
        source = known.get(_moved(name, deeper))
        if source is not None and source.shape == parameter.shape:
            parameter.copy_(source)
            copied += parameter.numel()
    return copied


def _moved(name: str, levels: int) -> str:
    first, *rest = name.split(".")
    if first != "up_blocks":
        return name
    return ".".join([first, str(int(rest[0]) + levels), *rest[1:]])


def hidden(name: str) -> bool:
    """The convolutions and matrices between hidden states, which Muon is for."""
    return (".resnets." in name or ".attentions." in name) and ".time_emb_proj." not in name


def train(
    rank: int,
    options: argparse.Namespace,
    build: Callable[[], UNet2DConditionModel],
    loss: Loss,
    seconds: float,
) -> None:
    """Runs, or resumes, `seconds` of training into `work`/unet.pt, from the unet of `--start` or of the base demo."""
    scale = vae_of(options.base).config["scaling_factor"]
    batches = Batches(latents_of(options), scale, seed=300 + rank + os.getpid())
    torch.manual_seed(1)
    unet = build()
    warmed = warm(unet, (options.start or options.base) / "unet")
    if rank == 0:
        log(options.work, "denoiser", parameters=unet.num_parameters(), warmed=warmed)

    def shown(module: nn.Module, fraction: float) -> torch.Tensor:
        return loss(module, *batches.next(options.batch, options.device), fraction)

    loop.train(options.work / "unet.pt", unet.to(options.device), shown, seconds,
               rate=options.rate, rank=rank, refresh=batches.refresh, hidden=hidden)  # fmt: skip
