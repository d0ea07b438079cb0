"""Trains the UNet2DConditionModel of `demo-sd`: epsilon prediction on the latents, text by cross-attention.

Four things that a small model at a small size needs and a large one can do without:
* Noise offset. The SD schedule leaves 7 % of the picture at its last step, and in a 32 x 32 latent the mean of pure
  noise is so exact that the background could be read from it instead of from the text. An offset of the noise's mean
  (Guttenberg, "Diffusion with Offset Noise", 2023) hides it in training; nothing changes at inference.
* The subject counts five times as much as the ground for most of the training: two small shapes are a tenth of a
  sheet, and their colours would be the last thing learned.
* Errors count by the picture they make, not by the noise they name: of the loss on the noise alone, a wrong colour at
  the noisy end, where the text decides, is a hundredth. The weight is (SNR + 1) / SNR, as for a velocity (Salimans and
  Ho, 2022), and at most 5 / SNR as in Min-SNR (Hang et al., 2023).
* The subject's colour slips. What is half drawn has always the right colour in training, so the model would believe the
  sheet and not the text, and a first step that is a little off stays off (exposure bias; Ning et al., "Input
  Perturbation Reduces Exposure Bias in Diffusion Models", 2023). Half of the sheets show the subject with its latents
  shifted by up to the noise's own size, and the model has to draw it as the text says.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from assets.demo.recipes import loop
from assets.demo.recipes.batches import Batches
from assets.demo.recipes.reading import tokens_of
from assets.demo.recipes.text_encoder import LENGTH
from assets.demo.recipes.training import mixed_precision

Encode = Callable[[list[str]], torch.Tensor]
Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
NOISE_OFFSET, GAMMA, HEAVIEST = 0.3, 5.0, 80.0
SLIP, SLIPPED = 0.5, 0.5  # the shift's size against the noise's, and the share of the sheets that have one
SUBJECT, SUBJECT_UNTIL = 5.0, 0.85  # the weight of the subject, and the fraction of the training that has it


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


def encoder_of(tokenizer: CLIPTokenizer, encoder: CLIPTextModel, device: str) -> Encode:
    """Captions to prompt_embeds [batch, 77, 128]."""

    def encode(texts: list[str]) -> torch.Tensor:
        with torch.no_grad():
            return encoder(tokens_of(tokenizer, texts, LENGTH).to(device)).last_hidden_state

    return encode


def finished(folder: Path, device: str) -> tuple[UNet2DConditionModel, Encode]:
    """The UNet of a finished demo-sd, frozen and in float32, and what reads captions for it."""
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    encoder: Any = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    encode = encoder_of(tokenizer, encoder.to(device).eval().requires_grad_(False), device)
    return unet.to(device).eval().requires_grad_(False), encode


def subject_mask(z: torch.Tensor) -> torch.Tensor:
    """[batch, 1, 32, 32], 1 where a latent is not that of the sheet's rim."""
    rim = torch.cat([z[:, :, 0], z[:, :, -1], z[:, :, :, 0], z[:, :, :, -1]], 2)
    ground = rim.median(2).values[:, :, None, None]
    return ((z - ground).abs().amax(1, keepdim=True) > 0.5).float()


def weighted(mask: torch.Tensor, weight: float) -> torch.Tensor:
    """[batch, 1, 32, 32], 1 on average: `weight` times as much where `mask` is 1."""
    weights = 1 + (weight - 1) * mask
    return weights / weights.mean((1, 2, 3), keepdim=True)


def slip(mask: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """[batch, 4, 32, 32]: a smooth shift of the subject's latents as large as `sigma`, which is noise over picture."""
    corners = torch.randn(len(mask), 4, 4, 4, device=mask.device)
    field = F.interpolate(corners, size=mask.shape[2:], mode="bilinear", align_corners=True)
    has = (torch.rand(len(mask), 1, 1, 1, device=mask.device) < SLIPPED).float()
    return field * mask * has * sigma.clamp(max=1)[:, None, None, None]


def timesteps(count: int, device: torch.device, until: int = 1000) -> torch.Tensor:
    """[count] in 0..until - 1: one of each stratum, more of the noisy half."""
    spread = (torch.arange(count, device=device) + torch.rand(count, device=device)) / count
    return (spread.pow(0.6) * until).long().clamp(0, until - 1)


def noise_like(z: torch.Tensor) -> torch.Tensor:
    """White noise and NOISE_OFFSET times noise that is the same in the whole channel."""
    return torch.randn_like(z) + NOISE_OFFSET * torch.randn(*z.shape[:2], 1, 1, device=z.device)


def loss_of(
    predict: Predict,
    schedule: DDPMScheduler,
    z: torch.Tensor,
    noise: torch.Tensor,
    t: torch.Tensor,
    fraction: float,
    goal_of: Predict | None = None,
    slipping: float = SLIP,
) -> torch.Tensor:
    """`predict(noisy latents, t)` against what the schedule's prediction_type asks for.

    `goal_of(noisy latents, t)` are the latents that are to be seen behind the noise, instead of `z`. A velocity's
    error is (SNR + 1) / SNR of the noise's, so that the same mistake costs the same for both. `slipping` is the size
    of the subject's slip against the noise's.
    """
    alphas = schedule.alphas_cumprod.to(z.device)[t]
    snr = alphas / (1 - alphas)
    signal, spread = alphas.sqrt()[:, None, None, None], (1 - alphas).sqrt()[:, None, None, None]
    mask = subject_mask(z)
    noisy = schedule.add_noise(z + slipping * slip(mask, snr.rsqrt()), noise, t)
    goal = goal_of(noisy, t) if goal_of else z
    noise = (noisy - signal * goal) / spread  # what must go for the goal to remain, a slip too
    with mixed_precision(z.device.type):
        predicted = predict(noisy, t)
    if schedule.config["prediction_type"] == "v_prediction":
        wanted, weight = signal * noise - spread * goal, (snr + 1).clamp(max=GAMMA) / (snr + 1)
    else:
        wanted = noise
        weight = ((snr + 1).clamp(max=GAMMA) / snr).clamp(max=HEAVIEST) / 8  # about 1 on average
    subject = weighted(mask, SUBJECT if fraction < SUBJECT_UNTIL else 1.0)
    error = F.mse_loss(predicted.float(), wanted, reduction="none") * subject
    return (error.mean((1, 2, 3)) * weight).mean()


def train(
    work: Path,
    device: str,
    batches: Batches,
    encode: Encode,
    seconds: float,
    batch: int,
    *,
    rate: float = 1e-3,
    rank: int = 0,
    start: Path | None = None,
) -> None:
    """`seconds` of training with `batch` pictures a process and step, into `work`/denoiser.pt.

    `start` is a unet folder to begin with instead of chance.
    """
    torch.manual_seed(1)
    unet = build()
    if start is not None:
        unet.load_state_dict(
            UNet2DConditionModel.from_pretrained(start, torch_dtype=torch.float32).state_dict()
        )
    schedule = DDPMScheduler(**SCHEDULE)

    def loss(module: nn.Module, fraction: float) -> torch.Tensor:
        z, texts, _numbers = batches.next(batch, device)
        embeds = encode(texts)
        return loss_of(lambda noisy, t: module(noisy, t, embeds).sample, schedule, z, noise_like(z),
                       timesteps(batch, z.device), fraction)  # fmt: skip

    loop.train(
        work / "denoiser.pt", unet.to(device), loss, seconds, rate=rate, rank=rank, refresh=batches.refresh
    )
