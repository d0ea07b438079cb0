"""Trains the AutoencoderKL (x8, 4 latent channels): crops first, they hold more edges for the same work, then whole
sheets, because GroupNorm sees other statistics on a whole sheet (after crops alone red came back as brown).

First encoder and decoder together, then the decoder alone: from there on the latents stay valid, and the denoiser
can be trained while the decoder still gets better.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F

from assets.demo.recipes.drawings import random_drawing, render
from assets.demo.recipes.training import (
    Average,
    Clock,
    cosine,
    load_checkpoint,
    log,
    mixed_precision,
    save_checkpoint,
)

# (until this share of the time, drawings a step, pieces of each, their side in pixels, crops of the sheet or all of it)
_LESSONS = ((0.45, 4, 8, 32, True), (0.6, 4, 4, 64, True), (0.85, 6, 1, 128, False), (1.0, 2, 1, 256, False))


def build(deep: int = 64) -> AutoencoderKL:
    """0.95 M parameters where it is 64 channels `deep`; residual blocks start as the identity, the posterior narrow."""
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(16, 32, deep, deep),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=256,
        shift_factor=0.0,
    )
    for name, parameter in vae.named_parameters():
        if name.endswith(("conv2.weight", "conv2.bias")):
            torch.nn.init.zeros_(parameter)
    torch.nn.init.constant_(vae.quant_conv.bias[4:], -6.0)
    return vae


def lesson(rng: random.Random, fraction: float) -> torch.Tensor:
    """[pieces, 3, side, side] in -1..1 for a training that is `fraction` (0 to 1) done."""
    drawings, each, side, cropped = next(
        rest for until, *rest in _LESSONS if fraction <= until or until == 1.0
    )
    out = []
    for _ in range(drawings):
        sheet = render(random_drawing(rng), rng.getrandbits(31))
        if cropped:
            out.extend(_crop(rng, np.asarray(sheet), side) for _ in range(each))
        else:
            out.append(np.asarray(sheet.reduce(sheet.width // side) if side < sheet.width else sheet))
    return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _crop(rng: random.Random, sheet: np.ndarray, side: int) -> np.ndarray:
    """Mostly one with an edge in it."""
    for _ in range(5):
        x, y = rng.randint(0, sheet.shape[1] - side), rng.randint(0, sheet.shape[0] - side)
        crop = sheet[y : y + side, x : x + side]
        if crop.reshape(-1, 3).std(0).max() > 12 or rng.random() < 0.2:
            break
    return crop


def _weights(x: torch.Tensor) -> torch.Tensor:
    """[batch, 1, height, width], 1 on average: five times as much where the sheet is not its background.

    Without it a small subject's colour drifts towards its background's, which is nearly all that the loss sees.
    """
    rim = torch.cat([x[:, :, :2].flatten(2), x[:, :, -2:].flatten(2)], 2)
    ground = rim.median(2).values[:, :, None, None]
    weights = 1 + 4 * ((x - ground).abs().amax(1, keepdim=True) > 0.15).float()
    return weights / weights.mean((1, 2, 3), keepdim=True)


def distance(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """L1 + L2 of the pixels, L1 of their gradients, and L1 of the colours of 8 x 8 cells."""
    weights, difference = _weights(x), y - x
    dx, dy = difference.diff(dim=3), difference.diff(dim=2)
    cells = (F.avg_pool2d(difference, 8).abs() * F.avg_pool2d(weights, 8)).mean()
    pixels = ((difference.abs() + difference.square()) * weights).mean()
    return pixels + 0.5 * (dx.abs().mean() + dy.abs().mean()) + cells


def loss_of(vae: AutoencoderKL, x: torch.Tensor, frozen_encoder: bool) -> torch.Tensor:
    with torch.set_grad_enabled(not frozen_encoder and torch.is_grad_enabled()):
        posterior = vae.encode(x).latent_dist
        z = posterior.mode() if frozen_encoder else posterior.sample()
    if frozen_encoder:  # what a denoiser hands over is never exact
        z = z + 0.04 * z.std() * torch.randn_like(z)
    loss = distance(vae.decode(z).sample.float(), x)
    return loss if frozen_encoder else loss + 2e-5 * posterior.kl().mean() / 16


@torch.no_grad()
def psnr(vae: AutoencoderKL, device: str, count: int = 24) -> float:
    rng = random.Random(10**9)
    total = 0.0
    for _ in range(count):
        sheet = np.asarray(render(random_drawing(rng), rng.getrandbits(31)))
        x = torch.from_numpy(sheet.copy()).permute(2, 0, 1)[None].to(device).float() / 127.5 - 1
        y = vae.decode(vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
        total += float(-10 * torch.log10(((y - x) / 2).pow(2).mean() + 1e-12))
    return total / count


def train(work: Path, device: str, seconds: float, *, decoder_only: bool = False) -> AutoencoderKL:
    """Runs, or resumes, one of the two phases for `seconds` of training time."""
    stage = "vae-decoder" if decoder_only else "vae"
    vae = build().to(device)
    if decoder_only:
        before = load_checkpoint(work / "vae.pt")
        if before is None:
            raise FileNotFoundError(f"{work / 'vae.pt'}: train the whole VAE first")
        vae.load_state_dict(before["average"]["module"])
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    average = Average(vae, 0.995)
    trained = [p for p in vae.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-3, betas=(0.9, 0.98), weight_decay=1e-3)
    step, clock, rng = 0, Clock(), random.Random(7 if decoder_only else 3)
    if state := load_checkpoint(work / f"{stage}.pt"):
        vae.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, clock = state["step"], Clock(state["seconds"])
        rng = random.Random(step)
    mean = None
    while clock.seconds() < seconds:
        fraction = clock.seconds() / seconds
        for group in optimizer.param_groups:
            group["lr"] = (1e-3 if decoder_only else 2e-3) * cosine(fraction)
        # The decoder's own lessons are whole sheets, most of them at half the size, which is a quarter of the work.
        shown = rng.choices((0.8, 1.0), (7, 3))[0] if decoder_only else fraction
        x = lesson(rng, shown).to(device)
        with mixed_precision(device):
            loss = loss_of(vae, x, decoder_only)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        average.update(vae)
        step += 1
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if step % 100 == 0:
            log(work, stage, step=step, seconds=round(clock.seconds()), loss=round(mean, 4))
        if step % 500 == 0:
            save_checkpoint(work / f"{stage}.pt", _state(vae, average, optimizer, step, clock))
    save_checkpoint(work / f"{stage}.pt", _state(vae, average, optimizer, step, clock))
    log(work, stage, step=step, psnr=round(psnr(average.module, device), 2))
    return average.module


def _state(vae, average, optimizer, step: int, clock: Clock) -> dict:
    return {"model": vae.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict(),
            "step": step, "seconds": clock.seconds()}  # fmt: skip
