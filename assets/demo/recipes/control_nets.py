"""`NETS`: the ControlNet that goes with each kind of denoiser, before it has learned anything.

Zhang et al. 2023, "Adding Conditional Control to Text-to-Image Diffusion Models": it begins with the denoiser's own
first blocks, and what it adds begins at zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, ControlNetModel, FluxControlNetModel
from torch import nn

from assets.demo.recipes import flux_denoiser, hints

_COPIED = ("in_channels", "block_out_channels", "layers_per_block", "norm_num_groups", "cross_attention_dim",
           "attention_head_dim", "addition_embed_type", "addition_time_embed_dim",
           "projection_class_embeddings_input_dim")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Net:
    """`build` takes the denoiser. `shown(work, kind, count, coder)` gives the control pictures by their number."""

    build: Callable[[Any], nn.Module]
    shown: Callable[[Path, str, int, AutoencoderKL], hints.Shown]


def of_unet(unet: Any) -> ControlNetModel:
    """The U-Net's first half, and 4 to 32 channels that read the picture: 1.3 M parameters beside demo-sd.

    Its own attention to the text is left out: what is to be drawn the U-Net reads itself, and the file is half as
    large. diffusers wants a middle, so there is one where the U-Net has none. What is read of the picture does not
    begin at zero, as it does in the paper: behind residuals that do, two zeros in a row take hours to leave.
    """
    net = ControlNetModel(
        down_block_types=("DownBlock2D",) * len(unet.config["block_out_channels"]), mid_block_type="UNetMidBlock2D",
        conditioning_embedding_out_channels=(4, 8, 16, 32), **{name: unet.config[name] for name in _COPIED},
    )  # fmt: skip
    known = unet.state_dict()
    net.load_state_dict({key: known[key] for key in net.state_dict() if key in known}, strict=False)
    nn.init.kaiming_normal_(net.controlnet_cond_embedding.conv_out.weight)
    return net


def of_transformer(transformer: Any) -> FluxControlNetModel:
    """Its first double block: 0.76 M parameters beside demo-flux, whose single blocks go on with what that adds."""
    return FluxControlNetModel.from_transformer(
        transformer, num_layers=1, num_single_layers=0,
        num_attention_heads=transformer.config["num_attention_heads"],
        attention_head_dim=transformer.config["attention_head_dim"],
    )  # fmt: skip


def _packed(work: Path, kind: str, count: int, coder: AutoencoderKL) -> hints.Shown:
    shown = hints.encoded(work, kind, count, coder)
    return lambda indices: flux_denoiser.packed(shown(indices))


NETS = {"unet": Net(of_unet, hints.pixels), "transformer": Net(of_transformer, _packed)}
