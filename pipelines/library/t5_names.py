"""The names that llama.cpp gives the layers of T5's encoder, and those of transformers."""

from __future__ import annotations

import re

_OUTER = {"token_embd.weight": "shared.weight", "enc.output_norm.weight": "encoder.final_layer_norm.weight"}
_LAYER = {
    "attn_q": "layer.0.SelfAttention.q",
    "attn_k": "layer.0.SelfAttention.k",
    "attn_v": "layer.0.SelfAttention.v",
    "attn_o": "layer.0.SelfAttention.o",
    "attn_rel_b": "layer.0.SelfAttention.relative_attention_bias",
    "attn_norm": "layer.0.layer_norm",
    "ffn_gate": "layer.1.DenseReluDense.wi_0",
    "ffn_up": "layer.1.DenseReluDense.wi_1",
    "ffn_down": "layer.1.DenseReluDense.wo",
    "ffn_norm": "layer.1.layer_norm",
}
_BLOCK = re.compile(r"enc\.blk\.(\d+)\.(\w+)\.weight")


def t5_name(name: str) -> str:
    """transformers' name of llama.cpp's; one that is not known stays as it is."""
    match = _BLOCK.fullmatch(name)
    if match and match[2] in _LAYER:
        return f"encoder.block.{match[1]}.{_LAYER[match[2]]}.weight"
    return _OUTER.get(name, name)
