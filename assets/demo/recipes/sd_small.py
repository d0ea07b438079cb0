"""Rebuilds `assets/demo/sd` at half the size of one that `sd` made: VAE -> latents -> UNet -> pipeline folder.

    python -m assets.demo.recipes.sd_small --work FOLDER --sd FOLDER [--device cuda] [--minutes 60]

`--sd` is the folder of the larger one. Its text encoder stays as it is and the latents mean the same; the finer levels
of the small UNet begin with its, and all of it learns from what the larger one sees behind the noise (`teacher`).
Everything unfinished lies in the folder of work; the same command goes on where it was stopped. `--start FOLDER` trains
a small UNet on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel

from assets.demo.recipes import denoiser, unets, vae_small
from assets.demo.recipes.stages import (
    Stage,
    checkpoint,
    fill,
    parser_of,
    run,
    spawned,
    together,
    vae_of,
    write_folder,
)
from assets.demo.recipes.teacher import Teacher, taught
from assets.demo.recipes.training import log

_SHARES = {"vae": 0.3, "denoiser": 0.7}


def build() -> UNet2DConditionModel:
    """2.4 M parameters."""
    return unets.build(112, 128)


def _train(rank: int, options: argparse.Namespace) -> None:
    with together(rank, options):
        teacher = Teacher(options.base, options.device)
        loss = taught(teacher, DDPMScheduler(**denoiser.SCHEDULE), teacher.encode, denoiser.noise_like)
        unets.train(rank, options, build, loss, 60 * options.minutes * _SHARES["denoiser"])


def _vae(options: argparse.Namespace) -> None:
    seconds = 60 * options.minutes * _SHARES["vae"]
    vae_small.train(
        options.work, vae_of(options.base), options.device, seconds, options.batch, rate=options.rate
    )


def export(options: argparse.Namespace) -> None:
    """Writes the diffusers folder in fp16, with the text encoder of `--sd`."""
    state = checkpoint(options.work / "unet.pt", "denoiser")
    unet = build()
    unet.load_state_dict(state["average"]["module"])
    coder = vae_small.load(options.work, vae_of(options.base))
    pipeline = StableDiffusionPipeline.from_pretrained(
        options.base, torch_dtype=torch.float32, unet=unet, vae=coder
    )
    facts = json.loads((options.base / "emulsion.json").read_text(encoding="utf-8"))
    size = write_folder(pipeline, options.out, facts)
    log(options.work, "export", steps=state["step"], bytes=size)


STAGES: dict[str, Stage] = {
    "vae": _vae,
    "latents": lambda o: spawned(fill, o),
    "denoiser": lambda o: spawned(_train, o),
    "export": export,
}


def main(arguments: Sequence[str] | None = None) -> None:
    run(parser_of(__doc__ or "", STAGES, "sd").parse_args(arguments), STAGES)


if __name__ == "__main__":
    main()
