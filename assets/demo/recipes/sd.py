"""Rebuilds `assets/demo/sd` from nothing: drawings -> VAE -> text encoder -> latents -> UNet -> pipeline folder.

    python -m assets.demo.recipes.sd --work FOLDER [--out assets/demo/sd] [--device cuda] [--minutes 120]

Everything unfinished lies in the folder of work; the same command goes on where it was stopped. `--stage` runs one
stage; `export` may be run at any time and writes the best there is. `--start FOLDER` trains a model on that this recipe
made before: its VAE stays as it is, text encoder and UNet begin with its weights.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionPipeline

from assets.demo.recipes import denoiser, text_encoder, vae
from assets.demo.recipes.drawings import render
from assets.demo.recipes.latents import Latents, drawing_number, statistics
from assets.demo.recipes.training import load_checkpoint, log

STAGES = ("vae", "text", "latents", "denoiser", "decoder", "export")
# Shares of the whole time; the denoiser gets the rest.
_SHARES = {"vae": 0.14, "text": 0.03, "decoder": 0.08}


def _vae_encoder(work: Path, start: Path | None = None):
    if start is not None:
        coder = AutoencoderKL.from_pretrained(start / "vae", torch_dtype=torch.float32)
        return coder.eval().requires_grad_(False)
    state = load_checkpoint(work / "vae.pt")
    if state is None:
        raise FileNotFoundError(f"{work / 'vae.pt'} is missing: run --stage vae first")
    model = vae.build()
    model.load_state_dict(state["average"]["module"])
    return model.eval().requires_grad_(False)


def _text(work: Path):
    tokenizer = text_encoder.build_tokenizer()
    state = load_checkpoint(work / "text_encoder.pt")
    if state is None:
        raise FileNotFoundError(f"{work / 'text_encoder.pt'} is missing: run --stage text first")
    encoder = text_encoder.build_encoder(tokenizer)
    encoder.load_state_dict(state["model"])
    return tokenizer, encoder.eval().requires_grad_(False)


def _fill(part: int, options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    latents = Latents(options.work, options.drawings, options.workers)
    latents.fill(
        _vae_encoder(options.work, options.start).to(options.device), options.work, part, options.device
    )


def _denoise(rank: int, options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    if options.workers > 1:
        dist.init_process_group("gloo", init_method=f"file://{options.work / 'rendezvous'}", rank=rank,
                                world_size=options.workers)  # fmt: skip
    latents = Latents(options.work, options.drawings, options.workers)
    tokenizer, encoder = _text(options.work)
    scale = _scale(latents, options.start)
    batches = denoiser.Batches(
        latents, tokenizer, encoder.to(options.device), scale, seed=100 + rank + os.getpid()
    )
    denoiser.train(
        options.work, options.device, batches, options.denoiser_minutes * 60, options.batch,
        rate=options.rate, rank=rank, start=options.start and options.start / "unet",
    )  # fmt: skip
    if options.workers > 1:
        dist.destroy_process_group()


def _scale(latents: Latents, start: Path | None) -> float:
    """The VAE's scaling_factor. A UNet that is trained on goes on with its own."""
    if start is not None:
        return AutoencoderKL.load_config(start / "vae")["scaling_factor"]
    return 1 / statistics(latents)


def _spawned(function, options: argparse.Namespace) -> None:
    (options.work / "rendezvous").unlink(missing_ok=True)
    if options.workers == 1:
        function(0, options)
    else:
        mp.spawn(function, (options,), options.workers)


def preview_factors(latents: Latents, scale: float, count: int = 400) -> tuple[list, list]:
    """Least squares of picture colours (0..1, one a cell of 8 x 8 pixels) on scaled latents."""
    indices = latents.ready()[:count]
    z = (latents.read(indices) * scale).permute(0, 2, 3, 1).reshape(-1, 4).numpy()
    sheets = [np.asarray(render(drawing_number(int(i)), int(i)).reduce(8), np.float32) / 255 for i in indices]
    design = np.concatenate([z, np.ones((len(z), 1), np.float32)], 1)
    factors, *_ = np.linalg.lstsq(design, np.concatenate([s.reshape(-1, 3) for s in sheets]), rcond=None)
    rounded = [[round(float(v), 4) for v in row] for row in factors]
    return rounded[:4], rounded[4]


def export(options: argparse.Namespace) -> None:
    """Writes the diffusers folder with fp16 safetensors, and what Emulsion wants to know beside it."""
    work, out = options.work, options.out
    latents = Latents(work, options.drawings, options.workers)
    scale = _scale(latents, options.start)
    coder = _vae_encoder(work, options.start)
    if decoder := load_checkpoint(work / "vae-decoder.pt"):
        coder.load_state_dict(decoder["average"]["module"])
    coder.register_to_config(scaling_factor=round(scale, 5))
    tokenizer, encoder = _text(work)
    state = load_checkpoint(work / "denoiser.pt")
    if state is None:
        raise FileNotFoundError(f"{work / 'denoiser.pt'} is missing: run --stage denoiser first")
    unet = denoiser.build()
    unet.load_state_dict(state["average"]["module"])
    scheduler = EulerDiscreteScheduler(**denoiser.SCHEDULE, steps_offset=1, timestep_spacing="leading")
    pipeline = StableDiffusionPipeline(
        vae=coder, text_encoder=encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    temporary = out.with_name(out.name + ".new")
    shutil.rmtree(temporary, ignore_errors=True)
    pipeline.to(torch.float16).save_pretrained(temporary, safe_serialization=True)
    factors, bias = preview_factors(latents, round(scale, 5))
    facts = {
        "id": "demo-sd",
        "title": "Demo: shapes and scenes (SD 1.x)",
        "description": "A small Stable Diffusion 1.x trained on drawings made by program.",
        "native_size": 256,
        "sampling": {
            "scheduler": "dpmpp_2m_karras",
            "num_inference_steps": 20,
            "guidance_scale": 4.0,
            "seed": 0,
        },
        "latent_rgb": factors,
        "latent_rgb_bias": bias,
    }
    (temporary / "emulsion.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    card = out / "README.md"
    if card.exists():
        shutil.copy2(card, temporary / "README.md")
    for path in temporary.rglob("*"):  # save_pretrained leaves weights readable by their owner only
        path.chmod(0o755 if path.is_dir() else 0o644)
    shutil.rmtree(out, ignore_errors=True)
    os.replace(temporary, out)
    log(
        work,
        "export",
        steps=state["step"],
        out=str(out),
        bytes=sum(p.stat().st_size for p in out.rglob("*.*")),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for checkpoints; not in the repository"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "sd")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, default=150, help="for everything together")
    parser.add_argument("--drawings", type=int, default=60_000)
    parser.add_argument("--batch", type=int, default=16, help="pictures a process and step")
    parser.add_argument("--workers", type=int, default=2, help="processes for latents and denoiser (CPU)")
    parser.add_argument("--threads", type=int, default=1, help="threads a process")
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate of the denoiser")
    parser.add_argument("--start", type=Path, help="a folder made by this recipe, to be trained on")
    parser.add_argument("--stage", choices=STAGES, action="append", help="only this one; may be repeated")
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
            _spawned(_fill, options)
        elif stage == "denoiser":
            _spawned(_denoise, options)
        elif stage == "decoder":
            vae.train(options.work, options.device, seconds["decoder"], decoder_only=True)
        else:
            export(options)


if __name__ == "__main__":
    main()
