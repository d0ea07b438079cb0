"""The T5 of demo-flux: a Unigram tokenizer of whole words, and a small T5EncoderModel that has learned to read."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from assets.demo.recipes import reading
from assets.demo.recipes.captions import vocabulary

LENGTH = 64
WIDTH = 128


def build_tokenizer() -> T5Tokenizer:
    """Every word of the captions is one piece; other words are spelled, and what is not ASCII is <unk>."""
    words = [(f"▁{word}", -2.0) for word in vocabulary() if word != ","]
    letters = [(chr(code), -8.0) for code in range(33, 127) if chr(code) != ","]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0)]
    vocab = [*special, *words, (",", -2.0), ("▁", -8.0), *letters]
    return T5Tokenizer(vocab=vocab, extra_ids=10, model_max_length=LENGTH)


def build_encoder(tokenizer: T5Tokenizer) -> T5EncoderModel:
    """3 layers x 128, gated GELU as in T5 1.1.

    Its only sense of order is a learned bias of the attention, which starts near 0 and would take hours to become sharp
    enough to tell which colour stands before which word. So one head begins with a liking for what comes just before,
    one for what comes just behind, one for both (slopes: Press et al., "Train Short, Test Long", 2022).
    """
    config = T5Config(
        vocab_size=len(tokenizer), d_model=WIDTH, d_kv=32, d_ff=256, num_layers=3, num_heads=4,
        feed_forward_proj="gated-gelu", dropout_rate=0.0, relative_attention_max_distance=64,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    encoder = T5EncoderModel(config)
    bias = encoder.get_parameter("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight")
    half = config.relative_attention_num_buckets // 2
    far = torch.arange(half)
    with torch.no_grad():
        bias[:half, 0], bias[half:, 0] = -far, -8
        bias[:half, 1], bias[half:, 1] = -8, -far
        bias[:half, 2] = bias[half:, 2] = -far / 2
    return encoder


def train(work: Path, seconds: float) -> None:
    """Reading lessons into `work`/t5_encoder.pt. No mask: the FLUX pipelines give T5 none, so pads are read as well."""
    tokenizer = build_tokenizer()
    encoder = build_encoder(tokenizer)
    reading.teach(
        work / "t5_encoder.pt",
        tokenizer,
        encoder,
        lambda ids: (encoder(ids).last_hidden_state, None),
        LENGTH,
        seconds,
    )
