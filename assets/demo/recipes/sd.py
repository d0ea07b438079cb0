"""Rebuilds `assets/demo/sd` from nothing: drawings -> VAE -> text encoder -> latents -> UNet -> pipeline folder.

    python -m assets.demo.recipes.sd --work FOLDER [--out assets/demo/sd] [--device cuda] [--minutes 120]

Everything unfinished lies in the folder of work; the same command goes on where it was stopped. `--stage` runs one
stage; `export` may be run at any time and writes the best there is. `--start FOLDER` trains a model on that this recipe
made before: its VAE stays as it is, text encoder and UNet begin with its weights.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionPipeline
from transformers import CLIPTextModel, CLIPTokenizer

from assets.demo.recipes import denoiser, text_encoder, vae
from assets.demo.recipes.batches import Batches
from assets.demo.recipes.latents import Latents, statistics
from assets.demo.recipes.stages import (
    add_options,
    checkpoint,
    preview_factors,
    spawned,
    together,
    write_folder,
)
from assets.demo.recipes.training import load_checkpoint, log

STAGES = ("vae", "text", "latents", "denoiser", "decoder", "export")
# Shares of the whole time; the denoiser gets the rest.
_SHARES = {"vae": 0.14, "text": 0.03, "decoder": 0.08}


def _vae_encoder(work: Path, start: Path | None) -> AutoencoderKL:
    if start is not None:
        model = AutoencoderKL.from_pretrained(start / "vae", torch_dtype=torch.float32)
    else:
        model = vae.build()
        model.load_state_dict(checkpoint(work / "vae.pt", "vae")["average"]["module"])
    return model.eval().requires_grad_(False)


def _text(work: Path) -> tuple[CLIPTokenizer, CLIPTextModel]:
    tokenizer = text_encoder.build_tokenizer()
    encoder = text_encoder.build_encoder(tokenizer)
    encoder.load_state_dict(checkpoint(work / "text_encoder.pt", "text")["model"])
    return tokenizer, encoder.eval().requires_grad_(False)


def _fill(part: int, options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    coder = _vae_encoder(options.work, options.start).to(options.device)
    Latents(options.work, options.drawings, options.workers).fill(coder, options.work, part, options.device)


def _denoise(rank: int, options: argparse.Namespace) -> None:
    with together(rank, options):
        latents = Latents(options.work, options.drawings, options.workers)
        tokenizer, encoder = _text(options.work)
        batches = Batches(latents, _scale(latents, options.start), seed=100 + rank + os.getpid())
        denoiser.train(
            options.work, options.device, batches,
            denoiser.encoder_of(tokenizer, encoder.to(options.device), options.device),
            options.denoiser_minutes * 60, options.batch,
            rate=options.rate, rank=rank, start=options.start and options.start / "unet",
        )  # fmt: skip


def _scale(latents: Latents, start: Path | None) -> float:
    """The VAE's scaling_factor. A UNet that is trained on goes on with its own."""
    if start is not None:
        return AutoencoderKL.load_config(start / "vae")["scaling_factor"]
    return 1 / statistics(latents)


def export(options: argparse.Namespace) -> None:
    """Writes the diffusers folder with fp16 safetensors, and what Emulsion wants to know beside it."""
    latents = Latents(options.work, options.drawings, options.workers)
    scale = round(_scale(latents, options.start), 5)
    coder = _vae_encoder(options.work, options.start)
    if decoder := load_checkpoint(options.work / "vae-decoder.pt"):
        coder.load_state_dict(decoder["average"]["module"])
    coder.register_to_config(scaling_factor=scale)
    tokenizer, encoder = _text(options.work)
    state = checkpoint(options.work / "denoiser.pt", "denoiser")
    unet = denoiser.build()
    unet.load_state_dict(state["average"]["module"])
    scheduler = EulerDiscreteScheduler(**denoiser.SCHEDULE, steps_offset=1, timestep_spacing="leading")
    pipeline = StableDiffusionPipeline(
        vae=coder, text_encoder=encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    sampling = {"scheduler": "dpmpp_2m_karras", "num_inference_steps": 20, "guidance_scale": 4.0, "seed": 0}
    factors, bias = preview_factors(latents, scale)
    facts = {
        "id": "demo-sd",
        "title": "Demo: shapes and scenes (SD 1.x)",
        "description": "A small Stable Diffusion 1.x trained on drawings made by program.",
        "native_size": 256,
        "sampling": sampling,
        "latent_rgb": factors,
        "latent_rgb_bias": bias,
    }
    size = write_folder(pipeline, options.out, facts)
    log(options.work, "export", steps=state["step"], out=str(options.out), bytes=size)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, STAGES)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "sd")
    parser.add_argument("--start", type=Path, help="a folder made by this recipe, to be trained on")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    options.denoiser_minutes = options.minutes * (1 - sum(_SHARES.values()))
    torch.set_num_threads(options.threads)
    seconds = {stage: 60 * options.minutes * share for stage, share in _SHARES.items()}
    stages = [stage for stage in STAGES if not options.start or stage not in ("vae", "decoder")]
    for stage in options.stage or stages:
        if stage == "vae":
            vae.train(options.work, options.device, seconds["vae"])
        elif stage == "text":
            text_encoder.train(
                options.work, seconds["text"], start=options.start and options.start / "text_encoder"
            )
        elif stage == "latents":
            spawned(_fill, options)
        elif stage == "denoiser":
            spawned(_denoise, options)
        elif stage == "decoder":
            vae.train(options.work, options.device, seconds["decoder"], decoder_only=True)
        else:
            export(options)


if __name__ == "__main__":
    main()
