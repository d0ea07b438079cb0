"""Trains the UNet2DConditionModel of `demo-sd`: epsilon prediction on the latents, text by cross-attention.

Three things that a small model at a small size needs and a large one can do without:
* Noise offset. The SD schedule leaves 7 % of the picture at its last step, and in a 32 x 32 latent the mean of pure
  noise is so exact that the background could be read from it instead of from the text. An offset of the noise's mean
  (Guttenberg, "Diffusion with Offset Noise", 2023) hides it in training; nothing changes at inference.
* The subject counts three times as much as the ground for most of the training: two small shapes are a tenth of a
  sheet, and their colours would be the last thing learned.
* Min-SNR weighting (Hang et al., 2023, gamma 5): the steps that decide what is where get the work.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
import torch.distributed as dist
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from assets.demo.recipes.latents import Latents, drawing_number
from assets.demo.recipes.text_encoder import tokens_of, trained_caption
from assets.demo.recipes.training import (
    Average,
    Clock,
    cosine,
    load_checkpoint,
    log,
    mixed_precision,
    save_checkpoint,
)

SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
NOISE_OFFSET, GAMMA, DROPPED = 0.3, 5.0, 0.1
SUBJECT, SUBJECT_UNTIL = 3.0, 0.8  # the weight of the subject, and the fraction of the training that has it


def build() -> UNet2DConditionModel:
    """5.6 M parameters; attention where the latent is 8 x 8 and in the middle (4 x 4)."""
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64, 128, 128),
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=16,
    )


class Batches:
    """Latents with a fresh wording each time; one caption in ten is empty, for classifier-free guidance."""

    def __init__(
        self, latents: Latents, tokenizer: CLIPTokenizer, encoder: CLIPTextModel, scale: float, seed: int
    ):
        self._latents, self._tokenizer, self._encoder, self._scale = latents, tokenizer, encoder, scale
        self._rng = random.Random(seed)
        self._ready = latents.ready()

    def refresh(self) -> int:
        self._ready = self._latents.ready()
        return len(self._ready)

    def next(self, size: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Scaled latents [size, 4, 32, 32] and prompt_embeds [size, 77, 128]."""
        indices = self._ready[[self._rng.randrange(len(self._ready)) for _ in range(size)]]
        texts = [
            "" if self._rng.random() < DROPPED else trained_caption(drawing_number(int(i)), self._rng)
            for i in indices
        ]
        with torch.no_grad():
            embeds = self._encoder(tokens_of(self._tokenizer, texts).to(device)).last_hidden_state
        return self._latents.read(indices).to(device) * self._scale, embeds


def subject_weights(z: torch.Tensor, weight: float) -> torch.Tensor:
    """[batch, 1, 32, 32], 1 on average: `weight` times as much where a latent is not that of the sheet's rim."""
    rim = torch.cat([z[:, :, 0], z[:, :, -1], z[:, :, :, 0], z[:, :, :, -1]], 2)
    ground = rim.median(2).values[:, :, None, None]
    weights = 1 + (weight - 1) * ((z - ground).abs().amax(1, keepdim=True) > 0.5).float()
    return weights / weights.mean((1, 2, 3), keepdim=True)


def loss_of(
    unet: UNet2DConditionModel, schedule: DDPMScheduler, z: torch.Tensor, embeds: torch.Tensor, subject: float
) -> torch.Tensor:
    noise = torch.randn_like(z) + NOISE_OFFSET * torch.randn(*z.shape[:2], 1, 1, device=z.device)
    spread = (torch.arange(len(z), device=z.device) + torch.rand(len(z), device=z.device)) / len(z)
    t = (spread.pow(0.8) * 1000).long().clamp(0, 999)  # one of each stratum, a few more of the noisy half
    noisy = schedule.add_noise(z, noise, t)
    with mixed_precision(z.device.type):
        predicted = unet(noisy, t, embeds).sample
    alphas = schedule.alphas_cumprod.to(z.device)[t]
    snr = alphas / (1 - alphas)
    weight = snr.clamp(max=GAMMA) / snr
    error = F.mse_loss(predicted.float(), noise, reduction="none") * subject_weights(z, subject)
    return (error.mean((1, 2, 3)) * weight).mean()


def _share_gradients(parameters: list[torch.nn.Parameter]) -> None:
    flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    offset = 0
    for p in parameters:
        if p.grad is not None:
            p.grad.copy_(flat[offset : offset + p.numel()].view_as(p.grad))
            offset += p.numel()


def _agreed(fraction: float) -> float:
    """Rank 0's view of how far the training is, so that all processes stop at the same step."""
    if not dist.is_initialized():
        return fraction
    shared = torch.tensor([fraction])
    dist.broadcast(shared, 0)
    return float(shared)


def train(
    work: Path,
    device: str,
    batches: Batches,
    seconds: float,
    batch: int,
    *,
    rate: float = 1e-3,
    rank: int = 0,
    start: Path | None = None,
) -> UNet2DConditionModel:
    """Runs, or resumes, `seconds` of training with `batch` pictures a process and step; returns the average.

    `start` is a unet folder to begin with instead of chance.
    """
    torch.manual_seed(1)
    unet = build()
    if start is not None:
        unet.load_state_dict(
            UNet2DConditionModel.from_pretrained(start, torch_dtype=torch.float32).state_dict()
        )
    unet.to(device)
    schedule = DDPMScheduler(**SCHEDULE)
    average = Average(unet, 0.9985)
    parameters = list(unet.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=1e-2)
    step, clock, path = 0, Clock(), work / "denoiser.pt"
    if state := load_checkpoint(path):
        unet.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, clock = state["step"], Clock(state["seconds"])
    torch.manual_seed(1000 * rank + step + 2)
    mean = None
    while (fraction := _agreed(clock.seconds() / seconds)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * cosine(fraction, warmup=0.01)
        subject = SUBJECT if fraction < SUBJECT_UNTIL else 1.0
        loss = loss_of(unet, schedule, *batches.next(batch, device), subject)
        optimizer.zero_grad()
        loss.backward()
        if dist.is_initialized():
            _share_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average.update(unet)
        step += 1
        mean = loss.item() if mean is None else 0.99 * mean + 0.01 * loss.item()
        if step % 100 == 0:
            seen = batches.refresh()
            if rank == 0:
                log(
                    work,
                    "denoiser",
                    step=step,
                    seconds=round(clock.seconds()),
                    loss=round(mean, 4),
                    latents=seen,
                )
        if rank == 0 and step % 250 == 0:
            save_checkpoint(path, _state(unet, average, optimizer, step, clock))
    if rank == 0:
        save_checkpoint(path, _state(unet, average, optimizer, step, clock))
    return average.module


def _state(unet, average: Average, optimizer, step: int, clock: Clock) -> dict:
    return {"model": unet.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict(),
            "step": step, "seconds": clock.seconds()}  # fmt: skip
