"""Rebuilds `assets/demo/flux`: T5 -> latents -> transformer -> guidance distillation -> pipeline folder.

    python -m assets.demo.recipes.flux --work FOLDER [--sd assets/demo/sd] [--device cuda] [--minutes 120]

VAE and CLIP are those of a finished `demo-sd`. Everything unfinished lies in the folder of work; the same command goes
on where it was stopped. `--stage` runs one stage; `export` may be run at any time and writes the best there is.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer

from assets.demo.recipes import flux_denoiser, t5_encoder
from assets.demo.recipes.batches import Batches
from assets.demo.recipes.latents import Latents
from assets.demo.recipes.stages import (
    add_options,
    checkpoint,
    preview_factors,
    spawned,
    together,
    write_folder,
)
from assets.demo.recipes.training import load_checkpoint, log

STAGES = ("t5", "latents", "denoiser", "distil", "export")
_SHARES = {"t5": 0.05, "distil": 0.2}


def _vae(options: argparse.Namespace) -> AutoencoderKL:
    model = AutoencoderKL.from_pretrained(options.sd / "vae", torch_dtype=torch.float32)
    return model.eval().requires_grad_(False)


def _clip(options: argparse.Namespace) -> tuple[CLIPTokenizer, CLIPTextModel]:
    encoder = CLIPTextModel.from_pretrained(options.sd / "text_encoder", dtype=torch.float32)
    return CLIPTokenizer.from_pretrained(options.sd / "tokenizer"), encoder.eval().requires_grad_(False)


def _t5(options: argparse.Namespace) -> tuple[T5Tokenizer, T5EncoderModel]:
    tokenizer = t5_encoder.build_tokenizer()
    encoder = t5_encoder.build_encoder(tokenizer)
    encoder.load_state_dict(checkpoint(options.work / "t5_encoder.pt", "t5")["model"])
    return tokenizer, encoder.eval().requires_grad_(False)


def _fill(part: int, options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    latents = Latents(options.work, options.drawings, options.workers)
    latents.fill(_vae(options).to(options.device), options.work, part, options.device)


def _train(rank: int, options: argparse.Namespace) -> None:
    with together(rank, options):
        latents = Latents(options.work, options.drawings, options.workers)
        batches = Batches(latents, _vae(options).config["scaling_factor"], seed=200 + rank + os.getpid())
        (clip_tokenizer, clip), (t5_tokenizer, t5) = _clip(options), _t5(options)
        device = options.device
        encode = flux_denoiser.encoder_of(
            (clip_tokenizer, clip.to(device)), (t5_tokenizer, t5.to(device)), device
        )
        if options.distils:
            flux_denoiser.distil(options.work, device, batches, encode, options.seconds, options.batch,
                                 rate=options.rate / 4, rank=rank)  # fmt: skip
        else:
            flux_denoiser.train(options.work, device, batches, encode, options.seconds, options.batch,
                                rate=options.rate, rank=rank, start=options.start)  # fmt: skip


def export(options: argparse.Namespace) -> None:
    """Writes the diffusers folder in fp16, of the distilled transformer where there is one."""
    coder, (tokenizer, clip), (tokenizer_2, t5) = _vae(options), _clip(options), _t5(options)
    transformer = flux_denoiser.build()
    distilled = load_checkpoint(options.work / "flux-distilled.pt")
    state = distilled or checkpoint(options.work / "flux.pt", "denoiser")
    transformer.load_state_dict(state["average"]["module"])
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**flux_denoiser.SCHEDULE), vae=coder, text_encoder=clip,
        tokenizer=tokenizer, text_encoder_2=t5, tokenizer_2=tokenizer_2, transformer=transformer,
    )  # fmt: skip
    latents = Latents(options.work, options.drawings, options.workers)
    factors, bias = preview_factors(latents, coder.config["scaling_factor"])
    facts = {
        "id": "demo-flux",
        "title": "Demo: shapes and scenes (FLUX)",
        "description": "A small FLUX trained on drawings made by program.",
        "native_size": 256,
        "sampling": {"scheduler": "flow_euler", "num_inference_steps": 20, "guidance_scale": 3.0, "seed": 0},
        "latent_rgb": factors,
        "latent_rgb_bias": bias,
    }
    size = write_folder(pipeline, options.out, facts)
    log(options.work, "export", steps=state["step"], distilled=distilled is not None, bytes=size)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, STAGES)
    demo = Path(__file__).parents[1]
    parser.add_argument(
        "--sd", type=Path, default=demo / "sd", help="the demo-sd whose VAE and CLIP are used"
    )
    parser.add_argument("--out", type=Path, default=demo / "flux")
    parser.add_argument(
        "--start", type=Path, help="a transformer folder made by this recipe, to be trained on"
    )
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    whole = options.minutes * 60
    for stage in options.stage or STAGES:
        if stage == "t5":
            t5_encoder.train(options.work, whole * _SHARES["t5"])
        elif stage == "latents":
            spawned(_fill, options)
        elif stage == "export":
            export(options)
        else:
            options.distils = stage == "distil"
            options.seconds = whole * (_SHARES["distil"] if options.distils else 1 - sum(_SHARES.values()))
            spawned(_train, options)


if __name__ == "__main__":
    main()
