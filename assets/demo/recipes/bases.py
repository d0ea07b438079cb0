"""`BASES`: the finished demos that ControlNets and LoRAs are made for, and how each of them is taught.

All of them have the VAE of demo-sd, so latents of drawings are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, FluxTransformer2DModel, UNet2DConditionModel
from torch import nn
from torch.nn import functional as F
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedModel,
    T5EncoderModel,
    T5Tokenizer,
)

from assets.demo.recipes import denoiser, flux_denoiser, t5_encoder, xl
from assets.demo.recipes.drawings import SIZE

Answer = Callable[..., Any]  # takes what the base's denoiser takes and gives what it gives
# The loss of (answer, scaled latents [batch, 4, 32, 32], captions, how far the training is as in `denoiser.loss_of`).
Loss = Callable[[Answer, torch.Tensor, list[str], float], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Frozen:
    """The denoiser in float32, whose weights stay as they are, and what anything beside it learns by."""

    denoiser: nn.Module
    loss: Loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """`part` is what the pipeline calls the denoiser; `open(folder, device)` reads a finished demo.

    `residuals` are the arguments by which the denoiser takes what a ControlNet gives, in its order.
    """

    id: str
    family: str
    name: str
    part: str
    residuals: tuple[str, ...]
    open: Callable[[Path, str], Frozen]

    def steered(self, frozen: nn.Module, net: nn.Module, shown: torch.Tensor) -> Answer:
        """The denoiser with a ControlNet `net` beside it, which is `shown` the control pictures."""

        def answer(*given: torch.Tensor, return_dict: bool = True, **named: Any) -> Any:
            found = net(*given, **named, controlnet_cond=shown, return_dict=False)
            more = dict(zip(self.residuals, found, strict=True))
            return frozen(*given, **named, **more, return_dict=return_dict)

        return answer


def _read(kind: type[PreTrainedModel], folder: Path, device: str) -> Any:
    model: Any = kind.from_pretrained(folder, dtype=torch.float32)
    return model.to(device).eval().requires_grad_(False)


def _unet(folder: Path, device: str) -> UNet2DConditionModel:
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    return unet.to(device).eval().requires_grad_(False)


def _sd(folder: Path, device: str) -> Frozen:
    unet, encode = denoiser.finished(folder, device)
    schedule = DDPMScheduler(**denoiser.SCHEDULE)

    def loss(answer: Answer, z: torch.Tensor, texts: list[str], fraction: float) -> torch.Tensor:
        embeds = encode(texts)
        return denoiser.loss_of(lambda noisy, t: answer(noisy, t, embeds).sample, schedule, z,
                                denoiser.noise_like(z), denoiser.timesteps(len(z), z.device), fraction)  # fmt: skip

    return Frozen(unet, loss)


def _sdxl(folder: Path, device: str) -> Frozen:
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    encoders = [_read(CLIPTextModel, folder / "text_encoder", device),
                _read(CLIPTextModelWithProjection, folder / "text_encoder_2", device)]  # fmt: skip
    encode = xl.encoder_of(tokenizer, encoders, device, zeros=True)
    schedule = DDPMScheduler(**denoiser.SCHEDULE)
    whole = [SIZE, SIZE, 0, 0, SIZE, SIZE]  # no sheet here is a piece of a larger one, or was enlarged

    def loss(answer: Answer, z: torch.Tensor, texts: list[str], fraction: float) -> torch.Tensor:
        predict = xl.predictor(answer, encode(texts), torch.tensor([whole] * len(z), device=z.device))
        return denoiser.loss_of(predict, schedule, z, denoiser.noise_like(z),
                                denoiser.timesteps(len(z), z.device), fraction)  # fmt: skip

    return Frozen(_unet(folder, device), loss)


def _flux(folder: Path, device: str) -> Frozen:
    clip = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    t5 = T5Tokenizer.from_pretrained(folder / "tokenizer_2")
    encode = flux_denoiser.encoder_of(
        (clip, _read(CLIPTextModel, folder / "text_encoder", device)),
        (t5, _read(T5EncoderModel, folder / "text_encoder_2", device)),
        device,
    )
    transformer = FluxTransformer2DModel.from_pretrained(folder / "transformer", torch_dtype=torch.float32)

    def loss(answer: Answer, z: torch.Tensor, texts: list[str], fraction: float) -> torch.Tensor:
        """The velocity. Which guidance the embedding is told makes no difference to the drawing that is wanted."""
        sigma = flux_denoiser.noise_levels(len(z), z.device)
        guidance = torch.empty(len(z), device=z.device).uniform_(*flux_denoiser.GUIDANCE)
        noise, s = torch.randn_like(z), sigma[:, None, None, None]
        tokens = flux_denoiser.packed((1 - s) * z + s * noise)
        places = torch.arange(flux_denoiser.TOKENS, device=z.device)
        said = flux_denoiser.velocity(
            answer, tokens, places, sigma, guidance, *encode(texts, t5_encoder.LENGTH)
        )
        subject = denoiser.SUBJECT if fraction < denoiser.SUBJECT_UNTIL else 1.0
        weights = denoiser.weighted(denoiser.subject_mask(z), subject).expand_as(z)
        error = F.mse_loss(said, flux_denoiser.packed(noise - z), reduction="none")
        return (error * flux_denoiser.packed(weights)).mean()

    return Frozen(transformer.to(device).eval().requires_grad_(False), loss)


_UNET = ("down_block_additional_residuals", "mid_block_additional_residual")
_TRANSFORMER = ("controlnet_block_samples", "controlnet_single_block_samples")
BASES: dict[str, Base] = {
    base.id: base
    for base in (
        Base(id="sd", family="sd1", name="SD 1.x", part="unet", residuals=_UNET, open=_sd),
        Base(id="sdxl", family="sdxl", name="SDXL", part="unet", residuals=_UNET, open=_sdxl),
        Base(id="flux", family="flux", name="FLUX", part="transformer", residuals=_TRANSFORMER, open=_flux),
    )
}
