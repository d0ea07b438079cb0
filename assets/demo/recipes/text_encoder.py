"""The tokenizer and the CLIPTextModel of the demos."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, PreTrainedModel

from assets.demo.recipes import reading
from assets.demo.recipes.captions import vocabulary

LENGTH = 77
Encoder = TypeVar("Encoder", bound=PreTrainedModel)


def _byte_symbols() -> list[str]:
    """The 256 printable stand-ins of byte-level BPE (GPT-2's table), in CLIP's order."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = [chr(b) for b in kept]
    return symbols + [chr(256 + i) for i in range(256 - len(kept))]


def _merge(symbols: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    while len(symbols) > 1:
        rank, i = min((ranks.get(pair, 1 << 30), i) for i, pair in enumerate(pairwise(symbols)))
        if rank == 1 << 30:
            break
        symbols = [*symbols[:i], symbols[i] + symbols[i + 1], *symbols[i + 2 :]]
    return symbols


def build_tokenizer() -> CLIPTokenizer:
    """A genuine CLIP BPE in which every word of the captions is one token; any other text falls to bytes."""
    symbols = _byte_symbols()
    ranks: dict[tuple[str, str], int] = {}
    for word in vocabulary():
        parts = _merge([*word[:-1], word[-1] + "</w>"], ranks)
        while len(parts) > 1:  # earlier words' merges come first, so what is left is merged from the left
            ranks[(parts[0], parts[1])] = len(ranks)
            parts = [parts[0] + parts[1], *parts[2:]]
    tokens = [*symbols, *(s + "</w>" for s in symbols), *(a + b for a, b in ranks)]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)}, merges=list(ranks), model_max_length=LENGTH
    )


def config_of(tokenizer: CLIPTokenizer, **changes: Any) -> CLIPTextConfig:
    """3 layers x 128, and what the caller wants different."""
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer), "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3,
        "num_attention_heads": 4, "max_position_embeddings": LENGTH, "projection_dim": 128,
        "hidden_act": "quick_gelu", "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    return CLIPTextConfig(**settings | changes)


def widely(encoder: Encoder) -> Encoder:
    """With token embeddings that start wide: CLIP's 0.02 leaves all words alike to a small model."""
    nn.init.normal_(encoder.get_input_embeddings().weight, std=0.5)
    return encoder


def build_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return widely(CLIPTextModel(config_of(tokenizer)))


def train(
    work: Path,
    seconds: float,
    start: Path | None = None,
    build: Callable[[CLIPTokenizer], CLIPTextModel] = build_encoder,
) -> None:
    """Reading lessons into `work`/text_encoder.pt; `start` is a text_encoder folder to begin with instead of chance."""
    tokenizer = build_tokenizer()
    encoder = build(tokenizer)
    if start is not None:
        encoder.load_state_dict(CLIPTextModel.from_pretrained(start, dtype=torch.float32).state_dict())
    reading.teach(
        work / "text_encoder.pt",
        tokenizer,
        encoder,
        lambda ids: (encoder(ids).last_hidden_state, None),
        LENGTH,
        seconds,
    )
