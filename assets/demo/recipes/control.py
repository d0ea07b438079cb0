"""Rebuilds `assets/demo/sd-canny`: a ControlNet for demo-sd that draws along the edges it is shown.

    python -m assets.demo.recipes.control --work FOLDER [--minutes 20] [--device cuda]

Zhang et al. 2023, "Adding Conditional Control to Text-to-Image Diffusion Models". The UNet stays as it is; the second
network begins with the convolutions of its first half and learns from drawings, their edges, and captions that often
keep quiet about the place and the size, which the edges tell. Its own attention to the text is left out: what is to be
drawn the UNet reads itself, and the folder is half the size. The same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from diffusers import ControlNetModel, DDPMScheduler, UNet2DConditionModel
from PIL import Image
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from assets.demo.recipes import denoiser, loop, small
from assets.demo.recipes.captions import trained_caption
from assets.demo.recipes.drawings import Drawing, random_drawing, render
from assets.demo.recipes.latents import Latents
from assets.demo.recipes.stages import bytes_of, checkpoint, shipped, vae_of, without_origin
from assets.demo.recipes.training import log
from pipelines.runtime.preprocess.canny import canny

QUIET = 0.7  # the share of captions that tell neither place nor size
_KINDS, _SHARES = ("single", "count", "pair", "scene"), (64, 12, 16, 8)


def drawing_number(index: int) -> Drawing:
    """Mostly single shapes: their place and size are what the caption may keep quiet about."""
    rng = random.Random(index * 2 + 1)
    return random_drawing(rng, rng.choices(_KINDS, _SHARES)[0])


def sheet_number(index: int) -> Image.Image:
    return render(drawing_number(index), index)


def unplaced(drawing: Drawing) -> Drawing:
    """The drawing that a caption speaks of when it says what there is and not where or how large."""
    if drawing.kind != "single":
        return drawing
    return replace(drawing, column="middle", row="middle", size="medium")


def build(unet: UNet2DConditionModel) -> ControlNetModel:
    """1.4 M parameters: the UNet's first half without attention, and 8 to 64 channels that read the edges."""
    given = unet.config
    net = ControlNetModel(
        in_channels=given["in_channels"], block_out_channels=given["block_out_channels"],
        down_block_types=("DownBlock2D",) * len(given["block_out_channels"]), mid_block_type="UNetMidBlock2D",
        layers_per_block=given["layers_per_block"], norm_num_groups=given["norm_num_groups"],
        cross_attention_dim=given["cross_attention_dim"], attention_head_dim=given["attention_head_dim"],
        conditioning_embedding_out_channels=(8, 16, 32, 64),
    )  # fmt: skip
    known = unet.state_dict()
    own = {key: known[key] for key in net.state_dict() if key in known}
    net.load_state_dict(own, strict=False)
    return net


def frozen_unet(options: argparse.Namespace) -> UNet2DConditionModel:
    unet = UNet2DConditionModel.from_pretrained(options.sd / "unet", torch_dtype=torch.float32)
    return unet.to(options.device).eval().requires_grad_(False)


def reader_of(options: argparse.Namespace) -> denoiser.Encode:
    """Captions to prompt_embeds [batch, 77, 128], by the text encoder of demo-sd."""
    tokenizer = CLIPTokenizer.from_pretrained(options.sd / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(options.sd / "text_encoder", dtype=torch.float32)
    return denoiser.encoder_of(
        tokenizer, encoder.to(options.device).eval().requires_grad_(False), options.device
    )


def edges(indices: Sequence[int], device: str) -> torch.Tensor:
    """[n, 3, 256, 256] in 0..1, as the engine's own preprocessor draws them."""
    pictures = [np.asarray(canny(sheet_number(int(i)))) for i in indices]
    return small.tensor_of(np.stack(pictures), device)


def told(index: int, rng: random.Random) -> str:
    """A caption of drawing number `index`; one in ten is empty, for classifier-free guidance."""
    if rng.random() < 0.1:
        return ""
    drawing = drawing_number(index)
    return trained_caption(unplaced(drawing) if rng.random() < QUIET else drawing, rng)


def train(options: argparse.Namespace) -> None:
    """Runs, or resumes, `--minutes` of training into `work`/control.pt."""
    latents = Latents(options.work, options.drawings, sheet=sheet_number)
    coder = vae_of(options.sd).to(options.device)
    latents.fill(coder, options.work, 0, options.device)
    scale = coder.config["scaling_factor"]
    unet, encode = frozen_unet(options), reader_of(options)
    schedule = DDPMScheduler(**denoiser.SCHEDULE)
    torch.manual_seed(1)
    net = build(unet).to(options.device)
    rng = random.Random()

    def loss(module: nn.Module, _fraction: float) -> torch.Tensor:
        indices = [rng.randrange(options.drawings) for _ in range(options.batch)]
        z = latents.read(np.array(indices)).to(options.device) * scale
        embeds, shown = encode([told(i, rng) for i in indices]), edges(indices, options.device)

        def predict(noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            down, middle = module(noisy, t, embeds, shown, return_dict=False)
            return unet(noisy, t, embeds, down_block_additional_residuals=down,
                        mid_block_additional_residual=middle).sample  # fmt: skip

        times = denoiser.timesteps(len(indices), z.device)
        # The subject counts as much as in the UNet's training to the end: it is what the edges are of.
        return denoiser.loss_of(predict, schedule, z, denoiser.noise_like(z), times, 0.0)

    loop.train(options.work / "control.pt", net, loss, 60 * options.minutes, rate=options.rate, decay=0.99)


def export(options: argparse.Namespace) -> None:
    """The ControlNet's folder in fp16 safetensors, and what Emulsion calls it."""
    net = build(frozen_unet(options))
    state = checkpoint(options.work / "control.pt", "control")
    net.load_state_dict(state["average"]["module"])
    facts = {
        "id": "demo-sd-canny",
        "family": "sd1",
        "title": "Demo: edges (Canny) for SD 1.x",
        "description": "A ControlNet for demo-sd, trained on the edges of drawings made by program.",
    }
    with shipped(options.out) as folder:
        net.half().save_pretrained(folder, safe_serialization=True)
        without_origin(folder)
        (folder / "emulsion.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    log(options.work, "export", steps=state["step"], bytes=bytes_of(options.out))


def main(arguments: Sequence[str] | None = None) -> None:
    options = small.parser_of(
        __doc__ or "", "sd-canny", minutes=20, drawings=3000, batch=8, rate=5e-4
    ).parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    train(options)
    export(options)


if __name__ == "__main__":
    main()
