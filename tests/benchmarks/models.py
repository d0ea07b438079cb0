"""The models that are measured: the demo model, or Stable Diffusion of any size with random weights."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.library.models import scan
from pipelines.spec.errors import ModelError
from pipelines.spec.families import by_id
from pipelines.spec.job import Job
from pipelines.spec.record import ModelRecord
from pipelines.spec.request import GenerationRequest, Prompt, Size


@dataclass(frozen=True, slots=True, kw_only=True)
class SdSizes:
    """The sizes that differ between a Stable Diffusion 1.x of one size and of another."""

    channels: tuple[int, ...]  # of the U-Net
    crossed: bool = True  # all levels but the last have cross attention; the middle has it anyway
    layers: int
    heads: int  # diffusers calls it attention_head_dim
    groups: int
    text_width: int
    text_layers: int
    text_heads: int
    vae_channels: tuple[int, ...]
    vae_layers: int
    vae_groups: int
    latent_side: int


TINY = SdSizes(
    channels=(16, 32),
    layers=1,
    heads=2,
    groups=8,
    text_width=32,
    text_layers=1,
    text_heads=2,
    vae_channels=(8, 8, 8, 8),
    vae_layers=1,
    vae_groups=4,
    latent_side=8,
)
# Little to compute, with latents as large as those of the demo models: no attention at that size.
NARROW = replace(TINY, latent_side=32, crossed=False)
SD15 = SdSizes(
    channels=(320, 640, 1280, 1280),
    layers=2,
    heads=8,
    groups=32,
    text_width=768,
    text_layers=12,
    text_heads=12,
    vae_channels=(128, 256, 512, 512),
    vae_layers=2,
    vae_groups=32,
    latent_side=64,
)


def record_of(folder: Path) -> ModelRecord:
    """Raises ModelError where the folder holds no model that can be used."""
    for record in scan([folder.parent]):
        if Path(record.path).resolve() == folder.resolve() and not record.problem:
            return record
    raise ModelError(f"{folder} holds no model.", "Give --model a diffusers folder with model_index.json.")


def request_for(record: ModelRecord, *, steps: int, seed: int = 0) -> GenerationRequest:
    """A picture of the model's own size with its own sampling, but for the steps and the seed."""
    family = by_id(record.family)
    sampling = record.sampling or family.sampling
    side = record.native_size or family.sizes.native
    return GenerationRequest(
        model=record.id,
        prompt=Prompt(text="a large red circle on a white background", negative="blurry"),
        sampling=replace(sampling, num_inference_steps=steps, seed=seed),
        size=Size(width=side, height=side),
    )


def prompted(record: ModelRecord, number: int, seed: int) -> GenerationRequest:
    """One step; each number has a prompt of its own."""
    text = Prompt(text=f"a large red circle, variation {number}", negative="blurry")
    return replace(request_for(record, steps=1, seed=seed), prompt=text)


def job_for(record: ModelRecord, request: GenerationRequest, job_id: int = 1) -> Job:
    return Job(id=job_id, request=request, model=record)


def write_sd(folder: Path, sizes: SdSizes, seed: int = 0) -> Path:
    """Writes a StableDiffusionPipeline with random fp16 weights; the same seed gives the same bytes."""
    import torch
    from diffusers import PNDMScheduler, StableDiffusionPipeline

    torch.manual_seed(seed)
    tokenizer = _tokenizer()
    parts: dict[str, Any] = {
        "vae": _vae(sizes).half(),
        "text_encoder": _text_encoder(sizes, len(tokenizer)).half(),
        "tokenizer": tokenizer,
        "unet": _unet(sizes).half(),
        "scheduler": PNDMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            set_alpha_to_one=False,
            skip_prk_steps=True,
        ),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    StableDiffusionPipeline(**parts).save_pretrained(folder)
    facts = {"native_size": 8 * sizes.latent_side}
    (folder / "emulsion.json").write_text(json.dumps(facts), encoding="utf-8")
    return folder


def _unet(sizes: SdSizes):
    from diffusers import UNet2DConditionModel

    upper = len(sizes.channels) - 1
    down, up = (
        ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D") if sizes.crossed else ("DownBlock2D", "UpBlock2D")
    )
    return UNet2DConditionModel(
        sample_size=sizes.latent_side,
        block_out_channels=sizes.channels,
        layers_per_block=sizes.layers,
        down_block_types=(down,) * upper + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + (up,) * upper,
        cross_attention_dim=sizes.text_width,
        attention_head_dim=sizes.heads,
        norm_num_groups=sizes.groups,
    )


def _vae(sizes: SdSizes):
    from diffusers import AutoencoderKL

    sides: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": sizes.vae_channels,
    }
    return AutoencoderKL(
        latent_channels=4,
        layers_per_block=sizes.vae_layers,
        norm_num_groups=sizes.vae_groups,
        sample_size=sizes.latent_side * 8,
        **sides,
    )


def _text_encoder(sizes: SdSizes, words: int):
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=words,
            hidden_size=sizes.text_width,
            intermediate_size=4 * sizes.text_width,
            num_hidden_layers=sizes.text_layers,
            num_attention_heads=sizes.text_heads,
            max_position_embeddings=77,
            bos_token_id=words - 2,
            eos_token_id=words - 1,
            pad_token_id=words - 1,
        )
    )


def _tokenizer():
    """CLIP's byte-level tokenizer without a single merge: every letter is a token of its own."""
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    names = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={name: i for i, name in enumerate(names)}, merges=[], model_max_length=77)
