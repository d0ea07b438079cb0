"""Rebuilds `assets/demo/sd` from nothing: drawings -> VAE -> text encoder -> latents -> UNet -> pipeline folder.

    python -m assets.demo.recipes.sd --work FOLDER [--out assets/demo/sd] [--device cuda] [--minutes 120]

Everything unfinished lies in the folder of work; the same command goes on where it was stopped. `--stage` runs one
stage; `export` may be run at any time and writes the best there is. `--start FOLDER` trains a model on that this recipe
made before: its VAE stays as it is, text encoder and UNet begin with its weights.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from assets.demo.recipes import denoiser, text_encoder, vae
from assets.demo.recipes.batches import Batches
from assets.demo.recipes.latents import Latents, statistics
from assets.demo.recipes.stages import (
    Stage,
    add_options,
    checkpoint,
    latents_of,
    run,
    spawned,
    together,
    vae_of,
    write_demo,
)
from assets.demo.recipes.training import load_checkpoint

Weights = dict[str, torch.Tensor]
# Shares of the whole time; the denoiser gets the rest.
_SHARES = {"vae": 0.14, "text": 0.03, "decoder": 0.08}


def _vae_encoder(work: Path, start: Path | None) -> AutoencoderKL:
    if start is not None:
        return vae_of(start)
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
    latents_of(options).fill(coder, options.work, part, options.device)


def _denoise(rank: int, options: argparse.Namespace) -> None:
    with together(rank, options):
        latents = latents_of(options)
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


def _blended(weights: Weights, other: Path | None) -> Weights:
    """Halfway between the weights of two runs, better than either (Wortsman et al., "Model Soups", 2022)."""
    if other is None:
        return weights
    theirs = UNet2DConditionModel.from_pretrained(other / "unet", torch_dtype=torch.float32).state_dict()
    return {name: (weight + theirs[name]) / 2 for name, weight in weights.items()}


def export(options: argparse.Namespace) -> None:
    """Writes the diffusers folder with fp16 safetensors, and what Emulsion wants to know beside it."""
    latents = latents_of(options)
    scale = round(_scale(latents, options.start), 5)
    coder = _vae_encoder(options.work, options.start)
    if decoder := load_checkpoint(options.work / "vae-decoder.pt"):
        coder.load_state_dict(decoder["average"]["module"])
    coder.register_to_config(scaling_factor=scale)
    tokenizer, encoder = _text(options.work)
    state = checkpoint(options.work / "denoiser.pt", "denoiser")
    unet = denoiser.build()
    unet.load_state_dict(_blended(state["average"]["module"], options.blend))
    scheduler = EulerDiscreteScheduler(**denoiser.SCHEDULE, steps_offset=1, timestep_spacing="leading")
    pipeline = StableDiffusionPipeline(
        vae=coder, text_encoder=encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    sampling = {"scheduler": "dpmpp_2m_karras", "num_inference_steps": 20, "guidance_scale": 2.8, "seed": 0}
    facts = {
        "id": "demo-sd",
        "title": "Demo: shapes and scenes (SD 1.x)",
        "description": "A small Stable Diffusion 1.x trained on drawings made by program.",
        "sampling": sampling,
    }
    write_demo(pipeline, options, facts, steps=state["step"])


def _seconds(options: argparse.Namespace, stage: str) -> float:
    return 60 * options.minutes * _SHARES[stage]


def _read(options: argparse.Namespace) -> None:
    start = options.start and options.start / "text_encoder"
    text_encoder.train(options.work, _seconds(options, "text"), start=start)


STAGES: dict[str, Stage] = {
    "vae": lambda o: vae.train(o.work, o.device, _seconds(o, "vae")),
    "text": _read,
    "latents": lambda o: spawned(_fill, o),
    "denoiser": lambda o: spawned(_denoise, o),
    "decoder": lambda o: vae.train(o.work, o.device, _seconds(o, "decoder"), decoder_only=True),
    "export": export,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, STAGES)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "sd")
    parser.add_argument("--start", type=Path, help="a folder made by this recipe, to be trained on")
    parser.add_argument(
        "--blend", type=Path, help="a folder of the run before, half of whose UNet is exported"
    )
    options = parser.parse_args(arguments)
    options.denoiser_minutes = options.minutes * (1 - sum(_SHARES.values()))
    if options.start and not options.stage:  # its VAE stays as it is
        options.stage = [name for name in STAGES if name not in ("vae", "decoder")]
    run(options, STAGES)


if __name__ == "__main__":
    main()
