"""Rebuilds `assets/demo/sd-v`, of the SD 2 kind: text encoder -> latents -> UNet for velocities -> pipeline folder.

    python -m assets.demo.recipes.sd_v --work FOLDER [--sd assets/demo/sd] [--device cuda] [--minutes 60]

The VAE is that of a finished `demo-sd`, and the UNet's finer levels begin with demo-sd's. The schedule ends in pure
noise and pictures begin at its very end (Lin et al., "Common Diffusion Noise Schedules ... are Flawed", 2024),
which only a velocity (Salimans and Ho, 2022) can be learned for. So no noise offset is needed. Everything unfinished
lies in the folder of work; the same command goes on where it was stopped. `--start FOLDER` trains a model on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import DDIMScheduler, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from assets.demo.recipes import denoiser, text_encoder, unets
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
from assets.demo.recipes.teacher import Teacher, taught

SCHEDULE = {**denoiser.SCHEDULE, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
_SHARES = {"text": 0.1, "denoiser": 0.9}


def build() -> UNet2DConditionModel:
    """1.2 M parameters."""
    return unets.build(64, 128)


def build_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """As OpenCLIP's: a GELU, and the layer behind the one that is read is cut off, as SD 2's folders have it."""
    config = text_encoder.config_of(tokenizer, intermediate_size=256, hidden_act="gelu")
    return text_encoder.widely(CLIPTextModel(config))


def _text(work: Path) -> tuple[CLIPTokenizer, CLIPTextModel]:
    tokenizer = text_encoder.build_tokenizer()
    encoder = build_encoder(tokenizer)
    encoder.load_state_dict(checkpoint(work / "text_encoder.pt", "text")["model"])
    return tokenizer, encoder.eval().requires_grad_(False)


def _train(rank: int, options: argparse.Namespace) -> None:
    with together(rank, options):
        tokenizer, encoder = _text(options.work)
        encode = denoiser.encoder_of(tokenizer, encoder.to(options.device), options.device)
        teacher = Teacher(options.base, options.device)
        loss = taught(teacher, DDPMScheduler(**SCHEDULE), encode, torch.randn_like)
        unets.train(rank, options, build, loss, options.seconds)


def export(options: argparse.Namespace) -> None:
    """Writes the diffusers folder in fp16."""
    tokenizer, encoder = _text(options.work)
    state = checkpoint(options.work / "unet.pt", "denoiser")
    unet = build()
    unet.load_state_dict(state["average"]["module"])
    pipeline = StableDiffusionPipeline(
        vae=vae_of(options.base), text_encoder=encoder, tokenizer=tokenizer, unet=unet,
        scheduler=DDIMScheduler(**SCHEDULE, steps_offset=1, clip_sample=False, timestep_spacing="trailing"),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    facts = {
        "id": "demo-sd-v",
        "family": "sd2",  # its encoder is too narrow to be known by
        "title": "Demo: shapes and scenes (SD 2.x, velocity)",
        "description": "A small Stable Diffusion 2.x trained on drawings made by program.",
        "sampling": {
            "scheduler": "ddim_sgm_uniform",
            "num_inference_steps": 20,
            "guidance_scale": 4.0,
            "seed": 0,
        },
    }
    write_demo(pipeline, options, facts, steps=state["step"])


def _read(options: argparse.Namespace) -> None:
    text_encoder.train(
        options.work, 60 * options.minutes * _SHARES["text"],
        start=options.start and options.start / "text_encoder", build=build_encoder,
    )  # fmt: skip


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
    run(parser_of(__doc__ or "", STAGES, "sd-v").parse_args(arguments), STAGES)


if __name__ == "__main__":
    main()
