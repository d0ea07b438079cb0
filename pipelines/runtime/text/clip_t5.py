"""A prompt through FLUX's encoders: T5 reads it word for word, CLIP gives one vector of the whole."""

from __future__ import annotations

import torch

from pipelines.runtime.loader import Model
from pipelines.runtime.text.clip import chunks_of
from pipelines.spec.families.base import Family


def encode(model: Model, family: Family, text: str) -> tuple[dict[str, torch.Tensor], bool]:
    """prompt_embeds [1, length, width of T5], pooled_prompt_embeds [1, width of CLIP]; True if the text was cut.

    The length is fixed, and there is no mask: FLUX learned with the padding in sight.
    """
    tokenizer, length = model.tokenizer_2, min(family.max_sequence_length, model.tokenizer_2.model_max_length)
    ids = tokenizer(text, truncation=False, verbose=False).input_ids
    padded = tokenizer(text, padding="max_length", max_length=length, truncation=True).input_ids
    first = chunks_of(model.tokenizer, text)[0][0]  # what CLIP leaves out, T5 has read
    with torch.no_grad():
        embeds = model.text_encoder_2(torch.tensor([padded], device=model.text_encoder_2.device))[0]
        pooled = model.text_encoder(torch.tensor([first], device=model.text_encoder.device)).pooler_output
    return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}, len(ids) > length
