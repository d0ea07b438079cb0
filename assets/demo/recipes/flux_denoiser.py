"""Trains the FluxTransformer2DModel of `demo-flux`: rectified flow on the latents, T5 tokens beside the picture's.

The velocity noise - latents is predicted at a noise level between 0 and 1 (Liu et al., "Flow Straight and Fast", 2022),
drawn logit-normal and shifted to the noisy end (Esser et al., 2024) as far as the scheduler's dynamic shift does for
this size. What is behind the noise is what a finished demo-sd sees there with guidance (`teacher`), and the guidance
embedding is told how much of it: so one call a step is enough.

A step of 16 pictures takes seven blocks 1.9 CPU seconds on one AVX2 core, 55 % of it in the matrices, 22 % in the
attention over 256 + 64 tokens. A double block takes no more time than a single one, but 2.4 times the bytes, for
weights of the text alone; so there is one. The model stays narrow, and the tokens get fewer:
* The first `SKETCHED` of the training shows half of a picture's tokens, drawn anew for each batch, and captions of 36
  tokens, for half the price (Sehwag et al., "Stretching Each Dollar", 2024). The places are told by the rotary
  embedding, so a picture with gaps is one like any other; the rest of the training shows whole pictures.
* Every block starts as the identity and the model at zero (adaLN-Zero: Peebles and Xie, "Scalable Diffusion Models
  with Transformers", 2023), which diffusers leaves to whoever trains.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer

from assets.demo.recipes import loop, t5_encoder, text_encoder
from assets.demo.recipes.batches import Batches
from assets.demo.recipes.denoiser import SUBJECT, SUBJECT_UNTIL, subject_mask, weighted
from assets.demo.recipes.reading import SHORT, tokens_of
from assets.demo.recipes.teacher import Teacher
from assets.demo.recipes.training import mixed_precision

# Captions and a length to (prompt_embeds [batch, length, 128], pooled_prompt_embeds [batch, 128]).
Encode = Callable[[list[str], int], tuple[torch.Tensor, torch.Tensor]]

SCHEDULE = {"shift": 1.0, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15,
            "base_image_seq_len": 256, "max_image_seq_len": 4096}  # fmt: skip
SHIFT = math.exp(
    SCHEDULE["base_shift"]
)  # what the dynamic shift is for 256 tokens, which 256 x 256 pixels are
GUIDANCE = (1.0, 5.0)  # what the guidance embedding knows
SIDE = 16  # the latent's side after packing 2 x 2
TOKENS = SIDE * SIDE
GIVEN, POOL, FULL = 3, 256, 4  # how often a lesson is given, how many wait, and how many batches at least
SKETCHED = 0.4  # the fraction of the training that sees half of the tokens


def build() -> FluxTransformer2DModel:
    """2.0 M parameters: 1 double and 5 single blocks of 4 heads x 32."""
    module = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=5,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=t5_encoder.WIDTH,
        pooled_projection_dim=128,
        guidance_embeds=True,
        axes_dims_rope=(8, 12, 12),
    )
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear):
            zero = name == "proj_out" or (".norm" in f".{name}" and name.endswith(".linear"))
            (nn.init.zeros_ if zero else nn.init.xavier_uniform_)(layer.weight)
            nn.init.zeros_(layer.bias)
    return module


def encoder_of(
    clip: tuple[CLIPTokenizer, CLIPTextModel], t5: tuple[T5Tokenizer, T5EncoderModel], device: str
) -> Encode:
    def encode(texts: list[str], length: int) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            pooled = clip[1](tokens_of(clip[0], texts, text_encoder.LENGTH).to(device)).pooler_output
            states = t5[1](tokens_of(t5[0], texts, length).to(device)).last_hidden_state
        return states, pooled

    return encode


def packed(z: torch.Tensor) -> torch.Tensor:
    """Latents [batch, channels, 32, 32] as tokens [batch, 256, 4 * channels], 2 x 2 cells each."""
    return FluxPipeline._pack_latents(z, len(z), z.shape[1], 2 * SIDE, 2 * SIDE)


def velocity(
    module: Callable[..., Any], tokens: torch.Tensor, seen: torch.Tensor, sigma: torch.Tensor,
    guidance: torch.Tensor, embeds: torch.Tensor, pooled: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """What the model answers for tokens [batch, count, 16] at the places `seen` [count] and levels sigma [batch]."""
    places = FluxPipeline._prepare_latent_image_ids(len(tokens), SIDE, SIDE, tokens.device, tokens.dtype)
    with mixed_precision(tokens.device.type):
        answer = module(
            hidden_states=tokens, timestep=sigma, guidance=guidance, pooled_projections=pooled,
            encoder_hidden_states=embeds, txt_ids=torch.zeros(embeds.shape[1], 3, device=tokens.device),
            img_ids=places[seen], return_dict=False,
        )[0]  # fmt: skip
    return answer.float()


def noise_levels(count: int, device: torch.device) -> torch.Tensor:
    """[count] in 0..1: one of each stratum of a logit-normal, shifted to the noisy end."""
    spread = (torch.arange(count, device=device) + torch.rand(count, device=device)) / count
    t = (math.sqrt(2) * torch.erfinv(2 * spread.clamp(1e-4, 1 - 1e-4) - 1)).sigmoid()
    return SHIFT * t / (1 + (SHIFT - 1) * t)


@dataclass(frozen=True)
class Lessons:
    """Where lessons come from: drawings, what demo-sd says of them, and how FLUX is told a caption."""

    batches: Batches
    teacher: Teacher
    encode: Encode
    device: str

    def make(self, count: int, length: int) -> tuple[torch.Tensor, ...]:
        """`count` lessons: noisy latents, level, guidance, velocity, weights, prompt_embeds, pooled_prompt_embeds."""
        z, texts, _numbers = self.batches.next(count, self.device)
        sigma, guidance = (
            noise_levels(count, z.device),
            torch.empty(count, device=z.device).uniform_(*GUIDANCE),
        )
        s = sigma[:, None, None, None]
        noisy = (1 - s) * z + s * torch.randn_like(z)
        normal = noisy / ((1 - s) ** 2 + s**2).sqrt()
        goal = self.teacher.goal(normal, sigma, z, texts, guidance=guidance)
        return noisy, sigma, guidance, (noisy - goal) / s, subject_mask(z), *self.encode(texts, length)


class Pool:
    """Lessons that are each given `GIVEN` times on average, as a new one costs as much as half a step."""

    def __init__(self, make: Callable[[int], tuple[torch.Tensor, ...]]) -> None:
        self._make, self._lessons, self._calls = make, (), 0

    def next(self, count: int) -> tuple[torch.Tensor, ...]:
        self._calls += 1
        if not self._lessons:
            new = [self._make(count) for _ in range(max(POOL // count, FULL))]
            self._lessons = tuple(torch.cat(parts) for parts in zip(*new, strict=True))
        elif self._calls % GIVEN == 0:
            places = self._calls // GIVEN * count % (len(self._lessons[0]) - count + 1)
            for known, made in zip(self._lessons, self._make(count), strict=True):
                known[places : places + count] = made
        chosen = torch.randperm(len(self._lessons[0]))[:count]
        return tuple(part[chosen] for part in self._lessons)


def hidden(name: str) -> bool:
    """The matrices between hidden states, which Muon is for; not those that a text or a noise level comes in by."""
    return "transformer_blocks" in name and ".norm" not in name


def train(
    work: Path,
    lessons: Lessons,
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
        known = FluxTransformer2DModel.from_pretrained(start, torch_dtype=torch.float32)
        module.load_state_dict(known.state_dict())
    pools = {length: Pool(lambda count, length=length: lessons.make(count, length))
             for length in (SHORT, t5_encoder.LENGTH)}  # fmt: skip

    def loss(module: nn.Module, fraction: float) -> torch.Tensor:
        sketch = fraction < SKETCHED
        pool = pools[SHORT if sketch else t5_encoder.LENGTH]
        noisy, sigma, guidance, wanted, mask, *text = pool.next(batch)
        seen = torch.randperm(TOKENS, device=noisy.device)[: TOKENS // 2 if sketch else TOKENS]
        answer = velocity(module, packed(noisy)[:, seen], seen, sigma, guidance, *text)
        weights = weighted(mask, SUBJECT if fraction < SUBJECT_UNTIL else 1.0).expand_as(noisy)
        error = F.mse_loss(answer, packed(wanted)[:, seen], reduction="none")
        return (error * packed(weights)[:, seen]).mean()

    loop.train(work / "flux.pt", module.to(lessons.device), loss, seconds, rate=rate, rank=rank,
               refresh=lessons.batches.refresh, hidden=hidden)  # fmt: skip
