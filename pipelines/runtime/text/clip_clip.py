"""A prompt through SDXL's encoders, CLIP-L and OpenCLIP-bigG; the refiner has the second alone."""

from __future__ import annotations

from typing import Any

import torch

from pipelines.runtime.loader import Model
from pipelines.runtime.text.clip import chunks_of
from pipelines.spec.families.base import Family

PARTS = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))


def encode(model: Model, _family: Family, text: str) -> tuple[dict[str, torch.Tensor], bool]:
    """prompt_embeds [1, 77 * chunks, widths of all encoders], pooled_prompt_embeds [1, width]; True if it was cut.

    The pooled one is of the first chunk alone, as AUTOMATIC1111 has it.
    """
    pairs = [
        (model.parts[tokenizer], model.parts[encoder])
        for tokenizer, encoder in PARTS
        if encoder in model.parts
    ]
    read = [chunks_of(tokenizer, text) for tokenizer, _ in pairs]
    longest = max(len(chunks) for chunks, _ in read)
    embeds, pooled = [], torch.empty(0)
    for (tokenizer, encoder), (chunks, _) in zip(pairs, read, strict=True):
        empty = chunks_of(tokenizer, "")[0] * (longest - len(chunks))
        states, pooled = _embedded(encoder, chunks + empty)
        embeds.append(states)
    return {
        "prompt_embeds": torch.cat(embeds, dim=-1),
        "pooled_prompt_embeds": pooled,
    }, any(cut for _, cut in read)


def _embedded(encoder: Any, chunks: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """The penultimate layer without the final norm, and the projection of the end token where there is one."""
    with torch.no_grad():
        outputs = [
            encoder(torch.tensor([chunk], device=encoder.device), output_hidden_states=True)
            for chunk in chunks
        ]
    return torch.cat([output.hidden_states[-2] for output in outputs], dim=1), outputs[0][0]
