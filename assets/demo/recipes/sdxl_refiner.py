"""Rebuilds `assets/demo/sdxl-refiner`: latents of views with flaws -> UNet -> pipeline folder.

    python -m assets.demo.recipes.sdxl_refiner --work FOLDER [--sdxl assets/demo/sdxl] [--device cuda] [--minutes 60]

VAE and second text encoder are those of a finished `demo-sdxl`, and the UNet's finer levels begin with its. It learns
the last UNTIL of 1000 noise levels only, and that a low aesthetic score is a picture with flaws. It believes what it is
handed and not the text: no subject slips here, and the noise has no larger pieces. With both a refiner this small
painted grey what the base had drawn purple, as its one encoder could not tell which of two shapes was which.
Everything unfinished lies in the folder of work; the same command goes on where it was stopped. `--start FOLDER`
trains a refiner on that this recipe made.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from diffusers import (
    DDPMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionXLImg2ImgPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from assets.demo.recipes import unets, xl
from assets.demo.recipes.denoiser import SCHEDULE, loss_of, timesteps
from assets.demo.recipes.stages import (
    Stage,
    checkpoint,
    fill,
    parser_of,
    run,
    spawned,
    together,
    vae_of,
    write_demo,
)
from assets.demo.recipes.views import flawed_view, score_number, view_number

UNTIL = 300  # the base hands over at 200 by default


def build() -> UNet2DConditionModel:
    """1.0 M parameters."""
    return unets.build(48, xl.WIDTH, **xl.conditioned(ids=5))


def _text(options: argparse.Namespace) -> tuple[CLIPTokenizer, CLIPTextModelWithProjection]:
    encoder = CLIPTextModelWithProjection.from_pretrained(
        options.base / "text_encoder_2", dtype=torch.float32
    )
    return CLIPTokenizer.from_pretrained(options.base / "tokenizer_2"), encoder.eval().requires_grad_(False)


def _train(rank: int, options: argparse.Namespace) -> None:
    with together(rank, options):
        tokenizer, encoder = _text(options)
        encode = xl.encoder_of(tokenizer, [encoder.to(options.device)], options.device, zeros=False)
        schedule = DDPMScheduler(**SCHEDULE)

        def loss(
            module: nn.Module, z: torch.Tensor, texts: list[str], numbers: np.ndarray, fraction: float
        ) -> torch.Tensor:
            ids = [[*view_number(int(i)).ids(), score_number(int(i))] for i in numbers]
            predict = xl.predictor(module, encode(texts), torch.tensor(ids, device=z.device))
            t = timesteps(len(z), z.device, UNTIL)
            return loss_of(predict, schedule, z, torch.randn_like(z), t, fraction, slipping=0.0)

        unets.train(rank, options, build, loss, 60 * options.minutes)


def export(options: argparse.Namespace) -> None:
    """Writes the diffusers folder in fp16."""
    tokenizer, encoder = _text(options)
    state = checkpoint(options.work / "unet.pt", "denoiser")
    unet = build()
    unet.load_state_dict(state["average"]["module"])
    pipeline = StableDiffusionXLImg2ImgPipeline(
        vae=vae_of(options.base), text_encoder=None, tokenizer=None, text_encoder_2=encoder,
        tokenizer_2=tokenizer, unet=unet,
        scheduler=EulerDiscreteScheduler(**SCHEDULE, steps_offset=1, timestep_spacing="leading"),
        requires_aesthetics_score=True, force_zeros_for_empty_prompt=False, add_watermarker=False,
    )  # fmt: skip
    facts = {
        "id": "demo-sdxl-refiner",
        "title": "Demo: refiner for the small SDXL",
        "description": "Finishes the pictures of demo-sdxl; trained on drawings made by program.",
        "sampling": {
            "scheduler": "dpmpp_2m_karras",
            "num_inference_steps": 20,
            "guidance_scale": 3.0,
            "seed": 0,
        },
    }
    write_demo(pipeline, options, facts, steps=state["step"])


STAGES: dict[str, Stage] = {
    "latents": lambda o: spawned(fill, o),
    "denoiser": lambda o: spawned(_train, o),
    "export": export,
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser_of(__doc__ or "", STAGES, "sdxl-refiner", base="sdxl").parse_args(arguments)
    options.sheet = flawed_view
    run(options, STAGES)


if __name__ == "__main__":
    main()
