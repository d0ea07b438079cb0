"""A prompt through one CLIP text encoder; text of any length in chunks, as AUTOMATIC1111 does it."""

from __future__ import annotations

from typing import Any

import torch

from pipelines.runtime.loader import Model
from pipelines.spec.families.base import Family

MAX_CHUNKS = 20  # 1500 tokens; attention to more costs memory and changes nothing that can be seen


def encode(model: Model, _family: Family, text: str) -> tuple[dict[str, torch.Tensor], bool]:
    """prompt_embeds [1, 77 * chunks, width] of the encoder's last layer; True if the text was cut."""
    chunks, cut = chunks_of(model.tokenizer, text)
    return {"prompt_embeds": embed(model.text_encoder, chunks)}, cut


def chunks_of(tokenizer: Any, text: str) -> tuple[list[list[int]], bool]:
    """Token ids in chunks of `model_max_length` (77: begin, 75 of text, end, padding); True if it was cut.

    Text that fits one chunk gives the very ids of the diffusers pipeline.
    """
    length = tokenizer.model_max_length
    inner = length - 2
    ids = tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids
    pieces = [ids[start : start + inner] for start in range(0, max(len(ids), 1), inner)]
    return [_framed(tokenizer, piece, length) for piece in pieces[:MAX_CHUNKS]], len(pieces) > MAX_CHUNKS


def _framed(tokenizer: Any, ids: list[int], length: int) -> list[int]:
    framed = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
    return framed + [tokenizer.pad_token_id] * (length - len(framed))


def embed(text_encoder: Any, chunks: list[list[int]]) -> torch.Tensor:
    """prompt_embeds [1, 77 * chunks, width] in the encoder's precision and on its device."""
    with torch.no_grad():
        embeds = [_embedded(text_encoder, chunk) for chunk in chunks]
    return torch.cat(embeds, dim=1)


def _embedded(text_encoder: Any, chunk: list[int]) -> torch.Tensor:
    return text_encoder(torch.tensor([chunk], device=text_encoder.device), attention_mask=None)[0]
