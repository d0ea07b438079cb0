"""Rebuilds `assets/demo/flux`: T5 -> latents -> transformer -> pipeline folder.

    python -m assets.demo.recipes.flux --work FOLDER [--sd assets/demo/sd] [--device cuda] [--minutes 120]

VAE and CLIP are those of a finished `demo-sd`, and the transformer learns from it. Everything unfinished lies in the
folder of work; the same command goes on where it was stopped. `--stage` runs one stage; `export` may be run at any
time and writes the best there is. `--start FOLDER` trains a model on that this recipe made before.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer

from assets.demo.recipes import flux_denoiser, t5_encoder
from assets.demo.recipes.batches import Batches
from assets.demo.recipes.stages import (
    Stage,
    checkpoint,
    fill,
    latents_of,
    parser_of,
    run,
    spawned,
    together,
    vae_of,
    write_demo,
)
from assets.demo.recipes.teacher import Teacher

_SHARES = {"t5": 0.05, "denoiser": 0.95}


def _clip(options: argparse.Namespace) -> tuple[CLIPTokenizer, CLIPTextModel]:
    encoder = CLIPTextModel.from_pretrained(options.base / "text_encoder", dtype=torch.float32)
    return CLIPTokenizer.from_pretrained(options.base / "tokenizer"), encoder.eval().requires_grad_(False)


def _t5(options: argparse.Namespace) -> tuple[T5Tokenizer, T5EncoderModel]:
    tokenizer = t5_encoder.build_tokenizer()
    encoder = t5_encoder.build_encoder(tokenizer)
    encoder.load_state_dict(checkpoint(options.work / "t5_encoder.pt", "t5")["model"])
    return tokenizer, encoder.eval().requires_grad_(False)


def _train(rank: int, options: argparse.Namespace) -> None:
    with together(rank, options):
        (clip_tokenizer, clip), (t5_tokenizer, t5) = _clip(options), _t5(options)
        device = options.device
        scale = vae_of(options.base).config["scaling_factor"]
        lessons = flux_denoiser.Lessons(
            Batches(latents_of(options), scale, seed=200 + rank + os.getpid()),
            Teacher(options.base, device),
            flux_denoiser.encoder_of(
                (clip_tokenizer, clip.to(device)), (t5_tokenizer, t5.to(device)), device
            ),
            device,
        )
        start = options.start and options.start / "transformer"
        flux_denoiser.train(options.work, lessons, _seconds(options, "denoiser"), options.batch,
                            rate=options.rate, rank=rank, start=start)  # fmt: skip


def export(options: argparse.Namespace) -> None:
    """Writes the diffusers folder in fp16."""
    coder, (tokenizer, clip), (tokenizer_2, t5) = vae_of(options.base), _clip(options), _t5(options)
    transformer = flux_denoiser.build()
    state = checkpoint(options.work / "flux.pt", "denoiser")
    transformer.load_state_dict(state["average"]["module"])
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**flux_denoiser.SCHEDULE), vae=coder, text_encoder=clip,
        tokenizer=tokenizer, text_encoder_2=t5, tokenizer_2=tokenizer_2, transformer=transformer,
    )  # fmt: skip
    facts = {
        "id": "demo-flux",
        "title": "Demo: shapes and scenes (FLUX)",
        "description": "A small FLUX trained on drawings made by program.",
        "sampling": {"scheduler": "flow_euler", "num_inference_steps": 20, "guidance_scale": 2.0, "seed": 0},
    }
    write_demo(pipeline, options, facts, steps=state["step"])


def _seconds(options: argparse.Namespace, stage: str) -> float:
    return 60 * options.minutes * _SHARES[stage]


STAGES: dict[str, Stage] = {
    "t5": lambda o: t5_encoder.train(o.work, _seconds(o, "t5")),
    "latents": lambda o: spawned(fill, o),
    "denoiser": lambda o: spawned(_train, o),
    "export": export,
}


def main(arguments: Sequence[str] | None = None) -> None:
    run(parser_of(__doc__ or "", STAGES, "flux").parse_args(arguments), STAGES)


if __name__ == "__main__":
    main()
