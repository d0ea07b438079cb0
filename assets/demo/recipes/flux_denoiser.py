"""Trains the FluxTransformer2DModel of `demo-flux`: rectified flow on the latents, T5 tokens beside the picture's.

The velocity noise - latents is predicted at a noise level between 0 and 1 (Liu et al., "Flow Straight and Fast", 2022),
drawn logit-normal and shifted to the noisy end (Esser et al., 2024) as far as the scheduler's dynamic shift does for
this size. The guidance embedding sees a random number that means nothing yet: `distil` then teaches it what guidance
does (Meng et al., "On Distillation of Guided Diffusion Models", 2023), and one call a step is enough.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer

from assets.demo.recipes import loop, t5_encoder, text_encoder
from assets.demo.recipes.batches import Batches
from assets.demo.recipes.denoiser import SUBJECT, SUBJECT_UNTIL, subject_mask, subject_weights
from assets.demo.recipes.reading import tokens_of
from assets.demo.recipes.training import load_checkpoint, mixed_precision

# Captions to (prompt_embeds [batch, 64, 128], pooled_prompt_embeds [batch, 128]).
Encode = Callable[[list[str]], tuple[torch.Tensor, torch.Tensor]]

SCHEDULE = {"shift": 1.0, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15,
            "base_image_seq_len": 256, "max_image_seq_len": 4096}  # fmt: skip
SHIFT = math.exp(
    SCHEDULE["base_shift"]
)  # what the dynamic shift is for 256 tokens, which 256 x 256 pixels are
GUIDANCE = (1.0, 5.0)  # what the guidance embedding knows
SIDE = 16  # the latent's side after packing 2 x 2


def build() -> FluxTransformer2DModel:
    """2.9 M parameters: 3 double and 4 single blocks of 4 heads x 32."""
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=3,
        num_single_layers=4,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=t5_encoder.WIDTH,
        pooled_projection_dim=128,
        guidance_embeds=True,
        axes_dims_rope=(8, 12, 12),
    )


def encoder_of(
    clip: tuple[CLIPTokenizer, CLIPTextModel], t5: tuple[T5Tokenizer, T5EncoderModel], device: str
) -> Encode:
    def encode(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            pooled = clip[1](tokens_of(clip[0], texts, text_encoder.LENGTH).to(device)).pooler_output
            states = t5[1](tokens_of(t5[0], texts, t5_encoder.LENGTH).to(device)).last_hidden_state
        return states, pooled

    return encode


def velocity(
    module: nn.Module, z: torch.Tensor, sigma: torch.Tensor, guidance: torch.Tensor,
    embeds: torch.Tensor, pooled: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """What the model answers for latents z [batch, 4, 32, 32] at noise level sigma [batch]; same shape as z."""
    packed = FluxPipeline._pack_latents(z, len(z), 4, 2 * SIDE, 2 * SIDE)
    places = FluxPipeline._prepare_latent_image_ids(len(z), SIDE, SIDE, z.device, z.dtype)
    with mixed_precision(z.device.type):
        answer = module(
            hidden_states=packed, timestep=sigma, guidance=guidance, pooled_projections=pooled,
            encoder_hidden_states=embeds, txt_ids=torch.zeros(embeds.shape[1], 3, device=z.device),
            img_ids=places, return_dict=False,
        )[0]  # fmt: skip
    return FluxPipeline._unpack_latents(answer.float(), 16 * SIDE, 16 * SIDE, 8)


def noise_levels(count: int, device: torch.device) -> torch.Tensor:
    """[count] in 0..1: one of each stratum of a logit-normal, shifted to the noisy end."""
    spread = (torch.arange(count, device=device) + torch.rand(count, device=device)) / count
    t = torch.special.ndtri(spread.clamp(1e-4, 1 - 1e-4)).sigmoid()
    return SHIFT * t / (1 + (SHIFT - 1) * t)


def _noisy(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(latents with noise, noise level [batch], the velocity to be predicted)."""
    sigma, noise = noise_levels(len(z), z.device), torch.randn_like(z)
    s = sigma[:, None, None, None]
    return (1 - s) * z + s * noise, sigma, noise - z


def train(
    work: Path,
    device: str,
    batches: Batches,
    encode: Encode,
    seconds: float,
    batch: int,
    *,
    rate: float,
    rank: int,
    start: Path | None = None,
) -> None:
    """`seconds` of training with `batch` pictures a process and step, into `work`/flux.pt."""
    torch.manual_seed(1)
    module = build()
    if start is not None:
        module.load_state_dict(
            FluxTransformer2DModel.from_pretrained(start, torch_dtype=torch.float32).state_dict()
        )

    def loss(module: nn.Module, fraction: float) -> torch.Tensor:
        z, texts = batches.next(batch, device)
        noisy, sigma, wanted = _noisy(z)
        guidance = torch.empty(batch, device=device).uniform_(*GUIDANCE)
        error = F.mse_loss(velocity(module, noisy, sigma, guidance, *encode(texts)), wanted, reduction="none")
        return (error * subject_weights(subject_mask(z), SUBJECT if fraction < SUBJECT_UNTIL else 1.0)).mean()

    loop.train(
        work / "flux.pt", module.to(device), loss, seconds, rate=rate, rank=rank, refresh=batches.refresh
    )


def distil(
    work: Path,
    device: str,
    batches: Batches,
    encode: Encode,
    seconds: float,
    batch: int,
    *,
    rate: float,
    rank: int,
) -> None:
    """The guidance embedding learns to give in one call what the trained model gives in two; into flux-distilled.pt."""
    state = load_checkpoint(work / "flux.pt")
    if state is None:
        raise FileNotFoundError(f"{work / 'flux.pt'} is missing: run --stage denoiser first")
    module = build()
    module.load_state_dict(state["average"]["module"])
    teacher = copy.deepcopy(module).eval().requires_grad_(False).to(device)
    rng = random.Random(rank)

    def loss(module: nn.Module, fraction: float) -> torch.Tensor:
        z, texts = batches.next(batch, device)
        noisy, sigma, _wanted = _noisy(z)
        guidance = torch.tensor([rng.uniform(*GUIDANCE) for _ in range(batch)], device=device)
        with torch.no_grad():
            any_guidance = torch.full((batch,), GUIDANCE[0], device=device)
            with_text = velocity(teacher, noisy, sigma, any_guidance, *encode(texts))
            without = velocity(teacher, noisy, sigma, any_guidance, *encode([""] * batch))
            wanted = without + guidance[:, None, None, None] * (with_text - without)
        return F.mse_loss(velocity(module, noisy, sigma, guidance, *encode(texts)), wanted)

    loop.train(work / "flux-distilled.pt", module.to(device), loss, seconds, rate=rate, rank=rank,
               refresh=batches.refresh)  # fmt: skip
