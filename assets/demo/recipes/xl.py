"""What demo-sdxl and its refiner share: the text encoders, and what the UNet is told beside the text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from assets.demo.recipes import reading, text_encoder
from assets.demo.recipes.text_encoder import LENGTH, config_of, widely

# Captions to (prompt_embeds [batch, 77, width], pooled_prompt_embeds [batch, 128]).
Encode = Callable[[list[str]], tuple[torch.Tensor, torch.Tensor]]

WIDTH = 128
TIME_WIDTH = 16  # numbers that each size, crop or score becomes


def conditioned(ids: int) -> dict[str, Any]:
    """The settings of a UNet that is told the pooled text and `ids` numbers."""
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": TIME_WIDTH,
        "projection_class_embeddings_input_dim": TIME_WIDTH * ids + WIDTH,
    }


def build_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """CLIP-L's part: 3 layers x 128, read at the last but one."""
    return widely(CLIPTextModel(config_of(tokenizer, intermediate_size=256)))


def build_encoder_2(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    """OpenCLIP-bigG's part: the same with a GELU, and the projection that is the pooled text."""
    config = config_of(tokenizer, intermediate_size=256, hidden_act="gelu")
    return widely(CLIPTextModelWithProjection(config))


def states_of(encoder: nn.Module, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The penultimate layer [batch, length, 128], and the pooled text [batch, 128] where there is a projection."""
    output = encoder(ids, output_hidden_states=True)
    return output.hidden_states[-2], getattr(output, "text_embeds", None)


def train_encoders(work: Path, seconds: float, start: Path | None) -> None:
    """Reading lessons into `work`/text_encoder.pt and text_encoder_2.pt, half of the `seconds` each.

    `start` is a demo-sdxl to begin with instead of chance.
    """
    tokenizer = text_encoder.build_tokenizer()
    for name, build in (("text_encoder", build_encoder), ("text_encoder_2", build_encoder_2)):
        torch.manual_seed(5)
        encoder = build(tokenizer)
        if start is not None:
            known = type(encoder).from_pretrained(start / name, dtype=torch.float32)
            encoder.load_state_dict(known.state_dict())
        reading.teach(
            work / f"{name}.pt",
            tokenizer,
            encoder,
            lambda ids, encoder=encoder: states_of(encoder, ids),
            LENGTH,
            seconds / 2,
        )


def encoder_of(tokenizer: CLIPTokenizer, encoders: Sequence[nn.Module], device: str, zeros: bool) -> Encode:
    """All `encoders` side by side, the pooled text of the last. With `zeros` no text is zeros, as SDXL learned it."""

    def encode(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        ids = reading.tokens_of(tokenizer, texts, LENGTH).to(device)
        with torch.no_grad():
            read = [states_of(encoder, ids) for encoder in encoders]
        embeds, pooled = torch.cat([states for states, _ in read], -1), read[-1][1]
        assert pooled is not None
        if zeros:
            said = torch.tensor([bool(text) for text in texts], device=device)
            embeds, pooled = embeds * said[:, None, None], pooled * said[:, None]
        return embeds, pooled

    return encode


def predictor(
    unet: Callable[..., Any], text: tuple[torch.Tensor, torch.Tensor], time_ids: torch.Tensor
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """`predict` of denoiser.loss_of; time_ids [batch, ids]."""
    embeds, pooled = text
    added = {"text_embeds": pooled, "time_ids": time_ids}
    return lambda noisy, t: unet(noisy, t, embeds, added_cond_kwargs=added).sample
