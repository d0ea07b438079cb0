"""Rebuilds `assets/demo/sdxl`: two text encoders -> latents of views -> UNet -> pipeline folder.

    python -m assets.demo.recipes.sdxl --work FOLDER [--sd assets/demo/sd] [--device cuda] [--minutes 120]

The VAE is that of a finished `demo-sd`; the UNet's finer levels begin with demo-sd's and all of it learns from that.
Everything unfinished lies in the folder of work; the same command goes on where it was stopped. `--stage` runs one
stage; `export` may be run at any time and writes the best there is. `--start FOLDER` trains a model on that this
recipe made before.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from diffusers import DDPMScheduler, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from assets.demo.recipes import text_encoder, unets, xl
from assets.demo.recipes.denoiser import SCHEDULE, loss_of, noise_like, timesteps
from assets.demo.recipes.drawings import SIZE
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
from assets.demo.recipes.teacher import Teacher, level_of
from assets.demo.recipes.views import View, view_number, view_of

_SHARES = {"text": 0.1, "denoiser": 0.9}


def build() -> UNet2DConditionModel:
    """2.1 M parameters; both encoders side by side are 256 wide."""
    return unets.build(96, 2 * xl.WIDTH, **xl.conditioned(ids=6))


def _encoders(options: argparse.Namespace) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    tokenizer = text_encoder.build_tokenizer()
    first, second = xl.build_encoder(tokenizer), xl.build_encoder_2(tokenizer)
    first.load_state_dict(checkpoint(options.work / "text_encoder.pt", "text")["model"])
    second.load_state_dict(checkpoint(options.work / "text_encoder_2.pt", "text")["model"])
    return first.eval().requires_grad_(False), second.eval().requires_grad_(False)


def _train(rank: int, options: argparse.Namespace) -> None:
    with together(rank, options):
        encoders = [encoder.to(options.device) for encoder in _encoders(options)]
        encode = xl.encoder_of(text_encoder.build_tokenizer(), encoders, options.device, zeros=True)
        schedule, teacher = DDPMScheduler(**SCHEDULE), Teacher(options.base, options.device)
        levels = level_of(schedule.alphas_cumprod).to(options.device)

        def loss(
            module: nn.Module, z: torch.Tensor, texts: list[str], numbers: np.ndarray, fraction: float
        ) -> torch.Tensor:
            views = [view_number(int(i)) for i in numbers]
            ids = torch.tensor([[*view.ids(), SIZE, SIZE] for view in views], device=z.device)
            whole = torch.tensor(
                [view == View() for view in views], device=z.device
            )  # demo-sd knows no others

            def goal_of(noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
                return teacher.goal(noisy, levels[t], z, texts, asked=whole)

            times = timesteps(len(z), z.device)
            predict = xl.predictor(module, encode(texts), ids)
            return loss_of(predict, schedule, z, noise_like(z), times, fraction, goal_of)

        unets.train(rank, options, build, loss, options.seconds)


def export(options: argparse.Namespace) -> None:
    """Writes the diffusers folder in fp16."""
    first, second = _encoders(options)
    state = checkpoint(options.work / "unet.pt", "denoiser")
    unet = build()
    unet.load_state_dict(state["average"]["module"])
    pipeline = StableDiffusionXLPipeline(
        vae=vae_of(options.base), text_encoder=first, text_encoder_2=second,
        tokenizer=text_encoder.build_tokenizer(), tokenizer_2=text_encoder.build_tokenizer(), unet=unet,
        scheduler=EulerDiscreteScheduler(**SCHEDULE, steps_offset=1, timestep_spacing="leading"),
        force_zeros_for_empty_prompt=True, add_watermarker=False,
    )  # fmt: skip
    facts = {
        "id": "demo-sdxl",
        "title": "Demo: shapes and scenes (SDXL)",
        "description": "A small Stable Diffusion XL trained on drawings made by program.",
        "sampling": {
            "scheduler": "dpmpp_2m_karras",
            "num_inference_steps": 20,
            "guidance_scale": 4.0,
            "seed": 0,
        },
    }
    write_demo(pipeline, options, facts, steps=state["step"])


def _read(options: argparse.Namespace) -> None:
    xl.train_encoders(options.work, 60 * options.minutes * _SHARES["text"], options.start)


def _denoise(options: argparse.Namespace) -> None:
    options.seconds = 60 * options.minutes * _SHARES["denoiser"]
    spawned(_train, options)


STAGES: dict[str, Stage] = {
    "text": _read,
    "latents": lambda o: spawned(fill, o),
    "denoiser": _denoise,
    "export": export,
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser_of(__doc__ or "", STAGES, "sdxl").parse_args(arguments)
    options.sheet = view_of
    run(options, STAGES)


if __name__ == "__main__":
    main()
